package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

// seen is what is known of an aggregate's state.
type seen struct {
	version uint64 // by the events
	// of a snapshot, where there is one and few are kept
	snapshot bool
	state    State
}

// readSnapshots gives what Redis has. The events come after it, so that they tell of
// each snapshot whether its event is theirs.
func (r *run) readSnapshots(ctx context.Context, p *verify.Partition, aggregates map[runtime.AggregateID]*seen) error {
	if r.snapshots == nil {
		return nil
	}
	for id, s := range aggregates {
		damaged := r.snapshots.Stats().Corrupt
		found, err := r.snapshots.Load(ctx, id)
		switch {
		case errors.Is(err, gateway.ErrSnapshotMiss):
			if r.snapshots.Stats().Corrupt > damaged {
				r.checker.Add(verify.Violation{Invariant: verify.StateIsLog, Entity: string(id), Text: fmt.Sprintf("the snapshot in Redis is damaged: %v", err)})
			}
			continue
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			r.note("redis does not answer, so snapshots were not looked at any more: %v", err)
			r.snapshots.Close()
			r.snapshots = nil
			return nil
		}
		p.Snapshot(verify.Snapshot{Aggregate: id, Topic: r.eventsOf(id), Version: found.State.Version, Offset: found.Head.Offset, Event: found.Head.EventID()})
		if r.State != nil && r.asked < r.States {
			s.snapshot, s.state = true, State{found.State.Version, found.State.Schema, found.State.Data}
		}
	}
	return nil
}

// askStates asks the gateway for states: they are not older than the events, and of
// one version there is one state.
func (r *run) askStates(ctx context.Context, n int32, aggregates map[runtime.AggregateID]*seen) {
	if r.State == nil {
		return
	}
	for id, s := range aggregates {
		if s.version == 0 || r.asked >= r.States || ctx.Err() != nil {
			continue
		}
		r.asked++
		answer, err := r.State(ctx, id)
		if err != nil {
			if ctx.Err() == nil {
				r.note("the gateway did not tell the state of %s, and was not asked for more in partition %d: %v", id, n, err)
			}
			return
		}
		wrong := func(format string, args ...any) {
			r.checker.Add(verify.Violation{Invariant: verify.StateIsLog, Entity: string(id), Text: fmt.Sprintf(format, args...)})
		}
		switch {
		case answer.Version < s.version:
			wrong("the gateway's state has version %d, and the log had %d before it was asked", answer.Version, s.version)
		case s.snapshot && s.state.Version == answer.Version && s.state.Schema == answer.Schema && !bytes.Equal(s.state.Data, answer.Data):
			wrong("of version %d the snapshot in Redis has the state %x, the gateway %x", answer.Version, s.state.Data, answer.Data)
		}
	}
}
