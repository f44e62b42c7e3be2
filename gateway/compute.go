package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/runtime"
)

// Codes of [shard.Reject] that come from here.
const (
	RejectNotACommand   = "not-a-command"   // the type is neither a command nor an event
	RejectInvalidData   = "invalid-data"    // the body is no value of its schema
	RejectStateTooLarge = "state-too-large" // the state would grow beyond its limit
)

// Compute has the first commands of a work done by their functions: as many as
// can be done in one go. It never fails otherwise than by [shard.Computed.Trouble].
//
// Of a run that was folded in one call only the last step's State is whole; see
// [shard.State.Known] and [FunctionSettings].Runs.
func (f *Functions) Compute(ctx context.Context, w shard.Work) (c shard.Computed) {
	defer func() {
		if p := recover(); p != nil {
			f.set.Logger.Error("computing panicked", "entity", string(w.Aggregate), "err", fmt.Sprint(p), "trace", string(debug.Stack()))
			c = shard.Computed{Trouble: &shard.Trouble{
				Kind: shard.Failed, Reason: shorten(fmt.Sprintf("evento panicked: %v", p)), Policy: shard.DefaultPolicy,
			}}
		}
	}()
	if len(w.Commands) == 0 {
		return shard.Computed{}
	}
	first := w.Commands[0]
	typ, ok := f.set.Schemas.Type(first.Type)
	switch {
	case !ok:
		return troubled(f.trouble(&FunctionTarget{}, nil, nil, fmt.Errorf("type %q: %w", string(first.Type), errUnregistered)))
	case first.Platform():
		return rejected(w.State, RejectNotACommand, fmt.Sprintf("%q is the platform's own", string(first.Type)))
	case typ.Outcome():
		return f.publish(ctx, w)
	case typ.Kind != avro.KindCommand:
		return rejected(w.State, RejectNotACommand, fmt.Sprintf("%q is of kind %q; only commands and events can be sent", string(first.Type), typ.Kind))
	}
	handler, err := f.set.Router.Handler(first)
	if err != nil {
		return troubled(noTrigger(err))
	}
	if handler.Combined {
		return f.execute(ctx, w, &handler)
	}
	return f.handle(ctx, w, &handler)
}

// Foldable says whether consecutive messages of an aggregate that begin with m
// may be computed in one call.
func (f *Functions) Foldable(m *runtime.Message) bool {
	if !f.set.Runs {
		return false
	}
	typ, ok := f.set.Schemas.Type(m.Type)
	if !ok || typ.Kind != avro.KindCommand {
		return false
	}
	handler, err := f.set.Router.Handler(m)
	return err == nil && handler.Combined
}

// unknownState is the state between two commands of one call.
func unknownState(version uint64) shard.State { return shard.State{Version: version, Data: []byte{}} }

func troubled(t *shard.Trouble) shard.Computed { return shard.Computed{Trouble: t} }

func rejected(s shard.State, code, reason string) shard.Computed {
	return shard.Computed{Steps: []shard.Step{{State: s, Rejected: &shard.Reject{Code: code, Reason: reason}}}}
}

// noTrigger is the trouble of a message that nobody is there for yet.
func noTrigger(err error) *shard.Trouble {
	return &shard.Trouble{Kind: shard.Unavailable, Reason: shorten(err.Error()), Wait: jitter(waitDeploy), Policy: shard.DefaultPolicy}
}

// handle does one command whose handler and aggregator are two functions.
func (f *Functions) handle(ctx context.Context, w shard.Work, t *FunctionTarget) shard.Computed {
	command := w.Commands[0]
	q := &question{
		kind: runtime.KindHandle, typeName: command.Type.Namespace(), aggregate: w.Aggregate,
		state: w.State, messages: w.Commands[:1],
	}
	a, trouble := f.ask(ctx, t, q)
	if trouble != nil {
		return f.unlessInvalid(w, command, trouble)
	}
	if a.result.Failure != nil {
		return f.unlessInvalid(w, command, f.trouble(t, f.lineOf(t), q, a.result.Failure))
	}
	var answer []*runtime.Message
	if len(a.result.Steps) > 0 {
		answer = a.result.Steps[0].Events
	}
	events, err := f.checkEvents(t, &a, command, answer)
	if err != nil {
		return troubled(f.trouble(t, f.lineOf(t), q, err))
	}
	crash.At(crash.CallHandled)
	return f.apply(ctx, w, events)
}

// publish does the event from outside that the work begins with. There is no
// handler to ask: it is a fact already, unless it cannot be applied.
func (f *Functions) publish(ctx context.Context, w shard.Work) shard.Computed {
	m := w.Commands[0]
	e := shard.Event{Type: m.Type, Subject: m.Subject, Schema: m.Schema, Data: m.Data, Time: m.Time}
	if e.Time.IsZero() {
		e.Time = f.now().Truncate(time.Millisecond).UTC()
	}
	return f.apply(ctx, w, []shard.Event{e})
}

// apply has the events of the first command applied.
func (f *Functions) apply(ctx context.Context, w shard.Work, events []shard.Event) shard.Computed {
	command := w.Commands[0]
	t, err := f.set.Router.Aggregator(command.Type.Namespace())
	if err != nil {
		return troubled(noTrigger(err))
	}
	q := &question{
		kind: runtime.KindApply, typeName: command.Type.Namespace(), aggregate: w.Aggregate, state: w.State,
		messages: appliedEvents(command.Key(), w.State.Version, events),
	}
	a, trouble := f.ask(ctx, &t, q)
	if trouble != nil {
		return f.unlessInvalid(w, command, trouble)
	}
	if a.result.Failure != nil {
		return f.unlessInvalid(w, command, f.trouble(&t, f.lineOf(&t), q, a.result.Failure))
	}
	state, err := f.checkState(q, &a, len(events))
	switch {
	case errors.Is(err, errStateGrew):
		return rejected(w.State, RejectStateTooLarge, err.Error())
	case err != nil:
		return troubled(f.trouble(&t, f.lineOf(&t), q, err))
	}
	return shard.Computed{Steps: []shard.Step{{Events: events, State: state}}}
}

// lineOf returns the line of a function that has been called.
func (f *Functions) lineOf(t *FunctionTarget) *functionLine {
	l, err := f.line(t)
	if err != nil {
		return nil
	}
	return l
}

// unlessInvalid returns the trouble, unless the cause is that the message is no
// value of its schema: that is not going to change, so the platform refuses it.
// Intake has checked it; others may have written to the topic.
func (f *Functions) unlessInvalid(w shard.Work, m *runtime.Message, trouble *shard.Trouble) shard.Computed {
	if _, ok := f.set.Schemas.Version(m.Schema); ok {
		if err := f.set.Schemas.Validate(m.Schema, m.Data); err != nil {
			return rejected(w.State, RejectInvalidData, shorten(err.Error()))
		}
	}
	return troubled(trouble)
}
