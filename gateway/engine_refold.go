package gateway

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
)

// An aggregator that makes another state of the same events each time (a map's
// order, the clock, a random number) is not seen by anything that runs: states are
// made once and then taken for granted, until a snapshot is lost and another one comes
// up. So the engine has one aggregate at a time folded once more, between two of its
// snapshots, and compares.

const (
	refoldEvery  = 10 * time.Second // between two comparisons
	refoldWait   = 30 * time.Second // for the second snapshot of an aggregate
	refoldEvents = 1000             // between the two, at most
)

// refolds is the comparison that is being made, or prepared.
type refolds struct {
	every time.Duration

	mu    sync.Mutex     // guards what follows
	first shard.Snapshot // where the next one begins; zero for none
	since time.Time      // of first
	next  time.Time      // none is prepared before
	busy  bool
}

// refold takes part in a comparison with a snapshot that has just been committed.
func (e *Engine) refold(p *partition, s shard.Snapshot) {
	r, now := &e.refolds, time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.first
	switch {
	case r.busy || now.Before(r.next):
		return
	case first.Aggregate != s.Aggregate:
		if first.Aggregate == "" || now.Sub(r.since) > refoldWait {
			s.Links = slices.Clone(s.Links)
			r.first, r.since = s, now
		}
		return
	}
	r.first = shard.Snapshot{}
	if events := s.State.Version - first.State.Version; events == 0 || events > refoldEvents || !sameFold(first.State, s.State) {
		return
	}
	r.busy = true
	e.work.Go(func() {
		e.compareFold(p, first, s)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.busy, r.next = false, time.Now().Add(r.every)
	})
}

// sameFold says whether two states are of the same fold and schema.
func sameFold(a, b shard.State) bool { return a.Fold == b.Fold && a.Schema == b.Schema }

// compareFold applies the events between two snapshots to the first one's state, and
// holds what comes of it against the second one's. What cannot be done (the aggregator
// is away, or of another fold by now) says nothing.
func (e *Engine) compareFold(p *partition, first, second shard.Snapshot) {
	view, err := e.cfg.Catalogue.AggregateOf(second.Aggregate.Root())
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(p.ctx, 30*time.Second, errors.New("folding once more took more than 30s"))
	defer cancel()
	again, trouble := e.replay(ctx, p, shard.Load{Aggregate: second.Aggregate, Topic: e.cfg.Topics.Events(view.Name), Head: second.Head}, first)
	if trouble != nil || !sameFold(again.State, second.State) {
		return
	}
	if again.State.Version == second.State.Version && bytes.Equal(again.State.Data, second.State.Data) {
		e.cfg.Metrics.refolds.WithLabelValues("same").Inc()
		return
	}
	e.cfg.Metrics.refolds.WithLabelValues("another").Inc()
	e.cfg.Log.Error("an aggregator makes another state of the same events; is it deterministic (no clock, no random numbers, no order of a map)? Which state is shown depends on what was lost since",
		"aggregate", view.Name, "entity", string(second.Aggregate), "from_version", first.State.Version, "to_version", second.State.Version)
}
