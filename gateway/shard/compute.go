package shard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Codes of [Reject].
const (
	CodeVersionMismatch = "version-mismatch" // the expected version does not hold
	CodeNotWaiting      = "not-waiting"      // an order for a command that does not wait
)

func mismatch(want, have uint64) string {
	return fmt.Sprintf("expected version %d, the aggregate is at version %d", want, have)
}

// invoke calls the functions with the first command, and with those behind it
// that may share the call.
func (s *Shard) invoke(agg *aggregate) {
	s.nextCall++
	agg.call = s.nextCall
	s.calls[agg.call] = agg
	head := agg.queue.first()
	w := Work{Aggregate: agg.id, State: agg.base()}
	// While batches abort, each command goes alone, so that a bad one is found. So
	// does one that has failed: what is done behind it is for nothing if it fails again.
	fold := len(agg.queue.all()) > 1 && head.reason == "" && s.limit >= s.cfg.MaxFold && s.cfg.Foldable(head.cmd.Message)
	for i, e := range agg.queue.all() {
		if i > 0 && (!fold || i == s.cfg.MaxFold || !s.plain(e)) {
			break
		}
		e.stage = calling
		w.Commands = append(w.Commands, e.cmd.Message)
	}
	agg.called = len(w.Commands)
	s.emit(Invoke{Call: agg.call, Work: w})
}

// plain says whether e needs nothing but its function, so that it can be folded
// behind another command.
func (s *Shard) plain(e *entry) bool {
	if e.cmd.Publish || e.suspect || e.verdict != nil || e.cmd.Message.Expect != nil || e.attempts > 0 {
		return false
	}
	if !e.confirmed {
		e.confirmed = len(e.agg.snapshot.Seen.Find(SeenHash(e.cmd.Key))) == 0
	}
	return e.confirmed && s.cfg.Foldable(e.cmd.Message)
}

// Computed answers an [Invoke]. What belongs to a call that was dropped
// meanwhile is thrown away.
func (s *Shard) Computed(now time.Time, call uint64, c Computed) {
	agg := s.calls[call]
	if agg == nil {
		return
	}
	called := agg.called
	s.dropCall(agg)
	trouble := c.Trouble
	err := checkSteps(agg.base().Version, c.Steps)
	switch {
	case len(c.Steps) > called:
		err = fmt.Errorf("the call of %d commands has %d steps", called, len(c.Steps))
	case len(c.Steps) == 0 && trouble == nil:
		err = errors.New("the call has neither a step nor a trouble")
	}
	if err != nil {
		c.Steps, trouble = nil, &Trouble{Kind: Failed, Policy: DefaultPolicy, Reason: err.Error()}
	}
	for i := range c.Steps {
		e := agg.queue.first()
		if e == nil {
			break
		}
		step := &c.Steps[i]
		if step.Rejected != nil {
			e.verdict = &verdict{rejected: step.Rejected}
			s.conclude(e)
			continue
		}
		agg.queue.pop()
		e.step = step
		e.held, e.reason, e.function, e.image = false, "", "", ""
		s.push(e)
	}
	if e := agg.queue.first(); e != nil && trouble != nil {
		s.trouble(now, e, trouble)
	}
	s.pump(now, agg)
}

// checkSteps holds the versions of a run of steps against the one they start
// from. Only the state after the last one must be known.
func checkSteps(version uint64, steps []Step) error {
	for i := range steps {
		step := &steps[i]
		if step.Rejected != nil {
			if i > 0 && steps[i-1].Rejected == nil && !steps[i-1].State.Known() {
				return fmt.Errorf("command %d of the call is rejected, and the state before it is missing", i+1)
			}
			continue
		}
		version += uint64(len(step.Events))
		switch {
		case len(step.Events) == 0:
			return fmt.Errorf("command %d of the call has no event", i+1)
		case step.State.Version != version:
			return fmt.Errorf("the state after command %d of the call has version %d, not %d", i+1, step.State.Version, version)
		}
	}
	if n := len(steps); n > 0 && steps[n-1].Rejected == nil && !steps[n-1].State.Known() {
		return fmt.Errorf("the state after the last command of the call is missing")
	}
	return nil
}

// dropCall forgets the call under way; a late answer finds nothing.
func (s *Shard) dropCall(agg *aggregate) {
	if agg.call == 0 {
		return
	}
	delete(s.calls, agg.call)
	agg.call = 0
	for _, e := range agg.queue.all()[:min(agg.called, agg.queue.len())] {
		e.stage = waiting
	}
	agg.called = 0
}

// trouble decides how a command that has no result goes on.
func (s *Shard) trouble(now time.Time, e *entry, t *Trouble) {
	agg := e.agg
	e.failed(now, t)
	if t.Kind == Unavailable {
		s.delay(agg, now, s.jitter(max(t.Wait, 50*time.Millisecond)))
		agg.awaits = t.Function
		return
	}
	e.attempts++
	policy := t.Policy
	if policy.Attempts <= 0 {
		policy = DefaultPolicy
	}
	switch {
	case e.attempts < policy.Attempts:
		s.delay(agg, now, s.jitter(policy.backoff(e.attempts)))
	case policy.Park:
		e.verdict = &verdict{parked: &Parked{Reason: t.Reason, Attempts: e.attempts, Function: t.Function}}
		return
	default:
		e.held = true
		s.delay(agg, now, s.jitter(max(policy.MaxDelay, policy.Delay, time.Second)))
	}
	for _, waits := range agg.queue.all() {
		if waits == e || waits.aside == asideNone {
			s.setAside(waits) // the record of one behind says nothing else than before
		}
	}
}

// failed notes why a command has no outcome yet.
func (e *entry) failed(now time.Time, t *Trouble) {
	e.reason, e.function, e.image = t.Reason, t.Function, t.Image
	if e.failing.IsZero() {
		e.failing = now.UTC().Truncate(time.Millisecond) // as its record will say
	}
}

// backoff returns the delay after so many failed attempts.
func (p Policy) backoff(attempts int) time.Duration {
	d := p.Delay
	if p.Linear {
		d *= time.Duration(attempts)
	} else {
		for i := 1; i < attempts && d < p.MaxDelay; i++ {
			d *= 2
		}
	}
	if p.MaxDelay > 0 && d > p.MaxDelay {
		d = p.MaxDelay
	}
	return max(d, time.Millisecond)
}

// jitter spreads d over 75 to 125 %.
func (s *Shard) jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(s.rand.Int64N(int64(d/2)+1))
}

// Confirmation answers a [Confirm].
type Confirmation struct {
	Found   bool     // the history holds an outcome of this command key
	Same    bool     // of a command with the same type, target and value
	Outcome Outcome  // what was found
	Trouble *Trouble // it cannot be said now; ask again after Wait
}

// Confirmed answers a [Confirm].
func (s *Shard) Confirmed(now time.Time, token uint64, c Confirmation) {
	e := s.checks[token]
	if e == nil {
		return
	}
	agg := e.agg
	s.dropCheck(agg)
	switch {
	case c.Trouble != nil:
		e.reason = c.Trouble.Reason
		s.delay(agg, now, s.jitter(max(c.Trouble.Wait, 100*time.Millisecond)))
	case !c.Found:
		e.confirmed = true
	default:
		agg.queue.remove(e)
		delete(agg.inFlight, e.cmd.Key)
		o := c.Outcome
		o.Repeat = true
		if !c.Same {
			o = Outcome{Status: Conflict, Reason: "the id belongs to another command that has an outcome"}
		}
		s.parkAgain(e, o)
		s.finishWithout(e, o)
		for _, again := range e.repeats {
			s.finishWithout(again, o)
		}
		s.rejoin(now, e.rivals)
	}
	s.pump(now, agg)
}

// dropCheck forgets the confirmation under way.
func (s *Shard) dropCheck(agg *aggregate) {
	if !agg.checking {
		return
	}
	agg.checking = false
	for token, e := range s.checks {
		if e.agg == agg {
			e.stage = waiting
			delete(s.checks, token)
		}
	}
}

// obey carries out an operator's order.
func (s *Shard) obey(now time.Time, e *entry) {
	order, agg := e.cmd.Order, e.agg
	if agg.broken != "" {
		s.finishWithout(e, Outcome{Status: Rejected, Reason: CodeNotWaiting + ": the aggregate is stopped: " + agg.broken})
		return
	}
	target := s.entries[order.Offset]
	if p := s.parked[order.Offset]; p != nil && target == nil && order.Drop && p.Aggregate == agg.id {
		s.dismiss(e)
		return
	}
	if target == nil || target.agg != agg || target.cmd.Order != nil || target.stage >= computed {
		s.finishWithout(e, Outcome{Status: Rejected, Reason: fmt.Sprintf("%s: no command of %s waits at offset %d", CodeNotWaiting, agg.id, order.Offset)})
		s.rest(agg)
		return
	}
	agg.notBefore = time.Time{}
	if !order.Drop {
		s.finishWithout(e, Outcome{Status: Done})
		s.pump(now, agg)
		return
	}
	s.dropCall(agg)
	s.dropCheck(agg)
	if target != agg.inFlight[target.cmd.Key] {
		// It only repeats another one, whose outcome it gets.
		s.finishWithout(e, Outcome{Status: Rejected, Reason: CodeNotWaiting + ": it repeats a command that is under way"})
		s.pump(now, agg)
		return
	}
	target.verdict = &verdict{parked: &Parked{Reason: dropReason(order), Attempts: target.attempts, Function: target.function}}
	e.behind = target
	target.repeats = append(target.repeats, e)
	agg.queue.remove(target)
	agg.queue.unshift([]*entry{target})
	s.pump(now, agg)
}

// droppedBy begins the reason of a command that an operator has dropped.
const droppedBy = "dropped by an operator"

func dropReason(o *Order) string {
	text := droppedBy
	if o.By != "" {
		text += ", " + o.By
	}
	if o.Reason != "" {
		text += ": " + o.Reason
	}
	return text
}

// rollBack drops every result of an aggregate that is not committed, and what
// is being computed on top of them.
func (s *Shard) rollBack(agg *aggregate) {
	s.dropCall(agg)
	s.dropCheck(agg)
	for _, e := range agg.tail {
		e.stage, e.step = waiting, nil
		if e.verdict != nil && e.verdict.rejected != nil {
			e.verdict = nil // it was about a state that never was
		}
		s.arrivals = append(s.arrivals, e)
	}
	agg.queue.unshift(agg.tail)
	agg.tail = nil
}

// Forget drops every state in memory of the aggregates with a prefix, and what
// was computed on them: their aggregator has another stateVersion now.
func (s *Shard) Forget(now time.Time, prefix string) {
	var again []*aggregate
	for id, agg := range s.aggregates {
		if id.Prefix() != prefix || !s.heads[id].Exists() && len(agg.tail) == 0 && agg.call == 0 {
			continue
		}
		if agg.batched() {
			agg.stale = true // once the batch has ended
			continue
		}
		again = append(again, agg)
	}
	slices.SortFunc(again, func(a, b *aggregate) int { return strings.Compare(string(a.id), string(b.id)) })
	s.reload(now, again)
}

// reload makes aggregates begin again from what is committed.
func (s *Shard) reload(now time.Time, again []*aggregate) {
	if len(again) == 0 {
		return
	}
	for _, agg := range again {
		s.rollBack(agg)
		agg.stale, agg.loading = false, 0
		if s.heads[agg.id].Exists() {
			agg.loaded = false
			agg.snapshot = Snapshot{}
		}
	}
	s.sweepReady()
	for _, agg := range again {
		if len(agg.readers) > 0 && !agg.loaded {
			s.load(agg)
		}
		s.pump(now, agg)
	}
}

// InFlight returns how far a command is that has no outcome yet.
func (s *Shard) InFlight(id runtime.AggregateID, key runtime.CommandKey) (Waiter, bool) {
	agg := s.aggregates[id]
	if agg == nil {
		return Waiter{}, false
	}
	e := agg.inFlight[key]
	if e == nil {
		return Waiter{}, false
	}
	return e.waiter(), true
}

// outlook is the outcome of a command without outcome.
func (e *entry) outlook() Outcome {
	o := Outcome{Status: Pending, Reason: e.reason, Attempts: e.attempts}
	if e.agg.queue.first() == e {
		o.NextTry = e.agg.notBefore
	}
	switch {
	case e.held || e.agg.broken != "":
		o.Status = Held
	case e.attempts > 0 || e.reason != "":
		o.Status = Retrying
	}
	return o
}

// Waiter is a command without outcome, as an operator sees it.
type Waiter struct {
	Command  *Command
	Function string
	Image    string    // what that function ran; "" when it did not say
	Failing  time.Time // since when it has a reason; zero when that is not known
	Stray    bool      // it belongs to another partition, and nobody has an order for it here
	Outcome
	OutcomeAt int64 // parked: offset of its CommandParked in the events topic
}

func (e *entry) waiter() Waiter {
	return Waiter{Command: e.cmd, Function: e.function, Image: e.image, Failing: e.failing, Stray: e.stray, Outcome: e.outlook()}
}

// Troubled returns the commands that have been set aside or have failed, those
// behind them, and those that are parked, ascending by offset.
func (s *Shard) Troubled() []Waiter {
	var list []Waiter
	for _, e := range s.entries {
		if e.cmd.Order == nil && e.stage < computed && (e.aside != asideNone || e.attempts > 0 || e.reason != "") {
			list = append(list, e.waiter())
		}
	}
	for _, p := range s.parked {
		list = append(list, p.waiter())
	}
	sortWaiters(list)
	return list
}
