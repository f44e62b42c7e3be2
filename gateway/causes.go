package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// Each message names its cause twice: by id (causationid), which is for ever,
// and by coordinates (eventocause), which are a hint. So a chain is followed by
// one point read for each link, and each record that is found so is checked by
// its id. Where a hint leads elsewhere (a restored or mirrored topic has other
// offsets) the cause is searched, which is slow and logged: see causes_search.go.
//
// All reads are of committed records.

var (
	// ErrNoMessage is returned when no committed record of Evento's stands where
	// a chain is to begin.
	ErrNoMessage = errors.New("no committed message stands there")

	// ErrNoTopic is returned, wrapped with why, for coordinates that are not in a
	// topic of commands or events of this installation.
	ErrNoTopic = errors.New("not a topic of commands or events of this installation")

	// ErrCauseLoop is returned when a message would be its own cause. Evento
	// writes none; somebody wrote to the topics.
	ErrCauseLoop = errors.New("the chain of causes runs in a circle")

	// ErrManyChains is returned when no chain could be begun within the time
	// limit, because others were being followed.
	ErrManyChains = errors.New("too many chains of causes are being followed")
)

// MissingCause is the error when the cause of a message cannot be found.
type MissingCause struct {
	Of     Recorded            // the message whose cause is missing
	ID     string              // of the cause: what was looked for
	At     runtime.Coordinates // where it should stand; zero when Of does not say
	Looked string              // where it was looked for, in words
	Late   bool                // the time limit ended the search: it may be there
	err    error
}

func (e *MissingCause) Error() string {
	return fmt.Sprintf("the cause %q of %q at %s is not found: %s", e.ID, e.Of.Message.ID, e.Of.At, e.Looked)
}

// Unwrap returns what ended the search, if anything did.
func (e *MissingCause) Unwrap() error { return e.err }

// CausesConfig says how chains of causes are followed.
type CausesConfig struct {
	Topics     kafka.Topics
	Partitions int32
	Reader     *kafka.Reader // should not be the engine's: a search must not hold up its loads
	// Known says whether a type of aggregate is registered, and so has its topic.
	Known func(aggregate string) bool
	// Hash is that of a command's type, target and value, as its outcome has it.
	Hash func(*runtime.Message) (string, error)
	Log  *slog.Logger

	Concurrent int           // chains at a time, further ones wait; 0: 3, which leaves one of the reader's consumers to others while all are searched
	Limit      time.Duration // for one chain, waiting and searching included; 0: 30 s
}

// Causes follows chains of causes. It is safe for concurrent use.
type Causes struct {
	CausesConfig
	slots chan struct{}
}

// NewCauses makes a Causes.
func NewCauses(c CausesConfig) *Causes {
	def(&c.Concurrent, 3)
	def(&c.Limit, 30*time.Second)
	return &Causes{c, make(chan struct{}, c.Concurrent)}
}

// CauseChain is what was found of a chain, newest first.
type CauseChain struct {
	Links []Recorded
	// Next is where the rest of a chain begins that is longer than the limit;
	// zero when the last link is the root.
	Next runtime.Coordinates
}

// causeStart is the message where a chain begins.
type causeStart struct {
	At runtime.Coordinates
	// ID and Key say which message it must be. An empty ID takes what stands
	// there; a nil Key any message with the ID.
	ID    string
	Key   *runtime.CommandKey
	Since time.Time // about when it was written, for the search
	// Allow is asked about the message before anything behind it is read; its error
	// ends the chain. nil allows all.
	Allow func(Recorded) error
}

// Chain follows a chain from a message to its root, at most limit links of it.
// What was found comes with every error. Errors wrap [ErrNoTopic], [ErrNoMessage]
// or [ErrCauseLoop], or are a [*MissingCause], or the context's or Kafka's.
func (c *Causes) Chain(ctx context.Context, start causeStart, limit int) (CauseChain, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Limit, fmt.Errorf("the chain was not followed within %s", c.Limit))
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return CauseChain{}, fmt.Errorf("%w: %w", ErrManyChains, context.Cause(ctx))
	}
	var chain CauseChain
	link, err := c.begin(ctx, start)
	if err == nil && start.Allow != nil {
		err = start.Allow(link.Recorded)
	}
	seen := map[runtime.Coordinates]bool{}
	for err == nil {
		if seen[link.At] {
			return chain, fmt.Errorf("%w: %q at %s comes a second time", ErrCauseLoop, link.Message.ID, link.At)
		}
		if len(chain.Links) == limit {
			chain.Next = link.At
			return chain, nil
		}
		seen[link.At] = true
		chain.Links = append(chain.Links, link.Recorded)
		if link.Message.CausationID == "" {
			return chain, nil // the root
		}
		link, err = c.cause(ctx, link)
	}
	return chain, err
}

// placed is a message with the timestamp of its record.
type placed struct {
	Recorded
	written time.Time
}

// begin reads the first message of a chain.
func (c *Causes) begin(ctx context.Context, start causeStart) (placed, error) {
	if err := c.check(start.At); err != nil {
		return placed{}, err
	}
	p := kafka.Place{Topic: start.At.Topic, Partition: start.At.Partition}
	spans, err := c.Reader.Spans(ctx, []kafka.Place{p})
	if err != nil {
		return placed{}, err
	}
	want := causeWant{ID: start.ID, Key: start.Key}
	found, ok := placed{}, false
	if start.At.Offset < spans[p].Stable { // a point read above it would wait for what may never commit
		if found, ok, err = c.at(ctx, start.At); err != nil {
			return placed{}, err
		}
	}
	switch {
	case ok && (start.ID == "" || want.is(found.Message)):
		return found, nil
	case start.ID == "":
		return placed{}, fmt.Errorf("%w: %s", ErrNoMessage, start.At)
	}
	c.Log.Warn("a message is not where it was thought to be: its partition is searched", "message_id", start.ID, "topic", start.At.Topic, "partition", start.At.Partition, "offset", start.At.Offset)
	found, ok, looked, err := c.search(ctx, p, want, start.Since)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %q; %s", ErrNoMessage, start.ID, looked)
	}
	return found, err
}

// cause reads the direct cause of a message.
func (c *Causes) cause(ctx context.Context, of placed) (placed, error) {
	m := of.Message
	want := wantCause(m)
	missing := &MissingCause{Of: of.Recorded, ID: m.CausationID, At: m.Cause}
	p := kafka.Place{Topic: m.Cause.Topic, Partition: m.Cause.Partition}
	switch {
	case m.Cause != (runtime.Coordinates{}):
		if err := c.check(m.Cause); err != nil {
			missing.Looked, missing.err = fmt.Sprintf("it should stand at %s, which is %s", m.Cause, err), err
			return placed{}, missing
		}
		found, ok, err := c.at(ctx, m.Cause)
		if err != nil {
			return placed{}, c.late(ctx, missing, fmt.Sprintf("%s was read", m.Cause), err)
		}
		if ok && want.is(found.Message) {
			return found, nil
		}
	case m.Pos > 0: // an event's command is in the same partition of its own topic
		p = kafka.Place{Topic: c.Topics.Commands(), Partition: of.At.Partition}
	default:
		missing.Looked = "the message does not say where its cause stands"
		return placed{}, missing
	}
	c.Log.Warn("a cause is not where the message says: its partition is searched", "message_id", m.ID, "cause", m.CausationID, "topic", p.Topic, "partition", p.Partition, "offset", m.Cause.Offset)
	found, ok, looked, err := c.search(ctx, p, want, of.written)
	if err != nil {
		return placed{}, c.late(ctx, missing, looked, err)
	}
	if !ok {
		missing.Looked = looked
		return placed{}, missing
	}
	return found, nil
}

// late tells the end of the time limit from other errors.
func (c *Causes) late(ctx context.Context, missing *MissingCause, looked string, err error) error {
	if ctx.Err() == nil && !errors.Is(err, kafka.ErrStalled) {
		return err
	}
	missing.Late, missing.err = true, err
	missing.Looked = looked + ", but not to its end: the time was over"
	return missing
}

// check refuses coordinates that are not a place of commands or events here: a
// gateway may be able to read topics that its clients may not.
func (c *Causes) check(at runtime.Coordinates) error {
	aggregate, events := c.Topics.IsEvents(at.Topic)
	switch {
	case at.Topic != c.Topics.Commands() && (!events || aggregate != "" && !c.Known(aggregate)):
		return fmt.Errorf("%w: %q", ErrNoTopic, at.Topic)
	case at.Partition >= c.Partitions:
		return fmt.Errorf("%w: %q has the partitions 0 to %d, not %d", ErrNoTopic, at.Topic, c.Partitions-1, at.Partition)
	}
	return nil
}

// at reads the message at an offset. ok is false when there is none.
func (c *Causes) at(ctx context.Context, at runtime.Coordinates) (found placed, ok bool, err error) {
	records, err := c.Reader.Points(ctx, at.Topic, at.Partition, []int64{at.Offset})
	if errors.Is(err, kafka.ErrTruncated) {
		return placed{}, false, nil
	}
	if err != nil || len(records) == 0 {
		return placed{}, false, err
	}
	return c.placed(&records[0])
}

// placed reads a record; one that is not a message of Evento's is none.
func (c *Causes) placed(r *kafka.Record) (placed, bool, error) {
	m, err := kafka.ParseRecord(r)
	if err != nil {
		c.Log.Warn("a record cannot be read; it is taken for none", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		return placed{}, false, nil
	}
	return placed{Recorded{m, runtime.Coordinates{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}}, r.Time}, true, nil
}
