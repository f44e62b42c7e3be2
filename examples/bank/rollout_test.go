package bank_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/evento-oss/evento/examples/bank/checking"
	v1 "github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/examples/bank/rollout"
	v2 "github.com/evento-oss/evento/examples/bank/rollout/gen"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
)

const rolloutStack = `version: 1.0
provider:
  name: openfaas
functions:
  checking-handler:
    lang: evento-handler
    handler: .
    image: checking-handler:latest
    annotations:
      evento.io/role: handler
      evento.io/aggregate: CheckingAccount
  checking-aggregator:
    lang: evento-aggregator
    handler: .
    image: checking-aggregator:latest
    annotations:
      evento.io/role: aggregator
      evento.io/aggregate: CheckingAccount
`

// rolloutAccounts is how many accounts the clients of the test pay into; the
// first one belongs to all of them.
const rolloutAccounts = 4

// payer is a client that deposits one cent after the other until it is stopped.
type payer struct {
	name    string
	encode  func(id string) (*runtime.Message, error) // of one deposit, in the client's version of the schema
	gateway *running
	done    *[rolloutAccounts]atomic.Int64 // by account: deposits whose outcome is known
}

func (p *payer) run(stop <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		account := i % rolloutAccounts
		id := fmt.Sprintf("%s-%d", p.name, i)
		m, err := p.encode(id)
		if err != nil {
			return err
		}
		// A CloudEvent in binary mode: the Avro value, and the schema that it was written with.
		status, a, err := p.gateway.do("POST", "/v1/commands", runtime.ContentTypeAvro, m.Data,
			"ce-specversion", "1.0", "ce-id", id, "ce-source", "urn:bank:"+p.name, "ce-type", string(m.Type),
			"ce-subject", fmt.Sprintf("checking:%d", account), "ce-dataschema", string(m.Schema))
		if err != nil || status != http.StatusOK || len(a.Events) != 1 || a.Events[0].Type != "CheckingAccount.DepositReceived" {
			return fmt.Errorf("deposit %s: status %d, outcome %+v, %w", id, status, a, err)
		}
		p.done[account].Add(1)
	}
}

func TestTheSecondVersionOfASchemaIsRolledOutWhileCommandsFlow(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the gateway")
	}
	schemas, stack := t.TempDir(), filepath.Join(t.TempDir(), "stack.yml")
	first, err := os.ReadFile("schemas/CheckingAccount.avsc")
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile("rollout/testdata/CheckingAccount.avsc")
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{filepath.Join(schemas, "CheckingAccount.avsc"): first, stack: []byte(rolloutStack)} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	instance := func(f *runtime.Function) *replica { return &replica{handler: functionServer(t, f)} }
	oldHandler, newHandler := instance(v1.HandlerFunction(checking.Handler{}).Function), instance(v2.HandlerFunction(rollout.Handler{}).Function)
	oldAggregator, newAggregator := instance(v1.AggregatorFunction(checking.Aggregator{}).Function), instance(v2.AggregatorFunction(rollout.Aggregator{}).Function)
	var handlers, aggregators replicas
	handlers.set(oldHandler)
	aggregators.set(oldAggregator)
	g := startGateway(t, schemas, stack, map[string]http.Handler{"checking-handler": &handlers, "checking-aggregator": &aggregators})

	for i := range rolloutAccounts {
		g.send(fmt.Sprintf("checking:%d", i), "OpenCheckingAccount", `{"client": "client:42"}`)
	}
	var done [rolloutAccounts]atomic.Int64
	stop := make(chan struct{})
	var payers sync.WaitGroup
	failed := make(chan error, 8)
	pay := func(name string, encode func(id string) (*runtime.Message, error)) {
		payers.Go(func() {
			p := payer{name: name, encode: encode, gateway: g, done: &done}
			if err := p.run(stop); err != nil {
				failed <- err
			}
		})
	}
	stopped := sync.OnceFunc(func() { close(stop); payers.Wait() })
	t.Cleanup(stopped)
	// more waits until some more deposits are done, and then for what the step is about.
	more := func(step string, also func() error) {
		t.Helper()
		var from int64
		for i := range done {
			from += done[i].Load()
		}
		kafkatest.Wait(t, patience, func() error {
			select {
			case err := <-failed:
				t.Fatalf("%s: %v", step, err)
			default:
			}
			var now int64
			for i := range done {
				now += done[i].Load()
			}
			if now < from+40 {
				return fmt.Errorf("%s: %d deposits are done, waiting for %d", step, now, from+40)
			}
			return also()
		})
	}
	both := func(old, fresh *replica) func() error {
		oldBefore, freshBefore := old.calls.Load(), fresh.calls.Load()
		return func() error {
			if o, f := old.calls.Load()-oldBefore, fresh.calls.Load()-freshBefore; o < 10 || f < 10 {
				return fmt.Errorf("the old build was called %d times, the new one %d times", o, f)
			}
			return nil
		}
	}
	nothing := func() error { return nil }

	encodesV1, encodesV2 := v1.HandlerFunction(checking.Handler{}), v2.HandlerFunction(rollout.Handler{})
	v1Deposit := func(id string) (*runtime.Message, error) {
		return encodesV1.Message(&v1.ReceiveDeposit{Transaction_id: id, Source: "cash", Amount: v1.Money{Minor: 1, Currency: "USD"}})
	}
	v2Deposit := func(id string) (*runtime.Message, error) {
		return encodesV2.Message(&v2.ReceiveDeposit{Transaction_id: id, Source: "cash", Amount: v2.Money{Minor: 1, Currency: "USD"}, Channel: v2.ChannelBRANCH})
	}
	pay("old-client", v1Deposit)
	more("all is old", nothing)

	// A schema that old functions could not read is refused, and nothing changes.
	renamed := strings.Replace(string(second), `{"name": "destination", "type": "string"},
     {"name": "amount", "type": "Money"}]},

  {"type": "record", "name": "TransferredToSavings"`, `{"name": "atm", "aliases": ["destination"], "type": "string"},
     {"name": "amount", "type": "Money"}]},

  {"type": "record", "name": "TransferredToSavings"`, 1)
	status, a, err := g.do("POST", "/v1/schemas", "application/json", []byte(renamed))
	if err != nil || renamed == string(second) || status < 400 || !strings.Contains(a.Detail, "CashWithdrawn") {
		t.Fatalf("a renamed field: status %d, %q, %v", status, a.Detail, err)
	}
	if status, a, err := g.do("POST", "/v1/schemas", "application/json", second); err != nil || status >= 300 {
		t.Fatalf("the second version is not registered: status %d, %q, %v", status, a.Detail, err)
	}
	pay("new-client", v2Deposit) // read by old functions, which know no channel
	more("new commands, old functions", nothing)

	aggregators.set(oldAggregator, newAggregator)
	more("old and new aggregator side by side", both(oldAggregator, newAggregator))
	aggregators.set(newAggregator)
	handlers.set(oldHandler, newHandler)
	more("old and new handler side by side", both(oldHandler, newHandler))
	handlers.set(newHandler)
	more("all is new", nothing)
	for i := range rolloutAccounts {
		g.send(fmt.Sprintf("checking:%d", i), "ChangeMonthlyFee", `{"fee": {"minor": 250}}`)
	}
	stopped()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}

	// The state is the new aggregator's; a function of either build reads it.
	balance := done[0].Load()
	for _, build := range []*replica{oldHandler, newHandler} {
		handlers.set(build)
		refused := g.send("checking:0", "WithdrawCash", fmt.Sprintf(`{"destination": "atm:1", "amount": {"minor": %d}}`, balance+1))
		if want := fmt.Sprintf("%d asked for, %d there", balance+1, balance); !strings.Contains(string(refused.Events[0].Payload), want) {
			t.Errorf("a build reads %s, want %q", refused.Events[0].Payload, want)
		}
	}

	for i := range rolloutAccounts {
		checkRolledOut(t, g, fmt.Sprintf("checking:%d", i), done[i].Load())
	}
}

// checkRolledOut checks the history of an account, that its state is the one that
// its events make, and that both builds read it.
func checkRolledOut(t *testing.T, g *running, entity string, deposits int64) {
	t.Helper()
	seen := map[string]bool{}
	channels := map[string]int{}
	for i, e := range g.history(entity).Events {
		if e.Version != uint64(i+1) {
			t.Fatalf("%s: version %d stands where %d belongs", entity, e.Version, i+1)
		}
		var p struct{ Transaction_id, Channel string }
		if err := json.Unmarshal(e.Payload, &p); err != nil {
			t.Fatal(err)
		}
		if e.Type == "CheckingAccount.DepositReceived" {
			if seen[p.Transaction_id] {
				t.Errorf("%s: deposit %s is recorded twice", entity, p.Transaction_id)
			}
			seen[p.Transaction_id] = true
			channels[p.Channel]++
		}
	}
	if int64(len(seen)) != deposits {
		t.Errorf("%s: %d deposits are recorded, %d were made", entity, len(seen), deposits)
	}
	if channels["BRANCH"] == 0 {
		t.Errorf("%s: no deposit shows its channel: %v", entity, channels)
	}
	var state struct {
		Balance     struct{ Minor int64 }
		Monthly_fee json.RawMessage
	}
	g.state(entity, &state)
	if state.Balance.Minor != deposits || !strings.Contains(string(state.Monthly_fee), "250") {
		t.Errorf("%s: balance %d and fee %s, want %d and 250", entity, state.Balance.Minor, state.Monthly_fee, deposits)
	}
}
