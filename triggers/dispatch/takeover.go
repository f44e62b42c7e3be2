package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers/dispatch/track"
)

const (
	// takeoverStall is how long a read of a takeover may stand still before the
	// takeover begins again, with the transactions that are open then.
	takeoverStall = 10 * time.Second
	// takeoverGrace is how long others have to end their transactions in the
	// dispatched topic before they are ended for them: all dispatchers write there,
	// and most of them live.
	takeoverGrace = time.Second
)

// takeOver finds out where the last owner of a partition stopped, and goes on
// there. It tries until it succeeds or the partition is gone.
func (s *session) takeOver(u *unit) {
	ctx := u.part.ctx
	for attempt := 1; ; attempt++ {
		t := takeover{s: s, u: u, partition: u.part.held.Partition}
		err := t.run(ctx)
		if err == nil {
			s.m.cfg.Log.Info("dispatcher took a partition over", "dispatcher", s.name, "topic", u.topic, "partition", t.partition, "offset", t.position.Offset,
				"finished_above", len(t.position.Done), "live", len(t.live), "epoch", s.start.Epoch, "rebuilt", t.rebuilt)
			return
		}
		if ctx.Err() != nil || errors.Is(err, kafka.ErrStaleTerm) {
			return
		}
		s.m.cfg.Log.Warn("dispatcher could not take a partition over; trying again", "dispatcher", s.name, "topic", u.topic, "partition", t.partition, "attempt", attempt, "err", err)
		if !sleep(ctx, min(time.Duration(attempt)*100*time.Millisecond, 5*time.Second)) {
			return
		}
	}
}

// takeover is one try. Its order is what makes it right: transactions that may
// still change the position or the decisions come to their end, then the position
// is read, then the decisions up to an end that is taken after it.
type takeover struct {
	s         *session
	u         *unit
	partition int32

	topicID  string
	position position.Position
	rebuilt  string // why no committed position is used; "" when one is
	live     []track.Live
	end      int64 // of the decisions
}

func (t *takeover) run(ctx context.Context) error {
	if t.topicID = t.s.m.cfg.TopicID(t.u.topic); t.topicID == "" {
		return fmt.Errorf("the id of topic %s cannot be told", t.u.topic)
	}
	if err := t.settle(ctx); err != nil {
		return fmt.Errorf("open transactions: %w", err)
	}
	if err := t.readPosition(ctx); err != nil {
		return fmt.Errorf("committed position: %w", err)
	}
	if err := t.readDecisions(ctx); err != nil {
		return fmt.Errorf("decisions: %w", err)
	}
	if err := t.readEvents(ctx); err != nil {
		return fmt.Errorf("events without decision: %w", err)
	}
	p := t.u.part
	tr := track.New(track.Config{TopicID: t.topicID, Epoch: t.s.start.Epoch, MaxCalls: t.s.m.cfg.MaxCalls},
		track.Restored{Position: t.position, Live: t.live, AsideEnd: t.end})
	if t.rebuilt != "" {
		tr.ReturnPlain()
	}
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return kafka.ErrStaleTerm
	}
	t.u.track = tr
	p.mu.Unlock()
	if err := t.s.group.StartTopic(p.held, t.u.topic, tr.Next()); err != nil {
		return err
	}
	t.s.with(t.u, func(time.Time, *track.Track) {})
	return nil
}

// settle has the transactions end that are open in the partition now.
func (t *takeover) settle(ctx context.Context) error {
	topic := t.s.m.cfg.Topics.Dispatched()
	w, err := t.s.look.Watermarks(ctx, topic, t.partition)
	if err != nil || w.Stable >= w.High {
		return err
	}
	for end, began := w.High, time.Now(); time.Since(began) < takeoverGrace; {
		if w, err = t.s.look.Watermarks(ctx, topic, t.partition); err != nil || w.Stable >= end {
			return err
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	writers, err := t.s.look.OpenWriters(ctx, topic, t.partition)
	if err != nil {
		return err
	}
	for _, w := range writers {
		t.s.m.cfg.Log.Info("ending the open transaction of another writer", "dispatcher", t.s.name, "partition", t.partition, "writer", w)
		if err := t.s.look.EndWriter(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

func (t *takeover) readPosition(ctx context.Context) error {
	positions, err := t.s.look.StableOffsetsOf(ctx, t.u.topic, []int32{t.partition})
	if err != nil {
		return err
	}
	ends, err := t.s.look.Watermarks(ctx, t.u.topic, t.partition)
	if err != nil {
		return err
	}
	start := &t.s.start
	c := positions[t.partition]
	p, err := position.Parse(c.Offset, c.Metadata, t.topicID)
	switch {
	case !c.Found:
		t.rebuilt = "none is committed"
	case err != nil:
		t.rebuilt = err.Error()
	case p.Epoch > start.Epoch:
		return fmt.Errorf("it is of replay epoch %d, and this gateway has not heard of any after %d yet", p.Epoch, start.Epoch)
	case p.Epoch < start.Epoch:
		t.rebuilt = fmt.Sprintf("the dispatcher was sent elsewhere since: replay epoch %d, not %d", start.Epoch, p.Epoch)
	case p.Offset < ends.Low || p.Offset > ends.High:
		t.rebuilt = fmt.Sprintf("its offset %d is outside of the log, %d to %d", p.Offset, ends.Low, ends.High)
	default:
		t.position = p
		return nil
	}
	t.s.m.cfg.Log.Info("position of a dispatcher is made from its start and its decisions", "dispatcher", t.s.name, "topic", t.u.topic, "partition", t.partition, "reason", t.rebuilt)
	t.position = position.Position{Offset: max(start.Of(t.u.topic, t.partition), ends.Low)}
	if int(t.partition) < len(start.Decisions) {
		t.position.Aside = start.Decisions[t.partition]
	}
	if t.position.Offset > ends.High {
		// The topic is another one than when the dispatcher began: all of it is newer.
		t.position.Offset, t.position.Aside = ends.Low, 0
	}
	return nil
}

// readDecisions finds what is parked or set aside, and what is decided that the
// position does not know of.
func (t *takeover) readDecisions(ctx context.Context) error {
	topic := t.s.m.cfg.Topics.Dispatched()
	ends, err := t.s.look.Watermarks(ctx, topic, t.partition)
	if err != nil {
		return err
	}
	t.end = ends.High
	live := map[int64]track.Live{}
	var done []int64
	from := min(max(t.position.Aside, ends.Low), ends.High)
	source := sourceOf(t.s.m.cfg.Installation, t.s.name)
	err = t.s.look.Scan(ctx, topic, t.partition, from, ends.High, takeoverStall, func(r kafka.Record) error {
		if string(r.Header(kafka.HeaderName("source"))) != source {
			return nil
		}
		d, at, err := t.decision(&r)
		if errors.Is(err, kafka.ErrRecord) {
			t.s.m.cfg.Log.Error("record of the dispatched topic is none of evento's; it is left out", "dispatcher", t.s.name, "partition", t.partition, "offset", r.Offset, "err", err)
			return nil
		}
		if err != nil {
			// A newer gateway may have written it: what it decided must not be decided again.
			return fmt.Errorf("record %s/%d/%d: %w", topic, t.partition, r.Offset, err)
		}
		if d.Epoch != t.s.start.Epoch || at.Topic != t.u.topic || at.Partition != t.partition {
			return nil
		}
		done = append(done, at.Offset)
		if d.Status == avro.DispatchDecided || d.Status == avro.DispatchDropped {
			delete(live, at.Offset)
			return nil
		}
		live[at.Offset] = track.Live{Offset: at.Offset, RecordAt: r.Offset, Status: d.Status, Attempts: d.Attempts, Reason: d.Reason, Since: r.Time}
		return nil
	})
	if err != nil {
		return err
	}
	// Of a position that was committed, too: a plain commit that was given up may
	// reach the group after later transactions, and has then moved it back. What
	// was recorded since then stands after the offset that it names.
	for _, offset := range done {
		if offset >= t.position.Offset {
			t.position.Done = append(t.position.Done, offset)
		}
	}
	for _, l := range live {
		t.live = append(t.live, l)
	}
	return nil
}

func (t *takeover) decision(r *kafka.Record) (avro.Dispatched, runtime.Coordinates, error) {
	m, err := kafka.ParseRecord(r)
	if err != nil {
		return avro.Dispatched{}, runtime.Coordinates{}, err
	}
	d, err := t.s.m.cfg.Catalogue.DecodeDispatched(m.Schema, m.Data)
	if err != nil {
		return d, runtime.Coordinates{}, err
	}
	at, err := runtime.ParseCoordinates(d.At)
	return d, at, err
}

// readEvents reads the events that are parked or set aside.
func (t *takeover) readEvents(ctx context.Context) error {
	if len(t.live) == 0 {
		return nil
	}
	offsets := make([]int64, len(t.live))
	for i := range t.live {
		offsets[i] = t.live[i].Offset
	}
	records, err := t.s.m.cfg.Reader.Points(ctx, t.u.topic, t.partition, offsets)
	if err != nil {
		return err
	}
	events := make(map[int64]*runtime.Message, len(records))
	for i := range records {
		m, err := kafka.ParseRecord(&records[i])
		if err != nil {
			t.s.m.cfg.Log.Error("event that was set aside cannot be read; its record is kept", "dispatcher", t.s.name, "err", err)
			continue
		}
		events[records[i].Offset] = m
	}
	for i := range t.live {
		t.live[i].Message = events[t.live[i].Offset]
	}
	track.SortLive(t.live)
	return nil
}
