package runtime_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

// handler decides for baskets; a test may put itself in its way.
type handler struct {
	before func(ctx runtime.HandlerContext, state *basket.Basket, item string) ([]basket.Event, error)
}

func (h handler) AddItem(ctx runtime.HandlerContext, state *basket.Basket, c *basket.AddItem) ([]basket.Event, error) {
	if h.before != nil {
		if events, err := h.before(ctx, state, c.Item); events != nil || err != nil {
			return events, err
		}
	}
	if c.Quantity <= 0 {
		return basket.Refuse(&basket.Refused{Message: "nothing to add"})
	}
	return basket.Emit(basket.On(ctx.Child("line", c.Item), &basket.ItemAdded{Quantity: c.Quantity}))
}

func (handler) ChangeQuantity(ctx runtime.HandlerContext, state *basket.Basket, c *basket.ChangeQuantity) ([]basket.Event, error) {
	if c.Quantity > 100 {
		return basket.Emit(&basket.QuantityChanged{Quantity: c.Quantity}, &basket.CouponEarned{Code: "MANY"})
	}
	if c.Quantity < 0 {
		return basket.Refuse(&basket.ChangeRefused{Message: "fewer than none"})
	}
	return basket.Emit(&basket.QuantityChanged{Quantity: c.Quantity})
}

// aggregator builds baskets; a test may put itself in its way.
type aggregator struct {
	basket.FailuresIgnored
	before  func(ctx runtime.AggregatorContext, state *basket.Basket) (*basket.Basket, error, bool)
	version int
}

func (a aggregator) StateVersion() int { return max(a.version, 1) }

func (a aggregator) ItemAdded(ctx runtime.AggregatorContext, state *basket.Basket, e *basket.ItemAdded) (*basket.Basket, error) {
	if state == nil {
		state = &basket.Basket{}
	}
	state.Lines = append(state.Lines, basket.Line{Id: ctx.Entity().ID(), Quantity: e.Quantity})
	if a.before != nil {
		if s, err, ok := a.before(ctx, state); ok {
			return s, err
		}
	}
	return state, nil
}

func (a aggregator) QuantityChanged(ctx runtime.AggregatorContext, state *basket.Basket, e *basket.QuantityChanged) (*basket.Basket, error) {
	for i := range state.Lines {
		if state.Lines[i].Id == ctx.Entity().ID() {
			state.Lines[i].Quantity = e.Quantity
		}
	}
	return state, nil
}

func (a aggregator) CouponEarned(_ runtime.AggregatorContext, state *basket.Basket, e *basket.CouponEarned) (*basket.Basket, error) {
	state.Coupon = basket.SomeString(e.Code)
	return state, nil
}

func both() *runtime.Function { return basket.AggregateFunction(handler{}, aggregator{}).Function }

// quiet is a logger for tests that provoke what it would say.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serve runs a function behind a test server and returns its URL.
func serve(t testing.TB, f *runtime.Function, config runtime.Config) string {
	t.Helper()
	s, err := runtime.NewServer(f, config, quiet())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

func newClient(t testing.TB, o runtime.ClientOptions) *runtime.Client {
	c := runtime.NewClient(o)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// within is a context that ends when something hangs; a busy machine is slow, it does not hang.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

var aTime = time.Date(2026, 3, 4, 5, 6, 7, 8_000_000, time.UTC)

// message encodes a command or event of the basket basket:1.
func message(t testing.TB, f *runtime.Function, id string, subject runtime.Entity, r runtime.Record) *runtime.Message {
	t.Helper()
	m, err := f.Message(r)
	if err != nil {
		t.Fatal(err)
	}
	m.ID, m.Source, m.Subject, m.Time = id, "/test", subject, aTime
	return m
}

func add(t testing.TB, f *runtime.Function, item string, quantity int32) *runtime.Message {
	t.Helper()
	return message(t, f, "add-"+item, "basket:1", &basket.AddItem{Item: item, Quantity: quantity})
}

func invocation(kind runtime.InvocationKind, messages ...*runtime.Message) runtime.Invocation {
	return runtime.Invocation{ID: "i-1", Kind: kind, Aggregate: "basket:1", Messages: messages}
}

// ask calls a function that must answer with results.
func ask(t testing.TB, url string, in ...runtime.Invocation) []runtime.Result {
	t.Helper()
	results, _, err := newClient(t, runtime.ClientOptions{}).Invoke(within(t), url, "", in)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// state decodes the state of a result.
func state(t testing.TB, f *runtime.Function, r runtime.Result) *basket.Basket {
	t.Helper()
	if r.StateSchema == "" {
		return nil
	}
	s, err := f.Record(r.StateSchema, r.State)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*basket.Basket)
}

func post(t testing.TB, url, media string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return do(t, req)
}

func get(t testing.TB, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

func do(t testing.TB, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}
