package runtime_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

// keeping is a configuration that keeps states.
var keeping = runtime.Config{StateCache: 1 << 20}

// largeState is a basket whose coupon is a long one.
func largeState(t testing.TB, mark string, bytes int) (runtime.DataSchema, []byte) {
	t.Helper()
	root := basket.Definition().Root
	data, err := root.Encode(&basket.Basket{Coupon: basket.SomeString(mark + strings.Repeat("x", bytes))})
	if err != nil {
		t.Fatal(err)
	}
	return root.Schema(), data
}

// on puts a state into an invocation, whole.
func on(in runtime.Invocation, version uint64, schema runtime.DataSchema, state []byte) runtime.Invocation {
	in.Version, in.StateSchema, in.State, in.StateHash = version, schema, state, nil
	return in
}

// naming puts the name of a state into an invocation.
func naming(in runtime.Invocation, version uint64, schema runtime.DataSchema, state []byte) runtime.Invocation {
	hash := runtime.HashState(state)
	in.Version, in.StateSchema, in.State, in.StateHash = version, schema, nil, hash[:]
	return in
}

func wantFailure(t testing.TB, r runtime.Result, code runtime.FailureCode) {
	t.Helper()
	if r.Failure == nil || r.Failure.Code != code || len(r.Steps) != 0 || r.State != nil {
		t.Errorf("result %+v with failure %v, want the failure %s and nothing else", r, r.Failure, code)
	}
}

func TestOnlyAFunctionThatMakesStatesSaysThatItKeepsThem(t *testing.T) {
	hashes := map[runtime.Fingerprint]bool{}
	for name, c := range map[string]struct {
		f      *runtime.Function
		config runtime.Config
		caches bool
	}{
		"both":                     {both(), keeping, true},
		"aggregator":               {basket.AggregatorFunction(aggregator{}).Function, keeping, true},
		"handler":                  {basket.HandlerFunction(handler{}).Function, keeping, false},
		"both, with the cache off": {both(), runtime.Config{}, false},
	} {
		d, err := newClient(t, runtime.ClientOptions{}).Describe(within(t), serve(t, c.f, c.config))
		if err != nil || d.Caches != c.caches {
			t.Errorf("%s: says caches = %v, want %v; %v", name, d.Caches, c.caches, err)
		}
		hashes[d.Hash] = true
	}
	if len(hashes) != 4 {
		t.Errorf("%d hashes of 4 descriptions", len(hashes))
	}
}

func TestAStateThatIsKeptNeedNotTravel(t *testing.T) {
	f := both()
	url := serve(t, f, keeping)
	schema, first := largeState(t, "", 10_000)
	call := invocation(runtime.KindExecute, add(t, f, "tea", 1))

	// One that came in: asked for by handler and aggregator alike.
	before := ask(t, url, on(invocation(runtime.KindHandle, add(t, f, "tea", 1)), 7, schema, first))[0]
	if before.Failure != nil {
		t.Fatal(before.Failure)
	}
	for range 2 { // an author's code that changes the state in place does not reach what is kept
		wantSame(t, before, ask(t, url, naming(invocation(runtime.KindHandle, add(t, f, "tea", 1)), 7, schema, first))[0])
	}
	executed := ask(t, url, naming(call, 7, schema, first))[0]
	if executed.Failure != nil || len(executed.Steps) != 1 || len(state(t, f, executed).Lines) != 1 {
		t.Fatalf("on a state that is kept: %+v %v", executed, executed.Failure)
	}

	// One that was answered, and one that an aggregator alone answered.
	next := invocation(runtime.KindExecute, add(t, f, "rice", 2))
	second := ask(t, url, naming(next, 8, schema, executed.State))[0]
	if second.Failure != nil || len(state(t, f, second).Lines) != 2 || len(*couponOf(t, f, second)) != 10_000 {
		t.Fatalf("on the state answered before: %+v %v", second, second.Failure)
	}
	event := message(t, f, "e", "basket:1", &basket.CouponEarned{Code: strings.Repeat("y", 8000)})
	apply := invocation(runtime.KindApply, event)
	third := ask(t, url, naming(apply, 9, schema, second.State))[0]
	if third.Failure != nil || len(*couponOf(t, f, third)) != 8000 {
		t.Fatalf("applied: %+v %v", third, third.Failure)
	}
	if r := ask(t, url, naming(next, 10, schema, third.State))[0]; r.Failure != nil || len(state(t, f, r).Lines) != 3 {
		t.Fatalf("on the state that was applied: %+v %v", r, r.Failure)
	}
}

func couponOf(t testing.TB, f *runtime.Function, r runtime.Result) *string {
	t.Helper()
	return &state(t, f, r).Coupon.String
}

func wantSame(t testing.TB, want, got runtime.Result) {
	t.Helper()
	if got.Failure != nil || len(got.Steps) != len(want.Steps) || !bytes.Equal(got.Steps[0].Events[0].Data, want.Steps[0].Events[0].Data) {
		t.Errorf("result %+v %v, want %+v", got, got.Failure, want)
	}
}

func TestAnotherStateOrNoneIsAskedFor(t *testing.T) {
	f := both()
	schema, kept := largeState(t, "a", 10_000)
	_, other := largeState(t, "b", 10_000)
	call := invocation(runtime.KindExecute, add(t, f, "tea", 1))
	stranger := call
	stranger.Aggregate = "basket:2"
	stranger.Messages = []*runtime.Message{message(t, f, "x", "basket:2", &basket.AddItem{Item: "tea", Quantity: 1})}
	url := serve(t, f, keeping)
	for name, in := range map[string]runtime.Invocation{
		"another hash":           naming(call, 7, schema, other),
		"another version":        naming(call, 8, schema, kept),
		"another aggregate":      naming(stranger, 7, schema, kept),
		"another schema's state": naming(call, 7, "urn:evento:avro:Basket.Basket:0123456789abcdef", kept),
	} {
		ask(t, url, on(invocation(runtime.KindHandle, add(t, f, "tea", 1)), 7, schema, kept))
		t.Run(name, func(t *testing.T) { wantFailure(t, ask(t, url, in)[0], runtime.FailureStateNeeded) })
	}
	t.Run("a function that was started again", func(t *testing.T) {
		wantFailure(t, ask(t, serve(t, f, keeping), naming(call, 7, schema, kept))[0], runtime.FailureStateNeeded)
	})
	t.Run("a function that keeps none", func(t *testing.T) {
		wantFailure(t, ask(t, serve(t, f, runtime.Config{}), naming(call, 7, schema, kept))[0], runtime.FailureStateNeeded)
	})
	t.Run("within the process", func(t *testing.T) {
		wantFailure(t, f.Invoke(within(t), naming(call, 7, schema, kept), nil), runtime.FailureStateNeeded)
	})
}

func TestOneStateThatIsMissingDoesNotKeepTheOthers(t *testing.T) {
	f := both()
	url := serve(t, f, keeping)
	schema, data := largeState(t, "", 5000)
	var whole, named []runtime.Invocation
	for i := range 8 {
		in := invocation(runtime.KindExecute)
		in.ID, in.Aggregate = fmt.Sprint(i), runtime.AggregateID(fmt.Sprint("basket:", i))
		in.Messages = []*runtime.Message{message(t, f, "m", in.Aggregate.Root(), &basket.AddItem{Item: "tea", Quantity: 1})}
		handled := in
		handled.Kind = runtime.KindHandle
		if i != 5 {
			whole = append(whole, on(handled, 3, schema, data))
		}
		named = append(named, naming(in, 3, schema, data))
	}
	ask(t, url, whole...)
	for i, r := range ask(t, url, named...) {
		if i == 5 {
			wantFailure(t, r, runtime.FailureStateNeeded)
		} else if r.Failure != nil || len(r.Steps) != 1 {
			t.Errorf("invocation %d: %+v %v", i, r, r.Failure)
		}
	}
	if r := ask(t, url, on(named[5], 3, schema, data))[0]; r.Failure != nil || len(r.Steps) != 1 {
		t.Errorf("with its state: %+v %v", r, r.Failure)
	}
}

// A function keeps the state that it has just made, and nobody tells it when the
// events that led there are thrown away. The hash in the next call decides.
func TestAStateOfEventsThatWereThrownAwayIsNeverUsed(t *testing.T) {
	f := both()
	url := serve(t, f, keeping)
	schema, committed := largeState(t, "", 10_000)
	aborted := ask(t, url, on(invocation(runtime.KindExecute, add(t, f, "tea", 1)), 7, schema, committed))[0]
	if aborted.Failure != nil {
		t.Fatal(aborted.Failure)
	}
	// The caller goes back to the state before: at worst it has to send it again.
	back := naming(invocation(runtime.KindExecute, add(t, f, "rice", 2)), 7, schema, committed)
	r := ask(t, url, back)[0]
	if r.Failure != nil && r.Failure.Code == runtime.FailureStateNeeded {
		r = ask(t, url, on(back, 7, schema, committed))[0]
	}
	if r.Failure != nil || len(state(t, f, r).Lines) != 1 || state(t, f, r).Lines[0].Id != "rice" {
		t.Fatalf("from the state before: %+v %v", r, r.Failure)
	}
	// The version is the same as that of the state thrown away, but it is another.
	next := ask(t, url, naming(invocation(runtime.KindExecute, add(t, f, "salt", 3)), 8, schema, r.State))[0]
	if next.Failure != nil || len(state(t, f, next).Lines) != 2 || state(t, f, next).Lines[0].Id != "rice" {
		t.Fatalf("the next: %+v %v", next, next.Failure)
	}
	// And the other way round: what is kept is the aborted one, the call names the good one.
	ask(t, url, on(invocation(runtime.KindExecute, add(t, f, "tea", 1)), 7, schema, committed))
	wantFailure(t, ask(t, url, naming(invocation(runtime.KindExecute, add(t, f, "salt", 3)), 8, schema, r.State))[0], runtime.FailureStateNeeded)
}

func TestANameThatIsNoneIsRefused(t *testing.T) {
	f := both()
	url := serve(t, f, keeping)
	schema, data := largeState(t, "", 5000)
	ask(t, url, on(invocation(runtime.KindHandle, add(t, f, "tea", 1)), 7, schema, data))
	hash := runtime.HashState(data)
	for _, kind := range []runtime.InvocationKind{runtime.KindHandle, runtime.KindApply, runtime.KindExecute} {
		good := naming(invocation(kind, add(t, f, "tea", 1)), 7, schema, data)
		if kind == runtime.KindApply {
			good.Messages = []*runtime.Message{message(t, f, "e", "basket:1", &basket.CouponEarned{Code: "x"})}
		}
		for _, n := range []int{0, 1, 16, 31, 33, 64, 1 << 20} {
			in := good
			in.StateHash = append(hash[:len(hash):len(hash)], make([]byte, 1<<20)...)[:n]
			r := ask(t, url, in)[0]
			wantFailure(t, r, runtime.FailureSchema)
			if !strings.Contains(r.Failure.Message, fmt.Sprint(n, " bytes")) {
				t.Errorf("nothing is said of %d bytes: %s", n, r.Failure.Message)
			}
		}
		in := good
		in.StateSchema = ""
		wantFailure(t, ask(t, url, in)[0], runtime.FailureSchema)
	}
	in := naming(invocation(runtime.KindHandle, add(t, f, "tea", 1)), 7, schema, data)
	in.State = data
	wantFailure(t, f.Invoke(within(t), in, nil), runtime.FailureSchema)
}

func TestAMissingStateHasAStatusOfItsOwn(t *testing.T) {
	f := both()
	schema, data := largeState(t, "", 5000)
	status := 0
	client := newClient(t, runtime.ClientOptions{Transport: spy(func(res *http.Response) { status = res.StatusCode })})
	results, _, err := client.Invoke(within(t), serve(t, f, keeping), "", []runtime.Invocation{naming(invocation(runtime.KindExecute, add(t, f, "tea", 1)), 7, schema, data)})
	if err != nil || status != http.StatusPreconditionRequired {
		t.Errorf("status %d, %v; want 428", status, err)
	}
	wantFailure(t, results[0], runtime.FailureStateNeeded)
}

// spy sees the answers.
type spy func(*http.Response)

func (see spy) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		see(res)
	}
	return res, err
}

// Many aggregates at once, more than there is room for: every answer is right,
// whether the state was there or not.
func TestStatesAreKeptForManyAtOnce(t *testing.T) {
	f := both()
	url := serve(t, f, runtime.Config{StateCache: 100_000}) // some 16 of the 24
	schema, first := largeState(t, "", 5000)
	client := newClient(t, runtime.ClientOptions{})
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			in := invocation(runtime.KindExecute)
			in.Aggregate = runtime.AggregateID(fmt.Sprint("basket:", i))
			data := first
			for n := range 20 {
				in.Messages = []*runtime.Message{message(t, f, fmt.Sprint(n), in.Aggregate.Root(), &basket.AddItem{Item: fmt.Sprint(i, "-", n), Quantity: 1})}
				results, _, err := client.Invoke(within(t), url, "", []runtime.Invocation{naming(in, uint64(n), schema, data)})
				if err == nil && results[0].Failure != nil && results[0].Failure.Code == runtime.FailureStateNeeded {
					results, _, err = client.Invoke(within(t), url, "", []runtime.Invocation{on(in, uint64(n), schema, data)})
				}
				if err != nil || results[0].Failure != nil {
					t.Errorf("%s, step %d: %v %v", in.Aggregate, n, err, results)
					return
				}
				if lines := state(t, f, results[0]).Lines; len(lines) != n+1 || lines[n].Id != fmt.Sprint(i, "-", n) {
					t.Errorf("%s has %v after step %d", in.Aggregate, lines, n)
					return
				}
				data = results[0].State
			}
		})
	}
	all.Wait()
}
