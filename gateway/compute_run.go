package gateway

import (
	"context"
	"errors"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// execute does the commands that the work begins with, all in one call, when
// one function is their handler and the aggregator.
func (f *Functions) execute(ctx context.Context, w shard.Work, t *FunctionTarget) shard.Computed {
	l, err := f.line(t)
	if err != nil {
		return troubled(f.trouble(t, nil, nil, err))
	}
	limit := 1
	if f.set.Runs {
		limit = l.runLimit()
	}
	run := f.run(w, t, limit)
	for {
		c, again := f.executeRun(ctx, w, t, l, run)
		if again == 0 {
			return c
		}
		run = run[:again]
	}
}

// run returns the commands, limit at most, that the work begins with and that
// go to the same function in the same way.
func (f *Functions) run(w shard.Work, t *FunctionTarget, limit int) []*runtime.Message {
	run := w.Commands[:1]
	size := len(w.State.Data) + len(run[0].Data)
	for _, m := range w.Commands[1:] {
		typ, ok := f.set.Schemas.Type(m.Type)
		if size += len(m.Data); len(run) >= limit || size > f.set.Limits.BatchBytes || !ok || typ.Kind != avro.KindCommand {
			break
		}
		if next, err := f.set.Router.Handler(m); err != nil || next != *t {
			break
		}
		run = w.Commands[:len(run)+1]
	}
	return run
}

// executeRun makes one call. When it cannot be told which of several commands
// is to blame for what came back, it says how many to try again with: fewer
// than before, so that in the end one is found to blame, or none.
func (f *Functions) executeRun(ctx context.Context, w shard.Work, t *FunctionTarget, l *functionLine, run []*runtime.Message) (c shard.Computed, again int) {
	q := &question{
		kind: runtime.KindExecute, typeName: run[0].Type.Namespace(), aggregate: w.Aggregate,
		state: w.State, messages: run,
	}
	missed := l.misses(w.Aggregate)
	a, trouble := f.ask(ctx, t, q)
	if trouble == nil && len(a.result.Steps) == 0 {
		trouble = f.noSteps(t, l, q, a.result.Failure)
	}
	if trouble != nil {
		switch {
		case len(run) == 1:
			return f.unlessInvalid(w, run[0], trouble), 0
		case trouble.Kind == shard.Failed, l.misses(w.Aggregate) > missed:
			// One is to blame, or all of them were too much together.
			l.shortenRuns(len(run))
			return c, 1
		}
		if known := l.knows(run); known > 0 && known < len(run) {
			return c, known
		}
		return troubled(trouble), 0
	}
	r := &a.result
	if len(r.Steps) > len(run) {
		return troubled(f.trouble(t, l, q, wrongAnswer("%d steps for %d commands", len(r.Steps), len(run)))), 0
	}
	events, total := make([][]shard.Event, len(r.Steps)), 0
	for i := range r.Steps {
		var err error
		if events[i], err = f.checkEvents(t, &a, run[i], r.Steps[i].Events); err != nil {
			if i > 0 {
				return c, i // those before are good, but the state is the one after all of them
			}
			return troubled(f.trouble(t, l, q, err)), 0
		}
		total += len(events[i])
	}
	state, err := f.checkState(q, &a, total)
	switch {
	case err != nil && len(r.Steps) > 1:
		return c, len(r.Steps) / 2
	case errors.Is(err, errStateGrew):
		return rejected(w.State, RejectStateTooLarge, err.Error()), 0
	case err != nil:
		return troubled(f.trouble(t, l, q, err)), 0
	}
	if r.Failure != nil {
		c.Trouble = f.trouble(t, l, q, r.Failure)
	} else {
		l.lengthenRuns(len(r.Steps))
	}
	c.Steps = stepsOf(w.State.Version, events, state)
	return c, 0
}

// noSteps is the trouble of an answer in which no command is done.
func (f *Functions) noSteps(t *FunctionTarget, l *functionLine, q *question, failure *runtime.Failure) *shard.Trouble {
	if failure == nil {
		return f.trouble(t, l, q, wrongAnswer("neither a step nor a failure for %d commands", len(q.messages)))
	}
	return f.trouble(t, l, q, failure)
}

// stepsOf joins events and states; last is the state after all of them.
func stepsOf(version uint64, events [][]shard.Event, last shard.State) []shard.Step {
	steps := make([]shard.Step, len(events))
	for i := range events {
		version += uint64(len(events[i]))
		steps[i] = shard.Step{Events: events[i], State: unknownState(version)}
	}
	steps[len(steps)-1].State = last
	return steps
}
