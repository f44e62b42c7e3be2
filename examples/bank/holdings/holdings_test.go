package holdings_test

import (
	"testing"

	checking "github.com/evento-oss/evento/examples/bank/checking/gen"
	client "github.com/evento-oss/evento/examples/bank/client/gen"
	credit "github.com/evento-oss/evento/examples/bank/credit/gen"
	"github.com/evento-oss/evento/examples/bank/holdings"
	savings "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/eventotest"
)

const owner runtime.Entity = "client:42"

func dispatcher(t *testing.T) *eventotest.Dispatcher {
	return eventotest.NewDispatcher(t, holdings.Reactions()...)
}

func link(account string) runtime.Command {
	return client.Send(owner, &client.LinkAccount{Account: account})
}

func TestAClientIsToldOfEachAccountThatIsOpened(t *testing.T) {
	dispatcher(t).
		When("checking:1", &checking.CheckingAccountOpened{Client: string(owner)}).Then(link("checking:1")).
		When("savings:2", &savings.SavingsAccountOpened{Client: string(owner)}).Then(link("savings:2")).
		When("credit:3", &credit.CreditAccountOpened{Client: string(owner)}).Then(link("credit:3"))
}

func TestAnAccountOfNobodyIsLetPass(t *testing.T) {
	d := dispatcher(t)
	for _, text := range []string{"", "A. Client", "checking:1", "client:42/child:1"} {
		d.When("checking:1", &checking.CheckingAccountOpened{Client: text}).Then()
	}
}

func TestTheAccountsOfADeactivatedClientAreClosed(t *testing.T) {
	why := "the client was deactivated: moved away"
	dispatcher(t).
		When(owner, &client.ClientDeactivated{Reason: "moved away", Accounts: []string{"checking:1", "savings:2", "credit:3", "loan:4", "nonsense"}}).
		Then(
			checking.Send("checking:1", &checking.CloseCheckingAccount{Reason: checking.SomeString(why)}),
			savings.Send("savings:2", &savings.CloseSavingsAccount{Reason: savings.SomeString(why)}),
			credit.Send("credit:3", &credit.CloseCreditAccount{Reason: credit.SomeString(why)}),
		).
		When(owner, &client.ClientDeactivated{Reason: "moved away"}).Then()
}

func TestAnAccountThatIsOpenedTooLateIsClosed(t *testing.T) {
	dispatcher(t).
		When(owner, &client.LinkAccountFailed{Account: "checking:1", Code: client.FailureCodeNOT_ACTIVE, Message: "the client is deactivated"}).
		Then(checking.Send("checking:1", &checking.CloseCheckingAccount{Reason: checking.SomeString("the client is deactivated")})).
		When(owner, &client.LinkAccountFailed{Account: "checking:1", Code: client.FailureCodeNOT_REGISTERED}).Then()
}
