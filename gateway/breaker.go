package gateway

import (
	"math/rand/v2"
	"sync"
	"time"
)

// breaker keeps callers away from something that does not answer, so that each
// of them need not wait for a timeout to learn what is known already. It has
// no clock of its own: callers pass the time.
//
// It opens after a row of failures without a success among them, and lets one
// probe through per interval from then on. A probe is not waited for: one that
// hangs must not keep the next from finding the other side well again. Any
// success closes it.
type breaker struct {
	failures int           // in a row that open it; at least 1
	min, max time.Duration // interval between probes, doubling from min to max

	mu       sync.Mutex
	row      int           // failures since the last success
	culprit  string        // who has failed; "" for nobody yet
	several  bool          // more than one has
	interval time.Duration // 0 while closed
	probeAt  time.Time     // of the next probe, while open
}

// allow says whether a call may be made now, and if not, after how long to ask
// again. Jitter keeps those who wait from asking all at once.
func (b *breaker) allow(now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.interval == 0 {
		return 0, true
	}
	if now.Before(b.probeAt) {
		return b.probeAt.Sub(now) + rand.N(b.interval/2+1), false
	}
	b.interval = min(2*b.interval, b.max)
	b.probeAt = now.Add(b.interval/2 + rand.N(b.interval/2+1))
	return 0, true
}

// open says whether calls are kept away. Unlike allow it takes no probe.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.interval != 0
}

// succeeded reports a call that was answered, with whatever answer. It says
// whether that has closed the breaker.
func (b *breaker) succeeded() (closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	closed = b.interval != 0
	b.row, b.culprit, b.several, b.interval = 0, "", false, 0
	return closed
}

// failed reports a call that was not answered. A failure that may be the fault
// of the one who asked names it: as long as all failures are of one culprit,
// nobody else has to suffer, and the breaker stays closed. An empty culprit is
// for failures that are certainly the other side's.
func (b *breaker) failed(now time.Time, culprit string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case culprit == "", b.culprit != "" && b.culprit != culprit:
		b.several = true
	default:
		b.culprit = culprit
	}
	b.row++
	if b.interval == 0 && b.several && b.row >= b.failures {
		b.interval = b.min
		b.probeAt = now.Add(b.min/2 + rand.N(b.min/2+1))
	}
}
