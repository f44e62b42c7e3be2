package proof

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/runtime"
)

// honest is evidence of a run in which all went well: an account is opened, and
// gets deposits and withdrawals, each answered before the next is sent.
func honest(t *testing.T, n int) *evidence {
	t.Helper()
	const account = "checking:1"
	e := &evidence{}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	in := runtime.Invocation{ID: "1", Kind: runtime.KindExecute, Aggregate: account}
	for i := range n {
		c := &command{ID: fmt.Sprintf("c-%d", i), Source: "/proof", Entity: account}
		var record runtime.Record = &gen.ReceiveDeposit{Transaction_id: c.ID, Source: "x", Amount: gen.Money{Minor: 5, Currency: "USD"}}
		switch {
		case i == 0:
			record = &gen.OpenCheckingAccount{Client: "client:1", Currency: "USD"}
		case i%3 == 2:
			record = &gen.WithdrawCash{Destination: "atm", Amount: gen.Money{Minor: 5, Currency: "USD"}}
		}
		m, err := bank["checking"].Message(record)
		if err != nil {
			t.Fatal(err)
		}
		m.ID, m.Source, m.Subject, m.Time = c.ID, c.Source, account, start.Add(time.Duration(i)*time.Second)
		c.Type = m.Type.Name()
		e.Sent = append(e.Sent, c)
		e.Commands = append(e.Commands, logged{runtime.Coordinates{Topic: "commands", Offset: int64(i)}, m})
		in.Messages = append(in.Messages, m)
	}
	said := bank["checking"].Invoke(context.Background(), in, nil)
	if said.Failure != nil {
		t.Fatal(said.Failure)
	}
	for i, step := range said.Steps {
		command := e.Commands[i]
		m := step.Events[0]
		m.ID, m.Subject, m.Source = command.M.Key().EventID(1), account, "/evento/test/handler"
		m.Pos, m.Count, m.Sequence = 1, 1, uint64(i+1)
		m.CausationID, m.CorrelationID, m.Cause = command.M.ID, command.M.ID, command.At
		m.Time, m.RecordedTime = command.M.Time, command.M.Time
		m.Prev = runtime.NoPrev
		at := runtime.Coordinates{Topic: "events", Offset: int64(2 * i)}
		if i > 0 {
			m.Prev = at.Offset - 2
		}
		e.Events = append(e.Events, logged{at, m})
		status := "done"
		if strings.HasSuffix(string(m.Type), "Failed") {
			status = "refused"
		}
		o := &outcome{Command: command.M.ID, Status: status, Version: m.Sequence, Entity: account,
			Events: []event{{ID: m.ID, Type: string(m.Type), Version: m.Sequence, Coordinates: at.String()}}}
		e.Sent[i].add(attempt{Gateway: "g", Sent: m.Time, Done: m.Time.Add(time.Millisecond), Result: accepted, Status: 200, Outcome: o})
	}
	return e
}

// Each lie is found, by the promise that it breaks.
func TestCheckerFindsEachLie(t *testing.T) {
	if found := check(*honest(t, 12)); len(found) > 0 {
		t.Fatalf("honest evidence: %q", found)
	}
	without := func(list []logged, i int) []logged { return append(list[:i:i], list[i+1:]...) }
	lies := map[string]struct {
		promise string
		tell    func(e *evidence)
	}{
		"an accepted command is not in the log": {"P1", func(e *evidence) {
			e.Commands, e.Events = without(e.Commands, 11), without(e.Events, 11)
			e.Sent[11].attempts[0].Outcome = nil
		}},
		"a command was written though its sender was told it was not": {"P1", func(e *evidence) {
			e.Sent[11].attempts = []attempt{{Result: failed, Status: 503, Problem: "kafka-away"}}
		}},
		"nobody sent it":               {"P6", func(e *evidence) { e.Sent = e.Sent[:11] }},
		"a command without an outcome": {"P2", func(e *evidence) { e.Events = without(e.Events, 11) }},
		"two outcomes": {"P4", func(e *evidence) {
			twin := *e.Events[5].M
			twin.Sequence, twin.Prev = 13, e.Events[11].At.Offset
			e.Events = append(e.Events, logged{runtime.Coordinates{Topic: "events", Offset: 40}, &twin})
		}},
		"half an outcome":              {"P4", func(e *evidence) { e.Events[11].M.Count = 2 }},
		"a gap in the versions":        {"P3", func(e *evidence) { e.Events[11].M.Sequence = 13 }},
		"a version twice":              {"P3", func(e *evidence) { e.Events[11].M.Sequence = 11 }},
		"a lost event in the middle":   {"P3", func(e *evidence) { e.Events = without(e.Events, 4) }},
		"an event of another decision": {"P3", func(e *evidence) { e.Events[5].M.Data = e.Events[5].M.Data[:0:0] }},
		"a state that was forgotten": {"P3", func(e *evidence) {
			e.Events[2].M.Type, e.Events[2].M.Schema, e.Events[2].M.Data = e.Events[1].M.Type, e.Events[1].M.Schema, e.Events[1].M.Data
		}},
		"a wrong cause":      {"P6", func(e *evidence) { e.Events[5].M.Cause.Offset = 4 }},
		"a wrong root cause": {"P6", func(e *evidence) { e.Events[5].M.CorrelationID = "c-1" }},
		"a broken chain":     {"P5", func(e *evidence) { e.Events[5].M.Prev = 2 }},
		"a wrong skip": {"P5", func(e *evidence) {
			e.Events[5].M.Skip = []int64{e.Events[3].At.Offset, e.Events[3].At.Offset}
		}},
		"a clock that runs backwards":  {"P3", func(e *evidence) { e.Events[5].M.RecordedTime = e.Events[0].M.RecordedTime }},
		"an answer of another version": {"P3", func(e *evidence) { e.Sent[5].attempts[0].Outcome.Version = 5 }},
		"an answer that is not recorded": {"P2", func(e *evidence) {
			e.Sent[5].attempts[0].Outcome.Events[0].Coordinates = "events/0/99"
		}},
		"a repeat with another answer": {"P2", func(e *evidence) {
			o := *e.Sent[5].attempts[0].Outcome
			o.Status = "refused"
			e.Sent[5].add(attempt{Result: accepted, Status: 200, Outcome: &o})
		}},
		"a repeat that is said to be another": {"P2", func(e *evidence) {
			e.Sent[5].add(attempt{Result: failed, Status: 409, Problem: "id-reused"})
		}},
		"who was answered first comes later": {"P3", func(e *evidence) {
			first := &e.Sent[9].attempts[0]
			first.Sent, first.Done = first.Sent.Add(-time.Minute), first.Done.Add(-time.Minute)
		}},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			e := honest(t, 12)
			lie.tell(e)
			found := check(*e)
			for _, f := range found {
				if strings.HasPrefix(f, lie.promise+":") {
					return
				}
			}
			t.Errorf("not found as a breach of %s; found %q", lie.promise, found)
		})
	}
}
