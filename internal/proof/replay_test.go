package proof

import (
	"context"
	"fmt"
	"slices"

	"github.com/evento-oss/evento/examples/bank/checking"
	checkinggen "github.com/evento-oss/evento/examples/bank/checking/gen"
	bankclient "github.com/evento-oss/evento/examples/bank/client"
	clientgen "github.com/evento-oss/evento/examples/bank/client/gen"
	"github.com/evento-oss/evento/examples/bank/savings"
	savingsgen "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

// bank is the bank's functions in this process, to be asked again: handler and
// aggregator in one, by the prefix of their aggregates.
var bank = map[string]*runtime.Function{
	"checking": checkinggen.AggregateFunction(splitting{}, checking.Aggregator{}).Function,
	"savings":  savingsgen.AggregateFunction(savings.Handler{}, savings.Aggregator{}).Function,
	"client":   clientgen.AggregateFunction(bankclient.Handler{}, bankclient.Aggregator{}).Function,
}

// replay is I4 and I7: each outcome is what the handler says of the command on
// the state that all events before it leave. The poisonable handler of these
// tests decides as this one does, when it decides.
func (c *bankCheck) replay(id runtime.AggregateID, events []logged) {
	in := runtime.Invocation{ID: "1", Kind: runtime.KindExecute, Aggregate: id}
	var recorded [][]logged
	for _, r := range events {
		if r.M.Platform() {
			continue
		}
		key, _, _ := runtime.ParseEventID(r.M.ID)
		if r.M.Pos > 1 {
			if n := len(recorded); n > 0 {
				recorded[n-1] = append(recorded[n-1], r)
			}
			continue
		}
		records := c.records[key]
		if len(records) == 0 {
			return // found already
		}
		m := *records[0].M
		in.Messages = append(in.Messages, &m)
		recorded = append(recorded, []logged{r})
	}
	if len(in.Messages) == 0 {
		return
	}
	said := bank[id.Prefix()].Invoke(context.Background(), in, nil)
	if said.Failure != nil || len(said.Steps) != len(recorded) {
		c.add(verify.Linear, "%s: its commands cannot be replayed in the order of their events: %v", id, said.Failure)
		return
	}
	for i, step := range said.Steps {
		var want, got []string
		for _, m := range step.Events {
			want = append(want, fmt.Sprintf("%s %x", m.Type, m.Data))
		}
		for _, r := range recorded[i] {
			got = append(got, fmt.Sprintf("%s %x", r.M.Type, r.M.Data))
		}
		if !slices.Equal(want, got) {
			c.add(verify.Linear, "%s: at %s is recorded %q; the handler says %q of this command after all the others", id, recorded[i][0].At, got, want)
			return // all that follow differ too
		}
	}
}

// fold is the state after events, all of one aggregate from its first one on.
func fold(id runtime.AggregateID, events []logged) (schema runtime.DataSchema, data []byte, version uint64, err error) {
	in := runtime.Invocation{ID: "1", Kind: runtime.KindApply, Aggregate: id}
	for _, r := range events {
		if !r.M.Platform() {
			in.Messages = append(in.Messages, r.M)
			version = r.M.Sequence
		}
	}
	if len(in.Messages) == 0 {
		return "", nil, 0, nil
	}
	said := bank[id.Prefix()].Invoke(context.Background(), in, nil)
	if said.Failure != nil {
		return "", nil, 0, fmt.Errorf("fold of %s: %s", id, said.Failure.Message)
	}
	return said.StateSchema, said.State, version, nil
}

// balance adds up an account's events by what their types mean, without any of the bank's code.
func balance(events []logged) (minor int64, err error) {
	for _, r := range events {
		sign := int64(0)
		switch r.M.Type.Name() {
		case "DepositReceived", "InterestPaid", "TransferReturned":
			sign = 1
		case "CashWithdrawn", "TransferredToChecking", "TransferredToSavings":
			sign = -1
		default:
			continue
		}
		record, err := bank[r.M.Aggregate().Prefix()].Record(r.M.Schema, r.M.Data)
		if err != nil {
			return 0, err
		}
		minor += sign * amountOf(record)
	}
	return minor, nil
}

func amountOf(r runtime.Record) int64 {
	switch e := r.(type) {
	case *checkinggen.DepositReceived:
		return e.Amount.Minor
	case *checkinggen.CashWithdrawn:
		return e.Amount.Minor
	case *checkinggen.TransferredToSavings:
		return e.Amount.Minor
	case *checkinggen.TransferReturned:
		return e.Amount.Minor
	case *savingsgen.DepositReceived:
		return e.Amount.Minor
	case *savingsgen.InterestPaid:
		return e.Amount.Minor
	case *savingsgen.TransferredToChecking:
		return e.Amount.Minor
	case *savingsgen.TransferReturned:
		return e.Amount.Minor
	}
	return 0
}
