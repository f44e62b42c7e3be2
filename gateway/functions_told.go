package gateway

import (
	"context"
	"time"
)

// toldTimeoutGrace is how much longer a request is waited for than the function
// is told. So it is the function that gives up on what is late, and says which
// invocation that was; otherwise one late invocation would lose the answers to
// all that share its request.
const toldTimeoutGrace = 500 * time.Millisecond

// toldContext shows an earlier deadline than the one at which it ends.
type toldContext struct {
	context.Context
	deadline time.Time
}

// Deadline returns when a function should be done.
func (c toldContext) Deadline() (time.Time, bool) { return c.deadline, true }

// withToldTimeout returns a context whose Deadline is after d, and which ends a grace later.
func withToldTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	now := time.Now()
	ctx, cancel := context.WithDeadline(parent, now.Add(d+toldTimeoutGrace))
	return toldContext{ctx, now.Add(d)}, cancel
}
