// Package savings is the aggregate SavingsAccount: an account that earns
// interest, and from which money goes to a checking account a few times a month.
package savings

//go:generate go run github.com/evento-oss/evento/cmd/evento generate --schema ../schemas/SavingsAccount.avsc --out gen

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime"
)

// monthlyWithdrawals is how often a month money may leave a savings account. It
// is what makes it one, to a regulator.
const monthlyWithdrawals = 6

// maxUnderWay bounds the state: so many transfers may be under way at a time. As
// interest lets six more go, it takes many months without an answer to get there.
const maxUnderWay = 100

// Handler decides what may be done with a savings account.
type Handler struct{}

// OpenSavingsAccount opens an account, once.
func (Handler) OpenSavingsAccount(_ runtime.HandlerContext, account *gen.SavingsAccount, c *gen.OpenSavingsAccount) ([]gen.Event, error) {
	switch {
	case account != nil:
		return refuse(c, gen.FailureCodeOTHER, "the account is open or was closed; open another one")
	case c.Rate_bps < 0 || c.Rate_bps > 10_000:
		return refuse(c, gen.FailureCodeOTHER, "a yearly rate is 0 to 10000 basis points")
	}
	return gen.Emit(&gen.SavingsAccountOpened{Client: c.Client, Currency: c.Currency, Rate_bps: c.Rate_bps})
}

// ReceiveDeposit credits the account.
func (Handler) ReceiveDeposit(_ runtime.HandlerContext, account *gen.SavingsAccount, c *gen.ReceiveDeposit) ([]gen.Event, error) {
	refuse := func(code gen.FailureCode, why string) ([]gen.Event, error) {
		// It names the source, so that whoever sees the event knows where the money belongs.
		return gen.Refuse(&gen.SavingsCommandFailed{Command_type: c.SchemaName(), Code: code, Message: why, Transaction_id: c.Transaction_id, Source: c.Source})
	}
	if code, why := usable(account, c.Amount); why != "" {
		return refuse(code, why)
	}
	if c.Amount.Minor > math.MaxInt64-balanceIfReturned(account) {
		return refuse(gen.FailureCodeOTHER, "the balance would be more than can be written down")
	}
	return gen.Emit(&gen.DepositReceived{Transaction_id: c.Transaction_id, Source: c.Source, Amount: c.Amount})
}

// TransferToChecking debits the account. That the money arrives is another
// aggregate's matter: a dispatcher sends it a command when it sees the event,
// and tells this account how it went.
func (Handler) TransferToChecking(_ runtime.HandlerContext, account *gen.SavingsAccount, c *gen.TransferToChecking) ([]gen.Event, error) {
	refuse := func(code gen.FailureCode, why string) ([]gen.Event, error) {
		return refuseTransfer(c, c.Transaction_id, code, why)
	}
	if code, why := usable(account, c.Amount); why != "" {
		return refuse(code, why)
	}
	to, err := runtime.ParseEntity(c.Destination)
	switch {
	case err != nil || to.Prefix() != "checking" || !to.IsRoot():
		return refuse(gen.FailureCodeOTHER, fmt.Sprintf("%q is no checking account", c.Destination))
	case account.Status == gen.AccountStatusFROZEN:
		return refuse(gen.FailureCodeACCOUNT_FROZEN, "the account is frozen")
	case c.Amount.Minor > account.Balance.Minor:
		return refuse(gen.FailureCodeINSUFFICIENT_FUNDS, fmt.Sprintf("%d asked for, %d there", c.Amount.Minor, account.Balance.Minor))
	case account.Withdrawals_this_month >= monthlyWithdrawals:
		return refuse(gen.FailureCodeWITHDRAWAL_LIMIT_REACHED, fmt.Sprintf("%d transfers since interest was last paid", account.Withdrawals_this_month))
	case underWay(account, c.Transaction_id) >= 0:
		return refuse(gen.FailureCodeOTHER, fmt.Sprintf("transfer %q is under way", c.Transaction_id))
	case len(account.Under_way) >= maxUnderWay:
		return refuse(gen.FailureCodeOTHER, fmt.Sprintf("%d transfers are under way", maxUnderWay))
	}
	return gen.Emit(&gen.TransferredToChecking{Transaction_id: c.Transaction_id, Destination: c.Destination, Amount: c.Amount})
}

// CompleteTransfer takes note that the money has arrived.
func (Handler) CompleteTransfer(_ runtime.HandlerContext, account *gen.SavingsAccount, c *gen.CompleteTransfer) ([]gen.Event, error) {
	if why := endable(account, c.Transaction_id, c.Destination); why != "" {
		return refuseTransfer(c, c.Transaction_id, gen.FailureCodeOTHER, why)
	}
	return gen.Emit(&gen.TransferCompleted{Transaction_id: c.Transaction_id})
}

// ReturnTransfer credits what was refused at the other end. It cannot be refused
// here while the transfer is under way: an account with one cannot be closed,
// and the amount is the one that left. So no money is lost, and none is made by
// a refund of what never left.
func (Handler) ReturnTransfer(_ runtime.HandlerContext, account *gen.SavingsAccount, c *gen.ReturnTransfer) ([]gen.Event, error) {
	if why := endable(account, c.Transaction_id, c.Destination); why != "" {
		return refuseTransfer(c, c.Transaction_id, gen.FailureCodeOTHER, why)
	}
	t := account.Under_way[underWay(account, c.Transaction_id)]
	return gen.Emit(&gen.TransferReturned{Transaction_id: t.Transaction_id, Destination: t.Destination, Amount: t.Amount, Reason: c.Reason})
}

// CloseSavingsAccount closes an account that holds nothing.
func (Handler) CloseSavingsAccount(_ runtime.HandlerContext, account *gen.SavingsAccount, c *gen.CloseSavingsAccount) ([]gen.Event, error) {
	switch {
	case account == nil:
		return refuse(c, gen.FailureCodeOTHER, "there is no such account")
	case account.Status == gen.AccountStatusCLOSED:
		return refuse(c, gen.FailureCodeACCOUNT_CLOSED, "the account is closed already")
	case account.Balance.Minor != 0:
		return refuse(c, gen.FailureCodeOTHER, fmt.Sprintf("the balance is %d", account.Balance.Minor))
	case len(account.Under_way) > 0: // the money may come back
		return refuse(c, gen.FailureCodeOTHER, fmt.Sprintf("%d transfers are under way", len(account.Under_way)))
	}
	return gen.Emit(&gen.SavingsAccountClosed{Reason: c.Reason})
}

// PayInterest pays a month's interest and closes the month: transfers are
// counted anew. A month is paid once, and none before it any more.
func (Handler) PayInterest(_ runtime.HandlerContext, account *gen.SavingsAccount, c *gen.PayInterest) ([]gen.Event, error) {
	if account == nil {
		return refuse(c, gen.FailureCodeOTHER, "there is no such account")
	}
	if account.Status == gen.AccountStatusCLOSED {
		return refuse(c, gen.FailureCodeACCOUNT_CLOSED, "the account is closed")
	}
	if _, err := time.Parse("2006-01", c.Period); err != nil {
		return refuse(c, gen.FailureCodeOTHER, fmt.Sprintf("%q is no month such as 2026-01", c.Period))
	}
	if paid := lastPaid(account); c.Period <= paid { // months of four and two digits are in the order of their texts
		return refuse(c, gen.FailureCodeOTHER, fmt.Sprintf("interest is paid up to %s", paid))
	}
	amount := monthlyInterest(account.Balance.Minor, account.Rate_bps)
	if amount > math.MaxInt64-balanceIfReturned(account) {
		return refuse(c, gen.FailureCodeOTHER, "the balance would be more than can be written down")
	}
	return gen.Emit(&gen.InterestPaid{Period: c.Period, Amount: gen.Money{Minor: amount, Currency: account.Balance.Currency}})
}

// monthlyInterest is a twelfth of a year's, rounded down to the minor unit: the
// bank does not give what it cannot pay out. The product has up to 78 bits.
func monthlyInterest(balance int64, bps int32) int64 {
	if balance <= 0 || bps <= 0 {
		return 0
	}
	high, low := bits.Mul64(uint64(balance), uint64(bps))
	interest, _ := bits.Div64(high, low, 12*10_000)
	return int64(interest)
}

// usable says why money cannot be moved at all; why is empty when it can.
func usable(account *gen.SavingsAccount, amount gen.Money) (code gen.FailureCode, why string) {
	switch {
	case account == nil:
		return gen.FailureCodeOTHER, "there is no such account"
	case account.Status == gen.AccountStatusCLOSED:
		return gen.FailureCodeACCOUNT_CLOSED, "the account is closed"
	case amount.Minor <= 0:
		return gen.FailureCodeOTHER, "an amount is more than zero"
	case amount.Currency != account.Balance.Currency:
		return gen.FailureCodeOTHER, fmt.Sprintf("the account is in %s, the amount in %s", account.Balance.Currency, amount.Currency)
	}
	return 0, ""
}

// refuse answers any command: this aggregate has one failure for all of them.
func refuse(c gen.Command, code gen.FailureCode, why string) ([]gen.Event, error) {
	return gen.Refuse(&gen.SavingsCommandFailed{Command_type: c.SchemaName(), Code: code, Message: why})
}

// refuseTransfer is refuse, and says which transfer it is about.
func refuseTransfer(c gen.Command, transactionID string, code gen.FailureCode, why string) ([]gen.Event, error) {
	return gen.Refuse(&gen.SavingsCommandFailed{Command_type: c.SchemaName(), Code: code, Message: why, Transaction_id: transactionID})
}

// balanceIfReturned is what the balance would be if all that is under way came
// back. It must fit into an int64, so that a return always does.
func balanceIfReturned(account *gen.SavingsAccount) int64 {
	minor := account.Balance.Minor
	for _, t := range account.Under_way {
		minor += t.Amount.Minor
	}
	return minor
}

// underWay returns where a transfer stands among those under way, or -1.
func underWay(account *gen.SavingsAccount, transactionID string) int {
	return slices.IndexFunc(account.Under_way, func(t gen.Transfer) bool { return t.Transaction_id == transactionID })
}

// endable says why a transfer cannot be ended; why is empty when it can. Only
// its destination has a say in it.
func endable(account *gen.SavingsAccount, transactionID, destination string) (why string) {
	if account == nil {
		return "there is no such account"
	}
	if i := underWay(account, transactionID); i < 0 || account.Under_way[i].Destination != destination {
		return fmt.Sprintf("no transfer %q to %q is under way", transactionID, destination)
	}
	return ""
}
