// Package checking is the aggregate CheckingAccount: an account for daily use,
// which may be overdrawn up to a limit.
package checking

//go:generate go run github.com/evento-oss/evento/cmd/evento generate --schema ../schemas/CheckingAccount.avsc --out gen

import (
	"fmt"
	"math"

	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/runtime"
)

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
		return gen.Refuse(&gen.ReceiveDepositFailed{Transaction_id: c.Transaction_id, Code: code, Message: why})
	}
	if code, why := usable(account, c.Amount); why != "" {
		return refuse(code, why)
	}
	if account.Balance.Minor > 0 && c.Amount.Minor > math.MaxInt64-account.Balance.Minor {
		return refuse(gen.FailureCodeOTHER, "the balance would be more than can be written down")
	}
	return gen.Emit(&gen.DepositReceived{
		Transaction_id: c.Transaction_id,
		Source:         c.Source,
		Amount:         c.Amount,
		Received_at:    ctx.Now().UnixMilli(),
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
	if account.Status == gen.AccountStatusFROZEN {
		return refuse(gen.FailureCodeACCOUNT_FROZEN, "the account is frozen")
	}
	limit := account.Overdraft_limit.Or(gen.Money{}).Minor
	// Written so that no sum is beyond what an int64 holds.
	if c.Amount.Minor-limit > account.Balance.Minor {
		return refuse(gen.FailureCodeINSUFFICIENT_FUNDS, fmt.Sprintf("%d asked for, %d there, overdraft limit %d", c.Amount.Minor, account.Balance.Minor, limit))
	}
	return gen.Emit(&gen.CashWithdrawn{Destination: c.Destination, Amount: c.Amount})
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
	}
	return gen.Emit(&gen.CheckingAccountClosed{Reason: c.Reason})
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
