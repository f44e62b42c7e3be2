package proof

import (
	"cmp"
	"fmt"
	"slices"

	checkinggen "github.com/evento-oss/evento/examples/bank/checking/gen"
	savingsgen "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// correlation is the id of a message's root cause; a root is its own.
func correlation(m *runtime.Message) string { return cmp.Or(m.CorrelationID, m.ID) }

// causes is P6: whatever there is leads to a command or an event that a client
// sent, step by step, and all on the way agree which one that is.
func (c *checker) causes() {
	for _, list := range [][]logged{c.e.Commands, c.e.Events} {
		for _, r := range list {
			if r.M.Platform() && r.M.CausationID == "" {
				continue // an operator's order
			}
			c.chain(r)
		}
	}
	for _, d := range c.e.Decisions {
		c.chain(d.logged)
	}
}

func (c *checker) chain(of logged) {
	seen := map[runtime.Coordinates]bool{}
	r := of
	for r.M.CausationID != "" || r.M.Cause != (runtime.Coordinates{}) {
		if seen[r.At] {
			c.add("P6", "the causes of %s at %s go round", of.M.ID, of.At)
			return
		}
		seen[r.At] = true
		cause, ok := c.at[r.M.Cause]
		switch {
		case !ok || cause.M.ID != r.M.CausationID:
			c.add("P6", "%s at %s: its cause %q is not at %s", r.M.ID, r.At, r.M.CausationID, r.M.Cause)
			return
		case correlation(cause.M) != correlation(r.M):
			c.add("P6", "%s at %s has the root cause %q; its cause at %s has %q", r.M.ID, r.At, correlation(r.M), cause.At, correlation(cause.M))
			return
		}
		r = cause
	}
	if c.sent[r.M.Key()] == nil || correlation(of.M) != r.M.ID {
		c.add("P6", "the causes of %s at %s lead to %s at %s, which nobody sent, or which its correlation %q is not", of.M.ID, of.At, r.M.ID, r.At, of.M.CorrelationID)
	}
}

// decided holds the decisions against the events, and the commands against the
// decisions: each event has the effect that its dispatchers say, once.
func (c *checker) decided() {
	type about struct {
		dispatcher, event string
		epoch             uint64
	}
	made := map[about]decision{}
	for _, d := range c.e.Decisions {
		event, ok := c.at[d.M.Cause]
		if !ok || event.M.ID != d.D.Event || d.D.At != d.M.Cause.String() || d.M.CausationID != d.D.Event {
			c.add("P6", "the decision at %s is about event %s at %s, which is not there", d.At, d.D.Event, d.D.At)
			continue
		}
		if d.D.Status != avro.DispatchDecided {
			continue
		}
		a := about{d.D.Dispatcher, d.D.Event, d.D.Epoch}
		if first, twice := made[a]; twice {
			c.add("dispatch", "%s has decided about %s at %s and at %s", a.dispatcher, a.event, first.At, d.At)
			continue
		}
		made[a] = d
		c.relayed(d)
		if len(c.e.Dispatchers) > 0 && !slices.Contains(c.e.Dispatchers, a.dispatcher) {
			c.add("P6", "the decision at %s is of %s, which is no dispatcher", d.At, a.dispatcher)
		}
	}
	for _, r := range c.e.Events {
		for _, name := range c.e.Dispatchers {
			commands, err := reaction(name, r.M)
			if err != nil {
				c.add("dispatch", "%v", err)
				continue
			}
			var want, got []string
			for _, m := range commands {
				want = append(want, fmt.Sprintf("%s to %s: %s %x", m.Type, m.Subject, m.Schema, m.Data))
			}
			d, there := made[about{name, r.M.ID, 0}]
			if !there {
				if len(want) > 0 {
					c.add("dispatch", "%s has not decided about the %s at %s", name, r.M.Type, r.At)
				}
				continue
			}
			for _, m := range d.D.Commands {
				got = append(got, fmt.Sprintf("%s to %s: %s %x", m.Type, m.Target, m.Schema, m.Data))
			}
			if !slices.Equal(want, got) {
				c.add("dispatch", "the decision at %s is %q; %s says %q of the event", d.At, got, name, want)
			}
		}
	}
}

// relayed looks for the commands of a decision. Each is there at least once, and
// each time as it was decided; that it has one outcome is P2, as for any other.
func (c *checker) relayed(d decision) {
	for i, want := range d.D.Commands {
		key := d.commandKey(i)
		if other, twice := c.made[key]; twice {
			c.add("dispatch", "the decisions at %s and at %s have the same command", other, d.At)
		}
		c.made[key] = d.At
		if len(c.records[key]) == 0 {
			c.add("dispatch", "command %d of the decision at %s is not in the commands topic", i, d.At)
		}
		for _, r := range c.records[key] {
			if r.M.Type != want.Type || r.M.Subject != want.Target || r.M.Schema != want.Schema || string(r.M.Data) != string(want.Data) {
				c.add("dispatch", "the command at %s is not the one that was decided at %s", r.At, d.At)
			}
			if r.M.Cause != d.M.Cause || r.M.CausationID != d.D.Event || r.M.CorrelationID != d.M.CorrelationID {
				c.add("P6", "the command at %s has another cause than its decision at %s", r.At, d.At)
			}
		}
	}
}

// transfer is what both ends of one call it.
type transfer struct{ source, id, destination string }

// flow is how often transfers of one name ended in either way, and arrived, and
// how much that was.
type flow struct {
	completed, returned, arrived int
	left, came                   int64 // in completed ones; in deposits
}

// money is that none is lost and none is made: what the accounts hold is what
// came from outside and as interest, less what was paid out, and each transfer
// has either arrived or come back. It counts where dispatchers run.
func (c *checker) money() {
	if len(c.e.Dispatchers) == 0 {
		return
	}
	var held, want int64
	flows := map[transfer]*flow{}
	of := func(t transfer) *flow {
		if flows[t] == nil {
			flows[t] = &flow{}
		}
		return flows[t]
	}
	for _, id := range sortedKeys(c.byAggregate) {
		want += c.account(id, c.byAggregate[id], of)
		minor, err := heldBy(id, c.byAggregate[id])
		if err != nil {
			c.add("P5", "%v", err)
		}
		held += minor
	}
	for t, f := range flows {
		if f.completed != f.arrived || f.left != f.came {
			c.add("money", "transfer %s from %s to %s was completed %d times with %d and returned %d times; %d deposits with %d have arrived",
				t.id, t.source, t.destination, f.completed, f.left, f.returned, f.arrived, f.came)
		}
	}
	if held != want {
		c.add("money", "the accounts hold %d; what came in, less what went out, is %d", held, want)
	}
}

// heldBy is an account's balance by its own aggregator.
func heldBy(id runtime.AggregateID, events []logged) (minor int64, err error) {
	_, data, _, err := fold(id, events)
	if err != nil || len(data) == 0 {
		return 0, err
	}
	var state runtime.Record
	switch id.Prefix() {
	case "checking":
		if state, err = checkinggen.Definition().Root.Decode(data); err == nil {
			minor = state.(*checkinggen.CheckingAccount).Balance.Minor
		}
	case "savings":
		if state, err = savingsgen.Definition().Root.Decode(data); err == nil {
			minor = state.(*savingsgen.SavingsAccount).Balance.Minor
		}
	}
	return minor, err
}

// account follows the money of one account. It returns what came to it from
// outside and as interest, less what it paid out.
func (c *checker) account(id runtime.AggregateID, events []logged, of func(transfer) *flow) (outside int64) {
	type left struct {
		at          runtime.Coordinates
		destination string
		minor       int64
	}
	away := map[string]left{}
	end := func(r logged, tx string) (left, bool) {
		l, ok := away[tx]
		if !ok {
			c.add("money", "%s: transfer %s ends with the %s at %s, and is not under way", id, tx, r.M.Type, r.At)
		}
		delete(away, tx)
		return l, ok
	}
	for _, r := range events {
		if r.M.Platform() {
			continue
		}
		record, err := bank[id.Prefix()].Record(r.M.Schema, r.M.Data)
		if err != nil {
			c.add("P5", "event at %s: %v", r.At, err)
			continue
		}
		begin := func(tx, destination string) {
			if l, twice := away[tx]; twice {
				c.add("money", "%s: transfer %s begins at %s and is under way since %s", id, tx, r.At, l.at)
			}
			away[tx] = left{r.At, destination, amountOf(record)}
		}
		complete := func(tx string) {
			if l, ok := end(r, tx); ok {
				f := of(transfer{string(id), tx, l.destination})
				f.completed++
				f.left += l.minor
			}
		}
		giveBack := func(tx string) {
			l, ok := end(r, tx)
			if ok && l.minor != amountOf(record) {
				c.add("money", "%s: %d left at %s, and %d came back at %s", id, l.minor, l.at, amountOf(record), r.At)
			}
			of(transfer{string(id), tx, l.destination}).returned++
		}
		deposit := func(source, tx string) {
			key, _, _ := runtime.ParseEventID(r.M.ID)
			if _, dispatched := c.made[key]; !dispatched {
				outside += c.asked(key)
				return
			}
			f := of(transfer{source, tx, string(id)})
			f.arrived++
			f.came += amountOf(record)
		}
		switch e := record.(type) {
		case *checkinggen.TransferredToSavings:
			begin(e.Transaction_id, e.Destination)
		case *savingsgen.TransferredToChecking:
			begin(e.Transaction_id, e.Destination)
		case *checkinggen.TransferCompleted:
			complete(e.Transaction_id)
		case *savingsgen.TransferCompleted:
			complete(e.Transaction_id)
		case *checkinggen.TransferReturned:
			giveBack(e.Transaction_id)
		case *savingsgen.TransferReturned:
			giveBack(e.Transaction_id)
		case *checkinggen.DepositReceived:
			deposit(e.Source, e.Transaction_id)
		case *savingsgen.DepositReceived:
			deposit(e.Source, e.Transaction_id)
		case *checkinggen.CashWithdrawn:
			key, _, _ := runtime.ParseEventID(r.M.ID)
			outside -= c.asked(key)
		case *savingsgen.InterestPaid:
			outside += e.Amount.Minor
		}
	}
	for _, tx := range sortedKeys(away) {
		c.add("money", "%s: transfer %s of %d to %s, begun at %s, has neither arrived nor come back", id, tx, away[tx].minor, away[tx].destination, away[tx].at)
	}
	return outside
}

// asked is the amount that a command is about: what its sender wanted, and not
// what became of it.
func (c *checker) asked(key runtime.CommandKey) int64 {
	for _, r := range c.records[key] {
		record, err := bank[r.M.Aggregate().Prefix()].Record(r.M.Schema, r.M.Data)
		if err != nil {
			c.add("P5", "command at %s: %v", r.At, err)
			return 0
		}
		switch m := record.(type) {
		case *checkinggen.ReceiveDeposit:
			return m.Amount.Minor
		case *checkinggen.WithdrawCash:
			return m.Amount.Minor
		case *savingsgen.ReceiveDeposit:
			return m.Amount.Minor
		}
	}
	return 0
}
