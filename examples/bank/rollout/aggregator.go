package rollout

import (
	"errors"
	"slices"

	"github.com/evento-oss/evento/examples/bank/rollout/gen"
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

// TransferredToSavings takes from the balance and remembers the transfer until
// its end is known.
func (Aggregator) TransferredToSavings(ctx runtime.AggregatorContext, account *gen.CheckingAccount, e *gen.TransferredToSavings) (*gen.CheckingAccount, error) {
	account, err := book(ctx, account, e.Transaction_id, -e.Amount.Minor, gen.SomeString(e.Destination))
	if err == nil {
		account.Under_way = append(account.Under_way, gen.Transfer{Transaction_id: e.Transaction_id, Destination: e.Destination, Amount: e.Amount})
	}
	return account, err
}

// TransferCompleted ends a transfer.
func (Aggregator) TransferCompleted(_ runtime.AggregatorContext, account *gen.CheckingAccount, e *gen.TransferCompleted) (*gen.CheckingAccount, error) {
	return ended(account, e.Transaction_id)
}

// TransferReturned ends a transfer and adds to the balance.
func (Aggregator) TransferReturned(ctx runtime.AggregatorContext, account *gen.CheckingAccount, e *gen.TransferReturned) (*gen.CheckingAccount, error) {
	account, err := ended(account, e.Transaction_id)
	if err != nil {
		return nil, err
	}
	return book(ctx, account, e.Transaction_id, e.Amount.Minor, gen.SomeString(e.Destination))
}

// ended forgets a transfer.
func ended(account *gen.CheckingAccount, transactionID string) (*gen.CheckingAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	i := underWay(account, transactionID)
	if i < 0 {
		return nil, errors.New("no such transfer is under way")
	}
	account.Under_way = slices.Delete(account.Under_way, i, i+1)
	return account, nil
}

// CheckingAccountClosed is the last event that changes anything.
func (Aggregator) CheckingAccountClosed(_ runtime.AggregatorContext, account *gen.CheckingAccount, _ *gen.CheckingAccountClosed) (*gen.CheckingAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	account.Status = gen.AccountStatusCLOSED
	return account, nil
}

// MonthlyFeeChanged sets the fee. v2
func (Aggregator) MonthlyFeeChanged(_ runtime.AggregatorContext, account *gen.CheckingAccount, e *gen.MonthlyFeeChanged) (*gen.CheckingAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	account.Monthly_fee = gen.SomeMoney(e.Fee)
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
