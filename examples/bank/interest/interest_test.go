package interest_test

import (
	"testing"

	"github.com/evento-oss/evento/examples/bank/interest"
	savings "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime/eventotest"
)

func TestTheEndOfAMonthPaysInterest(t *testing.T) {
	eventotest.NewDispatcher(t, interest.Reactions()...).
		When("savings:12345-09", &savings.MonthEnded{Period: "2026-01"}).
		Then(savings.Send("savings:12345-09", &savings.PayInterest{Period: "2026-01"}))
}
