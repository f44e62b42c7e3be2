package verify

import (
	"fmt"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

const (
	commandsTopic, eventsTopic, dispatchedTopic = "commands", "events", "dispatched"

	dispatcher  = "default/mirror"
	reflections = "/evento/test/dispatchers/" + dispatcher
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// evidence is all that a run of two partitions leaves behind.
type evidence struct {
	options     Options
	sent        []Operation
	sightings   []Sighting
	commands    []Record
	events      []Record
	decisions   []Decision
	positions   map[int32]position.Position
	asides      map[int32][]Aside
	heads       map[int32][]Head
	checkpoints map[int32][]Checkpoint
	snapshots   map[int32][]Snapshot
	clock       time.Time
	terms       map[int64]int64 // by offset in partition 0; nil where they are not known
	stays       bool            // set-aside records of what is settled
}

// home is where this test's aggregates live: those of type b in partition 1.
func home(key string, partitions int32) int32 {
	if key[0] == 'b' && partitions > 1 {
		return 1
	}
	return 0
}

// honest is the evidence of a run in which all went well: 70 commands to a:1, some of
// two events, each answered before the next is sent; each tenth of them mirrored by a
// dispatcher to b:1; one refused by the platform, one parked and sent again.
func honest() *evidence {
	e := &evidence{
		options:   Options{Partitions: 2, Place: home, AtRest: true, Dispatchers: []string{dispatcher}},
		positions: map[int32]position.Position{}, asides: map[int32][]Aside{}, heads: map[int32][]Head{},
		checkpoints: map[int32][]Checkpoint{}, snapshots: map[int32][]Snapshot{}, clock: began,
	}
	for i := range 70 {
		id := fmt.Sprintf("c-%d", i)
		switch i {
		case 20:
			e.send(id, "a:1", 1, runtime.TypeCommandRejected)
		case 30:
			parked := e.send(id, "a:1", 1, runtime.TypeCommandParked)
			old := e.commands[len(e.commands)-1].M
			again := e.write(&runtime.Message{ID: "reissue-" + parked.M.ID, Source: old.Source, Subject: old.Subject, Type: old.Type, Schema: old.Schema,
				CausationID: parked.M.ID, CorrelationID: old.ID, Cause: parked.At, Time: e.tick()})
			e.decide(again, 1, "A.Done")
		default:
			e.send(id, "a:1", 1+i%8/7, "A.Done")
		}
	}
	return e
}

func (e *evidence) tick() time.Time {
	e.clock = e.clock.Add(time.Second)
	return e.clock
}

// next is where the next record of a topic's partition stands. Ends of transactions
// take offsets, too.
func next(list []Record, topic string, partition int32) runtime.Coordinates {
	at := runtime.Coordinates{Topic: topic, Partition: partition}
	for _, r := range list {
		if r.At.Partition == partition {
			at.Offset = r.At.Offset + 2
		}
	}
	return at
}

func (e *evidence) write(m *runtime.Message) Record {
	r := Record{At: next(e.commands, commandsTopic, home(string(m.Aggregate()), 2)), M: m}
	e.commands = append(e.commands, r)
	return r
}

// send is a client that sends a command and waits for its outcome, of which it
// returns the first record.
func (e *evidence) send(id string, to runtime.Entity, events int, t runtime.TypeName) Record {
	o := Operation{ID: id, Source: "/client", Entity: to, Type: "Do"}
	begin := e.tick()
	r := e.write(&runtime.Message{ID: id, Source: o.Source, Subject: to, Type: "A.Do", Schema: "urn:evento:avro:A.Do:1", Data: []byte(id), Time: begin})
	first := len(e.events)
	e.decide(r, events, t)
	answer := &Outcome{Status: map[runtime.TypeName]string{"A.Done": "done", runtime.TypeCommandRejected: "rejected", runtime.TypeCommandParked: "parked"}[t]}
	for _, r := range e.events[first:] {
		if r.M.Aggregate() == to.Aggregate() {
			answer.Events = append(answer.Events, Shown{r.At.String(), r.M.ID, string(r.M.Type), r.M.Sequence})
			answer.Version = r.M.Sequence
		}
	}
	o.Attempts = []Attempt{{Gateway: "g", Sent: begin, Done: e.tick(), Result: OK, Outcome: answer}}
	e.sent = append(e.sent, o)
	return e.events[first]
}

// decide records the outcome of a command, what a dispatcher makes of it, and the
// outcome of that.
func (e *evidence) decide(command Record, events int, t runtime.TypeName) {
	id := command.M.Aggregate()
	now := e.tick()
	for pos := 1; pos <= events; pos++ {
		m := &runtime.Message{
			ID: command.M.Key().EventID(pos), Type: t, Subject: command.M.Subject, Source: "/evento/test/f", Data: []byte{byte(len(e.events))},
			CausationID: command.M.ID, CorrelationID: correlation(command.M), Cause: command.At, Time: now, RecordedTime: now,
			Pos: pos, Count: events, Prev: runtime.NoPrev, Writer: "evento-ONE-0",
		}
		r := Record{At: next(e.events, eventsTopic, command.At.Partition), M: m}
		var links []int64
		version := uint64(0)
		for _, before := range e.events {
			if before.M.Aggregate() != id {
				continue
			}
			m.Prev = before.At.Offset
			version = max(version, before.M.Sequence)
			if before.M.Skip != nil {
				links = nil
			}
			links = append(links, before.At.Offset)
		}
		if len(links) == maxLinks {
			m.Skip = links
		}
		if !m.Platform() {
			m.Sequence = version + 1
		}
		if pos > 1 {
			m.Prev = -2 // the record before, and the offset between
		}
		e.events = append(e.events, r)
		e.sightings = append(e.sightings, Sighting{By: "sink", At: r.At, ID: m.ID, Source: m.Source, Aggregate: id, Sequence: m.Sequence})
		if m.Sequence > 0 && m.Sequence%10 == 0 && id == "a:1" {
			e.mirror(r)
		}
	}
}

func (e *evidence) mirror(event Record) {
	d := Decision{D: avro.Dispatched{Dispatcher: dispatcher, Event: event.M.ID, At: event.At.String(), Status: avro.DispatchDecided}}
	var before []Record
	for _, d := range e.decisions {
		before = append(before, d.Record)
	}
	d.Record = Record{At: next(before, dispatchedTopic, event.At.Partition), M: &runtime.Message{
		ID: fmt.Sprintf("d-%d", len(e.decisions)), Type: runtime.TypeDispatched, Source: reflections, Subject: event.M.Subject,
		CausationID: event.M.ID, CorrelationID: event.M.CorrelationID, Cause: event.At, Time: e.clock,
	}}
	c := avro.DispatchedCommand{Type: "A.Do", Target: "b:1", Schema: "urn:evento:avro:A.Do:1", Data: []byte("mirror")}
	d.D.Commands = []avro.DispatchedCommand{c}
	e.decisions = append(e.decisions, d)
	r := e.write(&runtime.Message{ID: d.M.ID + "-0", Source: reflections, Subject: c.Target, Type: c.Type, Schema: c.Schema, Data: c.Data,
		CausationID: event.M.ID, CorrelationID: event.M.CorrelationID, Cause: event.At, Time: e.tick()})
	e.decide(r, 1, "A.Done")
}

// check gives the evidence to a checker.
func (e *evidence) check() Report {
	c := New(e.options)
	if e.sent != nil {
		c.Sent(e.sent)
	}
	c.Saw(e.sightings)
	for n := range int32(2) {
		p := c.Partition(n)
		if at, ok := e.positions[n]; ok {
			p.Position(at)
		}
		for _, a := range e.asides[n] {
			p.Aside(a)
		}
		for _, h := range e.heads[n] {
			p.Head(h)
		}
		for _, h := range e.checkpoints[n] {
			p.Checkpoint(h)
		}
		for _, s := range e.snapshots[n] {
			p.Snapshot(s)
		}
		for _, d := range e.decisions {
			if d.At.Partition == n {
				p.Decision(d, false)
			}
		}
		for _, r := range e.commands {
			if r.At.Partition == n {
				p.Command(r)
			}
		}
		for _, r := range e.events {
			if r.At.Partition != n {
				continue
			}
			if e.terms != nil && n == 0 {
				p.Term(e.terms[r.At.Offset])
			}
			if c.read(r.At) {
				p.Event(r)
			} else if p.Torn() > 0 {
				p.Rest(r)
			}
		}
		for _, offset := range p.Settled() {
			if e.stays {
				p.Remains(offset)
			}
		}
		p.Close()
	}
	for _, n := range c.Strays() {
		for _, r := range e.commands {
			if r.At.Partition == n {
				c.Found(r)
			}
		}
	}
	return c.Finish()
}
