package proof

import (
	"errors"
	"fmt"
	"sync"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/runtime"
)

// Where a withdrawal goes to, or a deposit comes from, decides what becomes of it.
const (
	poison = "poison" // it always fails
	flaky  = "flaky"  // it fails the first time
	split  = "split"  // a deposit: it becomes three events
)

// splitting is the bank's handler of checking accounts, which has one event for
// each command, but for deposits that become several.
type splitting struct{ checking.Handler }

func (h splitting) ReceiveDeposit(ctx runtime.HandlerContext, account *gen.CheckingAccount, c *gen.ReceiveDeposit) ([]gen.Event, error) {
	events, err := h.Handler.ReceiveDeposit(ctx, account, c)
	if err != nil || c.Source != split {
		return events, err
	}
	all, received := events[0].(*gen.DepositReceived)
	if !received {
		return events, nil
	}
	events = nil
	for _, minor := range []int64{1, 1, all.Amount.Minor - 2} {
		part := *all
		part.Amount.Minor = minor
		events = append(events, &part)
	}
	return events, nil
}

// poisonable is the same, but fails some commands. It says which commands it is
// called with.
type poisonable struct {
	splitting
	tried *sync.Map // flaky commands
}

var errPoison = errors.New("this one never works")

func (h poisonable) ReceiveDeposit(ctx runtime.HandlerContext, account *gen.CheckingAccount, c *gen.ReceiveDeposit) ([]gen.Event, error) {
	if err := h.called(ctx, c.Source); err != nil {
		return nil, err
	}
	return h.splitting.ReceiveDeposit(ctx, account, c)
}

func (h poisonable) WithdrawCash(ctx runtime.HandlerContext, account *gen.CheckingAccount, c *gen.WithdrawCash) ([]gen.Event, error) {
	if err := h.called(ctx, c.Destination); err != nil {
		return nil, err
	}
	return h.Handler.WithdrawCash(ctx, account, c)
}

// called says that a command has come, and whether it fails.
func (h poisonable) called(ctx runtime.HandlerContext, what string) error {
	command := ctx.Command()
	fmt.Printf("called %s\n", command.ID)
	if what == flaky {
		if _, before := h.tried.LoadOrStore([3]string{command.Source, string(ctx.Aggregate()), command.ID}, true); before {
			return nil
		}
	}
	if what == flaky || what == poison {
		return errPoison
	}
	return nil
}
