package gateway

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
)

// fickle adds another amount each time that it is given a deposit.
type fickle struct {
	checking.Aggregator
	n *atomic.Int64
}

func (f fickle) DepositReceived(ctx runtime.AggregatorContext, account *gen.CheckingAccount, e *gen.DepositReceived) (*gen.CheckingAccount, error) {
	account, err := f.Aggregator.DepositReceived(ctx, account, e)
	if err == nil {
		account.Balance.Minor += f.n.Add(1)
	}
	return account, err
}

// An aggregator that makes another state of the same events is noticed while nothing
// is lost; one that does not is not accused.
func TestAnAggregatorThatIsNotDeterministicIsNoticed(t *testing.T) {
	t.Parallel()
	for state, aggregator := range map[string]answerer{
		"same":    gen.AggregatorFunction(checking.Aggregator{}),
		"another": gen.AggregatorFunction(fickle{n: new(atomic.Int64)}),
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			w := newEngineWorld(t, 1)
			w.wire.serve("http://aggregator", aggregator)
			w.made = func(e *Engine) { e.refolds.every = 0 }
			e := w.start(1)
			e.send(w.open(t, bankAccount))
			n := 0
			kafkatest.Wait(t, time.Minute, func() error {
				n++
				e.send(w.deposit(t, bankAccount, fmt.Sprint("d-", n), 100))
				if e.refolded(state) == 0 {
					return errors.New("nothing was folded once more")
				}
				return nil
			})
			for _, other := range []string{"same", "another"} {
				if got := e.refolded(other); other != state && got != 0 {
					t.Errorf("%v comparisons said %q", got, other)
				}
			}
		})
	}
}

// refolded is how many comparisons came to a result.
func (r *runningEngine) refolded(state string) float64 {
	families, err := r.metrics.Gather()
	if err != nil {
		r.w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "evento_refolds_total" && m.GetLabel()[0].GetValue() == state {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
