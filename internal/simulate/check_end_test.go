package simulate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// quiet says whether nothing is left to be done.
func (c *check) quiet() bool {
	w := c.w
	for _, op := range w.ops {
		if !op.answered {
			return false
		}
	}
	if !c.dispatchersQuiet() {
		return false
	}
	held := 0
	for pt := range heldBy(w.nodes, (*node).heldParts) {
		if pt.shard == nil || pt.open || pt.shard.Backlog().Commands > 0 || pt.shard.Next() < w.kafka.logs[commands][pt.held.part].end() {
			return false
		}
		if r, other := pt.shard.Ready(); r > 0 || other {
			return false
		}
		held++
	}
	if held < w.partitions || len(w.kafka.group.pending) > 0 {
		return false
	}
	for _, t := range []topic{events, parked, heads, dispatched} {
		for _, l := range w.kafka.logs[t] {
			if l.stable() < l.end() {
				return false
			}
		}
	}
	return true
}

func (c *check) dispatchersQuiet() bool {
	w := c.w
	if len(w.dispatchers) == 0 {
		return true
	}
	held := 0
	for tp := range heldBy(w.dispatchers, (*node).heldTracks) {
		if tp.track == nil || tp.open || tp.track.Backlog() > 0 || tp.track.Pending() || tp.track.Next() < tp.log(events).end() {
			return false
		}
		for _, l := range tp.track.Live() {
			if l.Status == avro.DispatchWaiting {
				return false
			}
		}
		// Kafka may have less: a commit that was late, and repeats nothing but work.
		if tp.relayed < tp.log(dispatched).end() {
			return false
		}
		held++
	}
	return held >= w.partitions && len(w.kafka.dispatchers.pending) == 0
}

// dispatched holds what was decided against the events and the commands.
func (c *check) dispatched() {
	if len(c.w.dispatchers) == 0 {
		return
	}
	for _, id := range sortedKeys(c.chains) {
		for _, e := range c.chains[id].records {
			at := place{e.part, e.offset}
			d := c.decisions[at]
			if d == nil && !e.msg.Platform() && !c.nothing[at] {
				c.fail("no dispatcher was given the event at %d/%d", e.part, e.offset)
			}
			if d == nil || d.status != avro.DispatchDecided {
				continue
			}
			for _, m := range d.commands {
				if c.outcomes[m.Key()] == nil {
					c.fail("command %s was decided and has no outcome", m.ID)
				}
			}
		}
	}
}

// end holds the whole history against the promises.
func (c *check) end() {
	w := c.w
	for part, l := range w.kafka.logs[commands] {
		for i := range l.entries {
			e := &l.entries[i]
			m := e.msg
			if m.Type == runtime.TypeDropCommand || m.Type == runtime.TypeRetryNow {
				continue
			}
			if out := c.outcomes[m.Key()]; out == nil || len(out.records) != out.records[0].msg.Count {
				c.fail("command %s of %s at %d/%d has no outcome", m.ID, m.Source, part, i)
			}
		}
	}
	c.parked()
	c.library()
	c.dispatched()
	for part := range c.later {
		for at := range c.later[part] {
			c.fail("a snapshot or answer ends at offset %d of partition %d, which was never committed", at, part)
		}
	}
	first := map[runtime.CommandKey]*operation{}
	for _, op := range w.ops {
		if op.order {
			continue
		}
		out := c.outcomes[op.key]
		switch {
		case !op.answered:
			c.fail("command %s was never answered", op.m.ID)
			continue
		case out == nil:
			c.fail("command %s of %s is answered and not there", op.m.ID, op.m.Source)
			continue
		case op.answer.Status == shard.Conflict:
			if out.hash == hashOf(op.m) {
				c.fail("command %s is refused as a conflict, and is the one that has the outcome", op.m.ID)
			}
			continue
		case out.hash != hashOf(op.m):
			c.fail("command %s is answered with the outcome of another one of its id", op.m.ID)
		case len(op.answer.Records) != len(out.records):
			c.fail("command %s is answered with %d events, %d are recorded", op.m.ID, len(op.answer.Records), len(out.records))
			continue
		}
		for i, r := range op.answer.Records {
			if r.Message != out.records[i].msg || r.At.Offset != out.records[i].offset {
				c.fail("command %s is answered with an event that is not the recorded one", op.m.ID)
			}
		}
		if old := first[op.key]; old == nil || op.began < old.began {
			first[op.key] = op
		}
	}
	c.realTime(first)
}

// parked holds the list of parked commands against the log: all that the
// platform gave up and no operator has dealt with.
func (c *check) parked() {
	w := c.w
	ordered, listed := map[place]bool{}, map[place]shard.Waiter{}
	for part, l := range w.kafka.logs[commands] {
		for i := range l.entries {
			if e := &l.entries[i]; e.msg.Type == runtime.TypeDropCommand {
				ordered[place{int32(part), w.command(e).Order.Offset}] = true
			}
		}
	}
	for _, n := range w.nodes {
		for _, pt := range w.partsOf(n) {
			for _, t := range pt.shard.Troubled() {
				listed[place{pt.held.part, t.Command.Offset}] = t
			}
		}
	}
	for _, id := range sortedKeys(c.chains) {
		for _, e := range c.chains[id].records {
			m := e.msg
			if m.Type != runtime.TypeCommandParked {
				continue
			}
			at, v := place{e.part, m.Cause.Offset}, verdictOf(m)
			l, is := listed[at]
			delete(listed, at)
			switch dropped := strings.HasPrefix(v.Reason, "dropped by an operator"); {
			case dropped && is:
				c.fail("the command at %d/%d was dropped and is listed", at.part, at.offset)
			case !dropped && !is && !ordered[at]:
				c.fail("the command at %d/%d is parked, and neither listed nor dropped", at.part, at.offset)
			case is && (l.OutcomeAt != e.offset || l.Attempts != v.Attempts || l.Reason != v.Reason):
				c.fail("the parked command at %d/%d is listed as %+v", at.part, at.offset, l)
			}
		}
	}
	for at, l := range listed {
		c.fail("the command at %d/%d is listed as %s, and is not", at.part, at.offset, l.Status)
	}
}

// realTime: what was answered before something else was asked for took effect
// before it.
func (c *check) realTime(first map[runtime.CommandKey]*operation) {
	of := map[runtime.AggregateID][]*operation{}
	for _, op := range c.w.ops {
		if first[op.key] == op {
			of[op.m.Aggregate()] = append(of[op.m.Aggregate()], op)
		}
	}
	place := func(op *operation) int64 { return c.outcomes[op.key].records[0].offset }
	for _, id := range sortedKeys(of) {
		list := of[id]
		slices.SortFunc(list, func(a, b *operation) int { return int(place(a) - place(b)) })
		var soonest *operation // answered, of those that took effect later
		for _, op := range slices.Backward(list) {
			if soonest != nil && soonest.at < op.began {
				c.fail("command %s was answered at %v, before %s was sent at %v, and took effect after it", soonest.m.ID, soonest.at, op.m.ID, op.began)
			}
			if soonest == nil || op.at < soonest.at {
				soonest = op
			}
		}
	}
}

// verdictOf reads a CommandParked as the simulation writes it.
func verdictOf(m *runtime.Message) *shard.Parked {
	var v []*shard.Parked
	if err := json.Unmarshal(m.Data, &v); err != nil {
		panic(err)
	}
	return v[0]
}

// listed returns what an operator is shown of the parked commands below the ends.
func (w *world) listed(ends []int64) string {
	var all []shard.Waiter
	for pt := range heldBy(w.nodes, (*node).heldParts) {
		if pt.shard != nil {
			all = append(all, slices.DeleteFunc(pt.shard.Troubled(), func(t shard.Waiter) bool { return t.Command.Offset >= ends[pt.held.part] })...)
		}
	}
	lines := ""
	slices.SortFunc(all, func(a, b shard.Waiter) int {
		return slices.Compare([]string{string(a.Command.Message.Subject), fmt.Sprint(a.Command.Offset)}, []string{string(b.Command.Message.Subject), fmt.Sprint(b.Command.Offset)})
	})
	for _, t := range all {
		lines += fmt.Sprintf("%s at %d: %s, %d attempts, outcome at %d, %s\n", t.Command.Message.Subject, t.Command.Offset, t.Status, t.Attempts, t.OutcomeAt, t.Reason)
	}
	return lines
}
