package verify

import (
	"slices"
	"strings"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// chain is what is kept of an aggregate: of its last record, and the places of
// those before it that a later one may name.
type chain struct {
	topic    string
	last     int64 // offset of its last record
	command  runtime.CommandKey
	version  uint64
	recorded int64   // time of its last record, in milliseconds
	cause    int64   // offset of the command that its last version is of
	links    []int64 // offsets since the last record with eventoskip, that one included
	writer   int     // process of its last record: index by order of appearance

	named   []named // places that somebody says are its own, and that are not read yet
	covered int64   // offset of its last record at or below the checkpoint; -1 for none
	head    int64   // offset that its head names; -1 for none
}

// Event gives the next record of an events topic; topics one after the other.
func (p *Partition) Event(r Record) {
	c, m := p.c, r.M
	c.report.Read.Events++
	for _, check := range c.o.Checks {
		check.Event(r)
	}
	key, pos, ok := runtime.ParseEventID(m.ID)
	if !ok || pos != m.Pos {
		c.of(Readable, r, "the event has the id %q, which is not that of event %d of a command", m.ID, m.Pos)
		return
	}
	if c.o.Partitions > 0 {
		if right := c.o.Place(string(m.Aggregate()), c.o.Partitions); right != r.At.Partition {
			c.of(Placement, r, "the event belongs into partition %d", right)
		}
	}
	p.terms(r)
	ch := p.chain(m.Aggregate())
	k := p.commands[key]
	p.outcome(r, key, k, ch)
	p.link(r, ch)
	p.versions(r, k, ch)
	p.meets(r, ch)
	p.told(r)
	if op := c.sent[key]; op != nil {
		op.recorded = append(op.recorded, r)
	}

	ch.topic, ch.last, ch.command = r.At.Topic, r.At.Offset, key
	ch.writer = p.writer(m.Writer)
	if last, ok := p.checkpoints[r.At.Topic]; ok && r.At.Offset <= last.Offset {
		ch.covered = r.At.Offset
	}
}

// Torn says of how many commands some events have been given, and not all. At the
// end of a log that grows, the rest may stand behind it.
func (p *Partition) Torn() int { return p.torn }

// Rest gives a record from behind the end, for the commands that the end has cut in
// two. Others it leaves out.
func (p *Partition) Rest(r Record) {
	key, pos, ok := runtime.ParseEventID(r.M.ID)
	if k := p.commands[key]; ok && k != nil && k.pos > 0 && int(k.pos) < int(k.count) && pos == int(k.pos)+1 {
		p.Event(r)
	}
}

// outcome is I2, I5 and I8: the event is the next one of its command's only outcome.
func (p *Partition) outcome(r Record, key runtime.CommandKey, k *command, ch *chain) {
	c, m := p.c, r.M
	if k == nil {
		if c.read(m.Cause) {
			c.of(Causes, r, "the event has no command: none with its key %s is in its partition of the commands topic", key)
		}
		return
	}
	complete := k.count > 0 && k.pos == k.count
	switch {
	case complete:
		c.of(OneOutcome, r, "a second outcome of the command at offset %d, which had its %d events already", k.at, k.count)
		return
	case k.count == 0 && m.Pos != 1:
		c.of(AllOrNothing, r, "the outcome of the command at offset %d begins with event %d of %d", k.at, m.Pos, m.Count)
	case k.count > 0 && (m.Pos != int(k.pos)+1 || m.Count != int(k.count)):
		c.of(AllOrNothing, r, "of the outcome of the command at offset %d this is event %d of %d, after event %d of %d", k.at, m.Pos, m.Count, k.pos, k.count)
	case m.Pos > 1 && ch.command != key:
		c.of(Linear, r, "another command's record stands between events %d and %d of the command at offset %d", m.Pos-1, m.Pos, k.at)
	}
	if k.count > 0 {
		p.torn--
	}
	k.pos, k.count = int32(m.Pos), int32(m.Count)
	k.parked = m.Type == runtime.TypeCommandParked
	if k.pos < k.count {
		p.torn++
	}
	if want := (runtime.Coordinates{Topic: p.topic, Partition: p.n, Offset: k.at}); m.Cause != want {
		c.of(Causes, r, "the event says that %s caused it; the first record of its command is at %s", m.Cause, want)
	}
	if c.sum(m.CausationID, m.CorrelationID) != k.sum {
		c.of(Causes, r, "the event has causation %q and correlation %q, and its command at offset %d says otherwise", m.CausationID, m.CorrelationID, k.at)
	}
	if after := m.RecordedTime.Sub(later(time.UnixMilli(k.sent), c.o.Healed)); c.o.Within > 0 && after > c.o.Within {
		c.of(Ends, r, "the command at offset %d ended %v after it could have, more than %v", k.at, after, c.o.Within)
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// versions is I3 of what the record says by itself, and I4 of what it must have
// been computed on.
func (p *Partition) versions(r Record, k *command, ch *chain) {
	c, m := p.c, r.M
	before, want := ch.version, uint64(0)
	if !m.Platform() {
		ch.version++
		want = ch.version
	}
	if m.Sequence != want {
		c.of(Versions, r, "the event has the version %d, it must be %d", m.Sequence, want)
		ch.version = max(ch.version, m.Sequence)
		p.zombie(r, ch)
	}
	if at := m.RecordedTime.UnixMilli(); at < ch.recorded {
		c.of(Versions, r, "the event was recorded at %s, the one before at %s", m.RecordedTime, time.UnixMilli(ch.recorded).UTC())
	} else {
		ch.recorded = at
	}
	if k == nil || m.Pos != 1 {
		return
	}
	if !m.Platform() {
		if k.at < ch.cause {
			c.of(Linear, r, "the command at offset %d takes effect after the one at %d of the same aggregate", k.at, ch.cause)
		}
		ch.cause = k.at
		if k.expect >= 0 && uint64(k.expect) != before {
			c.of(Linear, r, "the command at offset %d expects version %d and took effect at %d", k.at, k.expect, before)
		}
	}
}

// link is I3 of what the record says of those before it.
func (p *Partition) link(r Record, ch *chain) {
	c, m := p.c, r.M
	if ch.topic == "" {
		if m.Prev != runtime.NoPrev {
			c.of(Versions, r, "the aggregate's first record says that %d is before it", m.Prev)
		}
		c.report.Read.Aggregates++
		ch.links = append(ch.links, r.At.Offset)
		return
	}
	if ch.topic != r.At.Topic {
		c.of(Versions, r, "the aggregate has events in %s, too", ch.topic)
	}
	if !leads(r.At.Offset, m.Prev, ch.last) {
		c.of(Versions, r, "the event says that %d is before it; it is %d", m.Prev, ch.last)
		p.zombie(r, ch)
	}
	if n := len(ch.links) - len(m.Skip); n < 0 {
		c.of(Versions, r, "the event skips %d records, and only %d stand between", len(m.Skip), len(ch.links))
	} else {
		for i, hint := range m.Skip {
			if !leads(r.At.Offset, hint, ch.links[n+i]) {
				c.of(Versions, r, "the event skips to %d, which is not the record %d before it", hint, len(m.Skip)-i)
				break
			}
		}
	}
	if len(m.Skip) > 0 {
		ch.links = ch.links[:0]
	} else if len(ch.links) == maxLinks {
		ch.links = slices.Delete(ch.links, 0, 1) // a log from elsewhere, which never skips
	}
	ch.links = append(ch.links, r.At.Offset)
}

// maxLinks is how many records an eventoskip can name.
const maxLinks = 64

// leads says whether a hint of the record at an offset means another offset, or may.
// A distance counts the records of a transaction: where a stranger's stand between
// them, which come to nothing, it points behind the one that is meant, and the
// history is read all the same.
func leads(at, hint, want int64) bool {
	if hint < 0 && hint != runtime.NoPrev {
		return at+hint >= want
	}
	return hint == want
}

// Term says that the events which follow were written by the owner of this
// generation, from 1. The simulation knows it; Kafka does not tell, and then it is
// left out.
func (p *Partition) Term(term int64) { p.term = term }

// terms is I11 where the generation of the writer is known.
func (p *Partition) terms(r Record) {
	if p.term < p.newest {
		p.c.of(NoZombies, r, "it was written by the owner of term %d, after the one of term %d had written %s", p.term, p.newest, p.newestAt)
		return
	}
	p.newest, p.newestAt = p.term, r.At
}

// zombie is I11 where it is not: a process that wrote here before another came, and
// goes on as if that had not been.
func (p *Partition) zombie(r Record, ch *chain) {
	if n := p.writer(r.M.Writer); ch.topic != "" && n < ch.writer {
		p.c.of(NoZombies, r, "its writer %s wrote to the partition before the process that wrote the record at offset %d, and does not know of that", r.M.Writer, ch.last)
	}
}

// writer numbers the processes that write, in the order in which they appear. A
// transactional id is the process and the number of the producer in it.
func (p *Partition) writer(id string) int {
	process := id
	if i := strings.LastIndexByte(id, '-'); i >= 0 {
		process = id[:i]
	}
	n, ok := p.writers[process]
	if !ok {
		n = len(p.writers)
		p.writers[strings.Clone(process)] = n
	}
	return n
}

func (p *Partition) chain(id runtime.AggregateID) *chain {
	ch := p.chains[id]
	if ch == nil {
		ch = &chain{cause: -1, covered: -1, head: -1, recorded: -1 << 62}
		p.chains[runtime.AggregateID(strings.Clone(string(id)))] = ch
	}
	return ch
}
