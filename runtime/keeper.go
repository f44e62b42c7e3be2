package runtime

import (
	"sync"
	"time"
)

// keepShare is how much of the time an execution may spend on encoding states
// that only count when it goes wrong later: one part in keepShare.
const keepShare = 10

// keeper encodes the state between the steps of an execution. Aggregators
// change a state in place, so when one fails in the middle, or does not answer,
// the state before it is gone: the answer has the last one kept. The first step
// is always kept, so each call that gets past its first message makes progress.
type keeper struct {
	r *runner
	p *progress

	kept   int           // steps in the state kept
	schema DataSchema    // of the state kept; empty for none
	state  []byte        // after the steps kept
	cost   time.Duration // of the last encoding
	at     time.Time     // of it
}

// due says whether the state is to be kept after a step. It is after the first
// one, since nothing was kept at the beginning of time.
func (k *keeper) due() bool { return time.Since(k.at) >= keepShare*k.cost }

// keep encodes the state after the steps.
func (k *keeper) keep(steps []ResultStep, state Record) *Failure {
	began := time.Now()
	schema, data, f := k.r.written(state)
	if f != nil {
		return f
	}
	k.kept, k.schema, k.state = len(steps), schema, data
	k.at = time.Now()
	k.cost = k.at.Sub(began)
	k.p.keep(steps[:len(steps):len(steps)], schema, data)
	return nil
}

// finish puts the state after the steps into a result, and returns the failure
// that the result ends with: f, which is of the message behind the last step.
// A state that is spoilt by a message in its middle is lost. Then the steps are
// cut to those kept, and there is no failure to report: the caller asks again
// for the rest, and the next time the failure comes first or nearer.
func (k *keeper) finish(res *Result, state Record, spoilt bool, f *Failure) *Failure {
	if !spoilt && k.kept < len(res.Steps) {
		if broken := k.keep(res.Steps, state); broken != nil && k.kept == len(res.Steps)-1 {
			f = broken // of the only step that is not kept
			res.Steps = res.Steps[:k.kept]
		}
	}
	res.StateSchema, res.State = k.schema, k.state
	if k.kept < len(res.Steps) {
		res.Steps = res.Steps[:k.kept]
		return nil
	}
	return f
}

// progress is how far an execution has come, for when it is not done in time.
type progress struct {
	mu     sync.Mutex   // guards all below: the execution writes, and who gives up on it reads
	reach  int          // messages done; those behind steps are in no result
	steps  []ResultStep // that are kept
	schema DataSchema
	state  []byte // after steps
}

// start records the state before the first message.
func (p *progress) start(in *Invocation) { p.keep(nil, in.StateSchema, in.State) }

// keep records that the steps are done and left this state.
func (p *progress) keep(steps []ResultStep, schema DataSchema, state []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps, p.schema, p.state = steps, schema, state
}

// reached records that n messages are done.
func (p *progress) reached(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reach = n
}

// late makes the result of an invocation that is not done. The failure is of
// the message behind the last step kept, unless that one is done and only its
// state was not kept.
func (p *progress) late(in *Invocation) Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	res := Result{ID: in.ID, Steps: p.steps, StateSchema: p.schema, State: p.state}
	if p.reach == len(p.steps) {
		res.Failure = &Failure{Code: FailureDeadline, Message: "the function's code did not answer in time"}
	}
	return res
}
