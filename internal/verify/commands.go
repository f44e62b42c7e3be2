package verify

import (
	"slices"

	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// command is what is kept of a command: of its first record, and how far its
// outcome is.
type command struct {
	at     int64  // offset of its first record
	sum    uint64 // of its id and root cause
	expect int64  // version that it expects, -1 for any
	sent   int64  // when, in milliseconds
	pos    int32  // events of its outcome so far
	count  int32  // events of its outcome; 0 while there is none
	owed   bool   // it is said to be finished
	parked bool   // its outcome is CommandParked
}

// aside is a live set-aside record.
type aside struct {
	Aside
	found bool // its command stands there
	key   runtime.CommandKey
}

// Position gives the committed position. It comes before all else of the partition.
// Every command that it says is finished must have an outcome, or be set aside.
func (p *Partition) Position(committed position.Position) { p.position = &committed }

// Aside gives a live set-aside record.
func (p *Partition) Aside(a Aside) { p.asides[a.Offset] = &aside{Aside: a} }

// Command gives the next record of the commands topic.
func (p *Partition) Command(r Record) {
	c, m := p.c, r.M
	p.topic = r.At.Topic
	c.report.Read.Commands++
	for _, check := range c.o.Checks {
		check.Command(r)
	}
	if a := p.asides[r.At.Offset]; a != nil {
		a.found, a.key = true, m.Key()
		if a.Entity != "" && a.Entity != string(m.Aggregate()) {
			c.of(SetAside, r, "the set-aside record at %s is of %s", a.At, a.Entity)
		}
	}
	if m.Platform() {
		return // an operator's order: it has no outcome of its own
	}
	key := m.Key()
	finished := p.finished(r.At.Offset) && (p.asides[r.At.Offset] == nil || p.asides[r.At.Offset].Parked)
	if c.o.Partitions > 0 {
		if right := c.o.Place(string(m.Aggregate()), c.o.Partitions); right != r.At.Partition {
			c.stray(r, right, finished)
			return
		}
		delete(c.strays, key)
	}
	c.written(r)
	p.caused(r)
	first := p.commands[key]
	if first == nil {
		first = &command{at: r.At.Offset, sum: c.sum(m.ID, correlation(m)), expect: -1, sent: m.Time.UnixMilli()}
		if m.Expect != nil {
			first.expect = int64(*m.Expect)
		}
		p.commands[key] = first
	}
	// A repeat may be finished while its first record waits: it says nothing by itself.
	if finished && first.at == r.At.Offset || c.o.AtRest {
		first.owed = true
	}
}

// Unreadable tells of a record of any topic that is none of Evento's.
func (p *Partition) Unreadable(at runtime.Coordinates, err error) {
	p.c.at(Readable, at, "", "the record cannot be read: %v", err)
}

// finished says whether the committed position says that a record is finished.
func (p *Partition) finished(offset int64) bool {
	if p.position == nil {
		return false
	}
	_, above := slices.BinarySearch(p.position.Done, offset)
	return above || offset < p.position.Offset
}

// stray is a command that stands in the wrong partition and is said to be finished:
// it must stand in its own, too.
type stray struct {
	right int32 // its own partition
	lost  Violation
}

func (c *Checker) stray(r Record, right int32, finished bool) {
	if !finished {
		return // it is forwarded, or waits to be
	}
	c.strays[r.M.Key()] = stray{right, Violation{
		Invariant: Kept, At: r.At, Entity: string(r.M.Subject), Command: r.M.ID,
		Text: "the command belongs into partition " + itoa(int(right)) + ", is said to be finished here, and does not stand there",
	}}
}

// Strays are the partitions of the commands topic that must be looked through once
// more, with [Checker.Found], for commands that stand in a wrong partition: that
// was found out when theirs was read already.
func (c *Checker) Strays() []int32 {
	var list []int32
	for _, s := range c.strays {
		list = append(list, s.right)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Found tells of a command in its own partition: see [Checker.Strays].
func (c *Checker) Found(r Record) {
	if s, ok := c.strays[r.M.Key()]; ok && s.right == r.At.Partition {
		delete(c.strays, r.M.Key())
	}
}

// Settled returns the commands that have a set-aside record, as if they waited, and
// their outcome, too. The record must be gone in a moment; when it is not,
// [Partition.Remains] says so. Ask when all events have been given.
func (p *Partition) Settled() []int64 {
	var list []int64
	for offset, a := range p.asides {
		if k := p.commands[a.key]; a.found && !a.Parked && k != nil && k.at == offset && k.count > 0 && k.pos == k.count {
			list = append(list, offset)
		}
	}
	slices.Sort(list)
	return list
}

// Remains says that the set-aside record of a command of [Partition.Settled] is
// still there.
func (p *Partition) Remains(offset int64) {
	a := p.asides[offset]
	p.c.at(SetAside, a.At, runtime.Entity(a.Entity), "the command at offset %d has its outcome, and its set-aside record was not removed", offset)
}

// closeCommands says which commands miss what is owed to them.
func (p *Partition) closeCommands() {
	c := p.c
	for _, k := range p.commands {
		at := runtime.Coordinates{Topic: p.topic, Partition: p.n, Offset: k.at}
		switch {
		case k.count == 0 && k.owed && c.o.AtRest:
			c.at(Ends, at, "", "the command has no outcome")
		case k.count == 0 && k.owed:
			c.at(OneOutcome, at, "", "the committed position says that the command is finished, and it has no outcome")
		case k.count == 0:
			c.report.Read.Waiting++
		case k.pos < k.count:
			c.at(AllOrNothing, at, "", "of the %d events of the command's outcome only %d are there", k.count, k.pos)
		}
	}
	for offset, a := range p.asides {
		at := runtime.Coordinates{Topic: p.topic, Partition: p.n, Offset: offset}
		k := p.commands[a.key]
		switch {
		case !a.found && (p.topic == "" || c.read(at)):
			c.at(SetAside, a.At, runtime.Entity(a.Entity), "it is about the command at offset %d, where none stands", offset)
		case a.Parked && a.found && (k == nil || !k.parked):
			c.at(SetAside, a.At, runtime.Entity(a.Entity), "it lists the command at offset %d as parked, and that has no such outcome", offset)
		}
	}
}
