package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// Cached implements [Reader]. The owner holds a snapshot against the head that
// it has in memory. Here no head is known, so the log is asked for the one
// record that the snapshot says is its last: a committed record at that offset
// with that id and version proves the snapshot, because events build on one
// another. So neither a log that was set back behind its cache nor a value of
// another installation is taken for the truth.
func (e *Engine) Cached(ctx context.Context, id runtime.AggregateID, enough func(uint64, time.Time) bool) (shard.State, time.Time, error) {
	view, err := e.cfg.Catalogue.AggregateOf(id.Root())
	switch {
	case err != nil:
		return shard.State{}, time.Time{}, fmt.Errorf("%w: %w", ErrSnapshotMiss, err)
	case e.cfg.Snapshots == nil:
		return shard.State{}, time.Time{}, fmt.Errorf("%w: there is no cache", ErrSnapshotMiss)
	case e.part(id) != nil:
		return shard.State{}, time.Time{}, fmt.Errorf("%w: the owner is asked, who is here", ErrSnapshotMiss)
	}
	if _, known := e.cfg.Functions.FreshFold(ctx, view.Name); !known {
		return shard.State{}, time.Time{}, fmt.Errorf("%w: how the aggregator of %q folds events is not known", ErrSnapshotMiss, id)
	}
	s, err := e.cfg.Snapshots.Peek(ctx, id)
	if err != nil {
		return shard.State{}, time.Time{}, err
	}
	if s.State.Data == nil || s.State.Version != s.Head.Version {
		return shard.State{}, time.Time{}, fmt.Errorf("%w: the one of %q has no state of version %d", ErrSnapshotMiss, id, s.Head.Version)
	}
	if _, known := e.cfg.Catalogue.Version(s.State.Schema); !known {
		return shard.State{}, time.Time{}, fmt.Errorf("%w: the schema %s is not known here", ErrSnapshotMiss, s.State.Schema)
	}
	if !enough(s.State.Version, s.Recorded) {
		return shard.State{}, time.Time{}, fmt.Errorf("%w: the snapshot is at version %d of %s", ErrBehind, s.State.Version, s.Recorded)
	}
	if !e.proven.knows(id, s.Head) {
		if err := e.prove(ctx, id, e.cfg.Topics.Events(view.Name), s.Head); err != nil {
			return shard.State{}, time.Time{}, err
		}
		e.proven.learn(id, s.Head)
	}
	return s.State, s.Recorded, nil
}

// prove says whether a head is a committed record of the aggregate. It need not
// be the newest.
func (e *Engine) prove(ctx context.Context, id runtime.AggregateID, topic string, head shard.Head) error {
	partition := kafka.Partition(string(id), e.cfg.Partitions)
	records, err := e.cfg.Reader.Points(ctx, topic, partition, []int64{head.Offset})
	if err != nil {
		return fmt.Errorf("the last record of the snapshot cannot be read: %w", err)
	}
	if len(records) == 1 && string(records[0].Key) == string(id) {
		m, err := kafka.ParseRecord(&records[0])
		// A record of the platform has no version; the one before it does.
		if err == nil && m.ID == head.EventID() && (m.Sequence == head.Version || m.Sequence == 0) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s/%d/%d is not event %s of %q", ErrSnapshotMiss, topic, partition, head.Offset, head.EventID(), id)
}

// provenHeads remembers for a moment what the log has proven: a point read costs
// several times what the rest of the answer does.
type provenHeads struct {
	mu    sync.Mutex
	heads map[runtime.AggregateID]provenHead // guarded by mu
}

type provenHead struct {
	head shard.Head
	at   time.Time
}

// maxProvenHeads bounds the memory to some megabytes. A head is proven anew
// after provenFor, so that a log that is set back meanwhile is noticed.
const (
	maxProvenHeads = 1 << 14
	provenFor      = time.Minute
)

func (p *provenHeads) knows(id runtime.AggregateID, head shard.Head) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.heads[id]
	return ok && known.head == head && time.Since(known.at) < provenFor
}

func (p *provenHeads) learn(id runtime.AggregateID, head shard.Head) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heads == nil {
		p.heads = map[runtime.AggregateID]provenHead{}
	}
	if _, there := p.heads[id]; !there && len(p.heads) >= maxProvenHeads {
		for other := range p.heads {
			delete(p.heads, other)
			break
		}
	}
	p.heads[id] = provenHead{head, time.Now()}
}
