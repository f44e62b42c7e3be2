package runtime

import (
	"context"
	"log/slog"
	"time"
)

// Metadata is the envelope of the message that a function is called with.
type Metadata struct {
	ID            string
	Source        string    // who sent it; the principal, for a client that is known
	Time          time.Time // when it was sent or happened; UTC, milliseconds
	CausationID   string    // id of the direct cause; empty for a message from outside
	CorrelationID string    // id of the root cause
}

func metadata(m *Message) Metadata {
	return Metadata{ID: m.ID, Source: m.Source, Time: m.Time, CausationID: m.CausationID, CorrelationID: m.CorrelationID}
}

// HandlerContext is what a handler knows beside state and command. As a
// [context.Context] it ends at the deadline of the call.
//
// A handler may be called more than once for one command, and its events are
// recorded once. So a side effect inside happens at least once.
type HandlerContext struct {
	context.Context
	command   *Message
	aggregate AggregateID
	version   uint64
	now       time.Time
	log       *slog.Logger
}

// Entity returns the entity that the command targets: the root, or one inside.
func (c HandlerContext) Entity() Entity { return c.command.Subject }

// Aggregate returns the id of the aggregate.
func (c HandlerContext) Aggregate() AggregateID { return c.aggregate }

// Child returns the reference of an entity that lives in this aggregate, for
// example Child("card", "7f3a") of credit:77 is credit:77/card:7f3a.
func (c HandlerContext) Child(prefix, id string) Entity {
	return Entity(string(c.aggregate) + "/" + prefix + ":" + id)
}

// Version returns the version of the aggregate before the command; 0 when it has no event.
func (c HandlerContext) Version() uint64 { return c.version }

// Command returns the command's envelope.
func (c HandlerContext) Command() Metadata { return metadata(c.command) }

// Now returns the time of the command. A handler that takes the time from here
// decides the same when it is called again.
func (c HandlerContext) Now() time.Time { return c.now }

// Logger returns a logger that names the command. Payloads do not belong in logs.
func (c HandlerContext) Logger() *slog.Logger {
	return c.log.With("entity", string(c.command.Subject), "command_id", c.command.ID, "version", c.version)
}

// AggregatorContext is what an aggregator knows beside state and event. It is
// only what the event's record holds, so that folding the same events gives the
// same state each time. There is no clock, no logger and nothing to send with.
type AggregatorContext struct {
	event     *Message
	aggregate AggregateID
	version   uint64
	id        func() string
}

// Entity returns the entity that the event belongs to: the root, or one inside.
func (c AggregatorContext) Entity() Entity { return c.event.Subject }

// Aggregate returns the id of the aggregate.
func (c AggregatorContext) Aggregate() AggregateID { return c.aggregate }

// Version returns the version of the aggregate with this event; the first is 1.
func (c AggregatorContext) Version() uint64 { return c.version }

// EventID returns the event's id.
func (c AggregatorContext) EventID() string { return c.id() }

// Time returns when the event happened; UTC, milliseconds.
func (c AggregatorContext) Time() time.Time { return c.event.Time }

// DispatcherContext is what a dispatcher knows beside the event. It has no
// aggregate: a dispatcher belongs to none.
type DispatcherContext struct {
	context.Context
	event *Message
	log   *slog.Logger
}

// Entity returns the entity that the event belongs to.
func (c DispatcherContext) Entity() Entity { return c.event.Subject }

// Version returns the version of the event's aggregate with this event.
func (c DispatcherContext) Version() uint64 { return c.event.Sequence }

// Event returns the event's envelope.
func (c DispatcherContext) Event() Metadata { return metadata(c.event) }

// Now returns the time of the event. A dispatcher that takes the time from here
// decides the same when it is called again.
func (c DispatcherContext) Now() time.Time { return c.event.Time }

// Logger returns a logger that names the event.
func (c DispatcherContext) Logger() *slog.Logger {
	return c.log.With("entity", string(c.event.Subject), "event_id", c.event.ID, "version", c.event.Sequence)
}
