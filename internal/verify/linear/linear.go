// Package linear holds what clients were told against linearizability, I4: there is
// an order of all commands and reads of an aggregate in which each takes effect at
// one moment between its call and its answer, and says what follows from those
// before it.
//
// The order of the commands is known from the log, so the model is small: the state
// is the aggregate's version; a command takes it from the version before its events
// to the one behind them; one that was rejected for its expected version needs
// another one, and leaves it; a read has the version that it says. The search is
// Porcupine's.
//
// An outcome that a client does not know is never taken for a failure. If the log
// has it, the command took effect at some moment after it was sent, however late. If
// the log has none, it has not taken effect yet, and nothing follows from it.
package linear

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

// Log is what the log says of each command. Give it to a [verify.Checker] as one of
// its checks, or the records by themselves; commands before events.
type Log struct {
	effects map[runtime.CommandKey]*effect
	expects map[runtime.Coordinates]uint64 // of commands, by where they stand: an id may be used again for another one
}

// effect is what became of a command.
type effect struct {
	aggregate     runtime.AggregateID
	at            runtime.Coordinates // of its first record
	cause         runtime.Coordinates // of the command
	id            string
	before, after uint64 // versions
	events        int    // that carry one; 0 for a verdict of the platform
	rejected      bool
}

// NewLog returns an empty Log.
func NewLog() *Log {
	return &Log{effects: map[runtime.CommandKey]*effect{}, expects: map[runtime.Coordinates]uint64{}}
}

// Command implements [verify.Check].
func (l *Log) Command(r verify.Record) {
	if r.M.Expect != nil {
		l.expects[r.At] = *r.M.Expect
	}
}

// Event implements [verify.Check].
func (l *Log) Event(r verify.Record) {
	key, _, ok := runtime.ParseEventID(r.M.ID)
	if !ok {
		return
	}
	e := l.effects[key]
	if e == nil {
		e = &effect{aggregate: r.M.Aggregate(), at: r.At, cause: r.M.Cause, id: r.M.CausationID, rejected: r.M.Type == runtime.TypeCommandRejected}
		l.effects[key] = e
	}
	if r.M.Sequence > 0 {
		if e.events == 0 {
			e.before = r.M.Sequence - 1
		}
		e.after = r.M.Sequence
		e.events++
	}
}

// Decision implements [verify.Check].
func (l *Log) Decision(verify.Decision) {}

// Finish implements [verify.Check]: [Log.Check] tells.
func (l *Log) Finish(func(verify.Violation)) {}

// Result is what [Log.Check] found.
type Result struct {
	Violations []verify.Violation
	Operations int                   // that were ordered
	Undecided  []runtime.AggregateID // for which the time was not enough
}

// Check looks for an order of the clients' commands and reads, for each aggregate by
// itself, and for no longer than patience for each. Reads must be of the newest
// state: one that is content with an older one proves nothing. Commands that are in
// the log and in no history, a dispatcher's for example, take effect at any time.
func (l *Log) Check(history []verify.Operation, reads []verify.Read, patience time.Duration) Result {
	var origin time.Time
	for _, o := range history {
		for _, a := range o.Attempts {
			origin = earlier(origin, a.Sent)
		}
	}
	for _, r := range reads {
		origin = earlier(origin, r.Sent)
	}
	by := l.operations(history, reads, origin)
	var result Result
	ids := make([]runtime.AggregateID, 0, len(by))
	for id := range by {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		list := by[id]
		result.Operations += len(list)
		if witness(list) {
			continue
		}
		found, info := porcupine.CheckOperationsVerbose(model, list, patience)
		switch found {
		case porcupine.Unknown:
			result.Undecided = append(result.Undecided, id)
		case porcupine.Illegal:
			result.Violations = append(result.Violations, explain(id, list, &info))
		}
	}
	result.Violations = append(result.Violations, states(reads)...)
	return result
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// step is an operation, as the model takes it.
type step struct {
	what     string
	at       runtime.Coordinates
	entity   runtime.AggregateID
	command  string
	from, to uint64 // it needs the version from, and leaves to
	not      bool   // it needs any version but from, and leaves what it finds
}

// model is an aggregate's version. Who sees it sees all that led to it.
var model = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, _ any) (bool, any) {
		version, s := state.(uint64), input.(step)
		switch {
		case s.not:
			return version != s.from, version
		case version != s.from:
			return false, version
		}
		return true, s.to
	},
}

// never is when an operation ends whose end nobody knows.
const never = math.MaxInt64

// operations are what the model is held against, by aggregate.
func (l *Log) operations(history []verify.Operation, reads []verify.Read, origin time.Time) map[runtime.AggregateID][]porcupine.Operation {
	by := map[runtime.AggregateID][]porcupine.Operation{}
	known := map[runtime.CommandKey]bool{}
	client := 0
	add := func(id runtime.AggregateID, s step, call, end int64) {
		client++
		by[id] = append(by[id], porcupine.Operation{ClientId: client, Input: s, Call: call, Return: end})
	}
	for i := range history {
		o := &history[i]
		key := o.Key()
		e := l.effects[key]
		if e == nil {
			continue // it has not taken effect, and the checker knows whether it had to
		}
		known[key] = true
		sent, done := o.Span()
		end := int64(never)
		if !done.IsZero() {
			end = int64(done.Sub(origin))
		}
		if s, ok := l.step(e, end == never); ok {
			add(e.aggregate, s, int64(sent.Sub(origin)), end)
		}
	}
	for key, e := range l.effects {
		if s, ok := l.step(e, true); ok && !known[key] {
			add(e.aggregate, s, -1, never)
		}
	}
	for _, r := range reads {
		s := step{what: fmt.Sprintf("a read of version %d", r.Version), entity: r.Entity.Aggregate(), from: r.Version, to: r.Version}
		add(s.entity, s, int64(r.Sent.Sub(origin)), int64(r.Done.Sub(origin)))
	}
	return by
}

// step is what a command does to the version; false when nothing follows from it.
func (l *Log) step(e *effect, endless bool) (step, bool) {
	s := step{entity: e.aggregate, at: e.at, command: e.id, from: e.before, to: e.after}
	s.what = fmt.Sprintf("command %s, which takes version %d to %d", e.id, e.before, e.after)
	if e.events > 0 {
		return s, true
	}
	expect, ok := l.expects[e.cause]
	if !e.rejected || !ok || endless {
		// Without a version there is nothing to contradict, and without an end there is always a moment.
		return s, false
	}
	s.what = fmt.Sprintf("command %s, which was rejected, as version %d is not there", e.id, expect)
	s.from, s.to, s.not = expect, 0, true
	return s, true
}

// explain says where the search came no further: with the operation that should have
// been next, because it had ended before all that are left began or ended.
func explain(id runtime.AggregateID, list []porcupine.Operation, info *porcupine.LinearizationInfo) verify.Violation {
	var longest []porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	placed := map[int]bool{}
	version := uint64(0)
	for _, o := range longest {
		placed[o.ClientId] = true
		if _, next := model.Step(version, o.Input, nil); next != nil {
			version = next.(uint64)
		}
	}
	var left []porcupine.Operation
	for _, o := range list {
		if !placed[o.ClientId] {
			left = append(left, o)
		}
	}
	slices.SortFunc(left, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	v := verify.Violation{Invariant: verify.Linear, Entity: string(id)}
	if len(left) == 0 {
		v.Text = "there is no order in which what its clients were told is true"
		return v
	}
	s := left[0].Input.(step)
	v.At, v.Command = s.at, s.command
	v.Text = fmt.Sprintf("there is no order in which what its clients were told is true: %d operations can be ordered and lead to version %d; %s has no place among them, nor behind", len(longest), version, s.what)
	return v
}

// states says which reads of one version have shown two states.
func states(reads []verify.Read) (list []verify.Violation) {
	type place struct {
		entity  runtime.AggregateID
		version uint64
	}
	seen := map[place][]byte{}
	for _, r := range reads {
		p := place{r.Entity.Aggregate(), r.Version}
		switch first, ok := seen[p]; {
		case r.State == nil:
		case !ok:
			seen[p] = r.State
		case !bytes.Equal(first, r.State):
			list = append(list, verify.Violation{Invariant: verify.StateIsLog, Entity: string(p.entity), Text: fmt.Sprintf("two reads of version %d were shown two states: %x and %x", p.version, first, r.State)})
		}
	}
	return list
}
