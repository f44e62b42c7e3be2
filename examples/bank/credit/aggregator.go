package credit

import (
	"errors"

	"github.com/evento-oss/evento/examples/bank/credit/gen"
	"github.com/evento-oss/evento/runtime"
)

// recentPurchases is how many purchases of a card the state shows. The others are in the events.
const recentPurchases = 10

// Aggregator builds a credit account and its cards from their events.
type Aggregator struct{ gen.FailuresIgnored }

var (
	// errNotOpened is an event of an account without its first one: something is wrong with the history.
	errNotOpened = errors.New("the account has not been opened")
	errNoCard    = errors.New("the card has not been issued")
)

// CreditAccountOpened is the first event.
func (Aggregator) CreditAccountOpened(_ runtime.AggregatorContext, account *gen.CreditAccount, e *gen.CreditAccountOpened) (*gen.CreditAccount, error) {
	if account != nil {
		return nil, errors.New("the account has been opened before")
	}
	return &gen.CreditAccount{
		Client:       e.Client,
		Credit_limit: e.Credit_limit,
		Balance:      gen.Money{Currency: e.Credit_limit.Currency},
	}, nil
}

// CardIssued adds a card.
func (Aggregator) CardIssued(_ runtime.AggregatorContext, account *gen.CreditAccount, e *gen.CardIssued) (*gen.CreditAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	account.Cards = append(account.Cards, gen.CreditCard{
		Id: cardID(e.Card_id), Holder: e.Holder, Last4: e.Last4, Status: gen.CardStatusISSUED, Limit: e.Limit,
	})
	return account, nil
}

// CardActivated makes a card usable.
func (Aggregator) CardActivated(ctx runtime.AggregatorContext, account *gen.CreditAccount, _ *gen.CardActivated) (*gen.CreditAccount, error) {
	return setStatus(ctx, account, gen.CardStatusACTIVE)
}

// CardBlocked ends the use of a card.
func (Aggregator) CardBlocked(ctx runtime.AggregatorContext, account *gen.CreditAccount, _ *gen.CardBlocked) (*gen.CreditAccount, error) {
	return setStatus(ctx, account, gen.CardStatusBLOCKED)
}

// CardCharged adds to what the account owes, and shows the purchase on its card.
func (Aggregator) CardCharged(ctx runtime.AggregatorContext, account *gen.CreditAccount, e *gen.CardCharged) (*gen.CreditAccount, error) {
	card, err := eventCard(ctx, account)
	if err != nil {
		return nil, err
	}
	account.Balance.Minor += e.Amount.Minor
	card.Recent = append(card.Recent, gen.Purchase{
		Purchase_id: e.Purchase_id,
		At:          ctx.Time().UnixMilli(), // when it happened, the same each time the event is read
		Merchant:    e.Merchant,
		Amount:      e.Amount,
	})
	if n := len(card.Recent); n > recentPurchases {
		card.Recent = card.Recent[n-recentPurchases:]
	}
	return account, nil
}

// PaymentReceived takes from what the account owes.
func (Aggregator) PaymentReceived(_ runtime.AggregatorContext, account *gen.CreditAccount, e *gen.PaymentReceived) (*gen.CreditAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	account.Balance.Minor -= e.Amount.Minor
	return account, nil
}

// CreditAccountClosed is the last event that changes anything.
func (Aggregator) CreditAccountClosed(_ runtime.AggregatorContext, account *gen.CreditAccount, _ *gen.CreditAccountClosed) (*gen.CreditAccount, error) {
	if account == nil {
		return nil, errNotOpened
	}
	account.Closed = true
	return account, nil
}

func setStatus(ctx runtime.AggregatorContext, account *gen.CreditAccount, status gen.CardStatus) (*gen.CreditAccount, error) {
	card, err := eventCard(ctx, account)
	if err != nil {
		return nil, err
	}
	card.Status = status
	return account, nil
}

// eventCard finds the card that the event belongs to.
func eventCard(ctx runtime.AggregatorContext, account *gen.CreditAccount) (*gen.CreditCard, error) {
	if account == nil {
		return nil, errNotOpened
	}
	if card := findCard(account, ctx.Entity()); card != nil {
		return card, nil
	}
	return nil, errNoCard
}
