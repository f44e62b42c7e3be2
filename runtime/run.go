package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// runner runs invocations on a function.
type runner struct {
	f   *Function
	log *slog.Logger
	now func() time.Time

	states *stateCache // nil: none are kept
	drill  drill
}

// Invoke runs one invocation in this process, as the server does for a request:
// through the bytes, with panics caught. Author's code that is not done when ctx
// ends is left behind and the answer is [FailureDeadline]. Log may be nil.
func (f *Function) Invoke(ctx context.Context, in Invocation, log *slog.Logger) Result {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := runner{f: f, log: log, now: time.Now}
	return r.all(ctx, []Invocation{in})[0]
}

// all runs the invocations of a request at the same time.
func (r *runner) all(ctx context.Context, in []Invocation) []Result {
	type answer struct {
		index  int
		result Result
	}
	answers := make(chan answer, len(in)) // room for all: who is late blocks on nobody
	reached := make([]progress, len(in))
	for i := range in {
		go func() {
			answers <- answer{i, r.one(ctx, &in[i], &reached[i])}
		}()
	}
	results := make([]Result, len(in))
	done := make([]bool, len(in))
	for n := 0; n < len(in); n++ {
		select {
		case a := <-answers:
			results[a.index], done[a.index] = a.result, true
			continue
		case <-ctx.Done():
		}
		// Who answered in the same moment is not late.
		for more := true; more; {
			select {
			case a := <-answers:
				results[a.index], done[a.index] = a.result, true
			default:
				more = false
			}
		}
		for i := range in {
			if !done[i] {
				results[i] = reached[i].late(&in[i])
				r.log.Warn("the function's code still runs after its deadline", "entity", string(in[i].Aggregate), "kind", in[i].Kind.String())
			}
		}
		break
	}
	return results
}

// one runs one invocation.
func (r *runner) one(ctx context.Context, in *Invocation, p *progress) Result {
	res := Result{ID: in.ID}
	res.Failure = guard(func() *Failure {
		if err := r.valid(in); err != nil {
			return err
		}
		if in.Kind == KindHandle || in.Kind == KindExecute {
			if err := r.drill.strike(in.Aggregate); err != nil {
				return err
			}
		}
		switch in.Kind {
		case KindHandle:
			return r.handleOne(ctx, in, &res)
		case KindApply:
			return r.applyAll(in, &res)
		case KindExecute:
			return r.execute(ctx, in, p, &res)
		default:
			return r.dispatch(ctx, in, &res)
		}
	})
	r.keep(in, &res)
	if f := res.Failure; f != nil && f.Code == FailureStateNeeded {
		// Nothing failed: it comes again with the state.
		r.log.Debug("a state is asked for", "entity", string(in.Aggregate), "version", in.Version)
	} else if f != nil {
		if ctx.Err() != nil && f.Code == FailureError {
			f.Code = FailureDeadline
		}
		r.log.Warn("a call failed", "kind", in.Kind.String(), "entity", string(in.Aggregate), "version", in.Version,
			"step", len(res.Steps), "code", f.Code.String(), "err", f.Message, "trace", f.Trace)
	}
	return res
}

// valid says whether the function can take such an invocation.
func (r *runner) valid(in *Invocation) *Failure {
	role := Role("")
	switch {
	case in.Kind == KindHandle && r.f.handle == nil:
		role = RoleHandler
	case in.Kind == KindApply && r.f.apply == nil:
		role = RoleAggregator
	case in.Kind == KindExecute && (r.f.handle == nil || r.f.apply == nil):
		role = RoleHandler + "," + RoleAggregator
	case in.Kind == KindDispatch && r.f.reactions == nil:
		role = RoleDispatcher
	case in.Kind < KindHandle || in.Kind > KindDispatch:
		return &Failure{Code: FailureUnknownType, Message: fmt.Sprintf("there is no kind of invocation %d", in.Kind)}
	}
	if role != "" {
		return &Failure{Code: FailureUnknownType, Message: fmt.Sprintf("asked to %s, which takes the role %q; this function is %q", in.Kind, role, r.f.name())}
	}
	if len(in.Messages) == 0 || len(in.Messages) > 1 && (in.Kind == KindHandle || in.Kind == KindDispatch) {
		return &Failure{Code: FailureUnknownType, Message: fmt.Sprintf("asked to %s %d messages", in.Kind, len(in.Messages))}
	}
	for _, m := range in.Messages {
		if in.Kind != KindDispatch && m.Subject.Aggregate() != in.Aggregate {
			return &Failure{Code: FailureUnknownType, Message: fmt.Sprintf("message %q is about %q, not about the aggregate %q", m.ID, m.Subject, in.Aggregate)}
		}
	}
	return nil
}

func (r *runner) handleOne(ctx context.Context, in *Invocation, res *Result) *Failure {
	state, f := r.state(in)
	if f != nil {
		return f
	}
	events, _, f := r.handled(ctx, in.Messages[0], in.Version, state)
	if f == nil {
		res.Steps = []ResultStep{{Events: events}}
	}
	return f
}

// handled asks the author's handler about one command.
func (r *runner) handled(ctx context.Context, m *Message, version uint64, state Record) ([]*Message, []Record, *Failure) {
	command, ok := r.f.commands[m.Type]
	if !ok {
		return nil, nil, unknownType(m)
	}
	record, f := read(command.Codec, m)
	if f != nil {
		return nil, nil, f
	}
	now := m.Time
	if now.IsZero() {
		now = r.now().UTC().Truncate(time.Millisecond)
	}
	answer, err := r.f.handle(HandlerContext{
		Context: ctx, command: m, aggregate: m.Aggregate(), version: version, now: now, log: r.log,
	}, state, record)
	if err != nil {
		return nil, nil, failure(err)
	}
	return r.f.outgoing(m, now, answer)
}

func (r *runner) applyAll(in *Invocation, res *Result) *Failure {
	state, f := r.state(in)
	if f != nil {
		return f
	}
	for i, m := range in.Messages {
		event, ok := r.f.events[m.Type]
		if !ok {
			return unknownType(m)
		}
		record, f := read(event.Codec, m)
		if f != nil {
			return f
		}
		if state, f = r.applied(m, in.Version+uint64(i)+1, state, record, func() string { return m.ID }); f != nil {
			return f
		}
	}
	res.StateSchema, res.State, f = r.written(state)
	return f
}

// applied asks the author's aggregator about one event.
func (r *runner) applied(m *Message, version uint64, state, event Record, id func() string) (Record, *Failure) {
	next, err := r.f.apply(AggregatorContext{event: m, aggregate: m.Aggregate(), version: version, id: id}, state, event)
	switch {
	case err != nil:
		return nil, failure(err)
	case next == nil && state != nil:
		return nil, &Failure{Code: FailureError, Message: fmt.Sprintf(
			"the aggregator returned no state for %q; return the state it was given when the event changes nothing", m.Type)}
	}
	return next, nil
}

// execute handles each command and applies its events before the next.
func (r *runner) execute(ctx context.Context, in *Invocation, p *progress, res *Result) *Failure {
	state, f := r.state(in)
	if f != nil {
		return f
	}
	p.start(in)
	k := keeper{r: r, p: p, schema: in.StateSchema, state: in.State}
	version := in.Version
	spoilt := false
	for i, m := range in.Messages {
		if i > 0 && ctx.Err() != nil {
			break // nobody waits for the rest; what is done may still count
		}
		// A panic ends this message alone: the ones before it are done.
		f = guard(func() *Failure {
			events, records, f := r.decided(ctx, m, version, state)
			if f != nil {
				return f
			}
			spoilt = true
			next, f := r.folded(m, events, records, version, state)
			if f != nil {
				return f
			}
			steps := append(res.Steps, ResultStep{Events: events})
			if k.due() {
				if f := k.keep(steps, next); f != nil {
					return f
				}
			}
			p.reached(i + 1)
			res.Steps, state, spoilt = steps, next, false
			version += uint64(len(events))
			return nil
		})
		if f != nil {
			break
		}
	}
	return k.finish(res, state, spoilt, f)
}

// folded applies the events of one message m. Those that it made get the ids
// that the platform will record them under; an event from outside keeps its own.
func (r *runner) folded(m *Message, events []*Message, records []Record, version uint64, state Record) (Record, *Failure) {
	key := sync.OnceValue(m.Key)
	for i, e := range events {
		id := func() string {
			if e == m {
				return m.ID
			}
			return key().EventID(i + 1)
		}
		var f *Failure
		if state, f = r.applied(e, version+uint64(i)+1, state, records[i], id); f != nil {
			return nil, f
		}
	}
	return state, nil
}

// decided returns the events of one message: what the handler answers to a
// command, or the message itself when it is an event.
func (r *runner) decided(ctx context.Context, m *Message, version uint64, state Record) ([]*Message, []Record, *Failure) {
	if event, ok := r.f.events[m.Type]; ok {
		record, f := read(event.Codec, m)
		return []*Message{m}, []Record{record}, f
	}
	return r.handled(ctx, m, version, state)
}

func (r *runner) dispatch(ctx context.Context, in *Invocation, res *Result) *Failure {
	m := in.Messages[0]
	reaction, ok := r.f.reactions[m.Type]
	if !ok {
		return unknownType(m)
	}
	event, f := read(reaction.event, m)
	if f != nil {
		return f
	}
	answer, err := reaction.react(DispatcherContext{Context: ctx, event: m, log: r.log}, event)
	if err != nil {
		return failure(err)
	}
	commands, f := r.f.commandsOf(m, answer)
	if f == nil {
		res.Steps = []ResultStep{{Events: commands}}
	}
	return f
}

// state decodes the state that an invocation carries, or names; nil when there
// is none. One that it names is in the invocation afterwards.
func (r *runner) state(in *Invocation) (Record, *Failure) {
	named := in.StateHash != nil
	if f := r.recall(in); f != nil {
		return nil, f
	}
	if in.StateSchema == "" {
		return nil, nil
	}
	if in.StateSchema != r.f.root.Schema() {
		return nil, &Failure{Code: FailureSchema, Message: fmt.Sprintf("the state is in %q, the function was built with %q", in.StateSchema, r.f.root.Schema())}
	}
	state, err := r.f.root.Decode(in.State)
	if err != nil {
		return nil, &Failure{Code: FailureSchema, Message: clip(err.Error(), maxMessage)}
	}
	if r.states != nil && !named {
		r.states.put(in.Aggregate, in.Version, in.StateSchema, in.State)
	}
	return state, nil
}

// recall puts the state that an invocation names into it.
func (r *runner) recall(in *Invocation) *Failure {
	if in.StateHash == nil {
		return nil
	}
	wrong := ""
	switch {
	case len(in.StateHash) != len(StateHash{}):
		wrong = fmt.Sprintf("the hash of the state has %d bytes; one of SHA-256 has %d", len(in.StateHash), len(StateHash{}))
	case in.StateSchema == "":
		wrong = "the state is named by its hash, and its schema is not"
	case in.State != nil:
		wrong = "the call has both a state and the hash of one"
	}
	if wrong != "" {
		return &Failure{Code: FailureSchema, Message: wrong}
	}
	if r.states != nil {
		if data, ok := r.states.get(in.Aggregate, in.Version, in.StateSchema, StateHash(in.StateHash)); ok {
			in.State, in.StateHash = data, nil
			return nil
		}
	}
	return &Failure{Code: FailureStateNeeded, Message: fmt.Sprintf("this process does not have the state of %q at version %d that the call names", in.Aggregate, in.Version)}
}

// keep keeps the state that an invocation has made for the next one of this
// aggregate.
//
// Nobody here knows whether the events that led to it will be recorded. It does
// no harm if they are not: it is only used for a call that names it by the hash
// of its bytes, and the caller does so only for a state that it has itself.
func (r *runner) keep(in *Invocation, res *Result) {
	if r.states == nil || res.StateSchema == "" {
		return
	}
	version := in.Version
	if in.Kind == KindApply {
		version += uint64(len(in.Messages))
	}
	for _, step := range res.Steps {
		version += uint64(len(step.Events))
	}
	if version != in.Version { // else it is the state that came in
		r.states.put(in.Aggregate, version, res.StateSchema, res.State)
	}
}

// written encodes a state; nil gives none.
func (r *runner) written(state Record) (DataSchema, []byte, *Failure) {
	if state == nil {
		return "", nil, nil
	}
	data, err := r.f.root.Encode(state)
	if err != nil {
		return "", nil, failure(fmt.Errorf("state: %w", err))
	}
	return r.f.root.Schema(), data, nil
}

// read decodes a message in the schema that the function was built with.
func read(c *Codec, m *Message) (Record, *Failure) {
	if m.Schema != c.Schema() {
		return nil, &Failure{Code: FailureSchema, Message: fmt.Sprintf("message %q is in %q, the function was built with %q", m.ID, m.Schema, c.Schema())}
	}
	record, err := c.Decode(m.Data)
	if err != nil {
		return nil, &Failure{Code: FailureSchema, Message: clip(fmt.Sprintf("message %q: %v", m.ID, err), maxMessage)}
	}
	return record, nil
}

func unknownType(m *Message) *Failure {
	return &Failure{Code: FailureUnknownType, Message: fmt.Sprintf("the function has no code for %q", m.Type)}
}

// failure makes a failure of an author's error.
func failure(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Code: FailureError, Message: clip(err.Error(), maxMessage)}
}
