package simulate

import (
	"strconv"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/internal/verify/linear"
	"github.com/evento-oss/evento/runtime"
)

// library has the invariants of package verify held against the topics of a world
// that has come to rest. The decisions of dispatchers are looked at by check itself.
func (c *check) library() {
	w := c.w
	order := linear.NewLog()
	v := verify.New(verify.Options{Partitions: int32(w.partitions), Place: kafka.Partition, AtRest: true, Undecided: true, Checks: []verify.Check{order}})
	seen := func(e *entry) verify.Record {
		m := *e.msg
		m.Writer = e.writer
		return verify.Record{At: runtime.Coordinates{Topic: e.topic.String(), Partition: e.part, Offset: e.offset}, M: &m}
	}
	at := func(e *entry) runtime.Coordinates {
		return runtime.Coordinates{Topic: e.topic.String(), Partition: e.part, Offset: e.offset}
	}
	each := func(t topic, part int32, do func(*entry)) {
		l := w.kafka.logs[t][part]
		for i := range l.entries {
			if e := &l.entries[i]; e.committed() {
				do(e)
			}
		}
	}
	for part := range int32(w.partitions) {
		p := v.Partition(part)
		if o := w.kafka.group.offsets[part]; o.found {
			if pos, err := position.Parse(o.offset, o.metadata, topicID); err == nil {
				p.Position(pos)
			}
		}
		live, last := map[int64]*entry{}, map[string]*entry{}
		each(parked, part, func(e *entry) {
			offset, _ := strconv.ParseInt(e.key, 10, 64)
			if live[offset] = e; e.value == nil {
				delete(live, offset)
			}
		})
		for _, offset := range sortedKeys(live) {
			e := live[offset]
			a, err := shard.ParseAside(e.value.([]byte))
			if err != nil {
				c.fail("set-aside record: %v", err)
			}
			p.Aside(verify.Aside{At: at(e), Offset: offset, Entity: string(a.Aggregate), Parked: a.Parked()})
		}
		each(heads, part, func(e *entry) { last[e.key] = e })
		for _, key := range sortedKeys(last) {
			switch value := last[key].value.(type) {
			case headValue:
				p.Head(verify.Head{At: at(last[key]), Aggregate: runtime.AggregateID(key), Topic: events.String(), Version: value.head.Version, Offset: value.head.Offset, Event: value.head.EventID()})
			case checkpoint:
				if value.last != nil {
					p.Checkpoint(verify.Checkpoint{At: at(last[key]), Topic: events.String(), Offset: value.last.offset, Event: value.last.id})
				}
			}
		}
		each(commands, part, func(e *entry) { p.Command(seen(e)) })
		each(events, part, func(e *entry) { p.Event(seen(e)) })
		p.Close()
	}
	for _, part := range v.Strays() {
		each(commands, part, func(e *entry) { v.Found(seen(e)) })
	}
	for _, found := range v.Finish().Violations {
		c.fail("verify: %v", found)
	}
	c.linear(order)
}
