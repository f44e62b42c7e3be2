package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/triggers/dispatch/track"
)

// How often positions are committed that moved without a record, and how often
// those that have not moved: a group forgets what is not committed for a week.
const (
	plainEvery   = time.Second
	refreshEvery = time.Hour
)

// Bounds of the time that a unit sits out after its batch aborted.
const (
	soloFirst = 10 * time.Millisecond
	soloMost  = 5 * time.Second
)

// commitLoop makes one transaction after the other; while one is under way the
// next one fills.
func (s *session) commitLoop() {
	plain := time.NewTicker(plainEvery)
	defer plain.Stop()
	refreshed := time.Now()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-plain.C:
			parts := s.list()
			if time.Since(refreshed) > refreshEvery {
				refreshed = time.Now()
				for _, p := range parts {
					p.each(func(u *unit) { u.track.ReturnPlain() })
				}
			}
			s.commitPlain(s.ctx, parts)
		case <-s.wake:
		}
		for s.ctx.Err() == nil && s.commitOnce() {
		}
	}
}

// taken is a unit's share of a transaction.
type taken struct {
	u     *unit
	t     *track.Track
	batch *track.Batch
}

// gather takes what is ready: of one unit that has to go alone, or of all others.
func (s *session) gather() []taken {
	var all []taken
	now := time.Now()
	take := func(u *unit, limit int) {
		if u.part.closing || u.open {
			return
		}
		if b := u.track.Take(limit); b != nil {
			u.open = true
			all = append(all, taken{u, u.track, b})
		}
	}
	for _, p := range s.list() {
		p.each(func(u *unit) {
			if u.solo && len(all) == 0 && !now.Before(u.soloNext) {
				take(u, 1)
			}
		})
		if len(all) > 0 {
			return all
		}
	}
	for _, p := range s.list() {
		p.each(func(u *unit) {
			if !u.solo {
				take(u, 1<<30)
			}
		})
	}
	return all
}

// commitOnce makes one transaction, if there is something for one.
func (s *session) commitOnce() bool {
	all := s.gather()
	if len(all) == 0 {
		return false
	}
	var txn kafka.Txn
	now := time.Now()
	for _, x := range all {
		txn.Offsets = append(txn.Offsets, kafka.PartitionOffset{Held: x.u.part.held, Topic: x.u.topic, Offset: x.batch.Offset, Metadata: x.batch.Metadata})
		x.u.part.mu.Lock()
		for i := range x.batch.Records {
			txn.Records = append(txn.Records, s.record(x.u, &x.batch.Records[i], now))
		}
		x.u.part.mu.Unlock()
	}
	crash.At(crash.DispatchAsked)
	result := s.commit.Commit(s.ctx, txn)
	crash.At(crash.DispatchDecided)
	s.m.metrics.committed(s.name, all, result)
	if result.Outcome != kafka.Committed && s.ctx.Err() == nil {
		s.m.cfg.Log.Warn("decisions not recorded; trying again", "dispatcher", s.name, "records", len(txn.Records), "outcome", result.Outcome.String(), "reason", string(result.Reason), "err", result.Err)
	}
	first := 0
	for _, x := range all {
		n := len(x.batch.Records)
		s.ended(x, result, first, n, len(all) == 1)
		first += n
	}
	return true
}

// ended tells a unit what became of its batch.
func (s *session) ended(x taken, result kafka.Result, first, n int, alone bool) {
	p := x.u.part
	p.mu.Lock()
	defer p.mu.Unlock()
	x.u.open = false
	switch result.Outcome {
	case kafka.Committed:
		x.u.solo, x.u.soloPause = false, 0
		x.t.Committed(time.Now(), x.batch, result.Offsets[first:first+n])
	case kafka.Aborted:
		x.u.solo = true
		x.u.soloPause = min(max(2*x.u.soloPause, soloFirst), soloMost)
		x.u.soloNext = time.Now().Add(x.u.soloPause)
		reason := ""
		if result.Err != nil {
			reason = result.Err.Error()
		}
		x.t.Aborted(x.batch, alone && result.Refused(), reason)
		time.AfterFunc(x.u.soloPause, s.rouse)
	default:
		// The process stops, or the partition is gone: whoever takes it over finds out.
		p.closing = true
	}
}

// commitPlain moves the positions of units where events ended without a record.
func (s *session) commitPlain(ctx context.Context, parts []*part) {
	var offsets []kafka.PartitionOffset
	var moved []taken
	for _, p := range parts {
		p.each(func(u *unit) {
			if u.open {
				return
			}
			if offset, metadata, ok := u.track.TakePlain(); ok {
				offsets = append(offsets, kafka.PartitionOffset{Held: p.held, Topic: u.topic, Offset: offset, Metadata: metadata})
				moved = append(moved, taken{u: u, t: u.track})
			} else if u.track.Pending() {
				s.rouse()
			}
		})
	}
	if len(offsets) == 0 {
		return
	}
	err := s.commit.CommitPlain(ctx, offsets)
	if err == nil {
		return
	}
	for _, x := range moved {
		x.u.part.mu.Lock()
		x.t.ReturnPlain()
		x.u.part.mu.Unlock()
	}
	if s.ctx.Err() == nil && !errors.Is(err, kafka.ErrStaleTerm) && !errors.Is(err, kafka.ErrNoMember) {
		s.m.cfg.Log.Warn("could not move the position", "dispatcher", s.name, "err", err)
	}
}
