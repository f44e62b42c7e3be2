package savings_test

import (
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

func transferred(minor int64) gen.Event {
	return &gen.TransferredToChecking{Transaction_id: "t-1", Destination: "checking:54321-90", Amount: usd(minor)}
}

func failed(command string, code gen.FailureCode, why string) gen.Event {
	return &gen.SavingsCommandFailed{Command_type: "SavingsAccount." + command, Code: code, Message: why}
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
	transfer := &gen.TransferToChecking{Transaction_id: "t-1", Destination: "checking:54321-90", Amount: usd(10)}
	s := account(t).Given(opened(0), deposited(100))
	for range 6 {
		s.When(transfer).Then(transferred(10))
	}
	s.When(transfer).Then(failed("TransferToChecking", gen.FailureCodeWITHDRAWAL_LIMIT_REACHED, "6 transfers since interest was last paid")).
		When(&gen.PayInterest{Period: "2026-01"}).Then(&gen.InterestPaid{Period: "2026-01", Amount: usd(0)}).
		When(transfer).Then(transferred(10))
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
				Then(failed("TransferToChecking", c.code, c.why))
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
