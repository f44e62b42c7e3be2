package savings_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/evento-oss/evento/examples/bank/savings"
	"github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime/eventotest"
)

type kit = *eventotest.Kit[*gen.SavingsAccount, gen.Command, gen.Event]

func account(t *testing.T) kit {
	return eventotest.New(t, gen.AggregateFunction(savings.Handler{}, savings.Aggregator{})).Entity("savings:12345-09")
}

func usd(minor int64) gen.Money { return gen.Money{Minor: minor, Currency: "USD"} }

func opened(bps int32) gen.Event {
	return &gen.SavingsAccountOpened{Client: "client:42", Currency: "USD", Rate_bps: bps}
}

func deposited(minor int64) gen.Event {
	return &gen.DepositReceived{Transaction_id: "t-0", Source: "checking:54321-90", Amount: usd(minor)}
}

func transferred(id string, minor int64) gen.Event {
	return &gen.TransferredToChecking{Transaction_id: id, Destination: "checking:54321-90", Amount: usd(minor)}
}

func failed(command string, code gen.FailureCode, why string) gen.Event {
	return &gen.SavingsCommandFailed{Command_type: "SavingsAccount." + command, Code: code, Message: why}
}

func transferFailed(command, id string, code gen.FailureCode, why string) gen.Event {
	return &gen.SavingsCommandFailed{Command_type: "SavingsAccount." + command, Code: code, Message: why, Transaction_id: id}
}

func TestAnAccountIsOpenedOnce(t *testing.T) {
	open := &gen.OpenSavingsAccount{Client: "client:42", Currency: "USD", Rate_bps: 250}
	account(t).Given().
		When(open).Then(opened(250)).
		When(open).Then(failed("OpenSavingsAccount", gen.FailureCodeOTHER, "the account is open or was closed; open another one"))
	account(t).Given().
		When(&gen.OpenSavingsAccount{Rate_bps: 10_001}).
		Then(failed("OpenSavingsAccount", gen.FailureCodeOTHER, "a yearly rate is 0 to 10000 basis points"))
}

func TestMoneyGoesToACheckingAccountSixTimesAMonth(t *testing.T) {
	transfer := func(id int) *gen.TransferToChecking {
		return &gen.TransferToChecking{Transaction_id: fmt.Sprint("t-", id), Destination: "checking:54321-90", Amount: usd(10)}
	}
	s := account(t).Given(opened(0), deposited(100))
	for id := range 6 {
		s.When(transfer(id)).Then(transferred(fmt.Sprint("t-", id), 10))
	}
	s.When(transfer(6)).Then(transferFailed("TransferToChecking", "t-6", gen.FailureCodeWITHDRAWAL_LIMIT_REACHED, "6 transfers since interest was last paid")).
		When(&gen.PayInterest{Period: "2026-01"}).Then(&gen.InterestPaid{Period: "2026-01", Amount: usd(0)}).
		When(transfer(7)).Then(transferred("t-7", 10)).
		When(transfer(7)).Then(transferFailed("TransferToChecking", "t-7", gen.FailureCodeOTHER, `transfer "t-7" is under way`))
}

func TestATransferThatArrivesIsForgotten(t *testing.T) {
	arrived := &gen.CompleteTransfer{Transaction_id: "t-1", Destination: "checking:54321-90"}
	s := account(t).Given(opened(0), deposited(100), transferred("t-1", 60)).
		When(arrived).Then(&gen.TransferCompleted{Transaction_id: "t-1"})
	if got := s.State(); got.Balance != usd(40) || len(got.Under_way) != 0 {
		t.Errorf("balance %v, %d under way, want 40 and none", got.Balance, len(got.Under_way))
	}
	s.When(arrived).Then(transferFailed("CompleteTransfer", "t-1", gen.FailureCodeOTHER, `no transfer "t-1" to "checking:54321-90" is under way`))
}

func TestATransferThatIsRefusedComesBackOnce(t *testing.T) {
	back := &gen.ReturnTransfer{Transaction_id: "t-1", Destination: "checking:54321-90", Reason: "the account is closed"}
	s := account(t).Given(opened(0), deposited(100), transferred("t-1", 60)).
		When(&gen.ReturnTransfer{Transaction_id: "t-1", Destination: "checking:666"}).
		Then(transferFailed("ReturnTransfer", "t-1", gen.FailureCodeOTHER, `no transfer "t-1" to "checking:666" is under way`)).
		When(back).Then(&gen.TransferReturned{Transaction_id: "t-1", Destination: "checking:54321-90", Amount: usd(60), Reason: "the account is closed"})
	if got := s.State(); got.Balance != usd(100) || len(got.Under_way) != 0 {
		t.Errorf("balance %v, under way %v, want 100 and none", got.Balance, got.Under_way)
	}
	s.When(back).Then(transferFailed("ReturnTransfer", "t-1", gen.FailureCodeOTHER, `no transfer "t-1" to "checking:54321-90" is under way`))
}

// Whoever sees the refusal knows where the money belongs.
func TestARefusedDepositNamesItsSource(t *testing.T) {
	for name, c := range map[string]struct {
		given  []gen.Event
		amount int64
		code   gen.FailureCode
		why    string
	}{
		"without an account":     {nil, 1, gen.FailureCodeOTHER, "there is no such account"},
		"of nothing":             {[]gen.Event{opened(0)}, 0, gen.FailureCodeOTHER, "an amount is more than zero"},
		"beyond counting":        {[]gen.Event{opened(0), deposited(1)}, math.MaxInt64, gen.FailureCodeOTHER, "the balance would be more than can be written down"},
		"beyond what may return": {[]gen.Event{opened(0), deposited(1), transferred("t-0", 1)}, math.MaxInt64, gen.FailureCodeOTHER, "the balance would be more than can be written down"},
		"when it is closed":      {[]gen.Event{opened(0), &gen.SavingsAccountClosed{}}, 1, gen.FailureCodeACCOUNT_CLOSED, "the account is closed"},
	} {
		t.Run(name, func(t *testing.T) {
			account(t).Given(c.given...).
				When(&gen.ReceiveDeposit{Transaction_id: "t-1", Source: "checking:54321-90", Amount: usd(c.amount)}).
				Then(&gen.SavingsCommandFailed{
					Command_type: "SavingsAccount.ReceiveDeposit", Code: c.code, Message: c.why, Transaction_id: "t-1", Source: "checking:54321-90",
				})
		})
	}
}

func TestAnAccountIsClosedWhenItHoldsNothingAndNothingMayComeBack(t *testing.T) {
	reason := gen.SomeString("moved away")
	closing := &gen.CloseSavingsAccount{Reason: reason}
	account(t).Given(opened(0), deposited(5)).
		When(closing).Then(failed("CloseSavingsAccount", gen.FailureCodeOTHER, "the balance is 5")).
		When(&gen.TransferToChecking{Transaction_id: "t-1", Destination: "checking:54321-90", Amount: usd(5)}).
		When(closing).Then(failed("CloseSavingsAccount", gen.FailureCodeOTHER, "1 transfers are under way")).
		When(&gen.CompleteTransfer{Transaction_id: "t-1", Destination: "checking:54321-90"}).
		When(closing).Then(&gen.SavingsAccountClosed{Reason: reason}).
		When(closing).Then(failed("CloseSavingsAccount", gen.FailureCodeACCOUNT_CLOSED, "the account is closed already"))
	account(t).Given().
		When(closing).Then(failed("CloseSavingsAccount", gen.FailureCodeOTHER, "there is no such account"))
}

// It comes from outside, and no handler can refuse it.
func TestTheEndOfAMonthFitsAnyAccount(t *testing.T) {
	end := &gen.MonthEnded{Period: "2026-01"}
	account(t).Given(end).ThenState(nil)
	account(t).Given(opened(0), &gen.SavingsAccountClosed{}, end).
		ThenState(&gen.SavingsAccount{Client: "client:42", Status: gen.AccountStatusCLOSED, Balance: usd(0)})
}

func TestATransferIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		given       []gen.Event
		destination string
		amount      int64
		code        gen.FailureCode
		why         string
	}{
		"without an account":    {nil, "checking:1", 1, gen.FailureCodeOTHER, "there is no such account"},
		"of nothing":            {[]gen.Event{opened(0)}, "checking:1", 0, gen.FailureCodeOTHER, "an amount is more than zero"},
		"to another kind":       {[]gen.Event{opened(0), deposited(5)}, "savings:1", 1, gen.FailureCodeOTHER, `"savings:1" is no checking account`},
		"of more than is there": {[]gen.Event{opened(0), deposited(5)}, "checking:1", 6, gen.FailureCodeINSUFFICIENT_FUNDS, "6 asked for, 5 there"},
	} {
		t.Run(name, func(t *testing.T) {
			account(t).Given(c.given...).
				When(&gen.TransferToChecking{Transaction_id: "t-1", Destination: c.destination, Amount: usd(c.amount)}).
				Then(transferFailed("TransferToChecking", "t-1", c.code, c.why))
		})
	}
}

func TestInterestIsPaidOnceAMonthRoundedDown(t *testing.T) {
	pay := func(period string) *gen.PayInterest { return &gen.PayInterest{Period: period} }
	account(t).Given(opened(250), deposited(100_000)).
		// 1000.00 at 2.5 % a year is 2.0833 a month.
		When(pay("2026-01")).Then(&gen.InterestPaid{Period: "2026-01", Amount: usd(208)}).
		When(pay("2026-01")).Then(failed("PayInterest", gen.FailureCodeOTHER, "interest is paid up to 2026-01")).
		When(pay("2025-12")).Then(failed("PayInterest", gen.FailureCodeOTHER, "interest is paid up to 2026-01")).
		When(pay("January")).Then(failed("PayInterest", gen.FailureCodeOTHER, `"January" is no month such as 2026-01`)).
		When(pay("2026-02")).Then(&gen.InterestPaid{Period: "2026-02", Amount: usd(208)})
}

func TestInterestOfTheGreatestBalanceIsRight(t *testing.T) {
	account(t).Given(opened(10_000), deposited(math.MaxInt64/2)).
		When(&gen.PayInterest{Period: "2026-01"}).
		Then(&gen.InterestPaid{Period: "2026-01", Amount: usd(math.MaxInt64 / 2 / 12)})
}

// The state shows few transactions, but must not forget which month was paid.
func TestTheMonthPaidIsKnownAfterManyTransactions(t *testing.T) {
	given := []gen.Event{opened(250), deposited(100_000), &gen.InterestPaid{Period: "2026-01", Amount: usd(208)}}
	for range 30 {
		given = append(given, deposited(1))
	}
	s := account(t).Given(given...).
		When(&gen.PayInterest{Period: "2026-01"}).
		Then(failed("PayInterest", gen.FailureCodeOTHER, "interest is paid up to 2026-01"))
	if n := len(s.State().Recent); n != 20 {
		t.Errorf("%d transactions, want 20", n)
	}
}
