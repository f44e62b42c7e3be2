package eventotest

import (
	"context"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// Dispatcher tests a dispatcher: when an event, then commands.
type Dispatcher struct {
	t testing.TB
	f *runtime.Function

	commands []*runtime.Message
	failure  *runtime.Failure
}

// NewDispatcher returns a kit for a dispatcher of these reactions.
func NewDispatcher(t testing.TB, reactions ...runtime.Reaction) *Dispatcher {
	t.Helper()
	f, err := runtime.NewDispatcher(reactions...)
	if err != nil {
		t.Fatal(err)
	}
	return &Dispatcher{t: t, f: f}
}

// When shows the dispatcher an event of an entity.
func (d *Dispatcher) When(entity runtime.Entity, event runtime.Record) *Dispatcher {
	d.t.Helper()
	m, err := d.f.Message(event)
	if err != nil {
		d.t.Fatalf("the event cannot be written: %v", err)
	}
	m.ID, m.Source, m.Subject, m.Sequence = "event-1", "/eventotest", entity, 1
	if m.Time.IsZero() {
		m.Time = Start()
	}
	res := d.f.Invoke(context.Background(), runtime.Invocation{ID: "1", Kind: runtime.KindDispatch, Messages: []*runtime.Message{m}}, nil)
	d.commands, d.failure = nil, res.Failure
	if res.Failure == nil {
		d.commands = res.Steps[0].Events
	}
	return d
}

// Then expects exactly these commands, in this order; none: the event is let pass.
func (d *Dispatcher) Then(commands ...runtime.Command) *Dispatcher {
	d.t.Helper()
	if d.failure != nil {
		d.t.Errorf("the dispatcher answered no commands but %v%s", d.failure, indented(d.failure.Trace))
		return d
	}
	var want []*runtime.Message
	for _, c := range commands {
		m, err := d.f.Message(c.Record())
		if err != nil {
			d.t.Fatalf("the expected command cannot be written: %v", err)
		}
		m.Subject = c.To()
		want = append(want, m)
	}
	if diff := differ(d.f, want, d.commands); diff != "" {
		d.t.Errorf("the dispatcher decided otherwise (- expected, + decided):\n%s", diff)
	}
	return d
}
