package checking_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/runtime/eventotest"
)

type kit = *eventotest.Kit[*gen.CheckingAccount, gen.Command, gen.Event]

func account(t *testing.T) kit {
	return eventotest.New(t, gen.AggregateFunction(checking.Handler{}, checking.Aggregator{})).Entity("checking:54321-90")
}

func usd(minor int64) gen.Money { return gen.Money{Minor: minor, Currency: "USD"} }

func opened() gen.Event {
	return &gen.CheckingAccountOpened{Client: "client:42", Currency: "USD"}
}

func deposited(minor int64) gen.Event {
	return &gen.DepositReceived{Transaction_id: "t-0", Source: "cash", Amount: usd(minor)}
}

func TestAnAccountIsOpenedOnce(t *testing.T) {
	open := &gen.OpenCheckingAccount{Client: "client:42", Currency: "USD"}
	account(t).Given().
		When(open).Then(opened()).
		ThenState(&gen.CheckingAccount{Client: "client:42", Status: gen.AccountStatusOPEN, Balance: usd(0)}).
		When(open).Then(&gen.OpenCheckingAccountFailed{
		Code: gen.FailureCodeALREADY_OPEN, Message: "the account is open or was closed; open another one",
	})
}

func TestADepositIsAddedAndShown(t *testing.T) {
	start := eventotest.Start()
	account(t).Given(opened()).
		At(start).
		When(&gen.ReceiveDeposit{Transaction_id: "t-1", Source: "savings:1", Amount: usd(10_000)}).
		Then(&gen.DepositReceived{Transaction_id: "t-1", Source: "savings:1", Amount: usd(10_000), Received_at: start.UnixMilli()}).
		ThenState(&gen.CheckingAccount{
			Client: "client:42", Status: gen.AccountStatusOPEN, Balance: usd(10_000),
			Recent: []gen.Transaction{{
				Transaction_id: "t-1", At: start.UnixMilli(), Amount: usd(10_000), Counterparty: gen.SomeString("savings:1"),
			}},
		})
}

func TestADepositIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		given  []gen.Event
		amount gen.Money
		code   gen.FailureCode
		why    string
	}{
		"without an account":  {nil, usd(1), gen.FailureCodeOTHER, "there is no such account"},
		"of nothing":          {[]gen.Event{opened()}, usd(0), gen.FailureCodeOTHER, "an amount is more than zero"},
		"in another currency": {[]gen.Event{opened()}, gen.Money{Minor: 1, Currency: "EUR"}, gen.FailureCodeCURRENCY_MISMATCH, "the account is in USD, the amount in EUR"},
		"beyond counting":     {[]gen.Event{opened(), deposited(1)}, usd(math.MaxInt64), gen.FailureCodeOTHER, "the balance would be more than can be written down"},
		"when it is closed":   {[]gen.Event{opened(), &gen.CheckingAccountClosed{}}, usd(1), gen.FailureCodeACCOUNT_CLOSED, "the account is closed"},
	} {
		t.Run(name, func(t *testing.T) {
			account(t).Given(c.given...).
				When(&gen.ReceiveDeposit{Transaction_id: "t-1", Source: "cash", Amount: c.amount}).
				Then(&gen.ReceiveDepositFailed{Transaction_id: "t-1", Code: c.code, Message: c.why, Source: "cash"})
		})
	}
}

func TestCashIsGivenDownToTheOverdraftLimit(t *testing.T) {
	overdrawable := &gen.CheckingAccount{
		Client: "client:42", Status: gen.AccountStatusOPEN, Balance: usd(100), Overdraft_limit: gen.SomeMoney(usd(50)),
	}
	withdraw := func(minor int64) *gen.WithdrawCash {
		return &gen.WithdrawCash{Destination: "atm:1", Amount: usd(minor)}
	}

	s := account(t).GivenState(overdrawable, 3).
		When(withdraw(150)).
		Then(&gen.CashWithdrawn{Destination: "atm:1", Amount: usd(150)})
	if got := s.State().Balance; got != usd(-50) {
		t.Errorf("balance %v, want -50", got)
	}
	s.When(withdraw(1)).Then(&gen.WithdrawCashFailed{
		Amount: usd(1), Code: gen.FailureCodeINSUFFICIENT_FUNDS, Message: "1 asked for, -50 there, overdraft limit 50",
	})
}

func TestAFrozenAccountTakesMoneyAndGivesNone(t *testing.T) {
	frozen := &gen.CheckingAccount{Client: "client:42", Status: gen.AccountStatusFROZEN, Balance: usd(100)}
	account(t).GivenState(frozen, 3).
		When(&gen.WithdrawCash{Destination: "atm:1", Amount: usd(1)}).
		Then(&gen.WithdrawCashFailed{Amount: usd(1), Code: gen.FailureCodeACCOUNT_FROZEN, Message: "the account is frozen"}).
		At(eventotest.Start()).
		When(&gen.ReceiveDeposit{Transaction_id: "t-1", Source: "cash", Amount: usd(1)}).
		Then(&gen.DepositReceived{Transaction_id: "t-1", Source: "cash", Amount: usd(1), Received_at: eventotest.Start().UnixMilli()})
}

func TestAnAccountIsClosedWhenItHoldsAndOwesNothing(t *testing.T) {
	reason := gen.SomeString("moved away")
	closing := &gen.CloseCheckingAccount{Reason: reason}
	account(t).Given(opened(), deposited(5)).
		When(closing).Then(&gen.CloseCheckingAccountFailed{Code: gen.FailureCodeBALANCE_NOT_ZERO, Message: "the balance is 5"}).
		When(&gen.WithdrawCash{Destination: "atm:1", Amount: usd(5)}).
		When(closing).Then(&gen.CheckingAccountClosed{Reason: reason}).
		When(closing).Then(&gen.CloseCheckingAccountFailed{Code: gen.FailureCodeACCOUNT_CLOSED, Message: "the account is closed already"})
	account(t).Given().
		When(closing).Then(&gen.CloseCheckingAccountFailed{Code: gen.FailureCodeOTHER, Message: "there is no such account"})
}

func TestTheStateShowsTheLastTwentyTransactions(t *testing.T) {
	given := []gen.Event{opened()}
	for i := range int64(25) {
		given = append(given, deposited(i+1))
	}
	state := account(t).Given(given...).State()
	if n := len(state.Recent); n != 20 {
		t.Fatalf("%d transactions, want 20", n)
	}
	if first, last := state.Recent[0].Amount.Minor, state.Recent[19].Amount.Minor; first != 6 || last != 25 {
		t.Errorf("transactions %d to %d, want 6 to 25", first, last)
	}
}

func transfer(id string, minor int64) *gen.TransferToSavings {
	return &gen.TransferToSavings{Transaction_id: id, Destination: "savings:12345-09", Amount: usd(minor)}
}

func transferred(id string, minor int64) gen.Event {
	return &gen.TransferredToSavings{Transaction_id: id, Destination: "savings:12345-09", Amount: usd(minor)}
}

func TestATransferThatArrivesIsForgotten(t *testing.T) {
	arrived := &gen.CompleteTransfer{Transaction_id: "t-1", Destination: "savings:12345-09"}
	s := account(t).Given(opened(), deposited(100)).
		When(transfer("t-1", 60)).Then(transferred("t-1", 60))
	if got := s.State(); got.Balance != usd(40) || len(got.Under_way) != 1 {
		t.Errorf("balance %v, %d under way, want 40 and 1", got.Balance, len(got.Under_way))
	}
	s.When(arrived).Then(&gen.TransferCompleted{Transaction_id: "t-1"})
	if got := s.State(); got.Balance != usd(40) || len(got.Under_way) != 0 {
		t.Errorf("balance %v, %d under way, want 40 and none", got.Balance, len(got.Under_way))
	}
	s.When(arrived).Then(&gen.EndTransferFailed{Transaction_id: "t-1", Message: `no transfer "t-1" to "savings:12345-09" is under way`})
}

func TestATransferThatIsRefusedComesBackOnce(t *testing.T) {
	back := &gen.ReturnTransfer{Transaction_id: "t-1", Destination: "savings:12345-09", Reason: "the account is closed"}
	s := account(t).Given(opened(), deposited(100), transferred("t-1", 60), transferred("t-2", 10)).
		When(back).Then(&gen.TransferReturned{Transaction_id: "t-1", Destination: "savings:12345-09", Amount: usd(60), Reason: "the account is closed"})
	if got := s.State(); got.Balance != usd(90) || len(got.Under_way) != 1 || got.Under_way[0].Transaction_id != "t-2" {
		t.Errorf("balance %v, under way %v, want 90 and t-2", got.Balance, got.Under_way)
	}
	s.When(back).Then(&gen.EndTransferFailed{Transaction_id: "t-1", Message: `no transfer "t-1" to "savings:12345-09" is under way`})
}

func TestOnlyItsDestinationEndsATransfer(t *testing.T) {
	account(t).Given(opened(), deposited(100), transferred("t-1", 60)).
		When(&gen.ReturnTransfer{Transaction_id: "t-1", Destination: "savings:666"}).
		Then(&gen.EndTransferFailed{Transaction_id: "t-1", Message: `no transfer "t-1" to "savings:666" is under way`})
	account(t).Given().
		When(&gen.CompleteTransfer{Transaction_id: "t-1", Destination: "savings:1"}).
		Then(&gen.EndTransferFailed{Transaction_id: "t-1", Message: "there is no such account"})
}

// The money may come back, and an account that is closed could not take it.
func TestAnAccountWithATransferUnderWayIsNotClosed(t *testing.T) {
	account(t).Given(opened(), deposited(60), transferred("t-1", 60)).
		When(&gen.CloseCheckingAccount{}).
		Then(&gen.CloseCheckingAccountFailed{Code: gen.FailureCodeBALANCE_NOT_ZERO, Message: "1 transfers are under way"}).
		When(&gen.CompleteTransfer{Transaction_id: "t-1", Destination: "savings:12345-09"}).
		When(&gen.CloseCheckingAccount{}).Then(&gen.CheckingAccountClosed{})
}

// Else a return could be one that cannot be written down.
func TestADepositLeavesRoomForWhatMayComeBack(t *testing.T) {
	account(t).Given(opened(), deposited(60), transferred("t-1", 60)).
		When(&gen.ReceiveDeposit{Transaction_id: "t-2", Source: "cash", Amount: usd(math.MaxInt64 - 59)}).
		Then(&gen.ReceiveDepositFailed{Transaction_id: "t-2", Message: "the balance would be more than can be written down", Source: "cash"})
}

func TestATransferIsRefused(t *testing.T) {
	hundred := []gen.Event{opened(), deposited(200)}
	for i := range 100 {
		hundred = append(hundred, transferred(fmt.Sprint(i), 1))
	}
	for name, c := range map[string]struct {
		given       []gen.Event
		destination string
		amount      int64
		code        gen.FailureCode
		why         string
	}{
		"without an account":        {nil, "savings:1", 1, gen.FailureCodeOTHER, "there is no such account"},
		"of nothing":                {[]gen.Event{opened()}, "savings:1", 0, gen.FailureCodeOTHER, "an amount is more than zero"},
		"to another kind":           {[]gen.Event{opened(), deposited(5)}, "checking:1", 1, gen.FailureCodeOTHER, `"checking:1" is no savings account`},
		"of more than is there":     {[]gen.Event{opened(), deposited(5)}, "savings:1", 6, gen.FailureCodeINSUFFICIENT_FUNDS, "6 asked for, 5 there, overdraft limit 0"},
		"when one has the same id":  {[]gen.Event{opened(), deposited(5), transferred("t-1", 1)}, "savings:1", 1, gen.FailureCodeOTHER, `transfer "t-1" is under way`},
		"when too many have no end": {hundred, "savings:1", 1, gen.FailureCodeOTHER, "100 transfers are under way"},
	} {
		t.Run(name, func(t *testing.T) {
			account(t).Given(c.given...).
				When(&gen.TransferToSavings{Transaction_id: "t-1", Destination: c.destination, Amount: usd(c.amount)}).
				Then(&gen.TransferToSavingsFailed{Transaction_id: "t-1", Code: c.code, Message: c.why})
		})
	}
}
