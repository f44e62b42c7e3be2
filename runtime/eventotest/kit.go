package eventotest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Start returns the time of the first event or command of a scenario: the
// beginning of 2026. Each next one is a second later.
func Start() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// DefaultEntity is the aggregate that a scenario is about when the test does not say.
const DefaultEntity runtime.Entity = "test:1"

// Kit tests the function of an aggregate with state S, commands C and events E.
type Kit[S, C, E runtime.Record] struct {
	t      testing.TB
	f      *runtime.Function
	entity runtime.Entity
}

// New returns a kit for a function that generated code made: of a handler, of
// an aggregator, or best of both, so that events can be given and states checked.
func New[S, C, E runtime.Record](t testing.TB, f runtime.FunctionOf[S, C, E]) *Kit[S, C, E] {
	return &Kit[S, C, E]{t: t, f: f.Function, entity: DefaultEntity}
}

// Entity returns a kit whose scenarios are about this root entity.
func (k *Kit[S, C, E]) Entity(e runtime.Entity) *Kit[S, C, E] {
	return &Kit[S, C, E]{t: k.t, f: k.f, entity: e}
}

// Given begins a scenario with the events that have happened; none: the
// aggregate does not exist. Events need a function that is an aggregator.
func (k *Kit[S, C, E]) Given(events ...E) *Scenario[S, C, E] {
	k.t.Helper()
	s := &Scenario[S, C, E]{kit: k, t: k.t, now: Start()}
	var messages []*runtime.Message
	for i, e := range events {
		m := s.message(e, fmt.Sprintf("given-%d", i+1))
		if m.Subject == "" {
			m.Subject = k.entity
		}
		m.Sequence = uint64(i + 1)
		messages = append(messages, m)
	}
	s.fold(messages)
	return s
}

// GivenState begins a scenario with a state, for a handler without its
// aggregator or for a state that takes many events.
func (k *Kit[S, C, E]) GivenState(state S, version uint64) *Scenario[S, C, E] {
	k.t.Helper()
	s := &Scenario[S, C, E]{kit: k, t: k.t, now: Start(), version: version}
	m, err := k.f.Message(state)
	if err != nil {
		k.t.Fatalf("the given state cannot be written: %v", err)
	}
	s.schema, s.state = m.Schema, m.Data
	return s
}

// Scenario is a history and what is done next.
type Scenario[S, C, E runtime.Record] struct {
	kit     *Kit[S, C, E]
	t       testing.TB
	now     time.Time
	count   int // commands so far
	version uint64
	schema  runtime.DataSchema
	state   []byte // nil: none

	events  []*runtime.Message // answer to the last command
	failure *runtime.Failure
	asked   bool // an answer waits to be looked at
}

// At sets the time of the next command.
func (s *Scenario[S, C, E]) At(t time.Time) *Scenario[S, C, E] {
	s.now = t
	return s
}

// When sends a command to the root entity.
func (s *Scenario[S, C, E]) When(command C) *Scenario[S, C, E] {
	s.t.Helper()
	return s.WhenTo(s.kit.entity, command)
}

// WhenTo sends a command to an entity inside the aggregate.
func (s *Scenario[S, C, E]) WhenTo(target runtime.Entity, command C) *Scenario[S, C, E] {
	s.t.Helper()
	s.unseen()
	s.count++
	m := s.message(command, fmt.Sprintf("command-%d", s.count))
	m.Subject = target
	res := s.invoke(runtime.KindHandle, []*runtime.Message{m}, s.schema, s.state)
	again := s.invoke(runtime.KindHandle, []*runtime.Message{m}, s.schema, s.state)
	s.events, s.failure, s.asked = nil, res.Failure, true
	if s.failure != nil {
		return s
	}
	s.events = res.Steps[0].Events
	if again.Failure != nil {
		s.t.Errorf("the handler decided %s the first time and failed the second: %v", names(s.events), again.Failure)
		return s
	}
	if d := s.differ(s.events, again.Steps[0].Events); d != "" {
		s.t.Errorf("the handler decided something else when it was called again; take the time from ctx.Now, and leave chance and the outside world out:\n%s", d)
	}
	if !s.folds() {
		return s
	}
	schema, state := s.schema, s.state
	s.fold(recorded(m, s.events, s.version))
	s.inOne(m, schema, state)
	return s
}

// inOne compares with what a function that is handler and aggregator in one
// gives: it differs when the handler changes the state it was given.
func (s *Scenario[S, C, E]) inOne(command *runtime.Message, schema runtime.DataSchema, state []byte) {
	s.t.Helper()
	if s.failure != nil || !s.kit.has(runtime.RoleHandler) {
		return
	}
	res := s.kit.f.Invoke(context.Background(), runtime.Invocation{
		ID: "1", Kind: runtime.KindExecute, Aggregate: s.kit.entity.Aggregate(), Version: s.version - uint64(len(s.events)),
		StateSchema: schema, State: state, Messages: []*runtime.Message{command},
	}, nil)
	if res.Failure != nil {
		s.t.Errorf("handler and aggregator in one failed: %v", res.Failure)
		return
	}
	if d := s.differState(s.schema, s.state, res.StateSchema, res.State); d != "" {
		s.t.Errorf("handler and aggregator in one gave another state than apart; does the handler change the state it is given?\n%s", d)
	}
}

// Then expects exactly these events as the answer, in this order. What the
// function said with On or At is compared where the expected event says it, too.
func (s *Scenario[S, C, E]) Then(events ...E) *Scenario[S, C, E] {
	s.t.Helper()
	s.seen()
	if s.failure != nil {
		s.t.Errorf("the handler answered no events but %v%s", s.failure, indented(s.failure.Trace))
		return s
	}
	var want []*runtime.Message
	for _, e := range events {
		m, err := s.kit.f.Message(e)
		if err != nil {
			s.t.Fatalf("the expected event cannot be written: %v", err)
		}
		want = append(want, m)
	}
	if d := s.differ(want, s.events); d != "" {
		s.t.Errorf("the handler decided otherwise (- expected, + decided):\n%s", d)
	}
	return s
}

// ThenError expects that the answer is an error or a panic whose text contains
// this. It means that the command is called again; a refusal is an event.
func (s *Scenario[S, C, E]) ThenError(text string) *Scenario[S, C, E] {
	s.t.Helper()
	s.seen()
	switch {
	case s.failure == nil:
		s.t.Errorf("the handler answered %s, expected an error with %q", names(s.events), text)
	case !strings.Contains(s.failure.Message, text):
		s.t.Errorf("the handler failed with %v, expected an error with %q", s.failure, text)
	}
	return s
}

// ThenState expects this state after everything so far. The nil pointer expects none.
func (s *Scenario[S, C, E]) ThenState(state S) *Scenario[S, C, E] {
	s.t.Helper()
	s.asked = false
	var schema runtime.DataSchema
	var data []byte
	if any(state) != nil && !isNil(state) {
		m, err := s.kit.f.Message(state)
		if err != nil {
			s.t.Fatalf("the expected state cannot be written: %v", err)
		}
		schema, data = m.Schema, m.Data
	}
	if d := s.differState(schema, data, s.schema, s.state); d != "" {
		s.t.Errorf("the state is another (- expected, + state):\n%s", d)
	}
	return s
}

// State returns the state after everything so far; the zero value when there is none.
func (s *Scenario[S, C, E]) State() (state S) {
	s.t.Helper()
	if s.schema == "" {
		return state
	}
	r, err := s.kit.f.Record(s.schema, s.state)
	if err != nil {
		s.t.Fatalf("the state cannot be read: %v", err)
	}
	return r.(S)
}

// unseen reports a command whose answer the test did not look at, when it failed.
func (s *Scenario[S, C, E]) unseen() {
	s.t.Helper()
	if s.asked && s.failure != nil {
		s.t.Errorf("the command before was answered with %v%s", s.failure, indented(s.failure.Trace))
	}
	s.asked = false
}

func (s *Scenario[S, C, E]) seen() {
	s.t.Helper()
	if !s.asked {
		s.t.Fatal("there is no answer to look at: call When first")
	}
	s.asked = false
}

func (s *Scenario[S, C, E]) folds() bool { return s.kit.has(runtime.RoleAggregator) }

func (k *Kit[S, C, E]) has(r runtime.Role) bool {
	d := k.f.Description()
	return d.HasRole(r)
}

func (s *Scenario[S, C, E]) message(r runtime.Record, id string) *runtime.Message {
	s.t.Helper()
	m, err := s.kit.f.Message(r)
	if err != nil {
		s.t.Fatalf("%s cannot be written: %v", id, err)
	}
	m.ID, m.Source = id, "/eventotest"
	if m.Time.IsZero() {
		m.Time = s.now
	}
	s.now = s.now.Add(time.Second)
	return m
}

func (s *Scenario[S, C, E]) invoke(kind runtime.InvocationKind, messages []*runtime.Message, schema runtime.DataSchema, state []byte) runtime.Result {
	return s.kit.f.Invoke(context.Background(), runtime.Invocation{
		ID: "1", Kind: kind, Aggregate: s.kit.entity.Aggregate(), Version: s.version,
		StateSchema: schema, State: state, Messages: messages,
	}, nil)
}

// fold applies events to the state of the scenario: all at once, and one by one
// to see that it makes no difference.
func (s *Scenario[S, C, E]) fold(events []*runtime.Message) {
	s.t.Helper()
	if len(events) == 0 {
		return
	}
	if !s.folds() {
		s.t.Fatal("events are given to a function that is no aggregator; make it with AggregateFunction, or use GivenState")
	}
	res := s.invoke(runtime.KindApply, events, s.schema, s.state)
	if res.Failure != nil {
		s.t.Errorf("the aggregator cannot apply %s: %v%s", names(events), res.Failure, indented(res.Failure.Trace))
		s.failure = res.Failure
		return
	}
	for _, e := range events {
		one := s.invoke(runtime.KindApply, []*runtime.Message{e}, s.schema, s.state)
		if one.Failure != nil {
			s.t.Errorf("the aggregator cannot apply %q alone: %v%s", e.Type, one.Failure, indented(one.Failure.Trace))
			return
		}
		s.schema, s.state = one.StateSchema, one.State
		s.version++
	}
	if d := s.differState(res.StateSchema, res.State, s.schema, s.state); d != "" {
		s.t.Errorf("the aggregator gives another state when the events come one by one (+) than all at once (-):\n%s", d)
	}
}

// recorded makes of a handler's answer what the platform records.
func recorded(command *runtime.Message, events []*runtime.Message, version uint64) []*runtime.Message {
	out := make([]*runtime.Message, len(events))
	for i, e := range events {
		m := *e
		m.ID = command.Key().EventID(i + 1)
		m.Sequence = version + uint64(i) + 1
		m.CausationID, m.CorrelationID = command.ID, command.ID
		out[i] = &m
	}
	return out
}
