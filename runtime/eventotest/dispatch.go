package eventotest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Dispatcher tests a dispatcher: when an event, then commands.
type Dispatcher struct {
	t   testing.TB
	f   *runtime.Function
	now time.Time

	commands []*runtime.Message
	failure  *runtime.Failure
	asked    bool // an answer waits to be looked at
	count    int  // events so far
}

// NewDispatcher returns a kit for a dispatcher of these reactions. A failure that
// the test does not look at fails it when the test ends.
func NewDispatcher(t testing.TB, reactions ...runtime.Reaction) *Dispatcher {
	t.Helper()
	f, err := runtime.NewDispatcher(reactions...)
	if err != nil {
		t.Fatal(err)
	}
	d := &Dispatcher{t: t, f: f, now: Start()}
	t.Cleanup(d.unseen)
	return d
}

// When shows the dispatcher an event of an entity. The dispatcher is asked twice:
// it may be, and must decide the same.
func (d *Dispatcher) When(entity runtime.Entity, event runtime.Record) *Dispatcher {
	d.t.Helper()
	d.unseen()
	m, err := d.f.Message(event)
	if err != nil {
		d.t.Fatalf("the event cannot be written: %v", err)
	}
	d.count++
	m.ID, m.Source, m.Subject, m.Sequence = fmt.Sprintf("event-%d", d.count), "/eventotest", entity, uint64(d.count)
	if m.Time.IsZero() {
		m.Time = d.now
	}
	d.now = d.now.Add(time.Second)
	d.commands, d.failure = d.dispatch(m)
	again, failure := d.dispatch(m)
	d.asked = true
	switch {
	case d.failure != nil:
	case failure != nil:
		d.t.Errorf("the dispatcher decided %s the first time and failed the second: %v", names(d.commands), failure)
	default:
		if diff := differ(d.f, d.commands, again); diff != "" {
			d.t.Errorf("the dispatcher decided something else when it was called again; take the time from ctx.Now, and leave chance and memory out:\n%s", diff)
		}
	}
	return d
}

func (d *Dispatcher) dispatch(m *runtime.Message) ([]*runtime.Message, *runtime.Failure) {
	res := d.f.Invoke(context.Background(), runtime.Invocation{ID: "1", Kind: runtime.KindDispatch, Messages: []*runtime.Message{m}}, nil)
	if res.Failure != nil {
		return nil, res.Failure
	}
	return res.Steps[0].Events, nil
}

// Then expects exactly these commands, in this order; none: the event is let pass.
func (d *Dispatcher) Then(commands ...runtime.Command) *Dispatcher {
	d.t.Helper()
	d.seen()
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

// ThenError expects that the answer is an error or a panic whose text contains
// this. It means that the event is shown again, until there is an answer.
func (d *Dispatcher) ThenError(text string) *Dispatcher {
	d.t.Helper()
	d.seen()
	switch {
	case d.failure == nil:
		d.t.Errorf("the dispatcher answered %q, expected an error with %q", names(d.commands), text)
	case !strings.Contains(d.failure.Message, text):
		d.t.Errorf("the dispatcher failed with %v, expected an error with %q", d.failure, text)
	}
	return d
}

// unseen reports an event whose answer the test did not look at, when it failed.
func (d *Dispatcher) unseen() {
	d.t.Helper()
	if d.asked && d.failure != nil {
		d.t.Errorf("the event before was answered with %v%s", d.failure, indented(d.failure.Trace))
	}
	d.asked = false
}

func (d *Dispatcher) seen() {
	d.t.Helper()
	if !d.asked {
		d.t.Fatal("there is no answer to look at: call When first")
	}
	d.asked = false
}
