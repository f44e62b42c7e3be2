package proof

import (
	"errors"
	"fmt"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/runtime"
)

// poison is the destination of a withdrawal that always fails.
const poison = "poison"

// poisonable is the bank's handler of checking accounts, but for one kind of
// command, which it never gets done. It says which commands it is called with.
type poisonable struct{ checking.Handler }

var errPoison = errors.New("this one never works")

func (h poisonable) ReceiveDeposit(ctx runtime.HandlerContext, account *gen.CheckingAccount, c *gen.ReceiveDeposit) ([]gen.Event, error) {
	fmt.Printf("called %s\n", ctx.Command().ID)
	return h.Handler.ReceiveDeposit(ctx, account, c)
}

func (h poisonable) WithdrawCash(ctx runtime.HandlerContext, account *gen.CheckingAccount, c *gen.WithdrawCash) ([]gen.Event, error) {
	fmt.Printf("called %s\n", ctx.Command().ID)
	if c.Destination == poison {
		return nil, errPoison
	}
	return h.Handler.WithdrawCash(ctx, account, c)
}
