package gateway

import (
	"time"

	"github.com/evento-oss/evento/runtime"
)

// stateOffers decides whether a function is offered states by their hash.
//
// A function that keeps states need not be sent a large one that it has: the
// call names the state by version and hash, and only a process that has another,
// or none, answers that it needs the state. Then the same call goes out again at
// once with it. That costs one more round trip and nothing else: no attempt, and
// no failure for the breaker.
//
// A name that is missed more often than not is worse than the state. So it is
// with many replicas behind one address, since each has the states of its own
// calls only, with more aggregates than their caches hold, and with aggregates
// that are called once. Then nothing is offered for a while.
//
// It has no clock or lock of its own.
type stateOffers struct {
	rate   float64       // moving average of the misses, from 0 to 1
	pause  time.Duration // the last one
	until  time.Time     // when nothing is offered before
	all    int
	misses int
}

const (
	offersWeight   = 1.0 / 32 // of one answer in the moving average
	offersTooMany  = 0.5      // misses: from here on there is a pause
	offersResumed  = 0.4      // misses, as if, after a pause: a few in a row begin the next
	offersGood     = 0.2      // misses: from here down a pause is forgotten
	offersPauseMin = time.Second
	offersPauseMax = time.Minute
)

// allowed says whether a state may be offered now.
func (o *stateOffers) allowed(now time.Time) bool { return !now.Before(o.until) }

// hit notes a state that the function had.
func (o *stateOffers) hit() {
	o.all++
	o.rate -= offersWeight * o.rate
	if o.rate <= offersGood {
		o.pause = 0
	}
}

// miss notes a state that it did not have.
func (o *stateOffers) miss(now time.Time) {
	o.all++
	o.misses++
	if !o.allowed(now) {
		return // an offer of before the pause
	}
	if o.rate += offersWeight * (1 - o.rate); o.rate <= offersTooMany {
		return
	}
	o.pause = min(max(2*o.pause, offersPauseMin), offersPauseMax)
	o.until = now.Add(o.pause)
	o.rate = offersResumed
}

// offerOf returns the hash that is sent in place of an item's state, or nil. It
// is of the bytes that this build would be sent: another schema is another state.
func (l *functionLine) offerOf(build *runtime.Description, item *runtime.Invocation) []byte {
	least := l.f.set.Limits.OfferBytes
	if !build.Caches || item.StateSchema == "" || least < 0 || len(item.State) < max(least, runtime.MinKeptState) {
		return nil
	}
	l.mu.Lock()
	allowed := l.offers.allowed(l.f.now())
	l.mu.Unlock()
	if !allowed {
		return nil
	}
	hash := runtime.HashState(item.State)
	return hash[:]
}

// missed notes the answer to a call that offered a state, and says whether it
// has to be made again with it. It is called with mu held.
func (l *functionLine) missed(r *runtime.Result) bool {
	switch {
	case r.Failure == nil:
		l.offers.hit()
	case r.Failure.Code == runtime.FailureStateNeeded:
		l.offers.miss(l.f.now())
		return true
	}
	return false
}
