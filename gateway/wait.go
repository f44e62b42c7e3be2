package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Waiters is the registry of requests at this gateway that wait for the
// outcome of a command. The command carries a [runtime.Waiter] with the
// gateway's internal address and a nonce; whichever gateway owns the command's
// partition hands the outcome to its [OutcomePoster], which brings it here.
//
// A waiter is answered at most once. What comes for nobody is dropped: the
// outcome is in the events topic anyway, and the client has its Location.
type Waiters struct {
	address string
	process string // random, begins every nonce: an answer to a former process finds nobody
	next    atomic.Uint64
	limits  WaitLimits

	mu        sync.Mutex // guards what follows
	closed    bool
	byNonce   map[string]*waiting
	aggregate map[runtime.AggregateID]int // how many wait for each
}

// WaitLimits bounds how many requests may wait at one gateway. A zero value
// takes the default.
type WaitLimits struct {
	Total        int // default 20,000; beyond it a command is accepted but not waited for
	PerAggregate int // default 2,000; beyond it commands of the aggregate are refused with 429
}

func (l WaitLimits) withDefaults() WaitLimits {
	if l.Total == 0 {
		l.Total = 20_000
	}
	if l.PerAggregate == 0 {
		l.PerAggregate = 2_000
	}
	return l
}

var (
	// errWaitersFull: the command can be accepted, but not waited for.
	errWaitersFull = errors.New("too many requests wait at this gateway")
	// errWaitersClosed: the gateway is stopping.
	errWaitersClosed = errors.New("the gateway is stopping")
)

// NewWaiters makes the registry. The address is host:port of this gateway's
// internal listener as other gateways reach it.
func NewWaiters(address string, limits WaitLimits) *Waiters {
	var process [12]byte
	rand.Read(process[:]) // never fails: crypto/rand
	return &Waiters{
		address:   address,
		process:   hex.EncodeToString(process[:]),
		limits:    limits.withDefaults(),
		byNonce:   make(map[string]*waiting),
		aggregate: make(map[runtime.AggregateID]int),
	}
}

// Address is host:port of this gateway's internal listener.
func (w *Waiters) Address() string { return w.address }

// waiting is one request that waits.
type waiting struct {
	registry  *Waiters
	aggregate runtime.AggregateID
	waiter    runtime.Waiter
	// outcome gets the outcome at most once (it has room for it), or is closed
	// without one when the gateway stops.
	outcome chan *Outcome
}

// add registers a waiter. It must be given back with done. The error is
// [ErrTooManyWaiting], errWaitersFull or errWaitersClosed.
func (w *Waiters) add(a runtime.AggregateID, deadline time.Time) (*waiting, error) {
	n := &waiting{
		registry:  w,
		aggregate: a,
		waiter: runtime.Waiter{
			Address:  w.address,
			Nonce:    w.process + "-" + strconv.FormatUint(w.next.Add(1), 36),
			Deadline: deadline.Truncate(time.Millisecond),
		},
		outcome: make(chan *Outcome, 1),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return nil, errWaitersClosed
	case w.aggregate[a] >= w.limits.PerAggregate:
		return nil, ErrTooManyWaiting
	case len(w.byNonce) >= w.limits.Total:
		return nil, errWaitersFull
	}
	w.byNonce[n.waiter.Nonce] = n
	w.aggregate[a]++
	return n, nil
}

// done ends the wait, answered or not. A second call does nothing.
func (n *waiting) done() {
	n.registry.mu.Lock()
	defer n.registry.mu.Unlock()
	n.registry.drop(n)
}

// drop takes n out of the registry; mu is held.
func (w *Waiters) drop(n *waiting) {
	if w.byNonce[n.waiter.Nonce] != n {
		return
	}
	delete(w.byNonce, n.waiter.Nonce)
	if w.aggregate[n.aggregate]--; w.aggregate[n.aggregate] == 0 {
		delete(w.aggregate, n.aggregate)
	}
}

// Resolve gives the outcome to whom the nonce names and says whether somebody
// waited. An outcome for another aggregate than the waiter's is not given.
func (w *Waiters) Resolve(nonce string, o *Outcome) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.byNonce[nonce]
	if n == nil || n.aggregate != o.Entity.Aggregate() {
		return false
	}
	w.drop(n)
	n.outcome <- o // has room: n was in the registry, so this is the first
	return true
}

// Len is how many requests wait.
func (w *Waiters) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byNonce)
}

// Close lets every waiter go without an outcome, and refuses new ones: the
// first step of a stop, so that clients get 202 and their Location at once.
func (w *Waiters) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, n := range w.byNonce {
		close(n.outcome)
	}
	clear(w.byNonce)
	clear(w.aggregate)
}
