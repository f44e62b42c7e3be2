package checking

import (
	"errors"

	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/runtime"
)

// recentTransactions is how many transactions the state shows. The others are in the events.
const recentTransactions = 20

// Aggregator builds a checking account from its events.
type Aggregator struct{ gen.FailuresIgnored }

// errNotOpened is an event of an account without its first one: something is wrong with the history.
var errNotOpened = errors.New("the account has not been opened")

// CheckingAccountOpened is the first event.
func (Aggregator) CheckingAccountOpened(_ runtime.AggregatorContext, account *gen.CheckingAccount, e *gen.CheckingAccountOpened) (*gen.CheckingAccount, error) {
	if account != nil {
		return nil, errors.New("the account has been opened before")
	}
	return &gen.CheckingAccount{
		Client:  e.Client,
		Status:  gen.AccountStatusOPEN,
		Balance: gen.Money{Currency: e.Currency},
	}, nil
}

// DepositReceived adds to the balance.
func (Aggregator) DepositReceived(ctx runtime.AggregatorContext, account *gen.CheckingAccount, e *gen.DepositReceived) (*gen.CheckingAccount, error) {
	return book(ctx, account, e.Transaction_id, e.Amount.Minor, gen.SomeString(e.Source))
}

// CashWithdrawn takes from the balance.
func (Aggregator) CashWithdrawn(ctx runtime.AggregatorContext, account *gen.CheckingAccount, e *gen.CashWithdrawn) (*gen.CheckingAccount, error) {
	// A withdrawal has no transaction id of its own; the event's is as good.
	return book(ctx, account, ctx.EventID(), -e.Amount.Minor, gen.SomeString(e.Destination))
}

// CheckingAccountClosed is the last event that changes anything.
func (Aggregator) CheckingAccountClosed(_ runtime.AggregatorContext, account *gen.CheckingAccount, _ *gen.CheckingAccountClosed) (*gen.CheckingAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	account.Status = gen.AccountStatusCLOSED
	return account, nil
}

// book moves money and writes it down, the newest transaction last.
func book(ctx runtime.AggregatorContext, account *gen.CheckingAccount, id string, minor int64, counterparty *gen.UnionNullString) (*gen.CheckingAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	account.Balance.Minor += minor
	account.Recent = append(account.Recent, gen.Transaction{
		Transaction_id: id,
		At:             ctx.Time().UnixMilli(), // when it happened, the same each time the event is read
		Amount:         gen.Money{Minor: minor, Currency: account.Balance.Currency},
		Counterparty:   counterparty,
	})
	if n := len(account.Recent); n > recentTransactions {
		account.Recent = account.Recent[n-recentTransactions:]
	}
	return account, nil
}
