// Package savings is the aggregate SavingsAccount: an account that earns
// interest, and from which money goes to a checking account a few times a month.
package savings

//go:generate go run github.com/evento-oss/evento/cmd/evento generate --schema ../schemas/SavingsAccount.avsc --out gen

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime"
)

// monthlyWithdrawals is how often a month money may leave a savings account. It
// is what makes it one, to a regulator.
const monthlyWithdrawals = 6

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
	if code, why := usable(account, c.Amount); why != "" {
		return refuse(c, code, why)
	}
	if c.Amount.Minor > math.MaxInt64-account.Balance.Minor {
		return refuse(c, gen.FailureCodeOTHER, "the balance would be more than can be written down")
	}
	return gen.Emit(&gen.DepositReceived{Transaction_id: c.Transaction_id, Source: c.Source, Amount: c.Amount})
}

// TransferToChecking debits the account. That the money arrives is another
// aggregate's matter: a dispatcher sends it a command when it sees the event.
func (Handler) TransferToChecking(_ runtime.HandlerContext, account *gen.SavingsAccount, c *gen.TransferToChecking) ([]gen.Event, error) {
	if code, why := usable(account, c.Amount); why != "" {
		return refuse(c, code, why)
	}
	to, err := runtime.ParseEntity(c.Destination)
	switch {
	case err != nil || to.Prefix() != "checking" || !to.IsRoot():
		return refuse(c, gen.FailureCodeOTHER, fmt.Sprintf("%q is no checking account", c.Destination))
	case account.Status == gen.AccountStatusFROZEN:
		return refuse(c, gen.FailureCodeACCOUNT_FROZEN, "the account is frozen")
	case c.Amount.Minor > account.Balance.Minor:
		return refuse(c, gen.FailureCodeINSUFFICIENT_FUNDS, fmt.Sprintf("%d asked for, %d there", c.Amount.Minor, account.Balance.Minor))
	case account.Withdrawals_this_month >= monthlyWithdrawals:
		return refuse(c, gen.FailureCodeWITHDRAWAL_LIMIT_REACHED, fmt.Sprintf("%d transfers since interest was last paid", account.Withdrawals_this_month))
	}
	return gen.Emit(&gen.TransferredToChecking{Transaction_id: c.Transaction_id, Destination: c.Destination, Amount: c.Amount})
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
	if amount > math.MaxInt64-account.Balance.Minor {
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
