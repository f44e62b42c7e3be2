package transfers_test

import (
	"testing"

	checking "github.com/evento-oss/evento/examples/bank/checking/gen"
	savings "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/examples/bank/transfers"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/eventotest"
)

const (
	here  runtime.Entity = "checking:54321-90"
	there runtime.Entity = "savings:12345-09"
)

func dispatcher(t *testing.T) *eventotest.Dispatcher {
	return eventotest.NewDispatcher(t, transfers.Reactions()...)
}

func TestMoneyThatLeftIsDepositedAtItsDestination(t *testing.T) {
	dispatcher(t).
		When(here, &checking.TransferredToSavings{Transaction_id: "t-1", Destination: string(there), Amount: checking.Money{Minor: 5, Currency: "USD"}}).
		Then(savings.Send(there, &savings.ReceiveDeposit{Transaction_id: "t-1", Source: string(here), Amount: savings.Money{Minor: 5, Currency: "USD"}})).
		When(there, &savings.TransferredToChecking{Transaction_id: "t-2", Destination: string(here), Amount: savings.Money{Minor: 6, Currency: "EUR"}}).
		Then(checking.Send(here, &checking.ReceiveDeposit{Transaction_id: "t-2", Source: string(there), Amount: checking.Money{Minor: 6, Currency: "EUR"}}))
}

func TestTheSourceIsToldThatItsMoneyArrived(t *testing.T) {
	dispatcher(t).
		When(there, &savings.DepositReceived{Transaction_id: "t-1", Source: string(here)}).
		Then(checking.Send(here, &checking.CompleteTransfer{Transaction_id: "t-1", Destination: string(there)})).
		When(here, &checking.DepositReceived{Transaction_id: "t-2", Source: string(there)}).
		Then(savings.Send(there, &savings.CompleteTransfer{Transaction_id: "t-2", Destination: string(here)}))
}

func TestARefusedDepositGoesBackToItsSource(t *testing.T) {
	dispatcher(t).
		When(there, &savings.SavingsCommandFailed{
			Command_type: "SavingsAccount.ReceiveDeposit", Code: savings.FailureCodeACCOUNT_CLOSED, Message: "the account is closed",
			Transaction_id: "t-1", Source: string(here),
		}).
		Then(checking.Send(here, &checking.ReturnTransfer{Transaction_id: "t-1", Destination: string(there), Reason: "the account is closed"})).
		When(here, &checking.ReceiveDepositFailed{Transaction_id: "t-2", Message: "there is no such account", Source: string(there)}).
		Then(savings.Send(there, &savings.ReturnTransfer{Transaction_id: "t-2", Destination: string(here), Reason: "there is no such account"}))
}

func TestMoneyFromElsewhereIsNobodysTransfer(t *testing.T) {
	d := dispatcher(t)
	for _, source := range []string{"", "cash", "atm:2CF24DBA", "credit:77", "checking:1/card:2", "checking:"} {
		d.When(here, &checking.DepositReceived{Transaction_id: "t-1", Source: source}).Then()
		d.When(there, &savings.DepositReceived{Transaction_id: "t-1", Source: source}).Then()
		d.When(here, &checking.ReceiveDepositFailed{Transaction_id: "t-1", Source: source}).Then()
		d.When(there, &savings.SavingsCommandFailed{Command_type: "SavingsAccount.ReceiveDeposit", Source: source}).Then()
	}
}

// Its refusals name a transfer, but no source: nothing is to go back.
func TestARefusedTransferIsLetPass(t *testing.T) {
	dispatcher(t).
		When(there, &savings.SavingsCommandFailed{Command_type: "SavingsAccount.TransferToChecking", Transaction_id: "t-1"}).Then().
		When(there, &savings.SavingsCommandFailed{Command_type: "SavingsAccount.ReturnTransfer", Transaction_id: "t-1"}).Then()
}
