package verify

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// nth is the n-th event, from 0, of an aggregate.
func (e *evidence) nth(id runtime.AggregateID, n int) *Record {
	for i := range e.events {
		if e.events[i].M.Aggregate() == id {
			if n == 0 {
				return &e.events[i]
			}
			n--
		}
	}
	panic("no such event")
}

func (e *evidence) lastOf(id runtime.AggregateID) *Record {
	for i := range slices.Backward(e.events) {
		if e.events[i].M.Aggregate() == id {
			return &e.events[i]
		}
	}
	panic("no such event")
}

// lies are changes of honest evidence, with what must be found.
var lies = map[string]struct {
	found Invariant
	says  string // part of the text
	tell  func(e *evidence)
}{
	"an accepted command is not in the log": {Kept, "is not in the commands topic", func(e *evidence) {
		e.commands = slices.DeleteFunc(e.commands, func(r Record) bool { return r.M.ID == "c-69" })
	}},
	"an answered outcome is not in the log": {Kept, "recorded is []", func(e *evidence) {
		e.options.AtRest = false
		e.events = slices.DeleteFunc(e.events, func(r Record) bool { return r.M.CausationID == "c-69" })
	}},
	"written, though its sender was told it was not": {Kept, "answered as not written", func(e *evidence) {
		e.sent[69].Attempts = []Attempt{{Result: Failed}}
	}},
	"a command of a decision that was not sent": {Kept, "a command of the decision", func(e *evidence) {
		e.commands = slices.DeleteFunc(e.commands, func(r Record) bool { return r.M.ID == "d-3-0" })
		e.events = slices.DeleteFunc(e.events, func(r Record) bool { return r.M.CausationID == "d-3-0" })
	}},
	"a stray that was never forwarded": {Kept, "belongs into partition 1", func(e *evidence) {
		m := *e.commands[0].M
		m.ID, m.Subject = "stray", "b:7"
		e.positions[0] = position.Position{Offset: 1 << 20}
		e.commands = append(e.commands, Record{At: next(e.commands, commandsTopic, 0), M: &m})
	}},

	"two outcomes": {OneOutcome, "a second outcome", func(e *evidence) {
		twin, last := *e.events[5].M, e.lastOf("a:1")
		twin.Sequence, twin.Prev = last.M.Sequence+1, last.At.Offset
		e.events = append(e.events, Record{At: next(e.events, eventsTopic, 0), M: &twin})
	}},
	"two answers": {OneOutcome, "two answers", func(e *evidence) {
		o := *e.sent[5].Attempts[0].Outcome
		o.Status = "refused"
		e.sent[5].Attempts = append(e.sent[5].Attempts, Attempt{Result: OK, Outcome: &o})
	}},
	"two answers that differ in what the library does not know": {OneOutcome, "two answers", func(e *evidence) {
		first, second := *e.sent[5].Attempts[0].Outcome, *e.sent[5].Attempts[0].Outcome
		first.Full, second.Full = struct{ Code string }{"x"}, struct{ Code string }{"y"}
		e.sent[5].Attempts[0].Outcome = &first
		e.sent[5].Attempts = append(e.sent[5].Attempts, Attempt{Result: OK, Outcome: &second})
	}},
	"an answer that is not recorded": {OneOutcome, "it was answered", func(e *evidence) {
		e.sent[5].Attempts[0].Outcome.Events[0].Coordinates = "events/0/99"
	}},
	"a repeat that is said to be another": {OneOutcome, "another command with its id", func(e *evidence) {
		e.sent[5].Attempts = append(e.sent[5].Attempts, Attempt{Result: Failed, Reused: true})
	}},
	"a position that has passed a command without outcome": {OneOutcome, "finished", func(e *evidence) {
		e.options.AtRest = false
		e.positions[0] = position.Position{Offset: e.commands[len(e.commands)-1].At.Offset + 1}
		e.events = slices.DeleteFunc(e.events, func(r Record) bool { return r.M.CausationID == "c-69" })
		e.sent[69].Attempts[0].Outcome = nil
	}},
	"two decisions": {OneOutcome, "has decided about", func(e *evidence) {
		twin := e.decisions[1]
		m := *twin.M
		m.ID, twin.M, twin.At.Offset, twin.D.Commands = "d-other", &m, 1000, nil
		e.decisions = append(e.decisions, twin)
	}},
	"two decisions with one command": {OneOutcome, "has the same command", func(e *evidence) {
		twin := e.decisions[1]
		twin.At.Offset, twin.D.Epoch = 1000, 1
		e.decisions = append(e.decisions, twin)
	}},

	"a gap in the versions":        {Versions, "it must be", func(e *evidence) { e.lastOf("a:1").M.Sequence++ }},
	"a version twice":              {Versions, "it must be", func(e *evidence) { e.lastOf("a:1").M.Sequence-- }},
	"a platform's record counted":  {Versions, "it must be 0", func(e *evidence) { e.nth("a:1", 22).M.Sequence = 23 }},
	"a clock that runs backwards":  {Versions, "recorded at", func(e *evidence) { e.events[5].M.RecordedTime = began }},
	"a broken link":                {Versions, "is before it", func(e *evidence) { e.events[9].M.Prev = e.events[2].At.Offset }},
	"a distance too far":           {Versions, "is before it", func(e *evidence) { e.events[9].M.Prev = -5 }},
	"a first record that is none":  {Versions, "first record", func(e *evidence) { e.events[0].M.Prev = 0 }},
	"an answer of another version": {Versions, "answered with version", func(e *evidence) { e.sent[5].Attempts[0].Outcome.Version = 1 }},
	"an aggregate in two topics":   {Versions, "has events in", func(e *evidence) { e.lastOf("a:1").At.Topic = "others" }},
	"a wrong skip": {Versions, "skips to", func(e *evidence) {
		m := e.nth("a:1", 64).M
		m.Skip[10], m.Skip[11] = m.Skip[11], m.Skip[10]
	}},

	"who was answered first comes later": {Linear, "was answered", func(e *evidence) {
		a := &e.sent[40].Attempts[0]
		a.Sent, a.Done = a.Sent.Add(-time.Hour), a.Done.Add(-time.Hour)
	}},
	"not in the order of the commands": {Linear, "takes effect after", func(e *evidence) {
		i := slices.IndexFunc(e.commands, func(r Record) bool { return r.M.ID == "c-40" })
		e.commands[i].At, e.commands[i+1].At = e.commands[i+1].At, e.commands[i].At
		e.commands[i], e.commands[i+1] = e.commands[i+1], e.commands[i]
	}},
	"not the version that was expected": {Linear, "expects version", func(e *evidence) {
		v := uint64(7)
		e.commands[len(e.commands)-1].M.Expect = &v
	}},
	"one command within another": {Linear, "stands between", func(e *evidence) {
		i := slices.IndexFunc(e.events, func(r Record) bool { return r.M.Pos == 2 })
		e.events[i].M, e.events[i+1].M = e.events[i+1].M, e.events[i].M
	}},

	"half an outcome":             {AllOrNothing, "only 1 are there", func(e *evidence) { e.lastOf("a:1").M.Count = 2 }},
	"the second half":             {AllOrNothing, "begins with event 2", func(e *evidence) { e.drop(func(m *runtime.Message) bool { return m.Count == 2 && m.Pos == 1 }) }},
	"the first half":              {AllOrNothing, "only 1 are there", func(e *evidence) { e.drop(func(m *runtime.Message) bool { return m.Count == 2 && m.Pos == 2 }) }},
	"halves that do not fit":      {AllOrNothing, "after event 1 of", func(e *evidence) { e.events[firstOf(e, 2)].M.Count = 3 }},
	"a lost event in the middle":  {Versions, "it must be", func(e *evidence) { e.events = slices.Delete(e.events, 4, 5) }},
	"an event that is not ours":   {Readable, "has the id", func(e *evidence) { e.events[4].M.ID = "x" }},
	"an event in the wrong place": {Placement, "belongs into partition 1", func(e *evidence) { e.events[4].M.Subject = "b:9" }},

	"a sink was shown what is not committed": {CommittedOnly, "no committed event stands there", func(e *evidence) {
		e.sightings = append(e.sightings, Sighting{By: "sink", At: runtime.Coordinates{Topic: eventsTopic, Offset: 9999}, ID: "x", Source: "s", Aggregate: "a:2"})
	}},
	"a function was shown another event": {CommittedOnly, "committed is", func(e *evidence) { e.sightings[5].Sequence++ }},

	"a snapshot of an event that is not committed": {StateIsLog, "no committed event", func(e *evidence) {
		e.snapshots[0] = []Snapshot{{Aggregate: "a:1", Version: 9, Offset: 9999, Event: "x"}}
	}},
	"a snapshot of another version": {StateIsLog, "where the log has 5", func(e *evidence) {
		r := e.nth("a:1", 4)
		e.snapshots[0] = []Snapshot{{Aggregate: "a:1", Version: 4, Offset: r.At.Offset, Event: r.M.ID}}
	}},
	"a snapshot of another event": {StateIsLog, "another event stands", func(e *evidence) {
		r := e.nth("a:1", 4)
		e.snapshots[0] = []Snapshot{{Aggregate: "a:1", Version: 5, Offset: r.At.Offset, Event: "x"}}
	}},

	"nobody sent it":     {Causes, "sent by nobody", func(e *evidence) { e.sent = e.sent[:69] }},
	"a wrong cause":      {Causes, "the first record of its command", func(e *evidence) { e.events[5].M.Cause.Offset = 4 }},
	"a wrong root cause": {Causes, "says otherwise", func(e *evidence) { e.events[5].M.CorrelationID = "c-1" }},
	"an event without a command": {Causes, "has no command", func(e *evidence) {
		e.sent = e.sent[:69]
		e.commands = slices.DeleteFunc(e.commands, func(r Record) bool { return r.M.ID == "c-69" })
	}},
	"a root that names another": {Causes, "has no cause, and the root cause", func(e *evidence) { e.commands[3].M.CorrelationID = "x" }},
	"a reissue of nothing": {Causes, "no committed event stands", func(e *evidence) {
		e.reissue().M.Cause.Offset++
	}},
	"a reissue with another root": {Causes, "is not what stands at", func(e *evidence) { e.reissue().M.CorrelationID = "x" }},
	"a cause of its own making":   {Causes, "no dispatcher has sent it", func(e *evidence) { e.reissue().M.Cause.Partition = 1 }},
	"a command as of a dispatcher that has not decided it": {Causes, "none has decided", func(e *evidence) {
		e.decisions = e.decisions[:len(e.decisions)-1]
	}},
	"a command that was sent otherwise": {Causes, "not the one that", func(e *evidence) {
		for _, r := range e.commands {
			if r.M.ID == "d-3-0" {
				r.M.Data = []byte("more")
			}
		}
	}},
	"a decision about no event":               {Causes, "the decision is about event", func(e *evidence) { e.decisions[1].D.Event = "nothing" }},
	"a decision about another event":          {Causes, "is not what stands at", func(e *evidence) { e.decisions[1].D.Event, e.decisions[1].M.CausationID = "x", "x" }},
	"a decision of a dispatcher that is none": {Causes, "which is no dispatcher", func(e *evidence) { e.decisions[1].D.Dispatcher = "default/others" }},
	"causes that go round": {Causes, "go round", func(e *evidence) {
		// The first mirrored command is said to come of its own event.
		own := e.nth("b:1", 0)
		d, c := &e.decisions[0], e.mirrored(0)
		d.At.Partition, d.M.Cause, d.M.CausationID, d.D.Event, d.D.At = 1, own.At, own.M.ID, own.M.ID, own.At.String()
		c.M.Cause, c.M.CausationID = own.At, own.M.ID
	}},

	"a command without an outcome": {Ends, "has no outcome", func(e *evidence) {
		e.drop(func(m *runtime.Message) bool { return m.CausationID == "c-69" })
		e.sent[69].Attempts[0].Outcome = nil
	}},
	"a command that took too long": {Ends, "ended 1h", func(e *evidence) {
		e.options.Within = time.Minute
		e.lastOf("a:1").M.RecordedTime = e.lastOf("a:1").M.RecordedTime.Add(time.Hour)
	}},
	"an aggregate that was held up by another": {Isolation, "nothing of its own", func(e *evidence) {
		e.options.OthersWithin = time.Minute
		e.options.Held = func(id runtime.AggregateID) bool { return id == "a:2" }
		e.sent[69].Attempts[0].Done = e.sent[69].Attempts[0].Done.Add(time.Hour)
	}},

	"a write of a former term": {NoZombies, "after the one of term 3", func(e *evidence) {
		e.terms = map[int64]int64{}
		for i, r := range e.events {
			e.terms[r.At.Offset] = 1 + int64(i/30)
		}
		e.terms[e.nth("a:1", 55).At.Offset], e.terms[e.nth("a:1", 54).At.Offset] = 2, 3
	}},
	"a write of a former owner": {NoZombies, "does not know of that", func(e *evidence) {
		for i := range e.events[40:] {
			e.events[40+i].M.Writer = "evento-TWO-1"
		}
		last := e.lastOf("a:1")
		last.M.Writer, last.M.Prev = "evento-ONE-1", e.events[39].At.Offset
	}},

	"a sink was shown a newer event first": {SinkOrder, "which is newer", func(e *evidence) {
		e.sightings[5], e.sightings[6] = e.sightings[6], e.sightings[5]
	}},
	"a repeat that is not recognisable": {SinkOrder, "cannot be recognised", func(e *evidence) {
		twin := e.sightings[5]
		twin.Source = "/elsewhere"
		e.sightings = append(e.sightings, twin)
	}},
	"two events of one id": {SinkOrder, "cannot be told", func(e *evidence) { e.sightings[6].ID = e.sightings[5].ID }},

	"money that is made of nothing": {Conservation, "13 too much", func(e *evidence) { e.options.Checks = []Check{&audit{sum: 13}} }},

	"a set-aside record of no command": {SetAside, "where none stands", func(e *evidence) {
		e.asides[0] = []Aside{{At: runtime.Coordinates{Topic: "parked"}, Offset: 1, Entity: "a:1"}}
	}},
	"a set-aside record of another aggregate": {SetAside, "is of a:3", func(e *evidence) {
		e.asides[0] = []Aside{{At: runtime.Coordinates{Topic: "parked"}, Offset: 0, Entity: "a:3"}}
	}},
	"a set-aside record that stays": {SetAside, "was not removed", func(e *evidence) {
		e.stays = true
		e.asides[0] = []Aside{{At: runtime.Coordinates{Topic: "parked"}, Offset: 0, Entity: "a:1"}}
	}},
	"a list of what was not parked": {SetAside, "no such outcome", func(e *evidence) {
		e.asides[0] = []Aside{{At: runtime.Coordinates{Topic: "parked"}, Offset: 0, Entity: "a:1", Parked: true}}
	}},
	"a head that is too old": {Heads, "its head says", func(e *evidence) {
		e.checkpoint()
		r := e.nth("a:1", 4)
		e.heads[0][0].Offset, e.heads[0][0].Event, e.heads[0][0].Version = r.At.Offset, r.M.ID, r.M.Sequence
	}},
	"a head that is missing":                  {Heads, "its head says -1", func(e *evidence) { e.checkpoint(); e.heads[0] = nil }},
	"a head of another version":               {Heads, "has the version", func(e *evidence) { e.checkpoint(); e.heads[0][0].Version++ }},
	"a head of an event that is not":          {Heads, "no committed event", func(e *evidence) { e.checkpoint(); e.heads[0][0].Offset += 1001 }},
	"an aggregate that its owner has stopped": {Heads, "contradicts itself", func(e *evidence) { e.checkpoint(); e.heads[0][0].Broken = "torn" }},
}

// audit is a check of somebody's own.
type audit struct{ commands, events, decisions, sum int }

func (a *audit) Command(Record)    { a.commands++ }
func (a *audit) Event(Record)      { a.events++ }
func (a *audit) Decision(Decision) { a.decisions++ }
func (a *audit) Finish(found func(Violation)) {
	if a.sum != 0 {
		found(Violation{Invariant: Conservation, Text: itoa(a.sum) + " too much"})
	}
}

func (e *evidence) drop(which func(*runtime.Message) bool) {
	for i := range slices.Backward(e.events) {
		if which(e.events[i].M) {
			e.events = slices.Delete(e.events, i, i+1)
			return
		}
	}
	panic("no such event")
}

func firstOf(e *evidence, pos int) int {
	return slices.IndexFunc(e.events, func(r Record) bool { return r.M.Pos == pos })
}

func (e *evidence) reissue() *Record {
	return &e.commands[slices.IndexFunc(e.commands, func(r Record) bool { return strings.HasPrefix(r.M.ID, "reissue-") })]
}

func (e *evidence) mirrored(n int) *Record {
	return &e.commands[slices.IndexFunc(e.commands, func(r Record) bool { return r.M.ID == "d-"+itoa(n)+"-0" })]
}

// checkpoint makes the heads of partition 0 as they were some events ago.
func (e *evidence) checkpoint() {
	r := e.nth("a:1", 50)
	e.checkpoints[0] = []Checkpoint{{Topic: eventsTopic, Offset: r.At.Offset, Event: r.M.ID}}
	e.heads[0] = []Head{{Aggregate: "a:1", Version: r.M.Sequence, Offset: r.At.Offset, Event: r.M.ID}}
}

func TestEachLieIsFound(t *testing.T) {
	t.Parallel()
	covered := map[Invariant]bool{}
	for name, lie := range lies {
		covered[lie.found] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := honest()
			lie.tell(e)
			report := e.check()
			for _, v := range report.Violations {
				if v.Invariant == lie.found && strings.Contains(v.Text, lie.says) {
					return
				}
			}
			t.Errorf("not found as %s: %q; found %q", lie.found, lie.says, report.Violations)
		})
	}
	for _, i := range []Invariant{Kept, OneOutcome, Versions, Linear, AllOrNothing, CommittedOnly, StateIsLog, Causes, Ends, Isolation, NoZombies, SinkOrder, Conservation, Placement, Readable, SetAside, Heads} {
		if !covered[i] {
			t.Errorf("no lie breaks %s", i)
		}
	}
}

func TestHonestEvidenceIsGreen(t *testing.T) {
	t.Parallel()
	truths := map[string]func(e *evidence){
		"as it is":        func(*evidence) {},
		"without clients": func(e *evidence) { e.sent = nil },
		"a client that knows nothing of one, which was written": func(e *evidence) { e.sent[69].Attempts = []Attempt{{Result: Unknown}} },
		"a client that knows nothing of one, which was not": func(e *evidence) {
			e.sent = append(e.sent, Operation{ID: "lost", Source: "/client", Entity: "a:1", Attempts: []Attempt{{Result: Unknown}, {Result: Failed}}})
		},
		"a failed one that is not there": func(e *evidence) {
			e.sent = append(e.sent, Operation{ID: "never", Source: "/client", Entity: "a:1", Attempts: []Attempt{{Result: Failed}}})
		},
		"unknown at first, answered later": func(e *evidence) {
			e.sent[5].Attempts = append([]Attempt{{Result: Unknown, Sent: e.sent[5].Attempts[0].Sent}}, e.sent[5].Attempts...)
		},
		"a command and a decision's command that stand there twice": func(e *evidence) {
			e.write(e.commands[5].M)
			e.write(e.mirrored(0).M)
		},
		"a stray that was forwarded, to a partition read before or after": func(e *evidence) {
			e.positions[0], e.positions[1] = position.Position{Offset: 1 << 20}, position.Position{Offset: 1 << 20}
			for _, id := range []string{"c-3", "d-1-0"} {
				i := slices.IndexFunc(e.commands, func(r Record) bool { return r.M.ID == id })
				wrong := 1 - e.commands[i].At.Partition
				e.commands = append(e.commands, Record{At: next(e.commands, commandsTopic, wrong), M: e.commands[i].M})
			}
		},
		"an event that was parked before it was decided": func(e *evidence) {
			d := e.decisions[1]
			m := *d.M
			m.ID, d.M, d.At.Offset, d.D.Status, d.D.Commands = "d-parked", &m, 1000, avro.DispatchParked, nil
			e.decisions = append(e.decisions, d)
		},
		"heads": func(e *evidence) { e.checkpoint() },
		"a snapshot of the past": func(e *evidence) {
			r := e.nth("a:1", 4)
			e.snapshots[0] = []Snapshot{{Aggregate: "a:1", Version: r.M.Sequence, Offset: r.At.Offset, Event: r.M.ID}}
		},
		"a distance with a stranger's records between": func(e *evidence) { e.events[firstOf(e, 2)].M.Prev = -1 },
		"repeats at a sink":                            func(e *evidence) { e.sightings = append(e.sightings, e.sightings[3:9]...) },
		"a command that waits, set aside": func(e *evidence) {
			e.drop(func(m *runtime.Message) bool { return m.CausationID == "c-69" })
			e.sightings = e.sightings[:60]
			e.sent[69].Attempts[0].Outcome, e.options.AtRest = nil, false
			r := e.commands[len(e.commands)-1]
			e.positions[0] = position.Position{Offset: r.At.Offset + 1}
			e.asides[0] = []Aside{{Offset: r.At.Offset, Entity: "a:1"}}
		},
		"a repeat that is finished while the first one is under way": func(e *evidence) {
			e.drop(func(m *runtime.Message) bool { return m.CausationID == "c-69" })
			e.sent, e.sightings, e.options.AtRest = nil, nil, false
			first := e.commands[len(e.commands)-1]
			e.positions[0] = position.Position{Offset: first.At.Offset, Done: []int64{e.write(first.M).At.Offset}}
		},
		"one that is listed as parked": func(e *evidence) {
			i := slices.IndexFunc(e.commands, func(r Record) bool { return r.M.ID == "c-30" })
			e.asides[0] = []Aside{{Offset: e.commands[i].At.Offset, Entity: "a:1", Parked: true}}
		},
		"a set-aside record that goes in a moment": func(e *evidence) { e.asides[0] = []Aside{{Offset: 0, Entity: "a:1"}} },
		"a process that comes back": func(e *evidence) {
			for i := range e.events[30:50] {
				e.events[30+i].M.Writer = "evento-TWO-1"
			}
		},
	}
	for name, tell := range truths {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := honest()
			tell(e)
			all := &audit{}
			e.options.Checks = []Check{all}
			report := e.check()
			for _, v := range report.Violations {
				t.Error(v)
			}
			if all.commands != len(e.commands) || all.events == 0 || all.decisions != len(e.decisions) || report.Read.Commands != len(e.commands) {
				t.Errorf("read: %+v, %+v", report.Read, all)
			}
		})
	}
}

// Wherever a log that grows is cut, what lies behind is not missed.
func TestWhatIsNotThereYetIsNoViolation(t *testing.T) {
	t.Parallel()
	whole := honest()
	for n := range whole.events {
		e := honest()
		e.sent, e.sightings, e.options.AtRest = nil, nil, false
		cut := e.events[n]
		// The ends of the other partition are those of the same moment.
		end := map[string]map[int32]int64{eventsTopic: {}, commandsTopic: {}, dispatchedTopic: {}}
		for _, r := range e.events[:n] {
			end[eventsTopic][r.At.Partition] = r.At.Offset + 1
		}
		for _, r := range e.commands {
			if !r.M.Time.After(cut.M.Time) {
				end[commandsTopic][r.At.Partition] = r.At.Offset + 1
			}
		}
		done := map[runtime.Coordinates]bool{}
		for _, r := range e.events[:n] {
			done[r.M.Cause] = r.M.Pos == r.M.Count
		}
		for p := range int32(2) {
			at := position.Position{}
			for _, r := range e.commands {
				if r.At.Partition == p && done[r.At] {
					at.Offset = r.At.Offset + 1
				}
			}
			e.positions[p] = at
		}
		e.commands = slices.DeleteFunc(e.commands, func(r Record) bool { return r.At.Offset >= end[commandsTopic][r.At.Partition] })
		e.options.End = func(topic string, partition int32) int64 {
			if topic == dispatchedTopic {
				return 1 << 40
			}
			return end[topic][partition]
		}
		report := e.check()
		for _, v := range report.Violations {
			t.Errorf("cut before %s: %s", cut.At, v)
		}
	}
}
