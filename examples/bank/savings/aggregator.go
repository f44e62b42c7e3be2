package savings

import (
	"errors"
	"slices"
	"strings"

	"github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime"
)

// recentTransactions is how many transactions the state shows. The others are in the events.
const recentTransactions = 20

// interestID begins the transaction id of interest; the month follows.
const interestID = "interest "

// Aggregator builds a savings account from its events.
type Aggregator struct{ gen.FailuresIgnored }

// StateVersion is raised when the same events give another state than before, so
// that snapshots are built anew. 2: transfers that are under way are in the state.
func (Aggregator) StateVersion() int { return 2 }

// errNotOpened is an event of an account without its first one: something is wrong with the history.
var errNotOpened = errors.New("the account has not been opened")

// SavingsAccountOpened is the first event.
func (Aggregator) SavingsAccountOpened(_ runtime.AggregatorContext, account *gen.SavingsAccount, e *gen.SavingsAccountOpened) (*gen.SavingsAccount, error) {
	if account != nil {
		return nil, errors.New("the account has been opened before")
	}
	return &gen.SavingsAccount{
		Client:   e.Client,
		Status:   gen.AccountStatusOPEN,
		Balance:  gen.Money{Currency: e.Currency},
		Rate_bps: e.Rate_bps,
	}, nil
}

// DepositReceived adds to the balance.
func (Aggregator) DepositReceived(ctx runtime.AggregatorContext, account *gen.SavingsAccount, e *gen.DepositReceived) (*gen.SavingsAccount, error) {
	return book(ctx, account, e.Transaction_id, e.Amount.Minor, gen.SomeString(e.Source))
}

// TransferredToChecking takes from the balance, counts, and remembers the
// transfer until its end is known.
func (Aggregator) TransferredToChecking(ctx runtime.AggregatorContext, account *gen.SavingsAccount, e *gen.TransferredToChecking) (*gen.SavingsAccount, error) {
	account, err := book(ctx, account, e.Transaction_id, -e.Amount.Minor, gen.SomeString(e.Destination))
	if err == nil {
		account.Withdrawals_this_month++
		account.Under_way = append(account.Under_way, gen.Transfer{Transaction_id: e.Transaction_id, Destination: e.Destination, Amount: e.Amount})
	}
	return account, err
}

// TransferCompleted ends a transfer.
func (Aggregator) TransferCompleted(_ runtime.AggregatorContext, account *gen.SavingsAccount, e *gen.TransferCompleted) (*gen.SavingsAccount, error) {
	return ended(account, e.Transaction_id)
}

// TransferReturned ends a transfer and adds to the balance. The month's count
// stays: the money did leave.
func (Aggregator) TransferReturned(ctx runtime.AggregatorContext, account *gen.SavingsAccount, e *gen.TransferReturned) (*gen.SavingsAccount, error) {
	account, err := ended(account, e.Transaction_id)
	if err != nil {
		return nil, err
	}
	return book(ctx, account, e.Transaction_id, e.Amount.Minor, gen.SomeString(e.Destination))
}

// ended forgets a transfer.
func ended(account *gen.SavingsAccount, transactionID string) (*gen.SavingsAccount, error) {
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

// SavingsAccountClosed is the last event that changes anything.
func (Aggregator) SavingsAccountClosed(_ runtime.AggregatorContext, account *gen.SavingsAccount, _ *gen.SavingsAccountClosed) (*gen.SavingsAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	account.Status = gen.AccountStatusCLOSED
	return account, nil
}

// MonthEnded changes nothing: a dispatcher turns it into PayInterest, which this
// account may refuse. The event cannot be: it comes from outside, where no
// handler is asked, so it must fit an account in any state, even one that is not there.
func (Aggregator) MonthEnded(_ runtime.AggregatorContext, account *gen.SavingsAccount, _ *gen.MonthEnded) (*gen.SavingsAccount, error) {
	return account, nil
}

// InterestPaid adds to the balance and closes the month.
func (Aggregator) InterestPaid(ctx runtime.AggregatorContext, account *gen.SavingsAccount, e *gen.InterestPaid) (*gen.SavingsAccount, error) {
	account, err := book(ctx, account, interestID+e.Period, e.Amount.Minor, nil)
	if err == nil {
		account.Withdrawals_this_month = 0
	}
	return account, err
}

// book moves money and writes it down, the newest transaction last.
func book(ctx runtime.AggregatorContext, account *gen.SavingsAccount, id string, minor int64, counterparty *gen.UnionNullString) (*gen.SavingsAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	account.Balance.Minor += minor
	account.Recent = trim(append(account.Recent, gen.Transaction{
		Transaction_id: id,
		At:             ctx.Time().UnixMilli(), // when it happened, the same each time the event is read
		Amount:         gen.Money{Minor: minor, Currency: account.Balance.Currency},
		Counterparty:   counterparty,
	}))
	return account, nil
}

// trim keeps the newest transactions, and the last interest however old it is:
// the month that it is for must not be paid again.
func trim(recent []gen.Transaction) []gen.Transaction {
	drop := len(recent) - recentTransactions
	if drop <= 0 {
		return recent
	}
	last := lastInterest(recent)
	kept := recent[drop:]
	if last >= 0 && last < drop {
		return append([]gen.Transaction{recent[last]}, kept[1:]...)
	}
	return kept
}

func lastInterest(recent []gen.Transaction) int {
	for i := len(recent) - 1; i >= 0; i-- {
		if strings.HasPrefix(recent[i].Transaction_id, interestID) && recent[i].Counterparty == nil {
			return i
		}
	}
	return -1
}

// lastPaid returns the last month that interest was paid for, and "" for none.
func lastPaid(account *gen.SavingsAccount) string {
	if i := lastInterest(account.Recent); i >= 0 {
		return strings.TrimPrefix(account.Recent[i].Transaction_id, interestID)
	}
	return ""
}
