package verify

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// written notes that a command stands in its topic.
func (c *Checker) written(r Record) {
	if op := c.sent[r.M.Key()]; op != nil {
		op.wrote = true
	}
}

// finishHistory holds what clients were told against the log.
func (c *Checker) finishHistory() {
	all := make([]*operation, 0, len(c.sent))
	for _, op := range c.sent {
		all = append(all, op)
	}
	slices.SortFunc(all, func(a, b *operation) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Source, b.Source)) })
	for _, op := range all {
		switch {
		case op.Result() == OK && !op.wrote:
			c.client(Kept, op, "it was accepted, and is not in the commands topic")
		case op.Result() == Failed && op.wrote:
			c.client(Kept, op, "it was answered as not written, and is in the commands topic")
		}
		c.answers(op)
	}
	c.realTime(all)
}

func (c *Checker) client(i Invariant, op *operation, format string, args ...any) {
	v := Violation{Invariant: i, Entity: string(op.Entity), Command: op.ID, Text: op.String() + ": " + fmt.Sprintf(format, args...)}
	if len(op.recorded) > 0 {
		v.At = op.recorded[0].At
	}
	c.add(v)
}

// answers holds what its sender was told against the log, and against each other.
func (c *Checker) answers(op *operation) {
	first := op.Answer()
	for _, a := range op.Attempts {
		if took := a.Done.Sub(a.Sent); c.o.OthersWithin > 0 && a.Outcome != nil && took > c.o.OthersWithin &&
			(c.o.Held == nil || !c.o.Held(op.Entity.Aggregate())) {
			c.client(Isolation, op, "its answer took %v, more than %v, and nothing of its own held it up", took, c.o.OthersWithin)
		}
		if first == nil {
			continue
		}
		if a.Reused {
			c.client(OneOutcome, op, "it is said to be another command with its id")
		}
		if a.Outcome != nil && a.Outcome != first {
			if d := first.same(a.Outcome); d != "" {
				c.client(OneOutcome, op, "it got two answers, the second one from %s:%s", a.Gateway, d)
			}
		}
	}
	if first == nil {
		return
	}
	var told, there []string
	for _, e := range first.Events {
		told = append(told, fmt.Sprintf("%s %s %s %d", e.Coordinates, e.ID, e.Type, e.Version))
	}
	version := uint64(0)
	for _, r := range op.recorded {
		there = append(there, fmt.Sprintf("%s %s %s %d", r.At, r.M.ID, r.M.Type, r.M.Sequence))
		version = r.M.Sequence
	}
	if !slices.Equal(told, there) {
		i := OneOutcome
		if len(there) == 0 {
			i = Kept
		}
		c.client(i, op, "it was answered %q, recorded is %q", told, there)
		return
	}
	platform := len(op.recorded) > 0 && op.recorded[0].M.Platform()
	switch {
	case platform != (first.Status == "rejected" || first.Status == "parked"):
		c.client(OneOutcome, op, "it was answered as %s, recorded is %q", first.Status, there)
	case !platform && first.Version != version:
		c.client(Versions, op, "it was answered with version %d, recorded is %d", first.Version, version)
	}
}

// realTime is I4 as clients see it: who was answered before another sent is before
// it in the log. Package linear looks at reads, too.
func (c *Checker) realTime(all []*operation) {
	type span struct {
		op         *operation
		version    uint64
		sent, done time.Time
	}
	by := map[runtime.AggregateID][]span{}
	for _, op := range all {
		if len(op.recorded) == 0 || op.recorded[0].M.Platform() {
			continue
		}
		s := span{op: op, version: op.recorded[0].M.Sequence}
		s.sent, s.done = op.Span()
		by[op.Entity.Aggregate()] = append(by[op.Entity.Aggregate()], s)
	}
	for _, list := range by {
		slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.version, b.version) })
		var latest span // sent last of those so far
		for _, s := range list {
			if !s.done.IsZero() && latest.op != nil && s.done.Before(latest.sent) {
				c.client(Linear, latest.op, "it has version %d and was sent after %s, with version %d, was answered", latest.version, s.op, s.version)
			}
			if latest.op == nil || s.sent.After(latest.sent) {
				latest = s
			}
		}
	}
}
