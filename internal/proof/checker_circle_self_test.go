package proof

import (
	"maps"
	"slices"
	"strings"
	"testing"

	checkinggen "github.com/evento-oss/evento/examples/bank/checking/gen"
	clientgen "github.com/evento-oss/evento/examples/bank/client/gen"
	savingsgen "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// honestCircle is evidence of a run of the whole bank in which all went well.
func honestCircle(t *testing.T) *evidence {
	t.Helper()
	o := &oracle{t: t, e: &evidence{Dispatchers: slices.Sorted(maps.Keys(dispatchers))}}
	usd := func(minor int64) checkinggen.Money { return checkinggen.Money{Minor: minor, Currency: "USD"} }
	o.send("register", "client:1", &clientgen.RegisterClient{Name: "A. Client"})
	o.send("open", "checking:1", &checkinggen.OpenCheckingAccount{Client: "client:1", Currency: "USD"})
	o.send("open", "savings:1", &savingsgen.OpenSavingsAccount{Client: "client:1", Currency: "USD", Rate_bps: 1200})
	o.send("open", "checking:empty", &checkinggen.OpenCheckingAccount{Client: "client:1", Currency: "USD"})
	o.send("in", "checking:1", &checkinggen.ReceiveDeposit{Transaction_id: "cash", Source: "cash", Amount: usd(1000)})
	o.send("out", "checking:1", &checkinggen.WithdrawCash{Destination: "atm", Amount: usd(100)})
	o.send("arrives", "checking:1", &checkinggen.TransferToSavings{Transaction_id: "t-1", Destination: "savings:1", Amount: usd(500)})
	o.send("comes back", "checking:1", &checkinggen.TransferToSavings{Transaction_id: "t-2", Destination: "savings:nobody", Amount: usd(50)})
	o.send("the other way", "savings:1", &savingsgen.TransferToChecking{Transaction_id: "t-3", Destination: "checking:1", Amount: savingsgen.Money(usd(20))})
	o.send("2026-01", "savings:1", &savingsgen.MonthEnded{Period: "2026-01"})
	o.send("leaves", "client:1", &clientgen.DeactivateClient{Reason: "moved away"})
	return o.e
}

// event is the index of the last event of this type.
func (e *evidence) event(t *testing.T, name runtime.TypeName) int {
	t.Helper()
	for i, r := range slices.Backward(e.Events) {
		if r.M.Type == name {
			return i
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// about is the index of the decision about the last event of this type.
func (e *evidence) about(t *testing.T, name runtime.TypeName) int {
	t.Helper()
	id := e.Events[e.event(t, name)].M.ID
	return slices.IndexFunc(e.Decisions, func(d decision) bool { return d.D.Event == id })
}

// sentBy is the index of the first command of a decision.
func (e *evidence) sentBy(d int) int {
	return slices.IndexFunc(e.Commands, func(r logged) bool { return r.M.Key() == e.Decisions[d].CommandKey(0) })
}

// become makes an event another one, of the same aggregate.
func become(t *testing.T, m *runtime.Message, record runtime.Record) {
	t.Helper()
	other, err := bank[m.Aggregate().Prefix()].Message(record)
	if err != nil {
		t.Fatal(err)
	}
	m.Type, m.Schema, m.Data = other.Type, other.Schema, other.Data
}

// Each lie about dispatchers, causes and money is found, as what it is. Others
// may say something of it, too.
func TestCheckerFindsEachLieOfTheCircle(t *testing.T) {
	if found := check(*honestCircle(t)); len(found) > 0 {
		t.Fatalf("honest evidence: %q", found)
	}
	const (
		arrived   = "SavingsAccount.DepositReceived"
		left      = "CheckingAccount.TransferredToSavings"
		completed = "CheckingAccount.TransferCompleted"
		returned  = "CheckingAccount.TransferReturned"
	)
	usd := func(minor int64) savingsgen.Money { return savingsgen.Money{Minor: minor, Currency: "USD"} }
	lies := map[string]struct {
		found string // its invariant, and words that are in it
		tell  func(t *testing.T, e *evidence)
	}{
		"a deposit is more than was sent": {"I13: the accounts hold", func(t *testing.T, e *evidence) {
			become(t, e.Events[e.event(t, arrived)].M, &savingsgen.DepositReceived{Transaction_id: "t-1", Source: "checking:1", Amount: usd(501)})
		}},
		"cash is paid that is in no event": {"I13: the accounts hold", func(t *testing.T, e *evidence) {
			i := slices.IndexFunc(e.Commands, func(r logged) bool { return r.M.ID == "out" })
			become(t, e.Commands[i].M, &checkinggen.WithdrawCash{Destination: "atm", Amount: checkinggen.Money{Minor: 101, Currency: "USD"}})
		}},
		"a transfer neither arrives nor comes back": {"I13: checking:1: transfer t-1 of 500 to savings:1", func(t *testing.T, e *evidence) {
			i := e.event(t, completed)
			e.Events = slices.Delete(e.Events, i, i+1)
		}},
		"a transfer arrives and comes back": {"I13: checking:1: transfer t-1 ends with the CheckingAccount.TransferReturned", func(t *testing.T, e *evidence) {
			i := e.event(t, completed)
			r := e.Events[i]
			twin := *r.M
			become(t, &twin, &checkinggen.TransferReturned{Transaction_id: "t-1", Destination: "savings:1", Amount: checkinggen.Money(usd(500))})
			e.Events = slices.Insert(e.Events, i+1, logged{At: runtime.Coordinates{Topic: r.At.Topic, Offset: r.At.Offset + 1}, M: &twin})
		}},
		"what has arrived comes back": {"I13: transfer t-1 from checking:1 to savings:1 was completed 0 times", func(t *testing.T, e *evidence) {
			become(t, e.Events[e.event(t, completed)].M, &checkinggen.TransferReturned{Transaction_id: "t-1", Destination: "savings:1", Amount: checkinggen.Money(usd(500))})
		}},
		"what comes back is said to have arrived": {"I13: transfer t-2 from checking:1 to savings:nobody was completed 1 times", func(t *testing.T, e *evidence) {
			become(t, e.Events[e.event(t, returned)].M, &checkinggen.TransferCompleted{Transaction_id: "t-2"})
		}},
		"less comes back than left": {"I13: checking:1: 50 left at", func(t *testing.T, e *evidence) {
			become(t, e.Events[e.event(t, returned)].M, &checkinggen.TransferReturned{Transaction_id: "t-2", Destination: "savings:nobody", Amount: checkinggen.Money(usd(49))})
		}},
		"a transfer arrives twice": {"I13: transfer t-1 from checking:1 to savings:1 was completed 1 times with 500 and returned 0 times; 2 deposits", func(t *testing.T, e *evidence) {
			i := e.event(t, arrived)
			r := e.Events[i]
			twin := *r.M
			e.Events = slices.Insert(e.Events, i+1, logged{At: runtime.Coordinates{Topic: r.At.Topic, Offset: r.At.Offset + 1}, M: &twin})
		}},

		"a chain ends at nobody's command": {"I8: sent by nobody", func(_ *testing.T, e *evidence) {
			e.Sent = slices.DeleteFunc(e.Sent, func(c *command) bool { return c.ID == "arrives" })
		}},
		"a cause is not there": {"I8: is not the one that", func(t *testing.T, e *evidence) {
			e.Commands[e.sentBy(e.about(t, arrived))].M.Cause.Offset++
		}},
		"a cause is another message": {"I8: is not what stands", func(t *testing.T, e *evidence) {
			e.Commands[e.sentBy(e.about(t, arrived))].M.CausationID = e.Events[0].M.ID
		}},
		"causes that go round": {"I8: is not the one that", func(t *testing.T, e *evidence) {
			c, event := e.Commands[e.sentBy(e.about(t, arrived))], e.Events[e.event(t, completed)]
			c.M.Cause, c.M.CausationID = event.At, event.M.ID
		}},
		"another root cause on the way": {"I8: is not what stands", func(t *testing.T, e *evidence) {
			e.Commands[e.sentBy(e.about(t, arrived))].M.CorrelationID = "in"
		}},
		"all agree on a wrong root cause": {"I8: no cause, and the root cause", func(_ *testing.T, e *evidence) {
			lie := func(m *runtime.Message) {
				if m.CorrelationID == "arrives" || m.ID == "arrives" {
					m.CorrelationID = "in"
				}
			}
			for _, r := range slices.Concat(e.Commands, e.Events) {
				lie(r.M)
			}
			for _, d := range e.Decisions {
				lie(d.M)
			}
		}},
		"a command as of a dispatcher that has not decided it": {"I8: none has decided on it", func(t *testing.T, e *evidence) {
			twin := *e.Commands[e.sentBy(e.about(t, left))].M
			twin.ID = "d-forged-0"
			e.Commands = append(e.Commands, logged{At: runtime.Coordinates{Topic: "commands", Offset: int64(len(e.Commands))}, M: &twin})
		}},
		"a decision about no event": {"I8: the decision is about event", func(t *testing.T, e *evidence) {
			e.Decisions[e.about(t, left)].D.Event = "nothing"
		}},
		"a decision of a dispatcher that is none": {"I8: which is no dispatcher", func(t *testing.T, e *evidence) {
			e.Decisions[e.about(t, left)].D.Dispatcher = "openfaas-fn/others"
		}},

		"two decisions": {"I2: has decided about", func(t *testing.T, e *evidence) {
			d := e.Decisions[e.about(t, left)]
			d.At.Offset = int64(len(e.Decisions))
			e.Decisions = append(e.Decisions, d)
		}},
		"a decision that is lost, with all that follows": {"dispatch: openfaas-fn/interest has not decided about", func(t *testing.T, e *evidence) {
			d := e.about(t, "SavingsAccount.MonthEnded")
			c, paid := e.sentBy(d), e.event(t, "SavingsAccount.InterestPaid")
			e.Decisions, e.Commands, e.Events = slices.Delete(e.Decisions, d, d+1), slices.Delete(e.Commands, c, c+1), slices.Delete(e.Events, paid, paid+1)
		}},
		"an event that stays parked": {"dispatch: openfaas-fn/interest has not decided about", func(t *testing.T, e *evidence) {
			e.Decisions[e.about(t, "SavingsAccount.MonthEnded")].D.Status = avro.DispatchParked
		}},
		"a decision that the dispatcher did not make": {"dispatch: the decision at", func(t *testing.T, e *evidence) {
			d := &e.Decisions[e.about(t, "Client.ClientDeactivated")]
			d.D.Commands = d.D.Commands[:1]
		}},
		"a command that was not sent": {"I1: a command of the decision", func(t *testing.T, e *evidence) {
			i := e.sentBy(e.about(t, "SavingsAccount.DepositReceived"))
			e.Commands = slices.Delete(e.Commands, i, i+1)
		}},
		"a command that was sent otherwise": {"I8: is not the one that was decided", func(t *testing.T, e *evidence) {
			r := e.Commands[e.sentBy(e.about(t, left))]
			become(t, r.M, &savingsgen.ReceiveDeposit{Transaction_id: "t-1", Source: "checking:1", Amount: usd(501)})
		}},
		"sent twice, and not the same": {"I8: is not the one", func(t *testing.T, e *evidence) {
			twin := *e.Commands[e.sentBy(e.about(t, left))].M
			become(t, &twin, &savingsgen.ReceiveDeposit{Transaction_id: "t-1", Source: "checking:1", Amount: usd(501)})
			e.Commands = append(e.Commands, logged{At: runtime.Coordinates{Topic: "commands", Offset: int64(len(e.Commands))}, M: &twin})
		}},
		"two decisions with one command": {"I2: has the same command", func(t *testing.T, e *evidence) {
			d := e.Decisions[e.about(t, left)]
			d.At.Offset, d.D.Epoch = int64(len(e.Decisions)), 1
			e.Decisions = append(e.Decisions, d)
		}},
		"a dispatched command without an outcome": {"I9: no outcome", func(t *testing.T, e *evidence) {
			e.Events = slices.Delete(e.Events, len(e.Events)-1, len(e.Events))
		}},
		"a dispatched command with two outcomes": {"I2: a second outcome", func(t *testing.T, e *evidence) {
			r := e.Events[e.event(t, completed)]
			twin := *r.M
			e.Events = append(e.Events, logged{At: runtime.Coordinates{Topic: r.At.Topic, Offset: 1000}, M: &twin})
		}},
		"a dispatched command with the outcome of another decision": {"I4: the handler says", func(t *testing.T, e *evidence) {
			become(t, e.Events[e.event(t, "Client.AccountLinked")].M, &clientgen.AccountLinked{Account: "checking:other"})
		}},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			e := honestCircle(t)
			lie.tell(t, e)
			found := check(*e)
			invariant, words, _ := strings.Cut(lie.found, ": ")
			for _, f := range found {
				if strings.HasPrefix(f, invariant+": ") && strings.Contains(f, words) {
					return
				}
			}
			t.Errorf("not found as %q; found %q", lie.found, found)
		})
	}
}

// A command that the relay has sent twice is no lie, and neither is an event that
// was parked first.
func TestCheckerBelievesWhatIsAllowed(t *testing.T) {
	e := honestCircle(t)
	r := e.Commands[e.sentBy(e.about(t, "SavingsAccount.DepositReceived"))]
	e.Commands = append(e.Commands, logged{At: runtime.Coordinates{Topic: "commands", Offset: int64(len(e.Commands))}, M: r.M})
	d := e.Decisions[e.about(t, "SavingsAccount.DepositReceived")]
	d.At.Offset, d.D.Status, d.D.Commands = int64(len(e.Decisions)), avro.DispatchParked, nil
	e.Decisions = append(e.Decisions, d)
	if found := check(*e); len(found) > 0 {
		t.Errorf("found %q", found)
	}
	if n := e.repeated(); n != 1 {
		t.Errorf("%d commands were sent again, want 1", n)
	}
	if err := e.owed(); err != nil {
		t.Error(err)
	}
	e.Decisions = slices.DeleteFunc(e.Decisions, func(o decision) bool { return o.D.Event == d.D.Event && o.D.Status == avro.DispatchDecided })
	if err := e.owed(); err == nil {
		t.Error("a parked event is owed nothing")
	}
}
