package proof

import (
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
	o := &oracle{t: t, e: &evidence{}}
	for i := range n {
		id := fmt.Sprintf("c-%d", i)
		switch {
		case i == 0:
			o.send(id, account, &gen.OpenCheckingAccount{Client: "client:1", Currency: "USD"})
		case i%3 == 2:
			o.send(id, account, &gen.WithdrawCash{Destination: "atm", Amount: gen.Money{Minor: 5, Currency: "USD"}})
		default:
			o.send(id, account, &gen.ReceiveDeposit{Transaction_id: id, Source: "x", Amount: gen.Money{Minor: 5, Currency: "USD"}})
		}
	}
	return o.e
}

// Each lie is found, by the invariant that it breaks.
func TestCheckerFindsEachLie(t *testing.T) {
	if found := check(*honest(t, 12)); len(found) > 0 {
		t.Fatalf("honest evidence: %q", found)
	}
	without := func(list []logged, i int) []logged { return append(list[:i:i], list[i+1:]...) }
	lies := map[string]struct {
		invariant string
		tell      func(e *evidence)
	}{
		"an accepted command is not in the log": {"I1", func(e *evidence) {
			e.Commands, e.Events = without(e.Commands, 11), without(e.Events, 11)
			e.Sent[11].attempts[0].Outcome = nil
		}},
		"a command was written though its sender was told it was not": {"I1", func(e *evidence) {
			e.Sent[11].attempts = []attempt{{Result: failed, Status: 503, Problem: "kafka-away"}}
		}},
		"nobody sent it":               {"I8", func(e *evidence) { e.Sent = e.Sent[:11] }},
		"a command without an outcome": {"I9", func(e *evidence) { e.Events = without(e.Events, 11) }},
		"two outcomes": {"I2", func(e *evidence) {
			twin := *e.Events[5].M
			twin.Sequence, twin.Prev = 13, e.Events[11].At.Offset
			e.Events = append(e.Events, logged{At: runtime.Coordinates{Topic: "events", Offset: 40}, M: &twin})
		}},
		"half an outcome":              {"I5", func(e *evidence) { e.Events[11].M.Count = 2 }},
		"a gap in the versions":        {"I3", func(e *evidence) { e.Events[11].M.Sequence = 13 }},
		"a version twice":              {"I3", func(e *evidence) { e.Events[11].M.Sequence = 11 }},
		"a lost event in the middle":   {"I3", func(e *evidence) { e.Events = without(e.Events, 4) }},
		"an event of another decision": {"I4", func(e *evidence) { e.Events[5].M.Data = e.Events[5].M.Data[:0:0] }},
		"a state that was forgotten": {"I4", func(e *evidence) {
			e.Events[2].M.Type, e.Events[2].M.Schema, e.Events[2].M.Data = e.Events[1].M.Type, e.Events[1].M.Schema, e.Events[1].M.Data
		}},
		"a wrong cause":      {"I8", func(e *evidence) { e.Events[5].M.Cause.Offset = 4 }},
		"a wrong root cause": {"I8", func(e *evidence) { e.Events[5].M.CorrelationID = "c-1" }},
		"a broken chain":     {"I3", func(e *evidence) { e.Events[5].M.Prev = 2 }},
		"a wrong skip": {"I3", func(e *evidence) {
			e.Events[5].M.Skip = []int64{e.Events[3].At.Offset, e.Events[3].At.Offset}
		}},
		"a clock that runs backwards":  {"I3", func(e *evidence) { e.Events[5].M.RecordedTime = e.Events[0].M.RecordedTime }},
		"an answer of another version": {"I3", func(e *evidence) { e.Sent[5].attempts[0].Outcome.Version = 5 }},
		"an answer that is not recorded": {"I2", func(e *evidence) {
			e.Sent[5].attempts[0].Outcome.Events[0].Coordinates = "events/0/99"
		}},
		"a repeat with another answer": {"I2", func(e *evidence) {
			o := *e.Sent[5].attempts[0].Outcome
			o.Status = "refused"
			e.Sent[5].add(attempt{Result: accepted, Status: 200, Outcome: &o})
		}},
		"a repeat that is said to be another": {"I2", func(e *evidence) {
			e.Sent[5].add(attempt{Result: failed, Status: 409, Problem: "id-reused"})
		}},
		"who was answered first comes later": {"I4", func(e *evidence) {
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
				if strings.HasPrefix(f, lie.invariant+":") {
					return
				}
			}
			t.Errorf("not found as a breach of %s; found %q", lie.invariant, found)
		})
	}
}
