package verify

import (
	"cmp"
	"fmt"

	"github.com/evento-oss/evento/runtime"
)

// named is a place that a head or a snapshot says is a record of an aggregate.
type named struct {
	topic   string // "" where it is not known
	offset  int64
	id      uint64 // sum of the record's id
	version uint64
	by      Violation // how to tell of it when it is not so; its Text is who says so
}

// Head gives what the heads topic says of an aggregate.
func (p *Partition) Head(h Head) {
	if h.Broken != "" {
		p.c.at(Heads, h.At, h.Aggregate.Root(), "the owner has stopped the aggregate, since its log contradicts itself: %s", h.Broken)
	}
	if h.Event == "" {
		return
	}
	ch := p.chain(h.Aggregate)
	ch.head = h.Offset
	ch.named = append(ch.named, named{h.Topic, h.Offset, p.c.sum(h.Event), h.Version, Violation{
		Invariant: Heads, At: h.At, Entity: string(h.Aggregate), Text: "the head",
	}})
}

// Checkpoint says how far the heads go.
func (p *Partition) Checkpoint(c Checkpoint) { p.checkpoints[c.Topic] = c }

// Snapshot gives what the cache has of an aggregate.
func (p *Partition) Snapshot(s Snapshot) {
	p.c.report.Read.Snapshots++
	ch := p.chain(s.Aggregate)
	ch.named = append(ch.named, named{s.Topic, s.Offset, p.c.sum(s.Event), s.Version, Violation{
		Invariant: StateIsLog, Entity: string(s.Aggregate), Text: "the snapshot",
	}})
}

// meets holds a record against those who have named its place.
func (p *Partition) meets(r Record, ch *chain) {
	c := p.c
	rest := ch.named[:0]
	for _, n := range ch.named {
		if n.offset != r.At.Offset {
			rest = append(rest, n)
			continue
		}
		v := n.by
		if v.At == (runtime.Coordinates{}) {
			v.At = r.At
		}
		switch {
		case n.id != c.sum(r.M.ID):
			v.Text += fmt.Sprintf(" says that another event stands at %s than %s", r.At, r.M.ID)
			c.add(v)
		case n.version != ch.version:
			v.Text += fmt.Sprintf(" has the version %d at %s, where the log has %d", n.version, r.At, ch.version)
			c.add(v)
		}
	}
	ch.named = rest
}

// closeNamed says which places were named and are no records, and which heads the
// checkpoint lacks.
func (p *Partition) closeNamed() {
	c := p.c
	for id, ch := range p.chains {
		for _, n := range ch.named {
			topic := cmp.Or(n.topic, ch.topic)
			if topic == "" && c.o.End != nil {
				continue // nothing of the aggregate was read: all of it may lie behind the end
			}
			if !c.read(runtime.Coordinates{Topic: topic, Partition: p.n, Offset: n.offset}) {
				continue
			}
			v := n.by
			v.Text += fmt.Sprintf(" ends at offset %d, where no committed event of the aggregate stands", n.offset)
			c.add(v)
		}
		if ch.covered >= 0 && ch.covered != ch.head {
			last := p.checkpoints[ch.topic]
			c.at(Heads, last.At, id.Root(), "the checkpoint at offset %d of %s says that all before is in the heads; the aggregate's last record there is at %d, its head says %d", last.Offset, last.Topic, ch.covered, ch.head)
		}
	}
}

// Close ends the partition, says what is missing in it, and forgets it.
func (p *Partition) Close() {
	p.closeCommands()
	p.closeNamed()
	p.closeAbout()
	p.commands, p.chains, p.asides, p.about = nil, nil, nil, nil
}
