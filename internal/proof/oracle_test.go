package proof

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// oracle makes the evidence of an installation without faults, in memory: each
// command is decided when it is written, and what dispatchers make of its events
// is written behind it.
type oracle struct {
	t        *testing.T
	e        *evidence
	outcomes int // commands that have one: those of e.Commands up to here
}

// send sends a command, or an event to publish, as a client that waits for its outcome.
func (o *oracle) send(id string, to runtime.Entity, record runtime.Record) {
	o.t.Helper()
	m, err := bank[to.Prefix()].Message(record)
	if err != nil {
		o.t.Fatal(err)
	}
	c := &command{ID: id, Source: "/proof", Entity: string(to), Type: m.Type.Name()}
	m.ID, m.Source, m.Subject = c.ID, c.Source, to
	m.Time = time.Date(2026, 1, 1, 0, 0, len(o.e.Sent), 0, time.UTC)
	o.e.Sent = append(o.e.Sent, c)
	o.write(m)
	first := len(o.e.Events)
	o.decide()
	answer := o.e.Events[first]
	status := "done"
	if strings.HasSuffix(string(answer.M.Type), "Failed") {
		status = "refused"
	}
	c.add(attempt{Gateway: "g", Sent: m.Time, Done: m.Time.Add(time.Millisecond), Result: accepted, Status: 200, Outcome: &outcome{
		Command: id, Status: status, Version: answer.M.Sequence, Entity: string(to),
		Events: []event{{ID: answer.M.ID, Type: string(answer.M.Type), Version: answer.M.Sequence, Coordinates: answer.At.String()}},
	}})
}

// correlation is the id of a message's root cause; a root is its own.
func correlation(m *runtime.Message) string { return cmp.Or(m.CorrelationID, m.ID) }

func (o *oracle) write(m *runtime.Message) {
	o.e.Commands = append(o.e.Commands, logged{At: runtime.Coordinates{Topic: "commands", Offset: int64(len(o.e.Commands))}, M: m})
}

// decide makes the outcomes of all commands that have none, and of those that they lead to.
func (o *oracle) decide() {
	o.t.Helper()
	for ; o.outcomes < len(o.e.Commands); o.outcomes++ {
		command := o.e.Commands[o.outcomes]
		id := command.M.Aggregate()
		in := runtime.Invocation{ID: "1", Kind: runtime.KindExecute, Aggregate: id}
		for _, r := range o.e.Commands[:o.outcomes+1] {
			if r.M.Aggregate() == id {
				m := *r.M
				in.Messages = append(in.Messages, &m)
			}
		}
		said := bank[id.Prefix()].Invoke(context.Background(), in, nil)
		if said.Failure != nil {
			o.t.Fatal(said.Failure)
		}
		m := *said.Steps[len(said.Steps)-1].Events[0]
		m.ID, m.Subject, m.Source = command.M.Key().EventID(1), command.M.Subject, "/evento/test/handler"
		m.Pos, m.Count, m.Sequence = 1, 1, uint64(len(said.Steps))
		m.CausationID, m.CorrelationID, m.Cause = command.M.ID, correlation(command.M), command.At
		m.Time, m.RecordedTime = command.M.Time, command.M.Time
		m.Prev = runtime.NoPrev
		for _, r := range slices.Backward(o.e.Events) {
			if r.M.Aggregate() == id {
				m.Prev = r.At.Offset
				break
			}
		}
		r := logged{At: runtime.Coordinates{Topic: "events", Offset: int64(2 * len(o.e.Events))}, M: &m}
		o.e.Events = append(o.e.Events, r)
		for _, name := range o.e.Dispatchers {
			o.dispatch(name, r)
		}
	}
}

// dispatch records what a dispatcher decides about an event, and sends it.
func (o *oracle) dispatch(name string, r logged) {
	o.t.Helper()
	commands, err := reaction(name, r.M)
	if err != nil {
		o.t.Fatal(err)
	}
	if len(commands) == 0 {
		return
	}
	n := len(o.e.Decisions)
	d := decision{D: avro.Dispatched{Dispatcher: name, Event: r.M.ID, At: r.At.String(), Status: avro.DispatchDecided}}
	d.Record = logged{At: runtime.Coordinates{Topic: "dispatched", Offset: int64(n)}, M: &runtime.Message{
		ID: fmt.Sprintf("d-%d", n), Type: runtime.TypeDispatched, Source: "/evento/test/dispatchers/" + name, Subject: r.M.Subject,
		CausationID: r.M.ID, CorrelationID: r.M.CorrelationID, Cause: r.At, Time: r.M.Time,
	}}
	for i, c := range commands {
		d.D.Commands = append(d.D.Commands, avro.DispatchedCommand{Type: c.Type, Target: c.Subject, Schema: c.Schema, Data: c.Data})
		o.write(&runtime.Message{
			ID: fmt.Sprintf("%s-%d", d.M.ID, i), Type: c.Type, Source: d.M.Source, Subject: c.Subject, Schema: c.Schema, Data: c.Data,
			Time: c.Time, CausationID: r.M.ID, CorrelationID: r.M.CorrelationID, Cause: r.At,
		})
	}
	o.e.Decisions = append(o.e.Decisions, d)
}
