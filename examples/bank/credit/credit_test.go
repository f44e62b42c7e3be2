package credit_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/evento-oss/evento/examples/bank/credit"
	"github.com/evento-oss/evento/examples/bank/credit/gen"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/eventotest"
)

type kit = *eventotest.Kit[*gen.CreditAccount, gen.Command, gen.Event]

const card runtime.Entity = "credit:77/card:7f3a"

func account(t *testing.T) kit {
	return eventotest.New(t, gen.AggregateFunction(credit.Handler{}, credit.Aggregator{})).Entity("credit:77")
}

func usd(minor int64) gen.Money { return gen.Money{Minor: minor, Currency: "USD"} }

func opened(limit int64) gen.Event {
	return &gen.CreditAccountOpened{Client: "client:42", Credit_limit: usd(limit)}
}

func issued(id string, limit *gen.UnionNullMoney) gen.Event {
	return &gen.CardIssued{Card_id: id, Holder: "A. Client", Last4: id, Limit: limit}
}

func activated(c runtime.Entity) gen.Event { return gen.On(c, &gen.CardActivated{Activated_at: 1}) }

func charged(c runtime.Entity, minor int64) gen.Event {
	return gen.On(c, &gen.CardCharged{Purchase_id: "p-0", Merchant: "books", Amount: usd(minor)})
}

// active are the events of an account with one card that can be used.
func active(limit int64, cardLimit *gen.UnionNullMoney) []gen.Event {
	return []gen.Event{opened(limit), issued("7f3a", cardLimit), activated(card)}
}

func failed(command string, code gen.FailureCode, why string) gen.Event {
	return &gen.CreditCommandFailed{Command_type: "CreditAccount." + command, Code: code, Message: why}
}

func cardFailed(command string, code gen.FailureCode, why string) gen.Event {
	return gen.On(card, &gen.CardCommandFailed{Command_type: "CreditAccount." + command, Code: code, Message: why})
}

func TestAnAccountIsOpenedOnce(t *testing.T) {
	open := &gen.OpenCreditAccount{Client: "client:42", Credit_limit: usd(100)}
	account(t).Given().
		When(open).Then(opened(100)).
		ThenState(&gen.CreditAccount{Client: "client:42", Credit_limit: usd(100), Balance: usd(0)}).
		When(open).Then(failed("OpenCreditAccount", gen.FailureCodeOTHER, "the account is open or was closed; open another one"))
	account(t).Given().
		When(&gen.OpenCreditAccount{Client: "client:42", Credit_limit: usd(-1)}).
		Then(failed("OpenCreditAccount", gen.FailureCodeOTHER, "a limit is not below zero"))
}

func TestACardIsIssuedActivatedChargedAndBlocked(t *testing.T) {
	start := eventotest.Start()
	account(t).Given(opened(100)).
		When(&gen.IssueCard{Card_id: "7f3a", Holder: "A. Client"}).Then(issued("7f3a", nil)).
		At(start).
		WhenTo(card, &gen.ActivateCard{Code: "7f3a"}).Then(gen.On(card, &gen.CardActivated{Activated_at: start.UnixMilli()})).
		At(start).
		WhenTo(card, &gen.ChargeCard{Purchase_id: "p-1", Merchant: "books", Amount: usd(60)}).
		Then(gen.On(card, &gen.CardCharged{Purchase_id: "p-1", Merchant: "books", Amount: usd(60)})).
		ThenState(&gen.CreditAccount{Client: "client:42", Credit_limit: usd(100), Balance: usd(60), Cards: []gen.CreditCard{{
			Id: "card:7f3a", Holder: "A. Client", Last4: "7f3a", Status: gen.CardStatusACTIVE,
			Recent: []gen.Purchase{{Purchase_id: "p-1", At: start.UnixMilli(), Merchant: "books", Amount: usd(60)}},
		}}}).
		WhenTo(card, &gen.BlockCard{Reason: gen.SomeString("lost")}).Then(gen.On(card, &gen.CardBlocked{Reason: gen.SomeString("lost")})).
		WhenTo(card, &gen.BlockCard{}).Then(cardFailed("BlockCard", gen.FailureCodeCARD_NOT_ACTIVE, "the card is blocked already")).
		WhenTo(card, &gen.ActivateCard{Code: "7f3a"}).Then(cardFailed("ActivateCard", gen.FailureCodeOTHER, "the card is BLOCKED"))
}

func TestACardIsNotIssued(t *testing.T) {
	full := []gen.Event{opened(100)}
	for i := range 20 {
		full = append(full, issued(fmt.Sprint("c", i), nil))
	}
	euro := gen.SomeMoney(gen.Money{Minor: 1, Currency: "EUR"})
	for name, c := range map[string]struct {
		given []gen.Event
		id    string
		limit *gen.UnionNullMoney
		code  gen.FailureCode
		why   string
	}{
		"without an account":       {nil, "1", nil, gen.FailureCodeOTHER, "there is no such account"},
		"when the account closed":  {[]gen.Event{opened(0), &gen.CreditAccountClosed{}}, "1", nil, gen.FailureCodeACCOUNT_CLOSED, "the account is closed"},
		"twice":                    {[]gen.Event{opened(0), issued("1", nil)}, "1", nil, gen.FailureCodeOTHER, `there is a card "1" already`},
		"without an id":            {[]gen.Event{opened(0)}, "", nil, gen.FailureCodeOTHER, `"" cannot name a card; write for example 7f3a`},
		"inside another":           {[]gen.Event{opened(0)}, "1/card:2", nil, gen.FailureCodeOTHER, `"1/card:2" cannot name a card; write for example 7f3a`},
		"beyond counting":          {full, "1", nil, gen.FailureCodeOTHER, "the account has 20 cards"},
		"with a limit below zero":  {[]gen.Event{opened(0)}, "1", gen.SomeMoney(usd(-1)), gen.FailureCodeOTHER, "a limit is not below zero"},
		"with a limit in currency": {[]gen.Event{opened(0)}, "1", euro, gen.FailureCodeOTHER, "the account is in USD, the amount in EUR"},
	} {
		t.Run(name, func(t *testing.T) {
			account(t).Given(c.given...).
				When(&gen.IssueCard{Card_id: c.id, Holder: "A. Client", Limit: c.limit}).
				Then(failed("IssueCard", c.code, c.why))
		})
	}
}

func TestACardIsDeclined(t *testing.T) {
	for name, c := range map[string]struct {
		given  []gen.Event
		amount gen.Money
		code   gen.FailureCode
		why    string
	}{
		"without an account":      {nil, usd(1), gen.FailureCodeOTHER, "there is no such account"},
		"that was never issued":   {[]gen.Event{opened(100), issued("other", nil)}, usd(1), gen.FailureCodeNO_SUCH_CARD, `there is no card "7f3a"`},
		"that is not active":      {[]gen.Event{opened(100), issued("7f3a", nil)}, usd(1), gen.FailureCodeCARD_NOT_ACTIVE, "the card is ISSUED"},
		"for nothing":             {active(100, nil), usd(0), gen.FailureCodeOTHER, "an amount is more than zero"},
		"in another currency":     {active(100, nil), gen.Money{Minor: 1, Currency: "EUR"}, gen.FailureCodeOTHER, "the account is in USD, the amount in EUR"},
		"beyond its own limit":    {active(100, gen.SomeMoney(usd(10))), usd(11), gen.FailureCodeOVER_LIMIT, "11 asked for, the card's limit is 10"},
		"beyond the account's":    {append(active(100, nil), charged(card, 60)), usd(41), gen.FailureCodeOVER_LIMIT, "41 asked for, 60 owed, the account's limit is 100"},
		"beyond counting":         {append(active(100, nil), charged(card, 60)), usd(math.MaxInt64), gen.FailureCodeOVER_LIMIT, "9223372036854775807 asked for, 60 owed, the account's limit is 100"},
		"when the account closed": {append(active(100, nil), &gen.CreditAccountClosed{}), usd(1), gen.FailureCodeACCOUNT_CLOSED, "the account is closed"},
	} {
		t.Run(name, func(t *testing.T) {
			account(t).Given(c.given...).
				WhenTo(card, &gen.ChargeCard{Purchase_id: "p-1", Merchant: "books", Amount: c.amount}).
				Then(gen.On(card, &gen.CardDeclined{Purchase_id: "p-1", Amount: c.amount, Code: c.code, Message: c.why}))
		})
	}
}

// Both cards live in one aggregate: its commands take effect one at a time.
func TestTwoCardsShareTheAccountsLimit(t *testing.T) {
	second := runtime.Entity("credit:77/card:b2")
	given := append(active(100, nil), issued("b2", nil), activated(second))
	charge := &gen.ChargeCard{Purchase_id: "p-1", Merchant: "books", Amount: usd(60)}
	account(t).Given(given...).
		WhenTo(card, charge).Then(gen.On(card, &gen.CardCharged{Purchase_id: "p-1", Merchant: "books", Amount: usd(60)})).
		WhenTo(second, charge).Then(gen.On(second, &gen.CardDeclined{
		Purchase_id: "p-1", Amount: usd(60), Code: gen.FailureCodeOVER_LIMIT, Message: "60 asked for, 60 owed, the account's limit is 100",
	}))
}

func TestAWrongCodeActivatesNothing(t *testing.T) {
	account(t).Given(opened(100), issued("7f3a", nil)).
		WhenTo(card, &gen.ActivateCard{Code: "0000"}).Then(cardFailed("ActivateCard", gen.FailureCodeOTHER, "the code is wrong"))
	account(t).Given(opened(100)).
		WhenTo(card, &gen.ActivateCard{Code: "7f3a"}).Then(cardFailed("ActivateCard", gen.FailureCodeNO_SUCH_CARD, `there is no card "7f3a"`))
}

func TestWhatIsPaidMayBeSpentAgain(t *testing.T) {
	pay := func(minor int64) *gen.ReceivePayment {
		return &gen.ReceivePayment{Transaction_id: "t-1", Source: "checking:54321-90", Amount: usd(minor)}
	}
	s := account(t).Given(append(active(100, nil), charged(card, 100))...).
		When(pay(150)).Then(&gen.PaymentReceived{Transaction_id: "t-1", Source: "checking:54321-90", Amount: usd(150)})
	if got := s.State().Balance; got != usd(-50) {
		t.Errorf("balance %v, want -50", got)
	}
	s.WhenTo(card, &gen.ChargeCard{Purchase_id: "p-2", Merchant: "books", Amount: usd(150)}).
		Then(gen.On(card, &gen.CardCharged{Purchase_id: "p-2", Merchant: "books", Amount: usd(150)})).
		When(pay(0)).Then(failed("ReceivePayment", gen.FailureCodeOTHER, "an amount is more than zero"))
	account(t).Given(opened(0), &gen.PaymentReceived{Amount: usd(1)}).
		When(pay(math.MaxInt64)).Then(failed("ReceivePayment", gen.FailureCodeOTHER, "the balance would be more than can be written down"))
	account(t).Given().
		When(pay(1)).Then(failed("ReceivePayment", gen.FailureCodeOTHER, "there is no such account"))
	account(t).Given(&gen.CreditAccountOpened{Credit_limit: gen.Money{Currency: "EUR"}}).
		When(pay(1)).Then(failed("ReceivePayment", gen.FailureCodeOTHER, "the account is in EUR, the amount in USD"))
}

func TestAnAccountIsClosedWhenNothingIsOwed(t *testing.T) {
	closing := &gen.CloseCreditAccount{Reason: gen.SomeString("moved away")}
	account(t).Given(append(active(100, nil), charged(card, 5))...).
		When(closing).Then(failed("CloseCreditAccount", gen.FailureCodeBALANCE_NOT_ZERO, "the balance is 5")).
		When(&gen.ReceivePayment{Transaction_id: "t-1", Source: "cash", Amount: usd(5)}).
		When(closing).Then(&gen.CreditAccountClosed{Reason: gen.SomeString("moved away")}).
		When(closing).Then(failed("CloseCreditAccount", gen.FailureCodeACCOUNT_CLOSED, "the account is closed"))
}

func TestTheStateShowsTheLastTenPurchasesOfACard(t *testing.T) {
	given := active(1_000, nil)
	for i := range int64(12) {
		given = append(given, charged(card, i+1))
	}
	recent := account(t).Given(given...).State().Cards[0].Recent
	if len(recent) != 10 || recent[0].Amount.Minor != 3 || recent[9].Amount.Minor != 12 {
		t.Errorf("purchases %v, want those of 3 to 12", recent)
	}
}
