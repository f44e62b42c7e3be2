package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/crash"
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
				e.with(p, func(time.Time, *shard.Shard) {
					p.paused = true // so that it is read on when there is room for it
					e.pressure(p)
				})
			}
		})
	}
	return true
}

// feed takes what was read of one partition. Only that partition waits when a
// record of it cannot be understood yet: the rest of it is left to a goroutine of
// its own, and its fetching pauses, so that no more than one fetch is in memory.
func (e *Engine) feed(f kafka.Fetched) {
	p := e.partNumber(f.Partition)
	if p == nil || p.held != f.Held {
		return
	}
	p.mu.Lock()
	waits := p.waits
	if waits {
		p.behind = append(p.behind, f.Records...) // was in the same fetch
	}
	p.mu.Unlock()
	if waits {
		return
	}
	left := e.takeUp(p, nil, f.Records)
	if len(left) == 0 {
		return
	}
	p.mu.Lock()
	p.waits, p.behind = true, left
	e.pressure(p)
	p.mu.Unlock()
	e.work.Go(func() { e.feedBehind(p) })
}

// fed is a record that its shard can be told about.
type fed struct {
	offset  int64
	command *shard.Command // nil: there is nothing in it for anybody
	stray   bool           // stands in the wrong partition
}

// takeUp gives first, if there is one, and then the records to the partition's
// shard, up to the first one whose schema is not known here. It returns that one
// and those behind it.
func (e *Engine) takeUp(p *partition, first *fed, records []kafka.Record) []kafka.Record {
	list := make([]fed, 0, len(records)+1)
	if first != nil {
		list = append(list, *first)
	}
	crash.At(crash.FeedRead)
	strays := false
	n := 0
	for ; n < len(records); n++ {
		c, err := e.command(&records[n])
		if errors.Is(err, errUnknownSchema) {
			break
		}
		list = append(list, e.judge(&records[n], c, err))
	}
	e.with(p, func(now time.Time, s *shard.Shard) {
		if p.closing {
			return // the next owner reads them again
		}
		for _, item := range list {
			switch {
			case item.command == nil:
				s.Skip(item.offset)
			case item.stray:
				s.Stray(now, item.command)
				strays = true
			default:
				ordered := crash.On && item.command.Order != nil
				if ordered {
					crash.At(crash.OrderRead)
				}
				s.Record(now, item.command)
				if ordered {
					crash.At(crash.OrderObeyed)
				}
			}
		}
		e.pressure(p)
	})
	crash.At(crash.FeedTaken)
	if strays {
		e.forwardStrays(p)
	}
	return records[n:]
}

// judge says what to do with a record that was read, or never will be.
func (e *Engine) judge(r *kafka.Record, c *shard.Command, err error) fed {
	if err != nil {
		// Intake writes only what can be read; this is somebody else's, and there
		// is nobody to answer.
		e.cfg.Metrics.unreadable.Inc()
		e.cfg.Log.Error("record of the commands topic cannot be read; it is left out", "partition", r.Partition, "offset", r.Offset, "err", err)
		return fed{offset: r.Offset}
	}
	return fed{offset: r.Offset, command: c, stray: e.misplaced(c, r.Partition)}
}

// feedBehind feeds what waits behind a record whose schema is not known yet, in
// its order, until nothing is left or the partition is given up.
func (e *Engine) feedBehind(p *partition) {
	for {
		p.mu.Lock()
		left := p.behind
		p.behind = nil
		if p.waits = len(left) > 0 && p.ctx.Err() == nil; !p.waits {
			e.pressure(p)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		for len(left) > 0 && p.ctx.Err() == nil {
			r := &left[0]
			c, err := e.awaitCommand(p, r)
			if p.ctx.Err() != nil {
				break
			}
			first := e.judge(r, c, err)
			left = e.takeUp(p, &first, left[1:])
		}
	}
}

// errUnknownSchema is wrapped when a record needs a schema that this gateway
// has not read.
var errUnknownSchema = errors.New("schema is not registered")

// awaitCommand reads a record that needs a schema that is not known here: the
// schemas topic is read up to its end first, for what an intake accepted had
// been registered before. When the registration is there and this gateway cannot
// use it, a newer one has accepted the command, and must work it off: leaving it
// out would lose it, so the partition waits until it moves.
func (e *Engine) awaitCommand(p *partition, r *kafka.Record) (*shard.Command, error) {
	for {
		wait := 200 * time.Millisecond
		if behind := e.cfg.Schemas.CatchUp(p.ctx); behind == nil {
			c, err := e.command(r)
			if !errors.Is(err, errUnknownSchema) || !e.beyond(r) {
				return c, err
			}
			wait = 5 * time.Second
			e.cfg.Log.Error("a command needs a schema that this gateway cannot use; it must be of the version of the newest one. The partition waits", "partition", r.Partition, "offset", r.Offset, "err", err)
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
		c.Order = &shard.Order{Drop: true, Offset: o.Offset, Reason: o.Reason, By: operator(m.Source)}
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

// operator says who gave an order; "" when there is no authentication that knows.
func operator(source string) string {
	if strings.HasPrefix(source, "/evento/") {
		return ""
	}
	return source
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
