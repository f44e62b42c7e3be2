package gateway

import (
	"strings"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/crash"
)

// carryOut does what a shard asked for. Calls that leave the process get a
// goroutine each; their answers come back through [Engine.with].
func (e *Engine) carryOut(p *partition, outputs []shard.Output) {
	for _, out := range outputs {
		switch o := out.(type) {
		case shard.Invoke:
			e.work.Go(func() {
				began := time.Now()
				crash.At(crash.CallBegin)
				c := e.cfg.Functions.Compute(p.ctx, o.Work)
				crash.At(crash.CallDone)
				e.cfg.Metrics.computed(c, time.Since(began))
				e.with(p, func(now time.Time, s *shard.Shard) { s.Computed(now, o.Call, c) })
			})
		case shard.Load:
			e.work.Go(func() {
				snapshot, trouble := e.load(p, o)
				e.with(p, func(now time.Time, s *shard.Shard) { s.Loaded(now, o.Aggregate, o.Token, snapshot, trouble) })
			})
		case shard.Confirm:
			e.work.Go(func() {
				c := e.confirm(p, o)
				e.with(p, func(now time.Time, s *shard.Shard) { s.Confirmed(now, o.Token, c) })
			})
		case shard.Answer:
			e.cfg.Metrics.outcomes.WithLabelValues(string(o.Outcome.Status)).Inc()
			if w := o.Command.Message.Waiter; w.Address != "" {
				crash.At(crash.AnswerBegin)
				e.cfg.Poster.Post(w, outcomeOf(o.Command, o.Outcome))
				crash.At(crash.AnswerGiven)
			}
		case shard.Save:
			if e.cfg.Saves != nil {
				e.cfg.Saves.Put(o.Snapshot)
			}
			e.refold(p, o.Snapshot)
		case shard.Reply:
			p.mu.Lock()
			reply := p.readers[o.Token]
			delete(p.readers, o.Token)
			p.mu.Unlock()
			if reply != nil {
				reply <- o // has room for the one answer
			}
		case shard.Corrupt:
			e.cfg.Metrics.corrupt.Inc()
			e.cfg.Log.Error("the log of an aggregate contradicts itself; it is stopped", "entity", string(o.Aggregate), "partition", p.held.Partition, "reason", o.Reason)
		}
	}
}

// outcomeOf is an outcome as the HTTP face shows it.
func outcomeOf(c *shard.Command, o shard.Outcome) *Outcome {
	m := c.Message
	out := &Outcome{
		Command: m.ID, Source: m.Source, Entity: m.Subject, Type: m.Type,
		Status: OutcomeStatus(o.Status), Version: o.Version, Reason: o.Reason, Attempts: o.Attempts, NextTry: o.NextTry,
	}
	if o.Status == shard.Rejected {
		if code, reason, ok := strings.Cut(o.Reason, ": "); ok {
			out.Code, out.Reason = code, reason
		}
	}
	for _, r := range o.Records {
		out.Events = append(out.Events, Recorded(r))
	}
	return out
}
