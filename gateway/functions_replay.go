package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// Replay applies recorded events to a state, as rebuilding a snapshot, bringing
// it up to the head and time travel need it. The events are consecutive, the
// first has the version behind the state's; platform records are not among them.
// The state is what it would have been when they were recorded, with no limit:
// they are facts. With trouble, the state is that after the events that could be
// applied before it.
func (f *Functions) Replay(ctx context.Context, aggregate runtime.AggregateID, s shard.State, events []*runtime.Message) (_ shard.State, trouble *shard.Trouble) {
	defer func() {
		if p := recover(); p != nil {
			f.set.Logger.Error("replaying panicked", "entity", string(aggregate), "err", fmt.Sprint(p), "trace", string(debug.Stack()))
			trouble = &shard.Trouble{Kind: shard.Failed, Reason: shorten(fmt.Sprintf("evento panicked: %v", p)), Policy: shard.DefaultPolicy}
		}
	}()
	if len(events) == 0 {
		return s, nil
	}
	t, err := f.set.Router.Aggregator(events[0].Type.Namespace())
	if err != nil {
		return s, noTrigger(err)
	}
	most := replayEvents
	for len(events) > 0 {
		n := f.replayRun(events, most)
		next, trouble := f.replay(ctx, &t, aggregate, s, events[:n])
		switch {
		case trouble == nil:
			s, events = next, events[n:]
		case n == 1 || trouble.Kind == shard.Unavailable && f.lineOf(&t).misses(aggregate) == 0:
			return s, trouble
		default:
			most = max(1, n/8) // together they may have been too much
		}
	}
	return s, nil
}

// replayEvents is how many events are applied in one call at most.
const replayEvents = 2000

// replayRun returns how many events, at least one, go in one call.
func (f *Functions) replayRun(events []*runtime.Message, most int) int {
	size := 0
	for n, m := range events {
		if size += 100 + len(m.Data); n > 0 && (n == most || size > f.set.Limits.BatchBytes) {
			return n
		}
	}
	return len(events)
}

func (f *Functions) replay(ctx context.Context, t *FunctionTarget, aggregate runtime.AggregateID, s shard.State, events []*runtime.Message) (shard.State, *shard.Trouble) {
	q := &question{
		kind: runtime.KindApply, typeName: events[0].Type.Namespace(), aggregate: aggregate, state: s,
		messages: make([]*runtime.Message, len(events)),
	}
	for i, m := range events {
		if want := s.Version + uint64(i) + 1; m.Sequence != want {
			return s, &shard.Trouble{Kind: shard.Failed, Policy: shard.DefaultPolicy, Reason: fmt.Sprintf(
				"version %d of %q was to be replayed where version %d is due", m.Sequence, string(aggregate), want)}
		}
		q.messages[i] = applied(m)
	}
	a, trouble := f.ask(ctx, t, q)
	if trouble != nil {
		return s, trouble
	}
	if a.result.Failure != nil {
		return s, f.trouble(t, f.lineOf(t), q, a.result.Failure)
	}
	next, err := f.checkState(q, &a, len(events))
	if err != nil && !errors.Is(err, errStateGrew) {
		return s, f.trouble(t, nil, q, err)
	}
	return next, nil
}
