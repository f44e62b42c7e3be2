package bank_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evento-oss/evento/examples/bank/checking"
	checkinggen "github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/examples/bank/client"
	clientgen "github.com/evento-oss/evento/examples/bank/client/gen"
	"github.com/evento-oss/evento/examples/bank/credit"
	creditgen "github.com/evento-oss/evento/examples/bank/credit/gen"
	"github.com/evento-oss/evento/examples/bank/holdings"
	"github.com/evento-oss/evento/examples/bank/interest"
	"github.com/evento-oss/evento/examples/bank/savings"
	savingsgen "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/examples/bank/transfers"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
)

// startBank starts a gateway with all functions of the root's stack.yml.
func startBank(t *testing.T) *running {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds the gateway")
	}
	functions := map[string]http.Handler{}
	for name, f := range map[string]*runtime.Function{
		"checking-handler":    checkinggen.HandlerFunction(checking.Handler{}).Function,
		"checking-aggregator": checkinggen.AggregatorFunction(checking.Aggregator{}).Function,
		"savings-handler":     savingsgen.HandlerFunction(savings.Handler{}).Function,
		"savings-aggregator":  savingsgen.AggregatorFunction(savings.Aggregator{}).Function,
		"credit":              creditgen.AggregateFunction(credit.Handler{}, credit.Aggregator{}).Function,
		"client":              clientgen.AggregateFunction(client.Handler{}, client.Aggregator{}).Function,
	} {
		functions[name] = functionServer(t, f)
	}
	for name, reactions := range map[string][]runtime.Reaction{
		"transfers": transfers.Reactions(), "holdings": holdings.Reactions(), "interest": interest.Reactions(),
	} {
		f, err := runtime.NewDispatcher(reactions...)
		if err != nil {
			t.Fatal(err)
		}
		functions[name] = functionServer(t, f)
	}
	stack, err := filepath.Abs("../../stack.yml")
	if err != nil {
		t.Fatal(err)
	}
	return startGateway(t, "schemas", stack, functions)
}

// accountState is what the tests read of a checking or a savings account.
type accountState struct {
	Status    string
	Balance   struct{ Minor int64 }
	Under_way []struct{ Transaction_id string }
}

// await waits until an aggregate's history has an event of a type, and returns the
// first one's place in the history.
func (g *running) await(aggregate, eventType string) (h answer, at int) {
	g.t.Helper()
	kafkatest.Wait(g.t, patience, func() error {
		h = g.history(aggregate)
		var types []string
		for i, e := range h.Events {
			if strings.HasSuffix(e.Type, "."+eventType) {
				at = i
				return nil
			}
			types = append(types, e.Type)
		}
		return fmt.Errorf("%s has no %s but %q", aggregate, eventType, types)
	})
	return h, at
}

// account reads an account and checks what is in it.
func (g *running) account(entity string, balance int64, status string) {
	g.t.Helper()
	var s accountState
	g.state(entity, &s)
	if s.Balance.Minor != balance || s.Status != status || len(s.Under_way) != 0 {
		g.t.Errorf("%s: %+v, want balance %d, status %s and nothing under way", entity, s, balance, status)
	}
}

// publish publishes an event from outside.
func (g *running) publish(entity, eventType, id, payload string) {
	g.t.Helper()
	body := fmt.Sprintf(`{"entity": %q, "event_type": %q, "id": %q, "payload": %s}`, entity, eventType, id, payload)
	status, a, err := g.do("POST", "/v1/events", "application/json", []byte(body))
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("%s of %s: %d %v %s %v", eventType, entity, status, a.Status, a.Detail, err)
	}
}

func TestTheBankWorksTogether(t *testing.T) {
	g := startBank(t)
	on := func(t *testing.T) *running { return &running{t: t, url: g.url} }

	t.Run("a transfer arrives, both ways", func(t *testing.T) {
		g := on(t)
		g.send("checking:a", "OpenCheckingAccount", `{"client": "client:a"}`)
		g.send("savings:a", "OpenSavingsAccount", `{"client": "client:a"}`)
		g.send("checking:a", "ReceiveDeposit", `{"transaction_id": "d", "source": "cash", "amount": {"minor": 100}}`)

		sent := g.send("checking:a", "TransferToSavings", `{"transaction_id": "t-1", "destination": "savings:a", "amount": {"minor": 70}}`)
		h, at := g.await("checking:a", "TransferCompleted")
		if end := h.Events[at]; end.Correlation != sent.Events[0].Correlation || end.Correlation == "" {
			t.Errorf("the root cause of %s is %q, want %q, the command to transfer", end.Type, end.Correlation, sent.Events[0].Correlation)
		}
		g.account("checking:a", 30, "OPEN")
		g.account("savings:a", 70, "OPEN")

		g.send("savings:a", "TransferToChecking", `{"transaction_id": "t-2", "destination": "checking:a", "amount": {"minor": 20}}`)
		g.await("savings:a", "TransferCompleted")
		g.account("checking:a", 50, "OPEN")
		g.account("savings:a", 50, "OPEN")
	})

	t.Run("a transfer that is refused comes back, both ways", func(t *testing.T) {
		g := on(t)
		g.send("checking:b", "OpenCheckingAccount", `{"client": "client:b"}`)
		g.send("checking:b", "ReceiveDeposit", `{"transaction_id": "d", "source": "cash", "amount": {"minor": 100}}`)
		g.send("checking:b", "TransferToSavings", `{"transaction_id": "t-1", "destination": "savings:b-nobody", "amount": {"minor": 70}}`)
		h, at := g.await("checking:b", "TransferReturned")
		if !strings.Contains(string(h.Events[at].Payload), "there is no such account") {
			t.Errorf("the transfer came back with %s", h.Events[at].Payload)
		}
		g.account("checking:b", 100, "OPEN")

		g.send("savings:b", "OpenSavingsAccount", `{"client": "client:b", "currency": "EUR"}`)
		g.send("savings:b", "ReceiveDeposit", `{"transaction_id": "d", "source": "cash", "amount": {"minor": 100, "currency": "EUR"}}`)
		g.send("savings:b", "TransferToChecking", `{"transaction_id": "t-2", "destination": "checking:b", "amount": {"minor": 70, "currency": "EUR"}}`)
		g.await("savings:b", "TransferReturned")
		g.account("savings:b", 100, "OPEN")
		g.account("checking:b", 100, "OPEN")
	})

	// The deposit says that it is from an account that sent nothing.
	t.Run("a refused deposit makes no money", func(t *testing.T) {
		g := on(t)
		g.send("checking:c", "OpenCheckingAccount", `{"client": "client:c"}`)
		g.send("savings:c-nobody", "ReceiveDeposit", `{"transaction_id": "t-1", "source": "checking:c", "amount": {"minor": 100}}`)
		g.await("checking:c", "EndTransferFailed")
		g.account("checking:c", 0, "OPEN")
	})

	t.Run("the accounts of a deactivated client are closed", func(t *testing.T) {
		g := on(t)
		g.send("client:d", "RegisterClient", `{"name": "A. Client"}`)
		g.send("checking:d", "OpenCheckingAccount", `{"client": "client:d"}`)
		g.send("savings:d", "OpenSavingsAccount", `{"client": "client:d"}`)
		g.send("credit:d", "OpenCreditAccount", `{"client": "client:d", "credit_limit": {"minor": 100}}`)
		g.send("savings:d", "ReceiveDeposit", `{"transaction_id": "d", "source": "cash", "amount": {"minor": 1}}`)
		kafkatest.Wait(t, patience, func() error {
			var s struct{ Accounts []string }
			if g.state("client:d", &s); len(s.Accounts) != 3 {
				return fmt.Errorf("the client has the accounts %q, want 3", s.Accounts)
			}
			return nil
		})
		g.send("client:d", "DeactivateClient", `{"reason": "moved away"}`)
		g.await("checking:d", "CheckingAccountClosed")
		g.await("credit:d", "CreditAccountClosed")
		g.await("savings:d", "SavingsCommandFailed") // there is money in it
		g.account("savings:d", 1, "OPEN")

		g.send("checking:d-late", "OpenCheckingAccount", `{"client": "client:d"}`)
		g.await("checking:d-late", "CheckingAccountClosed")
	})

	t.Run("the end of a month pays interest once", func(t *testing.T) {
		g := on(t)
		g.send("savings:e", "OpenSavingsAccount", `{"client": "client:e", "rate_bps": 250}`)
		g.send("savings:e", "ReceiveDeposit", `{"transaction_id": "d", "source": "cash", "amount": {"minor": 100000}}`)
		for range 2 {
			g.publish("savings:e", "MonthEnded", "2026-01", `{"period": "2026-01"}`)
		}
		g.await("savings:e", "InterestPaid")
		g.publish("savings:e", "MonthEnded", "again-2026-01", `{"period": "2026-01"}`) // another event, the same month
		g.await("savings:e", "SavingsCommandFailed")
		g.account("savings:e", 100208, "OPEN")
		if n := len(g.history("savings:e").Events); n != 6 {
			t.Errorf("%d events, want 6: opened, deposit, month, interest, month, refused", n)
		}
	})
}
