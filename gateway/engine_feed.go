package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// poll reads commands and feeds them to their shards.
func (e *Engine) poll() error {
	for {
		fetched, err := e.group.Poll(e.ctx)
		for _, f := range fetched {
			e.feed(f)
		}
		switch {
		case err == nil:
		case errors.Is(err, kafka.ErrClosed) || e.ctx.Err() != nil:
			return nil
		case e.readAgain(err):
		default:
			e.cfg.Log.Error("commands cannot be read", "err", err)
			if !sleep(e.ctx, time.Second) {
				return nil
			}
		}
	}
}

// readAgainAfter is the break after an error of a single partition.
const readAgainAfter = time.Second

// readAgain has partitions that could not be read, and are paused for that, read
// on after a while; the others are not held up. It returns false when the error
// is about more than single partitions.
func (e *Engine) readAgain(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all := true
		for _, err := range joined.Unwrap() {
			all = e.readAgain(err) && all
		}
		return all
	}
	var failed *kafka.PartitionError
	if !errors.As(err, &failed) {
		return false
	}
	e.cfg.Log.Error("commands of a partition cannot be read; trying again", "err", failed)
	if p := e.partNumber(failed.Partition); p != nil && p.held == failed.Held {
		e.work.Go(func() {
			if sleep(p.ctx, readAgainAfter) {
				e.with(p, func(_ time.Time, s *shard.Shard) {
					p.paused = true // so that it is read on when there is room for it
					e.pressure(p, s)
				})
			}
		})
	}
	return true
}

func (e *Engine) feed(f kafka.Fetched) {
	p := e.partNumber(f.Partition)
	if p == nil || p.held != f.Held {
		return
	}
	type fed struct {
		offset  int64
		command *shard.Command
	}
	list := make([]fed, 0, len(f.Records))
	for i := range f.Records {
		r := &f.Records[i]
		c, err := e.knownCommand(p, r)
		if p.ctx.Err() != nil {
			return
		}
		if err != nil {
			// Intake writes only what can be read; this is somebody else's, and
			// there is nobody to answer.
			e.cfg.Metrics.unreadable.Inc()
			e.cfg.Log.Error("record of the commands topic cannot be read; it is left out", "partition", f.Partition, "offset", r.Offset, "err", err)
		}
		if c != nil && kafka.Partition(string(c.Message.Aggregate()), e.cfg.Partitions) != f.Partition {
			if !e.forward(p, c, r) {
				return
			}
			c = nil
		}
		list = append(list, fed{r.Offset, c})
	}
	e.with(p, func(now time.Time, s *shard.Shard) {
		for _, item := range list {
			if item.command == nil {
				s.Skip(item.offset)
				continue
			}
			s.Record(now, item.command)
		}
		e.pressure(p, s)
	})
}

// errUnknownSchema is wrapped when a record needs a schema that this gateway
// has not read.
var errUnknownSchema = errors.New("schema is not registered")

// knownCommand reads a record. When it needs a schema that is not known here,
// the schemas topic is read up to its end first: what an intake accepted had
// been registered before. When the registration is there and this gateway cannot
// use it, a newer one has accepted the command, and must work it off: leaving it
// out would lose it, so reading stops until the partition moves.
func (e *Engine) knownCommand(p *partition, r *kafka.Record) (*shard.Command, error) {
	for {
		c, err := e.command(r)
		if !errors.Is(err, errUnknownSchema) {
			return c, err
		}
		wait := 200 * time.Millisecond
		if behind := e.cfg.Schemas.CatchUp(p.ctx); behind == nil {
			c, err := e.command(r)
			if !errors.Is(err, errUnknownSchema) || !e.beyond(r) {
				return c, err
			}
			wait = 5 * time.Second
			e.cfg.Log.Error("a command needs a schema that this gateway cannot use; it must be of the version of the newest one", "partition", r.Partition, "offset", r.Offset, "err", err)
		}
		if !sleep(p.ctx, wait) {
			return nil, context.Cause(p.ctx)
		}
	}
}

func (e *Engine) beyond(r *kafka.Record) bool {
	m, err := kafka.ParseRecord(r)
	return err == nil && e.cfg.Schemas.Beyond(m.Type.Namespace())
}

// forward writes a record that stands in the wrong partition to its own. It
// returns false when the partition is given up meanwhile; then the next owner
// does it, and the twin is a repeat.
func (e *Engine) forward(p *partition, c *shard.Command, r *kafka.Record) bool {
	e.cfg.Log.Warn("command stands in the wrong partition; it is forwarded: its producer does not partition by murmur2 of the key",
		"partition", r.Partition, "offset", r.Offset, "entity", string(c.Message.Subject))
	for {
		ctx, cancel := context.WithTimeoutCause(p.ctx, 30*time.Second, errors.New("forwarding took more than 30s"))
		_, err := e.cfg.Producer.Produce(ctx, e.commandRecord(c.Message))
		cancel()
		if err == nil {
			return true
		}
		e.cfg.Log.Warn("could not forward a command; trying again", "partition", r.Partition, "offset", r.Offset, "err", err)
		if !sleep(p.ctx, time.Second) {
			return false
		}
	}
}

// commandRecord is the record of a message for the commands topic.
func (e *Engine) commandRecord(m *runtime.Message) kafka.Record {
	id := string(m.Aggregate())
	r := kafka.NewRecord(e.cfg.Topics.Commands(), kafka.Partition(id, e.cfg.Partitions), m)
	r.Key = []byte(id)
	return r
}

// command reads a record of the commands topic.
func (e *Engine) command(r *kafka.Record) (*shard.Command, error) {
	m, err := kafka.ParseRecord(r)
	if err != nil {
		return nil, err
	}
	c := &shard.Command{Offset: r.Offset, Message: m, Key: m.Key()}
	view, err := e.cfg.Catalogue.AggregateOf(m.Subject)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnknownSchema, err)
	}
	c.Topic = e.cfg.Topics.Events(view.Name)
	switch m.Type {
	case runtime.TypeRetryNow:
		o, err := e.cfg.Catalogue.DecodeRetryNow(m.Schema, m.Data)
		if err != nil {
			return nil, err
		}
		c.Order = &shard.Order{Offset: o.Offset}
		return c, nil
	case runtime.TypeDropCommand:
		o, err := e.cfg.Catalogue.DecodeDropCommand(m.Schema, m.Data)
		if err != nil {
			return nil, err
		}
		c.Order = &shard.Order{Drop: true, Offset: o.Offset, Reason: o.Reason}
		return c, nil
	}
	t, ok := e.cfg.Catalogue.Version(m.Schema)
	if !ok {
		return nil, fmt.Errorf("%w: %q", errUnknownSchema, m.Schema)
	}
	c.Publish = t.Outcome()
	if c.Hash, err = e.cfg.Catalogue.CanonicalHash(m); err != nil {
		return nil, err
	}
	return c, nil
}

// sleep waits, or returns false when ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
