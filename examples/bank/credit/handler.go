// Package credit is the aggregate CreditAccount: an account that lends up to a
// limit, and the cards that are charged to it. A card is an entity inside the
// aggregate: it is addressed through its account, credit:77/card:7f3a.
package credit

//go:generate go run github.com/evento-oss/evento/cmd/evento generate --schema ../schemas/CreditAccount.avsc --out gen

import (
	"fmt"
	"math"

	"github.com/evento-oss/evento/examples/bank/credit/gen"
	"github.com/evento-oss/evento/runtime"
)

// maxCards bounds the state: so many cards an account may have.
const maxCards = 20

// Handler decides what may be done with a credit account and its cards.
type Handler struct{}

// OpenCreditAccount opens an account, once.
func (Handler) OpenCreditAccount(_ runtime.HandlerContext, account *gen.CreditAccount, c *gen.OpenCreditAccount) ([]gen.Event, error) {
	switch {
	case account != nil:
		return refuse(c, gen.FailureCodeOTHER, "the account is open or was closed; open another one")
	case c.Credit_limit.Minor < 0:
		return refuse(c, gen.FailureCodeOTHER, "a limit is not below zero")
	}
	return gen.Emit(&gen.CreditAccountOpened{Client: c.Client, Credit_limit: c.Credit_limit})
}

// IssueCard adds a card. The command is for the account: the card is not there yet.
func (Handler) IssueCard(ctx runtime.HandlerContext, account *gen.CreditAccount, c *gen.IssueCard) ([]gen.Event, error) {
	if code, why := usable(account); why != "" {
		return refuse(c, code, why)
	}
	id := ctx.Child("card", c.Card_id)
	_, err := runtime.ParseEntity(string(id))
	switch {
	case err != nil || id.ID() != c.Card_id:
		return refuse(c, gen.FailureCodeOTHER, fmt.Sprintf("%q cannot name a card; write for example 7f3a", c.Card_id))
	case findCard(account, id) != nil:
		return refuse(c, gen.FailureCodeOTHER, fmt.Sprintf("there is a card %q already", c.Card_id))
	case len(account.Cards) >= maxCards:
		return refuse(c, gen.FailureCodeOTHER, fmt.Sprintf("the account has %d cards", maxCards))
	case c.Limit != nil && c.Limit.Money.Minor < 0:
		return refuse(c, gen.FailureCodeOTHER, "a limit is not below zero")
	case c.Limit != nil && c.Limit.Money.Currency != account.Balance.Currency:
		return refuse(c, gen.FailureCodeOTHER, wrongCurrency(account, c.Limit.Money))
	}
	return gen.Emit(&gen.CardIssued{
		Card_id: c.Card_id,
		Holder:  c.Holder,
		Last4:   c.Card_id[max(0, len(c.Card_id)-4):],
		Limit:   c.Limit,
	})
}

// ActivateCard makes a card usable. Whoever holds it reads the code off it: its
// last four characters.
func (Handler) ActivateCard(ctx runtime.HandlerContext, account *gen.CreditAccount, c *gen.ActivateCard) ([]gen.Event, error) {
	card, code, why := cardOf(account, ctx.Entity())
	switch {
	case why != "":
		return refuseCard(c, code, why)
	case card.Status != gen.CardStatusISSUED:
		return refuseCard(c, gen.FailureCodeOTHER, fmt.Sprintf("the card is %s", card.Status))
	case c.Code != card.Last4:
		return refuseCard(c, gen.FailureCodeOTHER, "the code is wrong")
	}
	return gen.Emit(&gen.CardActivated{Activated_at: ctx.Now().UnixMilli()})
}

// BlockCard ends the use of a card, for good.
func (Handler) BlockCard(ctx runtime.HandlerContext, account *gen.CreditAccount, c *gen.BlockCard) ([]gen.Event, error) {
	card, code, why := cardOf(account, ctx.Entity())
	switch {
	case why != "":
		return refuseCard(c, code, why)
	case card.Status == gen.CardStatusBLOCKED:
		return refuseCard(c, gen.FailureCodeCARD_NOT_ACTIVE, "the card is blocked already")
	}
	return gen.Emit(&gen.CardBlocked{Reason: c.Reason})
}

// ChargeCard lends the amount of a purchase. The card's limit is for one
// purchase, the account's for all that is owed; both live in one aggregate, so
// that two cards cannot pass the account's limit together.
func (Handler) ChargeCard(ctx runtime.HandlerContext, account *gen.CreditAccount, c *gen.ChargeCard) ([]gen.Event, error) {
	decline := func(code gen.FailureCode, why string) ([]gen.Event, error) {
		return gen.Refuse(&gen.CardDeclined{Purchase_id: c.Purchase_id, Amount: c.Amount, Code: code, Message: why})
	}
	card, code, why := cardOf(account, ctx.Entity())
	switch {
	case why != "":
		return decline(code, why)
	case card.Status != gen.CardStatusACTIVE:
		return decline(gen.FailureCodeCARD_NOT_ACTIVE, fmt.Sprintf("the card is %s", card.Status))
	case c.Amount.Minor <= 0:
		return decline(gen.FailureCodeOTHER, "an amount is more than zero")
	case c.Amount.Currency != account.Balance.Currency:
		return decline(gen.FailureCodeOTHER, wrongCurrency(account, c.Amount))
	case c.Amount.Minor > card.Limit.Or(gen.Money{Minor: math.MaxInt64}).Minor:
		return decline(gen.FailureCodeOVER_LIMIT, fmt.Sprintf("%d asked for, the card's limit is %d", c.Amount.Minor, card.Limit.Money.Minor))
	// Written so that no difference is beyond what an int64 holds: the balance may be below zero.
	case account.Balance.Minor > account.Credit_limit.Minor-c.Amount.Minor:
		return decline(gen.FailureCodeOVER_LIMIT, fmt.Sprintf("%d asked for, %d owed, the account's limit is %d", c.Amount.Minor, account.Balance.Minor, account.Credit_limit.Minor))
	}
	return gen.Emit(&gen.CardCharged{Purchase_id: c.Purchase_id, Merchant: c.Merchant, Amount: c.Amount})
}

// ReceivePayment pays back. More than is owed is taken, too: the balance is
// below zero then, and the next purchases come out of it.
func (Handler) ReceivePayment(_ runtime.HandlerContext, account *gen.CreditAccount, c *gen.ReceivePayment) ([]gen.Event, error) {
	if code, why := usable(account); why != "" {
		return refuse(c, code, why)
	}
	switch {
	case c.Amount.Minor <= 0:
		return refuse(c, gen.FailureCodeOTHER, "an amount is more than zero")
	case c.Amount.Currency != account.Balance.Currency:
		return refuse(c, gen.FailureCodeOTHER, wrongCurrency(account, c.Amount))
	case account.Balance.Minor < 0 && c.Amount.Minor > math.MaxInt64+account.Balance.Minor:
		return refuse(c, gen.FailureCodeOTHER, "the balance would be more than can be written down")
	}
	return gen.Emit(&gen.PaymentReceived{Transaction_id: c.Transaction_id, Source: c.Source, Amount: c.Amount})
}

// CloseCreditAccount closes an account that owes nothing and is owed nothing. Its
// cards are of no use from then on.
func (Handler) CloseCreditAccount(_ runtime.HandlerContext, account *gen.CreditAccount, c *gen.CloseCreditAccount) ([]gen.Event, error) {
	if code, why := usable(account); why != "" {
		return refuse(c, code, why)
	}
	if account.Balance.Minor != 0 {
		return refuse(c, gen.FailureCodeBALANCE_NOT_ZERO, fmt.Sprintf("the balance is %d", account.Balance.Minor))
	}
	return gen.Emit(&gen.CreditAccountClosed{Reason: c.Reason})
}

// usable says why nothing can be done; why is empty when something can.
func usable(account *gen.CreditAccount) (code gen.FailureCode, why string) {
	switch {
	case account == nil:
		return gen.FailureCodeOTHER, "there is no such account"
	case account.Closed:
		return gen.FailureCodeACCOUNT_CLOSED, "the account is closed"
	}
	return 0, ""
}

// cardOf finds the card that a command is for, or says why there is none.
func cardOf(account *gen.CreditAccount, id runtime.Entity) (card *gen.CreditCard, code gen.FailureCode, why string) {
	if code, why = usable(account); why != "" {
		return nil, code, why
	}
	if card = findCard(account, id); card == nil {
		return nil, gen.FailureCodeNO_SUCH_CARD, fmt.Sprintf("there is no card %q", id.ID())
	}
	return card, 0, ""
}

// findCard returns the card of an entity reference, or nil.
func findCard(account *gen.CreditAccount, id runtime.Entity) *gen.CreditCard {
	for i := range account.Cards {
		if account.Cards[i].Id == cardID(id.ID()) {
			return &account.Cards[i]
		}
	}
	return nil
}

// cardID is how a card is named within its account.
func cardID(id string) string { return "card:" + id }

func wrongCurrency(account *gen.CreditAccount, amount gen.Money) string {
	return fmt.Sprintf("the account is in %s, the amount in %s", account.Balance.Currency, amount.Currency)
}

// refuse answers a command for the account.
func refuse(c gen.Command, code gen.FailureCode, why string) ([]gen.Event, error) {
	return gen.Refuse(&gen.CreditCommandFailed{Command_type: c.SchemaName(), Code: code, Message: why})
}

// refuseCard answers a command for a card.
func refuseCard(c gen.Command, code gen.FailureCode, why string) ([]gen.Event, error) {
	return gen.Refuse(&gen.CardCommandFailed{Command_type: c.SchemaName(), Code: code, Message: why})
}
