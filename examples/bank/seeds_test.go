package bank_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/evento-oss/evento/examples/bank/checking"
	checkinggen "github.com/evento-oss/evento/examples/bank/checking/gen"
	clientgen "github.com/evento-oss/evento/examples/bank/client/gen"
	"github.com/evento-oss/evento/examples/bank/credit"
	creditgen "github.com/evento-oss/evento/examples/bank/credit/gen"
	"github.com/evento-oss/evento/examples/bank/holdings"
	"github.com/evento-oss/evento/examples/bank/savings"
	savingsgen "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/eventotest"
)

// These tests are the sentences in which Evento was first described, one each:
// what they say of a bank is true of this one.

func checkingAccount(t *testing.T, entity runtime.Entity) *eventotest.Kit[*checkinggen.CheckingAccount, checkinggen.Command, checkinggen.Event] {
	return eventotest.New(t, checkinggen.AggregateFunction(checking.Handler{}, checking.Aggregator{})).Entity(entity)
}

func dollars(amount int64) checkinggen.Money {
	return checkinggen.Money{Minor: amount * 100, Currency: "USD"}
}

// schemaType is what the tests read of a type in a schema file.
type schemaType struct {
	Name, Namespace string
	Evento          struct {
		Kind, Prefix, Target string
		Emits, Fails         []string
	}
	Fields []struct {
		Name   string
		Type   json.RawMessage
		Evento struct{ Ref string }
	}
}

// schema reads a schema file of the bank: its types, by name.
func schema(t *testing.T, aggregate string) map[string]schemaType {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("schemas", aggregate+".avsc"))
	if err != nil {
		t.Fatal(err)
	}
	var list []schemaType
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	types := map[string]schemaType{}
	for _, one := range list {
		types[one.Name] = one
	}
	return types
}

func aggregates() []string {
	return []string{"CheckingAccount", "SavingsAccount", "CreditAccount", "Client"}
}

func TestCheckingAndSavingsAccountsAreEntitiesAndTransactionsTheirValueObjects(t *testing.T) {
	for _, aggregate := range []string{"CheckingAccount", "SavingsAccount"} {
		types := schema(t, aggregate)
		if root, value := types[aggregate].Evento.Kind, types["Transaction"].Evento.Kind; root != "root" || value != "value" {
			t.Errorf("%s is of kind %q, its transaction of %q", aggregate, root, value)
		}
	}
}

func TestEachAggregateHasExactlyOneRoot(t *testing.T) {
	for _, aggregate := range aggregates() {
		var roots []string
		for name, one := range schema(t, aggregate) {
			if one.Evento.Kind == "root" {
				roots = append(roots, name)
			}
		}
		if !slices.Equal(roots, []string{aggregate}) {
			t.Errorf("the roots of %s are %q", aggregate, roots)
		}
	}
}

func TestACreditAccountHasManyCreditCardsInOneAggregate(t *testing.T) {
	state := eventotest.New(t, creditgen.AggregateFunction(credit.Handler{}, credit.Aggregator{})).Entity("credit:77").
		Given(&creditgen.CreditAccountOpened{Client: "client:42", Credit_limit: creditgen.Money{Minor: 100, Currency: "USD"}}).
		When(&creditgen.IssueCard{Card_id: "7f3a", Holder: "A. Client"}).
		When(&creditgen.IssueCard{Card_id: "b2c4", Holder: "B. Client"}).
		WhenTo("credit:77/card:b2c4", &creditgen.ActivateCard{Code: "b2c4"}).
		State()
	if len(state.Cards) != 2 || state.Cards[0].Status != creditgen.CardStatusISSUED || state.Cards[1].Status != creditgen.CardStatusACTIVE {
		t.Errorf("the cards are %v", state.Cards)
	}
}

func TestAccountsReferToTheirClientAndReactToItsEvents(t *testing.T) {
	closings := map[string]runtime.Command{
		"CheckingAccount": checkinggen.Send("checking:1", &checkinggen.CloseCheckingAccount{Reason: checkinggen.SomeString("the client was deactivated: moved away")}),
		"CreditAccount":   creditgen.Send("credit:1", &creditgen.CloseCreditAccount{Reason: creditgen.SomeString("the client was deactivated: moved away")}),
		"SavingsAccount":  savingsgen.Send("savings:1", &savingsgen.CloseSavingsAccount{Reason: savingsgen.SomeString("the client was deactivated: moved away")}),
	}
	for aggregate, closing := range closings {
		refers := false
		for _, field := range schema(t, aggregate)[aggregate].Fields {
			refers = refers || field.Evento.Ref == "Client"
		}
		if !refers {
			t.Errorf("%s does not refer to Client", aggregate)
		}
		eventotest.NewDispatcher(t, holdings.Reactions()...).
			When("client:42", &clientgen.ClientDeactivated{Reason: "moved away", Accounts: []string{string(closing.To())}}).
			Then(closing)
	}
}

func TestADepositReceivedTellsItsTransactionItsSourceAndItsAmount(t *testing.T) {
	amount := savingsgen.Money{Minor: 100_00, Currency: "USD"}
	eventotest.New(t, savingsgen.AggregateFunction(savings.Handler{}, savings.Aggregator{})).Entity("savings:12345-09").
		Given(&savingsgen.SavingsAccountOpened{Client: "client:42", Currency: "USD"}).
		When(&savingsgen.ReceiveDeposit{Transaction_id: "123456789", Source: "checking:54321-90", Amount: amount}).
		Then(&savingsgen.DepositReceived{Transaction_id: "123456789", Source: "checking:54321-90", Amount: amount})
}

func TestCashIsWithdrawnAtAnATM(t *testing.T) {
	checkingAccount(t, "checking:6789-21").
		Given(&checkinggen.CheckingAccountOpened{Currency: "USD"}, &checkinggen.DepositReceived{Amount: dollars(100)}).
		When(&checkinggen.WithdrawCash{Destination: "atm:2CF24DBA", Amount: dollars(100)}).
		Then(&checkinggen.CashWithdrawn{Destination: "atm:2CF24DBA", Amount: dollars(100)})
}

func TestWithdrawCashFailsWhenTheAmountIsNotAvailable(t *testing.T) {
	checkingAccount(t, "checking:6789-21").
		Given(&checkinggen.CheckingAccountOpened{Currency: "USD"}).
		When(&checkinggen.WithdrawCash{Destination: "atm:2CF24DBA", Amount: dollars(100)}).
		Then(&checkinggen.WithdrawCashFailed{
			Amount: dollars(100), Code: checkinggen.FailureCodeINSUFFICIENT_FUNDS, Message: "10000 asked for, 0 there, overdraft limit 0",
		})
}

func TestWithdrawCashFailsWhenTheAccountIsClosed(t *testing.T) {
	checkingAccount(t, "checking:6789-21").
		Given(&checkinggen.CheckingAccountOpened{Currency: "USD"}, &checkinggen.CheckingAccountClosed{}).
		When(&checkinggen.WithdrawCash{Destination: "atm:2CF24DBA", Amount: dollars(100)}).
		Then(&checkinggen.WithdrawCashFailed{Amount: dollars(100), Code: checkinggen.FailureCodeACCOUNT_CLOSED, Message: "the account is closed"})
}

func TestACommandSucceedsOrFailsAndEitherIsAnEvent(t *testing.T) {
	for _, aggregate := range aggregates() {
		types := schema(t, aggregate)
		for name, one := range types {
			if one.Evento.Kind != "command" {
				continue
			}
			for _, list := range []struct {
				names []string
				kind  string
			}{{one.Evento.Emits, "event"}, {one.Evento.Fails, "failure"}} {
				if len(list.names) == 0 || types[list.names[0]].Evento.Kind != list.kind {
					t.Errorf("%s.%s: %q are not of kind %s", aggregate, name, list.names, list.kind)
				}
			}
		}
	}
}

// Only the function that is responsible for the target's aggregate is given the command.
func TestACommandIsHandledByTheFunctionOfItsAggregateAlone(t *testing.T) {
	f := savingsgen.HandlerFunction(savings.Handler{})
	if _, err := f.Message(&checkinggen.WithdrawCash{}); err == nil || !strings.Contains(err.Error(), "none of the function's types") {
		t.Errorf("a savings handler takes a command of a checking account: %v", err)
	}
}

func TestAllTypesOfAnAggregateAreInOneSchemaWithItsNameAsNamespace(t *testing.T) {
	for _, aggregate := range aggregates() {
		kinds := map[string]bool{}
		for name, one := range schema(t, aggregate) {
			kinds[one.Evento.Kind] = true
			if one.Namespace != aggregate {
				t.Errorf("%s is in namespace %q, not in %q", name, one.Namespace, aggregate)
			}
		}
		for _, kind := range []string{"root", "value", "event", "failure", "command"} {
			if !kinds[kind] {
				t.Errorf("the schema of %s has no %s", aggregate, kind)
			}
		}
	}
}

// A handler is given the latest aggregate and answers with events; with them the
// aggregator builds the aggregate that the next command is given.
func TestTheAggregateIsUpdatedWithTheNewEventsBeforeTheNextCommand(t *testing.T) {
	checkingAccount(t, "checking:6789-21").
		Given(&checkinggen.CheckingAccountOpened{Currency: "USD"}, &checkinggen.DepositReceived{Amount: dollars(100)}).
		When(&checkinggen.WithdrawCash{Destination: "atm:2CF24DBA", Amount: dollars(60)}).
		When(&checkinggen.WithdrawCash{Destination: "atm:2CF24DBA", Amount: dollars(60)}).
		Then(&checkinggen.WithdrawCashFailed{
			Amount: dollars(60), Code: checkinggen.FailureCodeINSUFFICIENT_FUNDS, Message: "6000 asked for, 4000 there, overdraft limit 0",
		})
}

// The same events from the beginning give the same state, and a snapshot with the
// events after it gives it, too.
func TestAnAggregateIsBuiltFromNothingOrFromASnapshot(t *testing.T) {
	first := []checkinggen.Event{&checkinggen.CheckingAccountOpened{Currency: "USD"}, &checkinggen.DepositReceived{Transaction_id: "1", Amount: dollars(100)}}
	withdraw := &checkinggen.WithdrawCash{Destination: "atm:2CF24DBA", Amount: dollars(60)}
	account := checkingAccount(t, "checking:6789-21")
	snapshot := account.Given(first...).State()
	later := eventotest.Start()
	fromNothing := account.Given(first...).At(later).When(withdraw).State()
	account.GivenState(snapshot, 2).At(later).When(withdraw).ThenState(fromNothing)
}
