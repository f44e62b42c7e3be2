package simulate

import (
	"strconv"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/internal/verify/linear"
	"github.com/evento-oss/evento/runtime"
)

// read has somebody ask a gateway for a state: the owner's, or what Redis says
// where the log proves it.
func (w *world) read() {
	n := w.anyNode()
	if n == nil {
		return
	}
	id := runtime.AggregateID("acc:" + strconv.Itoa(w.rng.IntN(w.aggregates)))
	part := w.partition(string(id))
	if pt := n.parts[part]; pt != nil && pt.shard != nil {
		version := uint64(0)
		if w.chance(300) {
			version = uint64(w.rng.IntN(30))
		}
		w.spawn(n, func(p *proc) { w.readOwner(p, pt, id, version) })
		return
	}
	w.spawn(n, func(p *proc) {
		s, ok := n.cached(p, id)
		if !ok {
			return
		}
		l := w.kafka.logs[events][part]
		if s.Head.Offset < l.stable() {
			if e := &l.entries[s.Head.Offset]; e.committed() && e.id == s.Head.EventID() {
				w.check.state(id, s.Head.Offset, s.State, "a read from Redis")
			}
		}
	})
}

// readOwner asks who owns a partition, or believes so. Who names no version wants the
// newest, for which the group must confirm the owner.
func (w *world) readOwner(p *proc, pt *part, id runtime.AggregateID, version uint64) {
	r := verify.Read{Entity: id.Root(), Sent: instant(w.now)}
	if version == 0 && !w.has(bugReadNotConfirmed) && !pt.n.confirmed(p, pt.held) || pt.shard == nil {
		return
	}
	w.reads++
	token := w.reads
	if pt.readers == nil {
		pt.readers = map[uint64]func(shard.Reply){}
	}
	pt.readers[token] = func(reply shard.Reply) {
		at := reply.Snapshot.State.Version
		switch {
		case reply.Err != "":
			return
		case reply.Missing:
		case at < version:
			w.check.fail("%s is answered at version %d, asked for %d", id, at, version)
		default:
			w.check.saved(pt, reply.Snapshot, false)
		}
		if version == 0 {
			r.Done, r.Version = instant(w.now), at
			w.check.reads = append(w.check.reads, r)
			w.saw["a read of the newest"]++
		}
	}
	pt.with(func(now time.Time, s *shard.Shard) { s.Read(now, token, id, events.String(), version) })
}

// confirmed asks the group as internal/kafka.Group.Confirm does.
func (n *node) confirmed(p *proc, h held) bool {
	if n.fence.refusal([]held{h}) != nil {
		return false
	}
	err, lost := call(p, n.w, n.w.kafka.away, 2*time.Second, func(reply func(error)) {
		reply(n.group.heartbeat(n.fence.member, n.fence.generation))
	})
	switch {
	case lost != nil:
		return false
	case err != nil && err != errRebalance:
		n.w.saw["a read that the group does not confirm"]++
		return false
	}
	return n.fence.refusal([]held{h}) == nil
}

// instant is a time of the world as others take it.
func instant(d time.Duration) time.Time { return time.Unix(1_700_000_000, 0).Add(d) }

// linear holds what clients were told and what was read against one order.
func (c *check) linear(log *linear.Log) {
	result := log.Check(c.history(), c.reads, time.Minute)
	for _, v := range result.Violations {
		c.fail("verify: %v", v)
	}
	for _, id := range result.Undecided {
		c.fail("the order of %s is not decided", id)
	}
}

// history is what the clients know of their commands.
func (c *check) history() []verify.Operation {
	by := map[runtime.CommandKey]int{}
	var all []verify.Operation
	for _, op := range c.w.ops {
		if op.order || op.answered && op.answer.Status == shard.Conflict {
			continue
		}
		i, again := by[op.key]
		if !again {
			i = len(all)
			by[op.key] = i
			all = append(all, verify.Operation{Source: op.m.Source, ID: op.m.ID, Entity: op.m.Subject, Type: string(op.m.Type)})
		}
		a := verify.Attempt{Sent: instant(op.began)}
		if op.acked {
			a.Result = verify.OK
		}
		if op.answered {
			a.Done = instant(op.at)
			a.Outcome = &verify.Outcome{Status: string(op.answer.Status), Version: op.answer.Version}
		}
		all[i].Attempts = append(all[i].Attempts, a)
	}
	return all
}
