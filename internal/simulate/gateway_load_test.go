package simulate

import (
	"slices"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

func away(reason string, wait time.Duration) *shard.Trouble {
	return &shard.Trouble{Kind: shard.Unavailable, Reason: reason, Wait: wait}
}

// load brings a snapshot up to the head: from Redis if what is there fits the
// log, else from the aggregate's own records. See gateway/engine_load.go.
func (pt *part) load(p *proc, o shard.Load) (shard.Snapshot, *shard.Trouble) {
	n, w := pt.n, pt.n.w
	if s, ok := n.cached(p, o.Aggregate); ok {
		switch {
		case s.Head == o.Head:
			w.saw["load: a snapshot"]++
			return s, nil
		case w.has(bugRedisWithoutHead):
			s.Head = o.Head
			return s, nil
		case s.Head.Offset < o.Head.Offset && w.has(bugOlderNotBroughtUp):
			s.Head, s.State.Version = o.Head, o.Head.Version
			return s, nil
		case s.Head.Offset < o.Head.Offset:
			if s, trouble := pt.replay(p, o, s); trouble == nil {
				w.saw["load: a snapshot and events"]++
				n.save(s)
				return s, nil
			}
		}
	}
	s, trouble := pt.replay(p, o, shard.Snapshot{Aggregate: o.Aggregate})
	if trouble == nil {
		w.saw["load: events"]++
		n.save(s)
	}
	return s, trouble
}

// replay applies the records after a snapshot, up to the head.
func (pt *part) replay(p *proc, o shard.Load, s shard.Snapshot) (shard.Snapshot, *shard.Trouble) {
	w := pt.n.w
	s.Seen = s.Seen.Clone()
	s.Links = append([]int64(nil), s.Links...)
	p.sleep(w.between(time.Millisecond, 20*time.Millisecond))
	l := w.kafka.logs[events][pt.held.part]
	if w.kafka.away || l.away || pt.n.split {
		return s, away("kafka is away", time.Second)
	}
	if !pt.stable(p, o.Head.Offset) {
		return s, away("the read stalls below an open transaction", time.Second)
	}
	var at int64 = -1
	for _, e := range w.check.records(o.Aggregate) {
		if e.offset > o.Head.Offset {
			break
		}
		at = e.offset
		if s.Head.Exists() && e.offset <= s.Head.Offset {
			continue
		}
		m := e.msg
		key, pos, _ := runtime.ParseEventID(m.ID)
		if m.Sequence > 0 {
			if m.Sequence != s.Head.Version+1 {
				return s, away("its history is broken", 30*time.Second)
			}
			s.Head.Version = m.Sequence
			next, err := w.functions.apply(s.State, m.Data, o.Aggregate)
			if err != nil {
				return s, away(err.Error(), time.Second)
			}
			s.State = next
		}
		if m.Skip != nil {
			s.Links = nil
		}
		s.Links = append(s.Links, e.offset)
		s.Head.Offset, s.Head.Command, s.Head.Pos = e.offset, key, int32(pos)
		s.Recorded = m.RecordedTime
		if m.Pos == 1 {
			s.Seen.Add(shard.SeenEntry{Hash: shard.SeenHash(key), Offset: e.offset})
		}
	}
	if at != o.Head.Offset {
		return s, away("its history is broken: the head is not there", 30*time.Second)
	}
	if w.chance(w.faults.functions) {
		return s, away("the aggregator is away", time.Second)
	}
	return s, nil
}

// stable waits until committed readers are shown an offset: a point read waits
// for that, too.
func (pt *part) stable(p *proc, offset int64) bool {
	w := pt.n.w
	l := w.kafka.logs[events][pt.held.part]
	for deadline := w.now + 30*time.Second; l.stable() <= offset; p.sleep(w.between(5*time.Millisecond, 100*time.Millisecond)) {
		if w.now > deadline {
			return false
		}
	}
	return true
}

// confirm looks for the outcome of a command in the history.
func (pt *part) confirm(p *proc, o shard.Confirm) shard.Confirmation {
	w := pt.n.w
	p.sleep(w.between(time.Millisecond, 20*time.Millisecond))
	l := w.kafka.logs[events][pt.held.part]
	if w.kafka.away || l.away || pt.n.split || w.chance(w.faults.network) {
		return shard.Confirmation{Trouble: away("kafka is away", time.Second)}
	}
	if w.has(bugDedupDropped) {
		return shard.Confirmation{}
	}
	if !pt.stable(p, slices.Max(o.Offsets)) {
		return shard.Confirmation{Trouble: away("the read stalls below an open transaction", time.Second)}
	}
	var c shard.Confirmation
	c.Outcome.Status = shard.Refused
	for _, e := range w.check.records(o.Command.Message.Aggregate()) {
		m := e.msg
		if key, _, _ := runtime.ParseEventID(m.ID); key != o.Command.Key {
			continue
		}
		c.Found, c.Same = true, m.Hash == o.Command.Hash
		c.Outcome.Records = append(c.Outcome.Records, shard.Recorded{Message: m, At: runtime.Coordinates{Topic: events.String(), Partition: pt.held.part, Offset: e.offset}})
		if m.Sequence > 0 {
			c.Outcome.Version = m.Sequence
		}
		switch m.Type {
		case runtime.TypeCommandParked:
			c.Outcome.Status = shard.ParkedS
			v := verdictOf(m)
			c.Outcome.Reason, c.Outcome.Attempts = v.Reason, v.Attempts
		case runtime.TypeCommandRejected, runtime.TypePublishRejected:
			c.Outcome.Status = shard.Rejected
		case typeRefused:
		default:
			c.Outcome.Status = shard.Done
		}
	}
	return c
}

// cached asks Redis for a snapshot.
func (n *node) cached(p *proc, id runtime.AggregateID) (shard.Snapshot, bool) {
	w := n.w
	p.sleep(w.between(200*time.Microsecond, 2*time.Millisecond))
	if w.redis.away || w.chance(w.faults.network) {
		p.sleep(w.between(0, 250*time.Millisecond))
		return shard.Snapshot{}, false
	}
	return w.redis.get(id)
}

// save has a snapshot written to Redis some time: of several of one aggregate
// the newest. What is on its way arrives even when its sender is dead by then.
func (n *node) save(s shard.Snapshot) {
	w := n.w
	s.Links = append([]int64(nil), s.Links...)
	s.Seen = s.Seen.Clone()
	d := w.between(time.Millisecond, 10*time.Millisecond)
	if w.chance(w.faults.redis) {
		d = w.between(0, 5*time.Second)
	}
	w.after(0, n, func() { w.after(d, nil, func() { w.redis.set(s) }) })
}
