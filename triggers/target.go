package triggers

import (
	"slices"
	"time"
)

// Role says what a subscriber does.
type Role string

const (
	Handler    Role = "handler"    // command + state -> events
	Aggregator Role = "aggregator" // state + events -> state
	Dispatcher Role = "dispatcher" // event -> commands
	Sink       Role = "sink"       // takes events, as any Knative subscriber does; the role of a Trigger that names none
)

// Content is the form in which a sink is given an event's data.
type Content string

const (
	ContentAvro Content = "avro" // the recorded bytes; the default
	ContentJSON Content = "json" // plain JSON made by the schema
)

// Start is where a new dispatcher or sink begins to read.
type Start string

const (
	StartLatest   Start = "latest" // at events recorded after the Trigger came; the default
	StartEarliest Start = "earliest"
)

// Target is whom a Trigger routes to, and how. Targets are shared and must not
// be changed.
type Target struct {
	Name      string // namespace/name of the Trigger; stable: ids of dispatched commands are derived from it
	Broker    string // the Trigger's spec.broker; "" for a Trigger that no file names a Broker for
	Roles     []Role // in the order handler, aggregator; one role otherwise
	Aggregate string // of a handler or aggregator: the aggregate's name; otherwise ""
	URL       string // absolute, http or https
	CACerts   string // PEM, trusted in addition when URL is https; "" for the system's alone

	// Combined says that the same function is handler and aggregator of the
	// aggregate, so that one call may do both. Of a handler's Target it is set
	// when the aggregate's aggregator has the same URL and CACerts; that
	// suffices to decide.
	Combined bool

	Delivery   Delivery
	DeadLetter *Destination // of a sink: where events go that it never took; nil for nowhere
	Content    Content      // of a sink
	Start      Start        // of a dispatcher or sink

	From string // where the Trigger was read, for people: "triggers.yaml, document 2"
}

// Has says whether the Target has the role.
func (t *Target) Has(r Role) bool { return slices.Contains(t.Roles, r) }

// Destination is a resolved address.
type Destination struct {
	URL     string
	CACerts string // PEM
}

// Delivery says how a call that failed is tried again: a Trigger's
// spec.delivery, with the gaps filled.
type Delivery struct {
	Retry    int           // calls after the first one
	Linear   bool          // the delay grows by Delay with each retry; otherwise it doubles
	Delay    time.Duration // before the first retry
	MaxDelay time.Duration // the longest delay; a command that is held is tried on at it
	Timeout  time.Duration // of one call
	Park     bool          // when the retries are used up: true parks the command, false holds it
}

// Backoff returns the delay before the n-th retry (from 1), as Knative's Kafka
// Broker counts: Delay*n when linear, else Delay*2^(n-1), and never more than
// MaxDelay. Jitter is the caller's.
func (d Delivery) Backoff(n int) time.Duration {
	if n < 1 {
		return 0
	}
	delay := min(d.Delay, d.MaxDelay)
	if delay <= 0 {
		return 0
	}
	if d.Linear {
		if time.Duration(n) > d.MaxDelay/delay { // the product would exceed the limit, or overflow
			return d.MaxDelay
		}
		return delay * time.Duration(n)
	}
	for ; n > 1 && delay < d.MaxDelay; n-- {
		if delay > d.MaxDelay/2 {
			return d.MaxDelay
		}
		delay *= 2
	}
	return delay
}
