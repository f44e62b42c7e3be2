// Package rollout is the aggregate CheckingAccount again, built with the second
// version of its schema: deposits say by which channel they came, and an account
// has a monthly fee. It differs from package checking in what is new, marked "v2".
//
// It is here to be rolled out over the first version while commands flow, see
// TestTheSecondVersionOfASchemaIsRolledOutWhileCommandsFlow of the bank. Elsewhere
// the second version would just be the next commit of package checking.
package rollout

//go:generate go run github.com/evento-oss/evento/cmd/evento generate --schema testdata/CheckingAccount.avsc --out gen

import (
	"fmt"
	"math"
	"slices"

	"github.com/evento-oss/evento/examples/bank/rollout/gen"
	"github.com/evento-oss/evento/runtime"
)

// maxUnderWay bounds the state: so many transfers may be under way at a time.
const maxUnderWay = 100

// Handler decides what may be done with a checking account.
type Handler struct{}

// OpenCheckingAccount opens an account, once.
func (Handler) OpenCheckingAccount(_ runtime.HandlerContext, account *gen.CheckingAccount, c *gen.OpenCheckingAccount) ([]gen.Event, error) {
	if account != nil {
		return gen.Refuse(&gen.OpenCheckingAccountFailed{Code: gen.FailureCodeALREADY_OPEN, Message: "the account is open or was closed; open another one"})
	}
	return gen.Emit(&gen.CheckingAccountOpened{Client: c.Client, Currency: c.Currency})
}

// ReceiveDeposit credits the account. A frozen account takes money; it gives none.
func (Handler) ReceiveDeposit(ctx runtime.HandlerContext, account *gen.CheckingAccount, c *gen.ReceiveDeposit) ([]gen.Event, error) {
	refuse := func(code gen.FailureCode, why string) ([]gen.Event, error) {
		return gen.Refuse(&gen.ReceiveDepositFailed{Transaction_id: c.Transaction_id, Code: code, Message: why, Source: c.Source})
	}
	if code, why := usable(account, c.Amount); why != "" {
		return refuse(code, why)
	}
	if all := balanceIfReturned(account); all > 0 && c.Amount.Minor > math.MaxInt64-all {
		return refuse(gen.FailureCodeOTHER, "the balance would be more than can be written down")
	}
	return gen.Emit(&gen.DepositReceived{
		Transaction_id: c.Transaction_id,
		Source:         c.Source,
		Amount:         c.Amount,
		Received_at:    ctx.Now().UnixMilli(),
		Channel:        c.Channel, // v2
	})
}

// WithdrawCash debits the account, down to the overdraft limit.
func (Handler) WithdrawCash(_ runtime.HandlerContext, account *gen.CheckingAccount, c *gen.WithdrawCash) ([]gen.Event, error) {
	refuse := func(code gen.FailureCode, why string) ([]gen.Event, error) {
		return gen.Refuse(&gen.WithdrawCashFailed{Amount: c.Amount, Code: code, Message: why})
	}
	if code, why := usable(account, c.Amount); why != "" {
		return refuse(code, why)
	}
	if code, why := payable(account, c.Amount); why != "" {
		return refuse(code, why)
	}
	return gen.Emit(&gen.CashWithdrawn{Destination: c.Destination, Amount: c.Amount})
}

// TransferToSavings debits the account. That the money arrives is another
// aggregate's matter: a dispatcher sends it a command when it sees the event,
// and tells this account how it went.
func (Handler) TransferToSavings(_ runtime.HandlerContext, account *gen.CheckingAccount, c *gen.TransferToSavings) ([]gen.Event, error) {
	refuse := func(code gen.FailureCode, why string) ([]gen.Event, error) {
		return gen.Refuse(&gen.TransferToSavingsFailed{Transaction_id: c.Transaction_id, Code: code, Message: why})
	}
	if code, why := usable(account, c.Amount); why != "" {
		return refuse(code, why)
	}
	if code, why := payable(account, c.Amount); why != "" {
		return refuse(code, why)
	}
	to, err := runtime.ParseEntity(c.Destination)
	switch {
	case err != nil || to.Prefix() != "savings" || !to.IsRoot():
		return refuse(gen.FailureCodeOTHER, fmt.Sprintf("%q is no savings account", c.Destination))
	case underWay(account, c.Transaction_id) >= 0:
		return refuse(gen.FailureCodeOTHER, fmt.Sprintf("transfer %q is under way", c.Transaction_id))
	case len(account.Under_way) >= maxUnderWay:
		return refuse(gen.FailureCodeOTHER, fmt.Sprintf("%d transfers are under way", maxUnderWay))
	}
	return gen.Emit(&gen.TransferredToSavings{Transaction_id: c.Transaction_id, Destination: c.Destination, Amount: c.Amount})
}

// CompleteTransfer takes note that the money has arrived.
func (Handler) CompleteTransfer(_ runtime.HandlerContext, account *gen.CheckingAccount, c *gen.CompleteTransfer) ([]gen.Event, error) {
	if why := endable(account, c.Transaction_id, c.Destination); why != "" {
		return gen.Refuse(&gen.EndTransferFailed{Transaction_id: c.Transaction_id, Message: why})
	}
	return gen.Emit(&gen.TransferCompleted{Transaction_id: c.Transaction_id})
}

// ReturnTransfer credits what was refused at the other end. It cannot be refused
// here while the transfer is under way: an account with one cannot be closed,
// and the amount is the one that left. So no money is lost, and none is made by
// a refund of what never left.
func (Handler) ReturnTransfer(_ runtime.HandlerContext, account *gen.CheckingAccount, c *gen.ReturnTransfer) ([]gen.Event, error) {
	if why := endable(account, c.Transaction_id, c.Destination); why != "" {
		return gen.Refuse(&gen.EndTransferFailed{Transaction_id: c.Transaction_id, Message: why})
	}
	t := account.Under_way[underWay(account, c.Transaction_id)]
	return gen.Emit(&gen.TransferReturned{Transaction_id: t.Transaction_id, Destination: t.Destination, Amount: t.Amount, Reason: c.Reason})
}

// CloseCheckingAccount closes an account that owes nothing and holds nothing.
func (Handler) CloseCheckingAccount(_ runtime.HandlerContext, account *gen.CheckingAccount, c *gen.CloseCheckingAccount) ([]gen.Event, error) {
	refuse := func(code gen.FailureCode, why string) ([]gen.Event, error) {
		return gen.Refuse(&gen.CloseCheckingAccountFailed{Code: code, Message: why})
	}
	switch {
	case account == nil:
		return refuse(gen.FailureCodeOTHER, "there is no such account")
	case account.Status == gen.AccountStatusCLOSED:
		return refuse(gen.FailureCodeACCOUNT_CLOSED, "the account is closed already")
	case account.Balance.Minor != 0:
		return refuse(gen.FailureCodeBALANCE_NOT_ZERO, fmt.Sprintf("the balance is %d", account.Balance.Minor))
	case len(account.Under_way) > 0: // the money may come back
		return refuse(gen.FailureCodeBALANCE_NOT_ZERO, fmt.Sprintf("%d transfers are under way", len(account.Under_way)))
	}
	return gen.Emit(&gen.CheckingAccountClosed{Reason: c.Reason})
}

// ChangeMonthlyFee sets what the account costs a month. v2
func (Handler) ChangeMonthlyFee(_ runtime.HandlerContext, account *gen.CheckingAccount, c *gen.ChangeMonthlyFee) ([]gen.Event, error) {
	if code, why := usable(account, c.Fee); why != "" {
		return gen.Refuse(&gen.ChangeMonthlyFeeFailed{Code: code, Message: why})
	}
	return gen.Emit(&gen.MonthlyFeeChanged{Fee: c.Fee})
}

// usable says why money cannot be moved at all; why is empty when it can.
func usable(account *gen.CheckingAccount, amount gen.Money) (code gen.FailureCode, why string) {
	switch {
	case account == nil:
		return gen.FailureCodeOTHER, "there is no such account"
	case account.Status == gen.AccountStatusCLOSED:
		return gen.FailureCodeACCOUNT_CLOSED, "the account is closed"
	case amount.Minor <= 0:
		return gen.FailureCodeOTHER, "an amount is more than zero"
	case amount.Currency != account.Balance.Currency:
		return gen.FailureCodeCURRENCY_MISMATCH, fmt.Sprintf("the account is in %s, the amount in %s", account.Balance.Currency, amount.Currency)
	}
	return 0, ""
}

// payable says why the account cannot give the amount; why is empty when it can.
func payable(account *gen.CheckingAccount, amount gen.Money) (code gen.FailureCode, why string) {
	if account.Status == gen.AccountStatusFROZEN {
		return gen.FailureCodeACCOUNT_FROZEN, "the account is frozen"
	}
	limit := account.Overdraft_limit.Or(gen.Money{}).Minor
	// Written so that no sum is beyond what an int64 holds.
	if amount.Minor-limit > account.Balance.Minor {
		return gen.FailureCodeINSUFFICIENT_FUNDS, fmt.Sprintf("%d asked for, %d there, overdraft limit %d", amount.Minor, account.Balance.Minor, limit)
	}
	return 0, ""
}

// balanceIfReturned is what the balance would be if all that is under way came
// back. It must fit into an int64, so that a return always does.
func balanceIfReturned(account *gen.CheckingAccount) int64 {
	minor := account.Balance.Minor
	for _, t := range account.Under_way {
		minor += t.Amount.Minor
	}
	return minor
}

// underWay returns where a transfer stands among those under way, or -1.
func underWay(account *gen.CheckingAccount, transactionID string) int {
	return slices.IndexFunc(account.Under_way, func(t gen.Transfer) bool { return t.Transaction_id == transactionID })
}

// endable says why a transfer cannot be ended; why is empty when it can. Only
// its destination has a say in it.
func endable(account *gen.CheckingAccount, transactionID, destination string) (why string) {
	if account == nil {
		return "there is no such account"
	}
	if i := underWay(account, transactionID); i < 0 || account.Under_way[i].Destination != destination {
		return fmt.Sprintf("no transfer %q to %q is under way", transactionID, destination)
	}
	return ""
}
