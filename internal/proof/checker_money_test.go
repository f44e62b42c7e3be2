package proof

import (
	checkinggen "github.com/evento-oss/evento/examples/bank/checking/gen"
	savingsgen "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

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
func (c *bankCheck) money() {
	if len(c.dispatchers) == 0 {
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
			c.add(verify.StateIsLog, "%v", err)
		}
		held += minor
	}
	for t, f := range flows {
		if f.completed != f.arrived || f.left != f.came {
			c.add(verify.Conservation, "transfer %s from %s to %s was completed %d times with %d and returned %d times; %d deposits with %d have arrived",
				t.id, t.source, t.destination, f.completed, f.left, f.returned, f.arrived, f.came)
		}
	}
	if held != want {
		c.add(verify.Conservation, "the accounts hold %d; what came in, less what went out, is %d", held, want)
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
func (c *bankCheck) account(id runtime.AggregateID, events []logged, of func(transfer) *flow) (outside int64) {
	type left struct {
		at          runtime.Coordinates
		destination string
		minor       int64
	}
	away := map[string]left{}
	end := func(r logged, tx string) (left, bool) {
		l, ok := away[tx]
		if !ok {
			c.add(verify.Conservation, "%s: transfer %s ends with the %s at %s, and is not under way", id, tx, r.M.Type, r.At)
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
			c.add(verify.StateIsLog, "event at %s: %v", r.At, err)
			continue
		}
		begin := func(tx, destination string) {
			if l, twice := away[tx]; twice {
				c.add(verify.Conservation, "%s: transfer %s begins at %s and is under way since %s", id, tx, r.At, l.at)
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
				c.add(verify.Conservation, "%s: %d left at %s, and %d came back at %s", id, l.minor, l.at, amountOf(record), r.At)
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
		c.add(verify.Conservation, "%s: transfer %s of %d to %s, begun at %s, has neither arrived nor come back", id, tx, away[tx].minor, away[tx].destination, away[tx].at)
	}
	return outside
}

// asked is the amount that a command is about: what its sender wanted, and not
// what became of it.
func (c *bankCheck) asked(key runtime.CommandKey) int64 {
	for _, r := range c.records[key] {
		record, err := bank[r.M.Aggregate().Prefix()].Record(r.M.Schema, r.M.Data)
		if err != nil {
			c.add(verify.StateIsLog, "command at %s: %v", r.At, err)
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
