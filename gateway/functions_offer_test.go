package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// replicas is the real client before several processes of one function: each
// request meets the next, and is written down.
type replicas struct {
	client *runtime.Client

	mu       sync.Mutex
	urls     []string
	next     int
	requests [][]runtime.Invocation
}

func (r *replicas) url() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return r.urls[r.next%len(r.urls)]
}

func (r *replicas) Describe(ctx context.Context, _ string) (runtime.Description, error) {
	return r.client.Describe(ctx, r.url())
}

func (r *replicas) Invoke(ctx context.Context, _ string, built runtime.Fingerprint, items []runtime.Invocation) ([]runtime.Result, runtime.Fingerprint, error) {
	r.mu.Lock()
	r.requests = append(r.requests, slices.Clone(items))
	r.mu.Unlock()
	return r.client.Invoke(ctx, r.url(), built, items)
}

// start has these processes behind the function's address from now on.
func (r *replicas) start(urls ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urls = urls
}

// sent returns what was sent since it was asked last: of each request the
// number of calls with the state, and of those with its hash.
func (r *replicas) sent() (whole, named []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, items := range r.requests {
		w, n := 0, 0
		for _, in := range items {
			switch {
			case in.StateHash != nil && in.State == nil:
				n++
			case in.StateHash == nil && in.StateSchema != "":
				w++
			}
		}
		whole, named = append(whole, w), append(named, n)
	}
	r.requests = nil
	return whole, named
}

// newKeepingWorld has the account as one function that keeps states, in so many processes.
func newKeepingWorld(t *testing.T, processes int, change func(*FunctionSettings)) (*offerWorld, *replicas) {
	t.Helper()
	r := &replicas{client: runtime.NewClient(runtime.ClientOptions{})}
	t.Cleanup(r.client.CloseIdleConnections)
	w := newOfferWorld(t, func(s *FunctionSettings) {
		s.Caller = func(string) (FunctionCaller, error) { return r, nil }
		s.Runs = true
		if change != nil {
			change(s)
		}
	})
	w.combined("http://both")
	var urls []string
	for range processes {
		urls = append(urls, w.keeping(t))
	}
	r.start(urls...)
	return w, r
}

// keeping starts a process of the account's function.
func (w *offerWorld) keeping(t testing.TB) (url string) {
	return w.serveHTTP(t, gen.AggregateFunction(checking.Handler{}, checking.Aggregator{}).Function, runtime.Config{StateCache: 8 << 20})
}

// wantBalance holds a state against what it should be after so many deposits of 1.
func (w *offerWorld) wantBalance(t *testing.T, s shard.State, deposits int) {
	t.Helper()
	text := w.json(t, s.Schema, s.Data)
	if want := fmt.Sprintf(`"minor":%d`, deposits); !strings.Contains(strings.ReplaceAll(text[strings.Index(text, "balance"):], " ", ""), want) {
		t.Errorf("after %d deposits the state is %.200s", deposits, text)
	}
}

func (w *offerWorld) wantOffers(t *testing.T, offered, missed int) {
	t.Helper()
	s := w.Status()[0]
	if s.Offered != offered || s.Missed != missed || s.Away {
		t.Errorf("%d states offered, %d missed, away %v; want %d, %d and not away", s.Offered, s.Missed, s.Away, offered, missed)
	}
}

func TestALargeStateIsSentOnceAndNamedAfterwards(t *testing.T) {
	t.Parallel()
	w, r := newKeepingWorld(t, 1, nil)
	large, small := w.large(t, "checking:1", 20_000), w.large(t, "checking:2", 100)
	r.sent()
	for range 10 {
		w.step(t, &large)
	}
	w.wantBalance(t, large.State, 10)
	w.wantOffers(t, 10, 1)
	if whole, named := r.sent(); fmt.Sprint(whole, named) != "[0 1 0 0 0 0 0 0 0 0 0] [1 0 1 1 1 1 1 1 1 1 1]" {
		t.Errorf("sent whole %v, named %v", whole, named)
	}
	w.step(t, &small)
	w.wantOffers(t, 10, 1)

	// The process is started anew: one state is sent again, and nobody waits.
	r.start(w.keeping(t))
	for range 5 {
		w.step(t, &large)
	}
	w.wantBalance(t, large.State, 15)
	w.wantOffers(t, 15, 2)

	// Replayed events go the same way.
	var events []*runtime.Message
	for i := range 3 {
		data, schema, err := w.schemas.FromJSON("CheckingAccount.DepositReceived", []byte(`{"transaction_id": "t", "source": "x", "amount": {"minor": 1}}`))
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, &runtime.Message{
			ID: fmt.Sprint(i), Type: "CheckingAccount.DepositReceived", Subject: "checking:1", Schema: schema, Data: data,
			Time: time.Unix(1000, 0).UTC(), Sequence: large.State.Version + uint64(i) + 1,
		})
	}
	replayed, trouble := w.Replay(t.Context(), "checking:1", large.State, events)
	if trouble != nil {
		t.Fatal(trouble)
	}
	w.wantBalance(t, replayed, 18)
	w.wantOffers(t, 16, 2)
}

func TestNoStateIsOfferedToWhoKeepsNone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct {
		config runtime.Config
		limit  int
	}{
		"a function without the cache": {runtime.Config{}, 0},
		"a gateway with it off":        {runtime.Config{StateCache: 1 << 20}, -1},
		"a state below the limit":      {runtime.Config{StateCache: 1 << 20}, 50_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newKeepingWorld(t, 1, func(s *FunctionSettings) { s.Limits.OfferBytes = change.limit })
			r.start(w.serveHTTP(t, gen.AggregateFunction(checking.Handler{}, checking.Aggregator{}).Function, change.config))
			work := w.large(t, bankAccount, 20_000)
			for range 3 {
				w.step(t, &work)
			}
			w.wantOffers(t, 0, 0)
			w.wantBalance(t, work.State, 3)
		})
	}
}

// Of two functions only the aggregator keeps states: the handler never sees the
// one that follows.
func TestAHandlerAloneIsSentTheState(t *testing.T) {
	t.Parallel()
	w := newOfferWorld(t, func(s *FunctionSettings) { s.Caller = httpCaller(t) })
	config := runtime.Config{StateCache: 1 << 20}
	w.separate(
		w.serveHTTP(t, gen.HandlerFunction(checking.Handler{}).Function, config),
		w.serveHTTP(t, gen.AggregatorFunction(checking.Aggregator{}).Function, config))
	work := w.large(t, bankAccount, 20_000)
	for range 5 {
		w.step(t, &work)
	}
	w.wantBalance(t, work.State, 5)
	for _, s := range w.Status() {
		if want := map[bool]int{true: 5, false: 0}[s.Built.HasRole(runtime.RoleAggregator)]; s.Offered != want {
			t.Errorf("%v was offered %d states, want %d", s.Built.Roles, s.Offered, want)
		}
	}
}

// A commit fails, and the work is done again from the state before, with
// another outcome: the process has kept the state that was thrown away.
func TestAfterAnAbortTheRightStateIsUsed(t *testing.T) {
	t.Parallel()
	w, r := newKeepingWorld(t, 1, nil)
	one, other := w.keeping(t), w.keeping(t)
	r.start(one)
	work := w.large(t, bankAccount, 20_000)
	w.step(t, &work)
	deposits := 1
	for n := range 4 {
		aborted := work
		aborted.Commands = []*runtime.Message{w.deposit(t, bankAccount, "gone", 1000)}
		w.step(t, &aborted)
		if n%2 == 0 {
			w.step(t, &aborted) // speculation goes on from there
		} else {
			// It is done again by another process. So the first one still has the
			// state that was thrown away when it is asked for the good one, and both
			// have the same version.
			r.start(other)
		}
		w.step(t, &work)
		r.start(one)
		w.step(t, &work)
		deposits += 2
		w.wantBalance(t, work.State, deposits)
	}
	if s := w.Status()[0]; s.Missed != 1+2*1+2*2 || s.Away {
		t.Errorf("%d of %d states missed; want one at the beginning, one where the same process went back, two where another one did", s.Missed, s.Offered)
	}
}

func TestOneMissOfManyCallsIsMadeAgainByItself(t *testing.T) {
	t.Parallel()
	const n = 20
	w, r := newKeepingWorld(t, 1, func(s *FunctionSettings) {
		s.Limits.Requests, s.Limits.SlowAfter, s.Limits.SplitAfter = 1, time.Minute, time.Minute
	})
	works := make([]shard.Work, n)
	for i := range works {
		works[i] = w.large(t, numbered(i), 10_000)
		if i != 7 { // of which the function has seen nothing yet
			w.step(t, &works[i])
		}
	}
	before := w.Status()[0]
	r.sent()
	var all sync.WaitGroup
	for i := range works {
		all.Go(func() { w.step(t, &works[i]) })
	}
	all.Wait()
	w.wantOffers(t, before.Offered+n, before.Missed+1)
	whole, named := r.sent()
	total := 0
	for i := range whole {
		total += whole[i]
	}
	if total != 1 {
		t.Errorf("%d states were sent for one miss: %v, named %v", total, whole, named)
	}
	for i := range works {
		deposits := 2
		if i == 7 {
			deposits = 1
		}
		w.wantBalance(t, works[i].State, deposits)
	}
}

// With many processes behind one address most names are missed. Each costs a
// round trip, so after some of them the states are sent, for a while.
func TestReplicasThatMissTooOftenAreSentTheState(t *testing.T) {
	t.Parallel()
	w, r := newKeepingWorld(t, 5, nil)
	var clock sync.Mutex
	now := time.Unix(1000, 0)
	w.now = func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		return now
	}
	work := w.large(t, bankAccount, 20_000)
	r.sent()
	const steps = 200
	for range steps {
		w.step(t, &work)
	}
	w.wantBalance(t, work.State, steps)
	first := w.Status()[0]
	if first.Missed == 0 || first.Offered > 60 || first.Away {
		t.Fatalf("%d states offered in %d calls, %d missed, away %v; want that it stops", first.Offered, steps, first.Missed, first.Away)
	}
	if whole, named := r.sent(); len(whole) != steps+first.Missed || len(named) != len(whole) {
		t.Errorf("%d requests for %d calls with %d misses", len(whole), steps, first.Missed)
	}
	// Afterwards it is tried again, a little.
	clock.Lock()
	now = now.Add(offersPauseMax)
	clock.Unlock()
	for range steps {
		w.step(t, &work)
	}
	again := w.Status()[0].Offered - first.Offered
	if again == 0 || again > 30 {
		t.Errorf("%d states offered after the pause, want a few", again)
	}
	// One process is left: it has what it is asked for, once it is asked again.
	r.start(w.keeping(t))
	clock.Lock()
	now = now.Add(offersPauseMax)
	clock.Unlock()
	before := w.Status()[0]
	for range 20 {
		w.step(t, &work)
	}
	w.wantOffers(t, before.Offered+20, before.Missed+1)
	w.wantBalance(t, work.State, 2*steps+20)
}

func TestOffersStopAndResume(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var o stateOffers
	misses := 0
	for o.allowed(now) && misses < 100 {
		o.miss(now)
		misses++
	}
	if misses < 16 || misses > 32 {
		t.Errorf("it stops after %d misses in a row", misses)
	}
	last := time.Duration(0)
	for range 10 {
		pause := o.until.Sub(now)
		if pause < last || pause < offersPauseMin || pause > offersPauseMax {
			t.Errorf("a pause of %v after one of %v", pause, last)
		}
		o.miss(now) // was on its way
		if o.until.Sub(now) != pause {
			t.Error("an answer during a pause makes it longer")
		}
		last, now = pause, o.until
		few := 0
		for o.allowed(now) && few < 100 {
			o.miss(now)
			few++
		}
		if few == 0 || few > 8 {
			t.Errorf("after a pause it stops after %d misses", few)
		}
	}
	if last != offersPauseMax {
		t.Errorf("the pause ends at %v, want %v", last, offersPauseMax)
	}
	now = o.until
	for range 200 { // one miss in three is worth it
		o.hit()
		o.hit()
		o.miss(now)
	}
	if !o.allowed(now) {
		t.Error("it stops although two of three are there")
	}
	for range 100 {
		o.hit()
	}
	if o.pause != 0 {
		t.Errorf("a pause of %v is remembered after 100 hits", o.pause)
	}
}

func TestWhoAsksForTheStateItWasGivenIsWrong(t *testing.T) {
	t.Parallel()
	w := newOfferWorld(t, nil)
	good := gen.AggregateFunction(checking.Handler{}, checking.Aggregator{})
	work := w.large(t, bankAccount, 20_000)
	d := good.Description()
	d.Caches = true
	calls := 0
	w.wire.serve("http://forgets", &rawFunction{description: d, invoke: func(runtime.Invocation) runtime.Result {
		calls++
		return runtime.Result{Failure: &runtime.Failure{Code: runtime.FailureStateNeeded, Message: "what was it again"}}
	}})
	w.combined("http://forgets")
	w.meet(t)
	c := w.Compute(t.Context(), work)
	wantTrouble(t, c, shard.Failed)
	if calls != 2 || !strings.Contains(c.Trouble.Reason, "what was it again") {
		t.Errorf("%d calls, and the reason %q", calls, c.Trouble.Reason)
	}
}

// The name of a state is that of its bytes in the schema of the function, which
// is not the one that it was written in.
func TestAStateIsNamedAsTheFunctionReadsIt(t *testing.T) {
	t.Parallel()
	w, r := newKeepingWorld(t, 1, nil)
	registerNext(t, w.functionWorld, func(s string) string { return addField(s, "CheckingAccount", "nickname") })
	work := w.large(t, bankAccount, 20_000) // in the newest version
	newest, _ := w.schemas.Type("CheckingAccount.CheckingAccount")
	if work.State.Schema != newest.DataSchema() {
		t.Fatalf("the state is in %s", work.State.Schema)
	}
	own := gen.Definition().Root.Schema()
	r.mu.Lock()
	r.requests = nil
	r.mu.Unlock()
	before := work.State
	for range 3 {
		w.step(t, &work)
	}
	w.wantBalance(t, work.State, 3)
	w.wantOffers(t, 3, 1)
	r.mu.Lock()
	requests := r.requests
	r.mu.Unlock()
	data, err := w.schemas.Transcode(before.Schema, before.Data, own)
	if err != nil {
		t.Fatal(err)
	}
	hash := runtime.HashState(data)
	if in := requests[0][0]; in.StateSchema != own || runtime.StateHash(in.StateHash) != hash {
		t.Errorf("offered %x in %s, want %x in %s", in.StateHash, in.StateSchema, hash, own)
	}
	if in := requests[1][0]; in.StateSchema != own || runtime.HashState(in.State) != hash {
		t.Errorf("sent %d bytes in %s, want those that were offered", len(in.State), in.StateSchema)
	}
}
