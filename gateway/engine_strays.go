package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
)

// How a command that stands in the wrong partition is written to its own: how
// long one try takes at most, and when the next one is made.
const (
	forwardTimeout = 10 * time.Second
	forwardAgain   = time.Second      // its partition is away
	forwardRefused = 30 * time.Second // Kafka does not take the record: somebody must change a setting
)

// misplaced says whether a command that was read in a partition belongs to another.
func (e *Engine) misplaced(c *shard.Command, partition int32) bool {
	return kafka.Partition(string(c.Message.Aggregate()), e.cfg.Partitions) != partition
}

// forwardStrays has the strays of a partition written to their own partitions,
// by one goroutine as long as there are any. The partition goes on meanwhile.
func (e *Engine) forwardStrays(p *partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.strays != nil {
		select {
		case p.strays <- struct{}{}:
		default:
		}
		return
	}
	if p.ctx.Err() != nil {
		return
	}
	p.strays = make(chan struct{}, 1)
	e.work.Go(func() { e.forwardAll(p, p.strays) })
}

// strayTry is how far a stray is that could not be forwarded.
type strayTry struct {
	next    time.Time
	refused bool // the record itself: it does not hold up those behind it
}

func (e *Engine) forwardAll(p *partition, news <-chan struct{}) {
	tries := map[int64]strayTry{}
	for {
		p.mu.Lock()
		var list []*shard.Command
		if p.shard != nil {
			list = p.shard.Strays()
		}
		if len(list) == 0 {
			p.strays = nil
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		next := e.forwardDue(p, list, tries)
		wait := time.NewTimer(time.Until(next))
		select {
		case <-p.ctx.Done():
		case <-news:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// forwardDue forwards those of the strays, in their order, that are due, and
// returns when the next one is. Behind one whose partition is away wait the
// others of that partition: they may be of the same aggregate.
func (e *Engine) forwardDue(p *partition, list []*shard.Command, tries map[int64]strayTry) time.Time {
	now := time.Now()
	next := now.Add(forwardRefused)
	away := map[int32]bool{}
	for _, c := range list {
		r := e.commandRecord(c.Message)
		try, failed := tries[c.Offset]
		if away[r.Partition] {
			continue
		}
		if failed && try.next.After(now) {
			away[r.Partition] = !try.refused
			next = earlier(next, try.next)
			continue
		}
		err := e.forward(p, c, r)
		switch {
		case p.ctx.Err() != nil:
			return now // somebody else's now; a twin is a repeat
		case err == nil:
			delete(tries, c.Offset)
			continue
		case kafka.RefusesRecord(err):
			tries[c.Offset] = strayTry{next: now.Add(forwardRefused), refused: true}
			if !failed {
				e.cfg.Log.Error("a command stands in the wrong partition, and kafka does not take it in its own; it is set aside and tried again", "partition", p.held.Partition, "offset", c.Offset, "entity", string(c.Message.Subject), "err", err)
			}
		default:
			tries[c.Offset] = strayTry{next: now.Add(forwardAgain)}
			away[r.Partition] = true
			e.cfg.Log.Warn("could not forward a command; trying again", "partition", p.held.Partition, "offset", c.Offset, "err", err)
		}
		next = earlier(next, tries[c.Offset].next)
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// forward writes one stray to its own partition and tells the shard. A time-out
// leaves open whether it was written; the twin is a repeat then.
func (e *Engine) forward(p *partition, c *shard.Command, r kafka.Record) error {
	ctx, cancel := context.WithTimeoutCause(p.ctx, forwardTimeout, errors.New("forwarding took more than 10s"))
	defer cancel()
	_, err := e.cfg.Producer.Produce(ctx, r)
	if err != nil {
		e.with(p, func(_ time.Time, s *shard.Shard) {
			s.StrayFailed(c.Offset, "it stands in the wrong partition and cannot be forwarded: "+err.Error())
		})
		return err
	}
	e.cfg.Log.Warn("a command stood in the wrong partition and was forwarded: its producer does not partition by murmur2 of the key",
		"partition", p.held.Partition, "offset", c.Offset, "entity", string(c.Message.Subject))
	e.with(p, func(_ time.Time, s *shard.Shard) { s.Forwarded(c.Offset) })
	return nil
}
