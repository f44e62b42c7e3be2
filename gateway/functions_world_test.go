package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

const bankAccount = runtime.AggregateID("checking:1")

// functionWorld is Functions with everything around them.
type functionWorld struct {
	*Functions
	schemas *avro.Catalogue
	router  *fixedRouter
	wire    *functionWire
}

// fixedRouter routes everything to two targets.
type fixedRouter struct {
	mu                  sync.Mutex
	handler, aggregator FunctionTarget
	none                error
}

func (r *fixedRouter) Handler(*runtime.Message) (FunctionTarget, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.handler, r.none
}

func (r *fixedRouter) Aggregator(string) (FunctionTarget, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.aggregator, r.none
}

// answerer is a function as its callers see it.
type answerer interface {
	Description() runtime.Description
	Invoke(ctx context.Context, in runtime.Invocation, log *slog.Logger) runtime.Result
}

// functionWire carries calls to functions in this process, without HTTP. Of
// several instances behind a URL each call meets the next.
type functionWire struct {
	mu        sync.Mutex
	instances map[string][]answerer
	next      int
	requests  []functionRequest
	// fault is asked before a request is carried; an error is the answer.
	fault func(ctx context.Context, url string, items []runtime.Invocation) error
}

type functionRequest struct {
	url   string
	items []runtime.Invocation
}

func (w *functionWire) instance(url string) (answerer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.instances[url]
	if len(all) == 0 {
		return nil, &runtime.CallError{Kind: runtime.CallUnavailable, Status: 404, Reason: "no such function"}
	}
	w.next++
	return all[w.next%len(all)], nil
}

func (w *functionWire) serve(url string, instances ...answerer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instances[url] = instances
}

func (w *functionWire) setFault(fault func(context.Context, string, []runtime.Invocation) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

func (w *functionWire) sent() []functionRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]functionRequest(nil), w.requests...)
}

func (w *functionWire) Describe(_ context.Context, url string) (runtime.Description, error) {
	i, err := w.instance(url)
	if err != nil {
		return runtime.Description{}, err
	}
	return i.Description(), nil
}

func (w *functionWire) Invoke(ctx context.Context, url string, built runtime.Fingerprint, items []runtime.Invocation) ([]runtime.Result, runtime.Fingerprint, error) {
	w.mu.Lock()
	w.requests = append(w.requests, functionRequest{url, items})
	fault := w.fault
	w.mu.Unlock()
	if fault != nil {
		if err := fault(ctx, url, items); err != nil {
			return nil, "", err
		}
	}
	i, err := w.instance(url)
	if err != nil {
		return nil, "", err
	}
	d := i.Description()
	if built != d.Hash {
		return nil, d.Hash, &runtime.DescriptionChanged{Description: d}
	}
	results := make([]runtime.Result, len(items))
	var all sync.WaitGroup
	for n := range items {
		all.Go(func() {
			results[n] = i.Invoke(ctx, items[n], nil)
			results[n].Image = "bank:1"
		})
	}
	all.Wait()
	return results, d.Hash, nil
}

func readSchemas(t testing.TB, file string) *avro.Aggregate {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a, err := avro.ParseAggregate(filepath.Base(file), text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func registerSchemas(t testing.TB, c *avro.Catalogue, a *avro.Aggregate) {
	t.Helper()
	changed, err := c.Check(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range changed {
		if err := c.Add(typ.Register(time.Unix(1000, 0))); err != nil {
			t.Fatal(err)
		}
	}
}

// newFunctionWorld has the bank's checking account: handler and aggregator at
// two URLs, and both in one at a third.
func newFunctionWorld(t testing.TB, change func(*FunctionSettings)) *functionWorld {
	t.Helper()
	w := &functionWorld{
		schemas: avro.NewCatalogue(),
		wire: &functionWire{instances: map[string][]answerer{
			"http://handler":    {gen.HandlerFunction(checking.Handler{})},
			"http://aggregator": {gen.AggregatorFunction(checking.Aggregator{})},
			"http://both":       {gen.AggregateFunction(checking.Handler{}, checking.Aggregator{})},
		}},
		router: &fixedRouter{},
	}
	registerSchemas(t, w.schemas, readSchemas(t, "../examples/bank/schemas/CheckingAccount.avsc"))
	w.separate("http://handler", "http://aggregator")
	set := FunctionSettings{
		Router: w.router, Schemas: w.schemas,
		Caller: func(string) (FunctionCaller, error) { return w.wire, nil },
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if change != nil {
		change(&set)
	}
	var err error
	if w.Functions, err = NewFunctions(set); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func bankTarget(name, url string) FunctionTarget {
	return FunctionTarget{Name: "bank/" + name, URL: url, Timeout: 10 * time.Second, Policy: shard.Policy{Attempts: 3, Delay: time.Second}}
}

func (w *functionWorld) separate(handler, aggregator string) {
	w.router.mu.Lock()
	defer w.router.mu.Unlock()
	w.router.handler, w.router.aggregator = bankTarget("handler", handler), bankTarget("aggregator", aggregator)
}

func (w *functionWorld) combined(url string) {
	w.router.mu.Lock()
	defer w.router.mu.Unlock()
	w.router.handler = bankTarget("both", url)
	w.router.handler.Combined = true
	w.router.aggregator = bankTarget("both", url)
}

// meet lets the gateway meet the aggregator, as it does before it loads a state.
func (w *functionWorld) meet(t testing.TB) {
	t.Helper()
	if _, err := w.Fold(context.Background(), "CheckingAccount"); err != nil {
		t.Fatal(err)
	}
}

// message encodes JSON as a command or event of the checking account.
func (w *functionWorld) message(t testing.TB, a runtime.AggregateID, id, name, json string) *runtime.Message {
	t.Helper()
	typ := runtime.TypeName("CheckingAccount." + name)
	data, schema, err := w.schemas.FromJSON(typ, []byte(json))
	if err != nil {
		t.Fatal(err)
	}
	return &runtime.Message{
		ID: id, Type: typ, Source: "/test", Subject: a.Root(), Schema: schema, Data: data,
		Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
	}
}

func (w *functionWorld) open(t testing.TB, a runtime.AggregateID) *runtime.Message {
	return w.message(t, a, "open", "OpenCheckingAccount", `{"client": "client:1"}`)
}

func (w *functionWorld) deposit(t testing.TB, a runtime.AggregateID, id string, minor int) *runtime.Message {
	return w.message(t, a, id, "ReceiveDeposit", fmt.Sprintf(`{"transaction_id": %q, "source": "cash", "amount": {"minor": %d}}`, id, minor))
}

// opened is the state of an account that has just been opened.
func (w *functionWorld) opened(t testing.TB, a runtime.AggregateID) shard.State {
	t.Helper()
	w.meet(t)
	c := w.Compute(context.Background(), shard.Work{Aggregate: a, Commands: []*runtime.Message{w.open(t, a)}})
	if c.Trouble != nil || len(c.Steps) != 1 || c.Steps[0].Rejected != nil {
		t.Fatalf("opening %s: %+v %+v", a, c, c.Trouble)
	}
	return c.Steps[0].State
}

// json shows a value.
func (w *functionWorld) json(t testing.TB, schema runtime.DataSchema, data []byte) string {
	t.Helper()
	text, err := w.schemas.ToJSON(schema, data)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rawFunction is a function written without the kit, of any build and manners.
type rawFunction struct {
	description runtime.Description
	invoke      func(in runtime.Invocation) runtime.Result
}

func (r *rawFunction) Description() runtime.Description { return r.description }

func (r *rawFunction) Invoke(_ context.Context, in runtime.Invocation, _ *slog.Logger) runtime.Result {
	res := r.invoke(in)
	res.ID = in.ID
	return res
}

// describe returns the description of a function that was built with the newest
// versions in a catalogue.
func describe(c *avro.Catalogue, hash runtime.Fingerprint, without ...runtime.TypeName) runtime.Description {
	d := runtime.Description{
		Roles: []runtime.Role{runtime.RoleHandler, runtime.RoleAggregator}, Aggregate: "CheckingAccount",
		StateVersion: 1, Hash: hash, Schemas: map[runtime.TypeName]runtime.SchemaText{},
	}
	for _, name := range []runtime.TypeName{
		"CheckingAccount", "OpenCheckingAccount", "ReceiveDeposit", "WithdrawCash", "CheckingAccountOpened",
		"DepositReceived", "CashWithdrawn", "OpenCheckingAccountFailed", "ReceiveDepositFailed", "WithdrawCashFailed",
	} {
		if typ, ok := c.Type("CheckingAccount." + name); ok {
			d.Schemas[typ.Name] = runtime.SchemaText{Fingerprint: typ.Fingerprint, Schema: typ.Text}
		}
	}
	for _, name := range without {
		delete(d.Schemas, name)
	}
	return d
}

// serveHTTP puts a function behind a real HTTP server, and the real client
// before it.
func (w *functionWorld) serveHTTP(t testing.TB, f *runtime.Function, config runtime.Config) (url string) {
	t.Helper()
	server, err := runtime.NewServer(f, config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	// httptest's server would close the idle connections of everybody's default client with its own.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: server, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Serve(listener)
	}()
	t.Cleanup(func() {
		h.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}

func httpCaller(t testing.TB) func(string) (FunctionCaller, error) {
	client := runtime.NewClient(runtime.ClientOptions{})
	t.Cleanup(client.CloseIdleConnections)
	return func(string) (FunctionCaller, error) { return client, nil }
}

func wantTrouble(t *testing.T, c shard.Computed, kind shard.TroubleKind) {
	t.Helper()
	if c.Trouble == nil {
		t.Fatalf("no trouble, but %d steps", len(c.Steps))
	}
	if c.Trouble.Kind != kind {
		t.Errorf("trouble of kind %d, want %d: %s", c.Trouble.Kind, kind, c.Trouble.Reason)
	}
	if c.Trouble.Kind == shard.Unavailable && c.Trouble.Wait <= 0 {
		t.Errorf("unavailable, and nobody says when to ask again: %+v", c.Trouble)
	}
	if c.Trouble.Reason == "" {
		t.Error("trouble without a reason")
	}
}
