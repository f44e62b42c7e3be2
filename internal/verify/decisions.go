package verify

import (
	"slices"
	"strings"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// expected is what a decision or a command says of the event that caused it.
type expected struct {
	r          Record // of the decision or command, without its value
	sum        uint64 // of the event's id and its root cause
	dispatcher string // of a decision that is decided; else ""
	epoch      uint64
}

// relayed is a command that a dispatcher decided on, sent, or both.
type relayed struct {
	decided, sent runtime.Coordinates // the first of each; zero when there is none
	sum           uint64              // of what it says
	cause         runtime.CommandKey  // the command that led to the event
	owed          bool                // it must have been sent
}

// Decision gives a record of the dispatched topic. sent says that the relay's
// position has passed it: its commands stand in their topic. It comes before the
// events.
func (p *Partition) Decision(d Decision, sent bool) {
	c, m := p.c, d.M
	c.report.Read.Decisions++
	for _, check := range c.o.Checks {
		check.Decision(d)
	}
	if d.D.At != m.Cause.String() || d.D.Event != m.CausationID {
		c.of(Causes, d.Record, "the decision is about event %s at %s, and says that %s at %s caused it", d.D.Event, d.D.At, m.CausationID, m.Cause)
	}
	e := expected{r: bare(d.Record), sum: c.sum(d.D.Event, correlation(m))}
	if d.D.Status == avro.DispatchDecided {
		e.dispatcher, e.epoch = d.D.Dispatcher, d.D.Epoch
	}
	p.expect(m.Cause, e)
	if d.D.Status != avro.DispatchDecided {
		return
	}
	if len(c.o.Dispatchers) > 0 && !slices.Contains(c.o.Dispatchers, d.D.Dispatcher) {
		c.of(Causes, d.Record, "the decision is of %s, which is no dispatcher", d.D.Dispatcher)
	}
	cause, _, _ := runtime.ParseEventID(d.D.Event)
	for i, command := range d.D.Commands {
		key := d.CommandKey(i)
		sum := c.relayedSum(m, command.Type, command.Target, command.Schema, command.Data)
		entry := c.relayed(key, sum)
		switch {
		case entry.decided != (runtime.Coordinates{}):
			c.of(OneOutcome, d.Record, "the decision at %s has the same command", entry.decided)
			continue
		case entry.sum != sum:
			c.of(Causes, d.Record, "command %d of the decision is not the one that stands at %s", i, entry.sent)
		}
		entry.decided, entry.cause, entry.owed = d.At, cause, sent || c.o.AtRest
	}
}

// relayed is what is known of a dispatcher's command; a new one has this sum.
func (c *Checker) relayed(key runtime.CommandKey, sum uint64) *relayed {
	entry := c.dispatch[key]
	if entry == nil {
		entry = &relayed{sum: sum}
		c.dispatch[key] = entry
	}
	return entry
}

// relayedSum stands for all that a decision and its command have in common.
func (c *Checker) relayedSum(m *runtime.Message, t runtime.TypeName, target runtime.Entity, schema runtime.DataSchema, data []byte) uint64 {
	return c.sum(string(t), string(target), string(schema), string(data), m.Cause.String(), m.CausationID, m.CorrelationID)
}

// bare is a record without what takes room.
func bare(r Record) Record {
	return Record{At: r.At, M: &runtime.Message{ID: r.M.ID, Subject: r.M.Subject, CausationID: r.M.CausationID, Pos: r.M.Pos}}
}

// FromDispatcher says whether a source is that of a dispatcher.
func FromDispatcher(source string) bool {
	rest, ok := strings.CutPrefix(source, "/evento/")
	return ok && strings.Contains(rest, "/dispatchers/")
}

// caused is I8 of a command: where it comes from.
func (p *Partition) caused(r Record) {
	c, m := p.c, r.M
	key := m.Key()
	dispatched := FromDispatcher(m.Source)
	switch {
	case dispatched:
		sum := c.relayedSum(m, m.Type, m.Subject, m.Schema, m.Data)
		entry := c.relayed(key, sum)
		switch {
		case entry.sum != sum && entry.decided != (runtime.Coordinates{}):
			c.of(Causes, r, "the command is not the one that was decided at %s", entry.decided)
		case entry.sum != sum:
			c.of(Causes, r, "the command is not the one that was sent at %s", entry.sent)
		}
		if entry.sent == (runtime.Coordinates{}) {
			entry.sent = r.At
		}
	case m.CausationID == "" && m.Cause == (runtime.Coordinates{}):
		if m.CorrelationID != "" && m.CorrelationID != m.ID {
			c.of(Causes, r, "the command has no cause, and the root cause %q", m.CorrelationID)
		}
		if c.sent != nil && c.sent[key] == nil {
			c.of(Causes, r, "the command was sent by nobody, and no dispatcher decided it")
		}
		return
	case m.Cause.Partition != r.At.Partition:
		c.of(Causes, r, "the command says that %s caused it, and no dispatcher has sent it", m.Cause)
		return
	}
	if m.Cause.Partition == r.At.Partition {
		p.expect(m.Cause, expected{r: bare(r), sum: c.sum(m.CausationID, correlation(m))})
	}
}

// expect waits for the event at a place.
func (p *Partition) expect(at runtime.Coordinates, e expected) {
	if at.Partition != p.n {
		p.c.of(Causes, e.r, "its cause %s is in another partition", at)
		return
	}
	key := place{at.Topic, at.Offset}
	if e.dispatcher != "" {
		for _, other := range p.about[key] {
			if other.dispatcher == e.dispatcher && other.epoch == e.epoch && other.sum == e.sum {
				p.c.of(OneOutcome, e.r, "%s has decided about %s at %s, too", e.dispatcher, e.r.M.CausationID, other.r.At)
				return
			}
		}
	}
	p.about[key] = append(p.about[key], e)
}

// told holds an event against those who say that it caused them, and against those
// who were shown it.
func (p *Partition) told(r Record) {
	c := p.c
	if len(p.about) > 0 {
		key := place{r.At.Topic, r.At.Offset}
		if all, ok := p.about[key]; ok {
			sum := c.sum(r.M.ID, correlation(r.M))
			for _, e := range all {
				if e.sum != sum {
					c.of(Causes, e.r, "its cause %q, with another root cause or id, is not what stands at %s", e.r.M.CausationID, r.At)
				}
			}
			delete(p.about, key)
		}
	}
	if len(c.sightings) > 0 {
		c.shown(r)
	}
}

func (p *Partition) closeAbout() {
	for at, all := range p.about {
		where := runtime.Coordinates{Topic: at.topic, Partition: p.n, Offset: at.offset}
		if !p.c.read(where) {
			continue
		}
		for _, e := range all {
			p.c.of(Causes, e.r, "its cause %q is not at %s, where no committed event stands", e.r.M.CausationID, where)
		}
	}
}

// finishRelayed is I8 over partitions: commands of dispatchers were decided, and
// decided ones sent, and no chain of them is a circle.
func (c *Checker) finishRelayed() {
	done := map[runtime.CommandKey]bool{}
	for key, e := range c.dispatch {
		nowhere := runtime.Coordinates{}
		switch {
		case e.decided == nowhere && !c.o.Undecided:
			c.at(Causes, e.sent, "", "the command is as of a dispatcher, and none has decided on it")
		case e.sent == nowhere && e.owed:
			c.at(Kept, e.decided, "", "a command of the decision, with the key %s, is not in the commands topic", key)
		}
		// A chain of causes is followed until it is known to end, or meets itself.
		path := map[runtime.CommandKey]bool{}
		for k := key; !done[k]; {
			if path[k] {
				c.at(Causes, e.sent, "", "the causes of the command go round")
				break
			}
			path[k] = true
			next := c.dispatch[k]
			if next == nil || next.decided == nowhere {
				break
			}
			k = next.cause
		}
		for k := range path {
			done[k] = true
		}
	}
}
