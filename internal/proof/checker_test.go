package proof

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// logged is a record of a topic as a committed reader sees it.
type logged struct {
	At runtime.Coordinates
	M  *runtime.Message
}

// evidence is what is known when a run is over and nothing is under way any more.
type evidence struct {
	Sent        []*command
	Commands    []logged   // by partition and offset
	Events      []logged   // of all events topics; by topic, partition and offset
	Decisions   []decision // by partition and offset
	Dispatchers []string   // names of those that run
}

// findings are contradictions to the promises. They are the checker's result:
// none is what a run is for.
type findings struct{ list []string }

func (f *findings) add(promise, format string, args ...any) {
	f.list = append(f.list, promise+": "+fmt.Sprintf(format, args...))
}

// check holds the evidence against P1 to P6, without asking anybody.
func check(e evidence) []string {
	c := checker{
		e: e, sent: map[runtime.CommandKey]*command{}, made: map[runtime.CommandKey]runtime.Coordinates{}, at: map[runtime.Coordinates]logged{},
		records: map[runtime.CommandKey][]logged{}, outcomes: map[runtime.CommandKey][]logged{}, byAggregate: map[runtime.AggregateID][]logged{},
	}
	for _, s := range e.Sent {
		c.sent[s.key()] = s
	}
	for _, r := range e.Commands {
		c.at[r.At] = r
		if !r.M.Platform() {
			c.records[r.M.Key()] = append(c.records[r.M.Key()], r)
		}
	}
	for _, r := range e.Events {
		c.at[r.At] = r
		key, pos, ok := runtime.ParseEventID(r.M.ID)
		if !ok || pos != r.M.Pos {
			c.add("P2", "event at %s has the id %q and the position %d", r.At, r.M.ID, r.M.Pos)
			continue
		}
		c.outcomes[key] = append(c.outcomes[key], r)
		c.byAggregate[r.M.Aggregate()] = append(c.byAggregate[r.M.Aggregate()], r)
	}
	c.decided()
	c.accepted()
	c.oneOutcome()
	c.causes()
	c.answers()
	for _, id := range sortedKeys(c.byAggregate) {
		c.order(id, c.byAggregate[id])
		c.replay(id, c.byAggregate[id])
	}
	c.realTime()
	c.money()
	return c.list
}

type checker struct {
	findings
	e           evidence
	sent        map[runtime.CommandKey]*command            // by clients
	made        map[runtime.CommandKey]runtime.Coordinates // by dispatchers: where that was decided
	at          map[runtime.Coordinates]logged             // commands and events
	records     map[runtime.CommandKey][]logged            // in the commands topic
	outcomes    map[runtime.CommandKey][]logged            // in the events topics
	byAggregate map[runtime.AggregateID][]logged
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// accepted is P1: what was accepted is there, and nothing that was not sent is.
func (c *checker) accepted() {
	for _, s := range c.e.Sent {
		key := s.key()
		switch there := len(c.records[key]) > 0; {
		case s.result() == accepted && !there:
			c.add("P1", "%s was accepted and is not in the commands topic", s)
		case s.result() == failed && there:
			c.add("P1", "%s was answered as not written, and is in the commands topic", s)
		}
	}
	for key, list := range c.records {
		if _, dispatched := c.made[key]; c.sent[key] == nil && !dispatched {
			c.add("P6", "the command at %s was sent by nobody, and no dispatcher decided it", list[0].At)
		}
	}
}

// oneOutcome is P2 and P4: each command has one outcome, whole, caused by its record.
func (c *checker) oneOutcome() {
	for key, records := range c.records {
		if len(c.outcomes[key]) == 0 {
			c.add("P2", "%s %s at %s has no outcome", records[0].M.Type, records[0].M.ID, records[0].At)
		}
	}
	for key, events := range c.outcomes {
		records := c.records[key]
		if len(records) == 0 {
			c.add("P6", "the event at %s has no command", events[0].At)
			continue
		}
		command := records[0]
		for i, r := range events {
			switch m := r.M; {
			case m.Pos != i+1 || m.Count != len(events):
				c.add("P4", "the outcome of %s: its record %d of %d, at %s, says %d/%d", command.At, i+1, len(events), r.At, m.Pos, m.Count)
			case m.Cause != command.At:
				c.add("P6", "the event at %s says that %s caused it; the first record of its command is at %s", r.At, m.Cause, command.At)
			case m.CausationID != command.M.ID || m.CorrelationID != correlation(command.M):
				c.add("P6", "the event at %s has causation %q and correlation %q; its command is %q, with %q", r.At, m.CausationID, m.CorrelationID, command.M.ID, correlation(command.M))
			case m.Aggregate() != command.M.Aggregate() || r.At.Partition != command.At.Partition:
				c.add("P3", "the event at %s is of %s; its command is of %s at %s", r.At, m.Subject, command.M.Subject, command.At)
			}
		}
	}
}

// answers holds what senders were told against the log, and against each other.
func (c *checker) answers() {
	for _, s := range c.e.Sent {
		first := s.answer()
		if first == nil {
			continue
		}
		for _, a := range s.tries() {
			if a.Problem == "id-reused" {
				c.add("P2", "%s is said to be another command with its id", s)
			}
			if !a.Outcome.final() {
				continue
			}
			if d := first.same(a.Outcome); d != "" {
				c.add("P2", "%s got two answers, the second one from %s:%s", s, a.Gateway, d)
			}
		}
		c.answer(s, first)
	}
}

func (c *checker) answer(s *command, o *outcome) {
	recorded := c.outcomes[s.key()]
	var shown, there []string
	for _, e := range o.Events {
		shown = append(shown, fmt.Sprintf("%s %s %s %d", e.Coordinates, e.ID, e.Type, e.Version))
	}
	version := uint64(0)
	for _, r := range recorded {
		there = append(there, fmt.Sprintf("%s %s %s %d", r.At, r.M.ID, r.M.Type, r.M.Sequence))
		version = r.M.Sequence
	}
	if !slices.Equal(shown, there) {
		c.add("P2", "%s was answered %q, recorded is %q", s, shown, there)
		return
	}
	platform := len(recorded) > 0 && recorded[0].M.Platform()
	switch {
	case platform != (o.Status == "rejected" || o.Status == "parked"):
		c.add("P2", "%s was answered as %s, recorded is %q", s, o.Status, there)
	case !platform && o.Version != version:
		c.add("P3", "%s was answered with version %d, recorded is %d", s, o.Version, version)
	}
}

// order is P3, and that the chain by which a history is read is whole.
func (c *checker) order(id runtime.AggregateID, events []logged) {
	version := uint64(0)
	var last time.Time
	for i, r := range events {
		m := r.M
		want := uint64(0)
		if !m.Platform() {
			version++
			want = version
		}
		if m.Sequence != want {
			c.add("P3", "%s: the event at %s has the version %d, it must be %d", id, r.At, m.Sequence, want)
			version = max(version, m.Sequence)
		}
		if i > 0 && r.At.Topic != events[i-1].At.Topic {
			c.add("P3", "%s has events in %s and in %s", id, events[i-1].At.Topic, r.At.Topic)
		}
		if m.RecordedTime.Before(last) {
			c.add("P3", "%s: the event at %s was recorded at %s, the one before at %s", id, r.At, m.RecordedTime, last)
		}
		last = m.RecordedTime
		if at := absolute(r.At.Offset, m.Prev); i == 0 && m.Prev != runtime.NoPrev || i > 0 && at != events[i-1].At.Offset {
			c.add("P5", "%s: the event at %s says that %d is before it", id, r.At, m.Prev)
		}
		for back, offset := range slices.Backward(m.Skip) {
			if n := i - (len(m.Skip) - back); n < 0 || absolute(r.At.Offset, offset) != events[n].At.Offset {
				c.add("P5", "%s: the event at %s skips to %d, which is not the event %d before it", id, r.At, offset, len(m.Skip)-back)
			}
		}
	}
}

// absolute is the offset that a hint of the event at this offset means.
func absolute(at, hint int64) int64 {
	if hint < 0 && hint != runtime.NoPrev {
		return at + hint
	}
	return hint
}

// realTime is P3 as clients see it: who was answered before another sent is before it.
func (c *checker) realTime() {
	type op struct {
		s          *command
		version    uint64
		sent, done time.Time // when it was sent first, and first answered
	}
	ops := map[runtime.AggregateID][]op{}
	for _, s := range c.e.Sent {
		recorded := c.outcomes[s.key()]
		if len(recorded) == 0 || recorded[0].M.Platform() {
			continue
		}
		o := op{s: s, version: recorded[0].M.Sequence}
		for _, a := range s.tries() {
			if o.sent.IsZero() || a.Sent.Before(o.sent) {
				o.sent = a.Sent
			}
			if a.Outcome.final() && (o.done.IsZero() || a.Done.Before(o.done)) {
				o.done = a.Done
			}
		}
		ops[recorded[0].M.Aggregate()] = append(ops[recorded[0].M.Aggregate()], o)
	}
	for id, list := range ops {
		slices.SortFunc(list, func(a, b op) int { return cmp.Compare(a.version, b.version) })
		var latest op // sent last of those so far
		for _, o := range list {
			if !o.done.IsZero() && o.done.Before(latest.sent) {
				c.add("P3", "%s: %s has version %d and was sent after %s, with version %d, was answered", id, latest.s, latest.version, o.s, o.version)
			}
			if o.sent.After(latest.sent) {
				latest = o
			}
		}
	}
}
