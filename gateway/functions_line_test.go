package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// computeMany computes the opening of accounts 0 to n-1 at the same time.
func (w *functionWorld) computeMany(t *testing.T, n int) []shard.Computed {
	all := make([]shard.Computed, n)
	works := make([]shard.Work, n)
	for i := range works {
		a := numbered(i)
		works[i] = shard.Work{Aggregate: a, Commands: []*runtime.Message{w.open(t, a)}}
	}
	var done sync.WaitGroup
	for i := range all {
		done.Go(func() { all[i] = w.Compute(context.Background(), works[i]) })
	}
	done.Wait()
	return all
}

func numbered(i int) runtime.AggregateID { return runtime.AggregateID(fmt.Sprint("checking:", i)) }

func has(items []runtime.Invocation, a runtime.AggregateID) bool {
	for _, item := range items {
		if item.Aggregate == a {
			return true
		}
	}
	return false
}

// inVirtualTime runs a test on a function that is both, over a wire whose time is virtual.
func inVirtualTime(t *testing.T, limits FunctionLimits, test func(t *testing.T, w *functionWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newFunctionWorld(t, func(s *FunctionSettings) { s.Limits = limits })
		w.combined("http://both")
		w.meet(t)
		test(t, w)
		w.Close()
	})
}

// wait is a fault that only takes time.
func waitOn(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return &runtime.CallError{Kind: runtime.CallUnavailable, Reason: "it took too long", Err: ctx.Err()}
	}
}

func TestOneCallAloneDoesNotWait(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, FunctionLimits{}, func(t *testing.T, w *functionWorld) {
		began := time.Now()
		if c := w.computeMany(t, 1)[0]; c.Trouble != nil {
			t.Fatal(c.Trouble)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("one call alone waited %v", took)
		}
	})
}

func TestCallsCollectWhileRequestsAreInFlight(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, FunctionLimits{Requests: 2, BatchItems: 50}, func(t *testing.T, w *functionWorld) {
		w.wire.setFault(func(ctx context.Context, _ string, items []runtime.Invocation) error {
			return waitOn(ctx, 10*time.Millisecond)
		})
		began := time.Now()
		for i, c := range w.computeMany(t, 200) {
			if c.Trouble != nil {
				t.Fatalf("account %d: %v", i, c.Trouble)
			}
		}
		sizes, most := []int{}, 0
		for _, r := range w.wire.sent() {
			sizes, most = append(sizes, len(r.items)), max(most, len(r.items))
		}
		if len(sizes) > 2+4+2 || most > 50 {
			t.Errorf("200 calls went in requests of %v; want the first two alone, and the others in full ones of 50", sizes)
		}
		if took := time.Since(began); took > 40*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestBatchIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, FunctionLimits{Requests: 1, BatchBytes: 2000}, func(t *testing.T, w *functionWorld) {
		w.wire.setFault(func(ctx context.Context, _ string, items []runtime.Invocation) error {
			return waitOn(ctx, time.Millisecond)
		})
		w.computeMany(t, 30)
		for _, r := range w.wire.sent() {
			if len(r.items) > 3 { // each counts some 500 bytes
				t.Errorf("a request of %d calls is beyond 2000 bytes", len(r.items))
			}
		}
	})
}

// A call that is answered with what cannot be used, or is large, shares no request
// with others: they would wait for what it takes to carry and to read it.
func TestLargeAndWrongOnesTravelAlone(t *testing.T) {
	t.Parallel()
	const odd = 20
	inVirtualTime(t, FunctionLimits{Requests: 1, BatchBytes: 32 << 10}, func(t *testing.T, w *functionWorld) {
		w.wire.setFault(func(ctx context.Context, _ string, _ []runtime.Invocation) error {
			return waitOn(ctx, time.Millisecond)
		})
		shared := func(large bool) (shared, alone bool) {
			before := len(w.wire.sent())
			var all sync.WaitGroup
			for i := range 40 {
				m := w.open(t, numbered(i))
				if i == odd && large {
					m = w.message(t, numbered(i), "open", "OpenCheckingAccount", fmt.Sprintf(`{"client": "client:%s"}`, strings.Repeat("x", 5<<10)))
				}
				all.Go(func() {
					w.Compute(context.Background(), shard.Work{Aggregate: numbered(i), Commands: []*runtime.Message{m}})
				})
			}
			all.Wait()
			for _, r := range w.wire.sent()[before:] {
				if has(r.items, numbered(odd)) {
					shared, alone = shared || len(r.items) > 1, alone || len(r.items) == 1
				}
			}
			return shared, alone
		}
		if s, _ := shared(false); !s {
			t.Fatal("an ordinary call travels alone")
		}
		if s, _ := shared(true); s {
			t.Error("a large call shares a request")
		}
		both := w.wire.instances["http://both"][0]
		w.wire.serve("http://both", answererFunc{both, func(in runtime.Invocation, r *runtime.Result) {
			if in.Aggregate == numbered(odd) {
				r.Steps[0].Events = nil
			}
		}})
		if s, _ := shared(false); !s {
			t.Fatal("the first one that is answered wrongly shares no request")
		}
		if s, a := shared(false); s || !a {
			t.Errorf("who was answered wrongly shares a request: %v, travels alone: %v", s, a)
		}
		w.wire.serve("http://both", both)
		shared(false)
		if s, _ := shared(false); !s {
			t.Error("who was answered well again travels alone")
		}
	})
}

// answererFunc changes what another one answers.
type answererFunc struct {
	answerer
	change func(runtime.Invocation, *runtime.Result)
}

func (a answererFunc) Invoke(ctx context.Context, in runtime.Invocation, log *slog.Logger) runtime.Result {
	r := a.answerer.Invoke(ctx, in, log)
	a.change(in, &r)
	return r
}

func TestOneThatSpoilsARequestIsFoundAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	broken := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	for name, test := range map[string]struct {
		fault func(ctx context.Context) error
		kind  shard.TroubleKind
		limit time.Duration // until the others have their answers
	}{
		"by a 500": {func(context.Context) error {
			return &runtime.CallError{Kind: runtime.CallFailed, Status: 500, Reason: "status 500"}
		}, shard.Failed, 100 * time.Millisecond},
		"by its death": {func(context.Context) error {
			return &runtime.CallError{Kind: runtime.CallUnavailable, Reason: "reset", Err: broken}
		}, shard.Unavailable, 100 * time.Millisecond},
		"by its death behind a gateway": {func(context.Context) error {
			return &runtime.CallError{Kind: runtime.CallUnavailable, Status: 502, Reason: "bad gateway"}
		}, shard.Unavailable, 100 * time.Millisecond},
		"by never answering": {func(ctx context.Context) error { return waitOn(ctx, time.Hour) }, shard.Unavailable, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, FunctionLimits{Requests: 2}, func(t *testing.T, w *functionWorld) {
				const poison = 33
				w.wire.setFault(func(ctx context.Context, _ string, items []runtime.Invocation) error {
					if has(items, numbered(poison)) {
						return test.fault(ctx)
					}
					return waitOn(ctx, time.Millisecond)
				})
				began := time.Now()
				took := make([]time.Duration, 64)
				all := make([]shard.Computed, len(took))
				var done sync.WaitGroup
				for i := range all {
					work := shard.Work{Aggregate: numbered(i), Commands: []*runtime.Message{w.open(t, numbered(i))}}
					done.Go(func() { all[i] = w.Compute(context.Background(), work); took[i] = time.Since(began) })
				}
				done.Wait()
				for i, c := range all {
					switch {
					case i == poison:
						wantTrouble(t, c, test.kind)
					case c.Trouble != nil:
						t.Errorf("account %d suffers: %s", i, c.Trouble.Reason)
					case took[i] > test.limit:
						t.Errorf("account %d waited %v", i, took[i])
					}
				}
				// From now on it travels alone, and one that is lost asks less and less often.
				before := len(w.wire.sent())
				wantTrouble(t, w.computeMany(t, 2*poison)[poison], test.kind)
				for _, r := range w.wire.sent()[before:] {
					if has(r.items, numbered(poison)) && len(r.items) > 1 {
						t.Error("the suspect shared a request")
					}
				}
				if test.kind == shard.Failed {
					return
				}
				// However often it is lost, with nobody else there to succeed.
				work := shard.Work{Aggregate: numbered(poison), Commands: []*runtime.Message{w.open(t, numbered(poison))}}
				var last shard.Computed
				for range 6 {
					last = w.Compute(context.Background(), work)
					wantTrouble(t, last, shard.Unavailable)
				}
				if last.Trouble.Wait < 3*time.Second {
					t.Errorf("waits %v after eight losses", last.Trouble.Wait)
				}
				if w.Status()[0].Away {
					t.Error("one aggregate has closed the function to all others")
				}
			})
		})
	}
}

func TestSlowAggregatesDoNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, FunctionLimits{Requests: 2, Slow: 8}, func(t *testing.T, w *functionWorld) {
		slow := map[runtime.AggregateID]bool{}
		for i := range 6 {
			slow[numbered(i)] = true
		}
		w.wire.setFault(func(ctx context.Context, _ string, items []runtime.Invocation) error {
			for _, item := range items {
				if slow[item.Aggregate] {
					return waitOn(ctx, 5*time.Second)
				}
			}
			return waitOn(ctx, time.Millisecond)
		})
		var all sync.WaitGroup
		for i := range 6 {
			work := shard.Work{Aggregate: numbered(i), Commands: []*runtime.Message{w.open(t, numbered(i))}}
			all.Go(func() {
				if c := w.Compute(context.Background(), work); c.Trouble != nil {
					t.Error(c.Trouble)
				}
			})
			synctest.Wait()
		}
		began := time.Now()
		work := shard.Work{Aggregate: numbered(100), Commands: []*runtime.Message{w.open(t, numbered(100))}}
		if c := w.Compute(context.Background(), work); c.Trouble != nil {
			t.Error(c.Trouble)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("a quick aggregate waited %v for slow ones", took)
		}
		all.Wait()
	})
}

func TestFunctionThatIsAwayIsNotAskedByEverybody(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, FunctionLimits{}, func(t *testing.T, w *functionWorld) {
		refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		w.wire.setFault(func(context.Context, string, []runtime.Invocation) error {
			return &runtime.CallError{Kind: runtime.CallUnavailable, Reason: "connection refused", Err: refused}
		})
		for range 20 {
			for _, c := range w.computeMany(t, 50) {
				wantTrouble(t, c, shard.Unavailable)
			}
		}
		if n := len(w.wire.sent()); n > 6 {
			t.Errorf("%d requests to a function that refuses them, want some 3", n)
		}
		if !w.Status()[0].Away {
			t.Error("not known to be away")
		}
		// It comes back: whoever asks at his time finds out.
		w.wire.setFault(nil)
		began := time.Now()
		for {
			c := w.computeMany(t, 1)[0]
			if c.Trouble == nil {
				break
			}
			<-time.After(c.Trouble.Wait)
			if time.Since(began) > time.Second {
				t.Fatalf("still away after %v", time.Since(began))
			}
		}
		for _, c := range w.computeMany(t, 50) {
			if c.Trouble != nil {
				t.Error(c.Trouble)
			}
		}
	})
}

// Who was kept away from a function that did not answer is told when it does, once.
func TestWhoWaitsForAFunctionIsToldThatItIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		w := newFunctionWorld(t, func(s *FunctionSettings) {
			s.Available = func(trigger string) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, trigger)
			}
		})
		w.combined("http://both")
		w.meet(t)
		for range 2 {
			w.wire.setFault(func(context.Context, string, []runtime.Invocation) error {
				return &runtime.CallError{Kind: runtime.CallUnavailable, Reason: "connection refused",
					Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}
			})
			var name string
			for range 10 {
				for _, c := range w.computeMany(t, 50) {
					wantTrouble(t, c, shard.Unavailable)
					name = c.Trouble.Function
				}
			}
			synctest.Wait()
			if len(told) != 0 {
				t.Fatalf("told of %q while nobody answers", told)
			}
			w.wire.setFault(nil)
			for {
				c := w.computeMany(t, 1)[0]
				if c.Trouble == nil {
					break
				}
				<-time.After(c.Trouble.Wait)
			}
			w.computeMany(t, 50)
			synctest.Wait()
			if len(told) != 1 || told[0] != name || name == "" {
				t.Fatalf("told of %q, want once of %q", told, name)
			}
			told = nil
		}
		w.Close()
	})
}

func TestBusyFunctionGetsFewerRequests(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, FunctionLimits{Requests: 4}, func(t *testing.T, w *functionWorld) {
		var mu sync.Mutex
		busy, inFlight, most := true, 0, 0
		w.wire.setFault(func(ctx context.Context, _ string, _ []runtime.Invocation) error {
			mu.Lock()
			if busy {
				defer mu.Unlock()
				return &runtime.CallError{Kind: runtime.CallUnavailable, Status: 429, RetryAfter: 3 * time.Second, Reason: "busy"}
			}
			inFlight++
			most = max(most, inFlight)
			mu.Unlock()
			defer func() {
				mu.Lock()
				inFlight--
				mu.Unlock()
			}()
			return waitOn(ctx, time.Millisecond)
		})
		c := w.computeMany(t, 8)[0]
		wantTrouble(t, c, shard.Unavailable)
		if c.Trouble.Wait < 3*time.Second {
			t.Errorf("asked to wait 3s, waits %v", c.Trouble.Wait)
		}
		mu.Lock()
		busy = false
		mu.Unlock()
		for _, c := range w.computeMany(t, 50) {
			if c.Trouble != nil {
				t.Error(c.Trouble)
			}
		}
		if most != 1 {
			t.Errorf("%d requests at once after it was too busy for four", most)
		}
		for range 200 {
			w.computeMany(t, 8)
		}
		if most < 3 {
			t.Errorf("never more than %d requests at once, long after it was busy", most)
		}
	})
}

func TestCallThatNobodyWaitsForIsGivenUp(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, FunctionLimits{}, func(t *testing.T, w *functionWorld) {
		ended := make(chan error, 1)
		w.wire.setFault(func(ctx context.Context, _ string, _ []runtime.Invocation) error {
			err := waitOn(ctx, time.Hour)
			ended <- ctx.Err()
			return err
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		c := w.Compute(ctx, shard.Work{Aggregate: bankAccount, Commands: []*runtime.Message{w.open(t, bankAccount)}})
		wantTrouble(t, c, shard.Unavailable)
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(began) != time.Second {
			t.Errorf("the request ended with %v after %v", err, time.Since(began))
		}
	})
}

func TestCloseAnswersEverybody(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, FunctionLimits{Requests: 1, Slow: 1}, func(t *testing.T, w *functionWorld) {
		w.wire.setFault(func(ctx context.Context, _ string, _ []runtime.Invocation) error { return waitOn(ctx, time.Hour) })
		time.AfterFunc(time.Millisecond, w.Close)
		for _, c := range w.computeMany(t, 20) {
			wantTrouble(t, c, shard.Unavailable)
		}
		wantTrouble(t, w.computeMany(t, 1)[0], shard.Unavailable)
		if s := w.Status()[0]; s.Waiting != 0 || s.InFlight != 0 {
			t.Errorf("left behind: %+v", s)
		}
	})
}
