package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// functionLine is the way to one function. A call is sent at once while fewer
// than limit requests are in flight; those that come meanwhile collect and go
// together in the next request. So one call alone never waits, and under load
// requests grow as fast as the function can take them.
//
// A request that takes longer than SlowAfter no longer keeps the next one back:
// a function that works for long gets many requests, and a single slow
// aggregate delays those only that went with it.
//
// A request that fails as a whole, or takes very long, is made again call by
// call, so that the one that spoils it is found and the others go on. An
// aggregate whose call was lost, spoiled its request or was answered with what
// cannot be used is a suspect: until one is answered well, its calls travel alone.
// So does a call that is large: what shares its request waits for all its bytes.
type functionLine struct {
	f       *Functions
	url     string
	caller  FunctionCaller
	breaker breaker

	described chan struct{} // holds one token: who has it may call Describe

	mu       sync.Mutex // before breaker.mu
	queue    []*functionCall
	limit    int                         // of flying; halved by 429, grows with answers
	answers  int                         // since limit changed
	flying   int                         // requests that keep the next one back
	slow     int                         // those in flight that do not
	suspect  int                         // those in flight that carry a suspect
	suspects map[runtime.AggregateID]int // calls in a row that were lost, 1 for one that spoiled something; bounded by maxSuspects
	runs     int                         // commands of one aggregate in a call, at most
	build    *runtime.Description
	buildAt  time.Time // when build was last seen
	offers   stateOffers

	awayMu sync.Mutex          // guards away; taken last
	away   map[string]struct{} // Triggers whose calls were kept away since the breaker opened
}

// largeShare is the part of a full request from which on a call travels alone.
const largeShare = 8

// functionCall is one invocation on its way.
type functionCall struct {
	ctx     context.Context // of who asks
	built   runtime.Fingerprint
	timeout time.Duration
	item    runtime.Invocation
	about   runtime.AggregateID // whose call it is; of a dispatcher's the event's, which item does not say
	offer   []byte              // hash that is sent in place of the item's state; nil: the state is
	size    int                 // bytes, about, with the state: the answer has one as large
	split   bool                // it travels alone: it was in a request that failed as a whole, or that takes long
	batch   *functionBatch
	asker   *functionAsker
}

// functionAsker waits for the first answer to a call, which may be made twice.
type functionAsker struct {
	answered bool                // guarded by functionLine.mu
	done     chan functionAnswer // capacity 1
}

// answer is called with functionLine.mu held.
func (c *functionCall) answer(a functionAnswer) {
	if !c.asker.answered {
		c.asker.answered = true
		c.asker.done <- a
	}
}

type functionAnswer struct {
	result runtime.Result
	err    error
}

// functionBatch is one request.
type functionBatch struct {
	calls   []*functionCall
	alone   bool // takes no other call in
	suspect bool // and for that reason
	isSlow  bool // guarded by functionLine.mu
	ended   bool // guarded by functionLine.mu
	gone    int  // guarded by functionLine.mu: calls that nobody waits for any more
	cancel  context.CancelFunc
}

// awayError says that a function is not called now because it did not answer.
type awayError struct{ wait time.Duration }

func (e *awayError) Error() string { return "it did not answer; it is asked again soon" }

func newFunctionLine(f *Functions, url string, caller FunctionCaller) *functionLine {
	l := &functionLine{
		f: f, url: url, caller: caller, limit: f.set.Limits.Requests,
		breaker:   breaker{failures: 3, min: 100 * time.Millisecond, max: 5 * time.Second},
		described: make(chan struct{}, 1), suspects: map[runtime.AggregateID]int{},
		runs: f.set.Limits.BatchItems,
	}
	l.described <- struct{}{}
	return l
}

// call sends one invocation, encoded for a build, and waits for its answer.
func (l *functionLine) call(ctx context.Context, build *runtime.Description, timeout time.Duration, about runtime.AggregateID, item runtime.Invocation) (runtime.Result, error) {
	c := &functionCall{
		ctx: ctx, built: build.Hash, timeout: timeout, item: item, about: about, size: invocationSize(&item),
		offer: l.offerOf(build, &item), asker: &functionAsker{done: make(chan functionAnswer, 1)},
	}
	l.mu.Lock()
	l.queue = append(l.queue, c)
	l.pump()
	l.mu.Unlock()
	select {
	case a := <-c.asker.done:
		return a.result, a.err
	case <-ctx.Done():
		l.abandon(c)
		return runtime.Result{}, context.Cause(ctx)
	}
}

// invocationSize is about what an invocation takes on the wire.
func invocationSize(item *runtime.Invocation) int {
	n := 200 + len(item.State)
	for _, m := range item.Messages {
		n += 300 + len(m.Data)
	}
	return n
}

// abandon ends a request that nobody waits for any more.
func (l *functionLine) abandon(c *functionCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := c.batch; b != nil {
		if b.gone++; b.gone == len(b.calls) {
			b.cancel()
		}
	}
}

// pump sends what may be sent. It is called with mu held.
func (l *functionLine) pump() {
	for len(l.queue) > 0 && l.flying < l.limit {
		batch := l.take()
		if len(batch.calls) == 0 {
			return
		}
		if err := l.f.ctx.Err(); err != nil {
			l.answerAll(batch.calls, errFunctionsClosed)
			continue
		}
		if wait, ok := l.breaker.allow(l.f.now()); !ok {
			l.answerAll(batch.calls, &awayError{wait})
			continue
		}
		l.flying++
		if batch.suspect {
			l.suspect++
		}
		ctx, cancel := withToldTimeout(l.f.ctx, batch.calls[0].timeout)
		batch.cancel = cancel
		for _, c := range batch.calls {
			c.batch = batch
		}
		l.f.calls.Go(func() { l.send(ctx, batch) })
	}
}

func (l *functionLine) answerAll(calls []*functionCall, err error) {
	for _, c := range calls {
		c.answer(functionAnswer{err: err})
	}
}

// drain answers everybody who waits in the queue.
func (l *functionLine) drain(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answerAll(l.queue, err)
	l.queue = nil
}

// take removes the calls of the next request from the queue: the first one, and
// as many as fit that are encoded for the same build and wait as long. Half of
// the slow requests at most may carry suspects, so that the others get through.
// It is called with mu held.
func (l *functionLine) take() *functionBatch {
	limits := &l.f.set.Limits
	b := &functionBatch{}
	size, kept := 0, l.queue[:0]
	for i, c := range l.queue {
		if c.ctx.Err() != nil || c.asker.answered {
			continue // nobody waits for it
		}
		suspect := l.suspects[c.about] > 0
		lone := c.split || suspect || c.size > limits.BatchBytes/largeShare
		fits := !suspect || l.suspect < max(1, limits.Slow/2)
		if len(b.calls) > 0 {
			first := b.calls[0]
			fits = !lone && c.built == first.built && c.timeout == first.timeout && size+c.size <= limits.BatchBytes
		}
		if !fits {
			kept = append(kept, c)
			continue
		}
		b.alone, b.suspect = lone, suspect
		b.calls = append(b.calls, c)
		size += c.size
		if b.alone || len(b.calls) == limits.BatchItems {
			kept = append(kept, l.queue[i+1:]...)
			break
		}
	}
	clear(l.queue[len(kept):])
	l.queue = kept
	return b
}

// send makes one request and answers its calls.
func (l *functionLine) send(ctx context.Context, b *functionBatch) {
	defer b.cancel()
	slow := time.AfterFunc(l.f.set.Limits.SlowAfter, func() { l.markSlow(b) })
	late := time.AfterFunc(l.f.set.Limits.SplitAfter, func() { l.markLate(b) })
	results, err := l.invoke(ctx, b)
	slow.Stop()
	late.Stop()

	l.mu.Lock()
	defer l.mu.Unlock()
	b.ended = true
	if b.isSlow {
		l.slow--
	} else {
		l.flying--
	}
	if b.suspect {
		l.suspect--
	}
	if err == nil {
		l.deliver(b, results)
	} else {
		l.fail(ctx, b, err)
	}
	l.pump()
}

// markSlow lets the next request go although b has not been answered.
func (l *functionLine) markSlow(b *functionBatch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.ended || b.isSlow || l.slow >= l.f.set.Limits.Slow {
		return
	}
	b.isSlow = true
	l.flying--
	l.slow++
	l.pump()
}

// markLate makes the calls of b once more, each by itself: one of them takes
// long, and the others need not wait for it. Whichever answer comes first counts.
func (l *functionLine) markLate(b *functionBatch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.ended || len(b.calls) == 1 {
		return
	}
	again := make([]*functionCall, 0, len(b.calls)+len(l.queue))
	for _, c := range b.calls {
		once := *c
		once.split, once.batch = true, nil
		again = append(again, &once)
	}
	l.queue = append(again, l.queue...)
	l.pump()
}

func (l *functionLine) invoke(ctx context.Context, b *functionBatch) (results []runtime.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.f.set.Logger.Error("calling a function panicked", "function", l.url, "err", fmt.Sprint(p), "trace", string(debug.Stack()))
			err = &runtime.CallError{Kind: runtime.CallFailed, Reason: fmt.Sprintf("evento panicked while it called: %v", p)}
		}
	}()
	items := make([]runtime.Invocation, len(b.calls))
	for i, c := range b.calls {
		items[i] = c.item
		items[i].ID = strconv.Itoa(i)
		if c.offer != nil {
			items[i].State, items[i].StateHash = nil, c.offer
		}
	}
	results, _, err = l.caller.Invoke(ctx, l.url, b.calls[0].built, items)
	return results, err
}

// deliver gives every call its result, or sends it again with the state that
// the function does not have. It is called with mu held.
func (l *functionLine) deliver(b *functionBatch, results []runtime.Result) {
	l.answered()
	byCall := make([]*runtime.Result, len(b.calls))
	for i := range results {
		n, err := strconv.Atoi(results[i].ID)
		if err == nil && n >= 0 && n < len(byCall) && byCall[n] == nil {
			byCall[n] = &results[i]
		}
	}
	var again []*functionCall
	for i, c := range b.calls {
		r := byCall[i]
		if r == nil {
			c.answer(functionAnswer{err: &runtime.CallError{Kind: runtime.CallFailed,
				Reason: fmt.Sprintf("its answer to %d invocations leaves this one out", len(b.calls))}})
			continue
		}
		if c.offer != nil && l.missed(r) {
			c.offer, c.batch = nil, nil
			again = append(again, c)
			continue
		}
		if r.Failure == nil || r.Failure.Code != runtime.FailureDeadline {
			delete(l.suspects, c.about)
		}
		c.answer(functionAnswer{result: *r})
	}
	if len(again) > 0 {
		l.queue = append(again, l.queue...)
	}
}

// answered notes that the function is there. It is called with mu held.
func (l *functionLine) answered() {
	l.there()
	if l.limit < l.f.set.Limits.Requests {
		if l.answers++; l.answers > 8*l.limit {
			l.limit, l.answers = l.limit+1, 0
		}
	}
}

// there notes that somebody answers, and tells those who were kept away while
// nobody did.
func (l *functionLine) there() {
	if !l.breaker.succeeded() || l.f.set.Available == nil || l.f.ctx.Err() != nil {
		return
	}
	l.awayMu.Lock()
	names := l.away
	l.away = nil
	l.awayMu.Unlock()
	if len(names) > 0 {
		// Not here: who is told may ask at once, and callers hold mu.
		l.f.calls.Go(func() {
			for name := range names {
				l.f.set.Available(name)
			}
		})
	}
}

// keptAway notes that what a Trigger names was not called.
func (l *functionLine) keptAway(trigger string) {
	l.awayMu.Lock()
	defer l.awayMu.Unlock()
	if l.away == nil {
		l.away = map[string]struct{}{}
	}
	l.away[trigger] = struct{}{}
}

// fail decides what becomes of a request that failed as a whole, a reason a
// branch. It is called with mu held.
func (l *functionLine) fail(ctx context.Context, b *functionBatch, err error) {
	var changed *runtime.DescriptionChanged
	var failure *runtime.CallError
	errors.As(err, &failure)
	many := len(b.calls) > 1
	lost := ctx.Err() != nil || lostOnTheWay(failure)
	switch {
	case errors.As(err, &changed):
		// It is there, and has said how it wants to be called.
		l.answered()
		l.answerAll(b.calls, err)
		return
	case l.f.ctx.Err() != nil || b.gone == len(b.calls):
		// Given up by us: that says nothing about the function.
		l.answerAll(b.calls, errFunctionsClosed)
		return
	case failure != nil && failure.Status == http.StatusTooManyRequests:
		// It is there and has enough to do: fewer requests, and larger ones.
		l.limit, l.answers = max(1, l.limit/2), 0
		l.answerAll(b.calls, err)
		return
	case lost && many, failure != nil && failure.Kind == runtime.CallFailed && many:
		// One of them may have killed or stalled it, or have spoiled the answer.
		// Each is tried again by itself, ahead of those who came later.
		if !lost {
			l.there()
		}
		again := make([]*functionCall, 0, len(b.calls)+len(l.queue))
		for _, c := range b.calls {
			c.split, c.batch = true, nil
			again = append(again, c)
		}
		l.queue = append(again, l.queue...)
		return
	case lost:
		// Too late, or the connection broke. Perhaps this aggregate's fault alone.
		culprit := b.calls[0].about
		l.suspectMissed(culprit)
		l.breaker.failed(l.f.now(), string(culprit))
	case failure != nil && failure.Kind == runtime.CallFailed:
		l.answered() // with nonsense, but it is there
		l.suspectAtLeastOnce(b.calls[0].about)
	default:
		l.breaker.failed(l.f.now(), "")
	}
	l.answerAll(b.calls, err)
}

// lostOnTheWay says whether a request may have reached the function, and its
// answer never came: the function may have died of it. A gateway before the
// function says so by 502, 504 or 408.
func lostOnTheWay(failure *runtime.CallError) bool {
	if failure == nil || failure.Kind != runtime.CallUnavailable {
		return false
	}
	var op *net.OpError
	refused := errors.As(failure.Err, &op) && op.Op == "dial"
	switch failure.Status {
	case 0:
		return !refused
	case http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return true
	}
	return false
}

// runLimit returns how many commands of one aggregate may go in one call. It
// falls to a quarter of what was too much, and doubles when as many were done.
func (l *functionLine) runLimit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runs
}

func (l *functionLine) shortenRuns(tooMuch int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = max(1, tooMuch/4)
}

func (l *functionLine) lengthenRuns(done int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if done >= l.runs {
		l.runs = min(2*l.runs, l.f.set.Limits.BatchItems)
	}
}

func (l *functionLine) status() FunctionStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return FunctionStatus{
		URL: l.url, Away: l.breaker.open(), Waiting: len(l.queue),
		InFlight: l.flying + l.slow, Built: l.build, Offered: l.offers.all, Missed: l.offers.misses,
	}
}
