package simulate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

const (
	typeAdd       runtime.TypeName = "Acc.Add"
	typeTake      runtime.TypeName = "Acc.Take"
	typeChanged   runtime.TypeName = "Acc.Changed"
	typeRefused   runtime.TypeName = "Acc.Refused"
	typePublished runtime.TypeName = "Acc.Published"
)

// fact is the content of an event: what changed, what the handler believed to be
// the balance after it, and something that is another at each call.
type fact struct {
	delta, balance int64
	nonce          uint64
}

const anyBalance = math.MinInt64 // an event from outside knows nothing of it

func (f fact) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(f.delta))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.balance))
	return binary.LittleEndian.AppendUint64(b, f.nonce)
}

func factOf(b []byte) fact {
	return fact{int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:])), binary.LittleEndian.Uint64(b[16:])}
}

// account is the state of an aggregate: its hash depends on all its events in
// their order.
type account struct {
	balance int64
	hash    uint64
}

func (a account) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(a.balance))
	return binary.LittleEndian.AppendUint64(b, a.hash)
}

func accountOf(s shard.State) account {
	if len(s.Data) < 16 {
		return account{}
	}
	return account{int64(binary.LittleEndian.Uint64(s.Data)), binary.LittleEndian.Uint64(s.Data[8:])}
}

func (a account) apply(f fact) account {
	return account{a.balance + f.delta, (a.hash ^ f.nonce ^ uint64(f.delta)) * 0x9E3779B97F4A7C15}
}

// functions are the handlers and aggregators of a world.
type functions struct {
	w      *world
	away   bool
	poison map[*runtime.Message]poison
	cache  map[runtime.AggregateID]map[uint64]shard.State // see bugFunctionCache
}

type poison int

const (
	failing  poison = 1 + iota // its handler panics
	tooLarge                   // its events are larger than Kafka takes
	killing                    // the gateway dies of it, now and then
)

func newFunctions(w *world) *functions {
	return &functions{w: w, poison: map[*runtime.Message]poison{}, cache: map[runtime.AggregateID]map[uint64]shard.State{}}
}

var errUnappliable = errors.New("the event cannot be applied")

// apply is the aggregator. There are events that it does not take, and aggregates
// whose aggregator tells another state each time.
func (f *functions) apply(s shard.State, data []byte, id runtime.AggregateID) (shard.State, error) {
	x := factOf(data)
	if x.nonce%53 == 0 && x.balance != anyBalance {
		return s, errUnappliable
	}
	a := accountOf(s).apply(x)
	if f.w.odd(id) {
		a.hash = f.w.rng.Uint64()
	}
	return shard.State{Version: s.Version + 1, Schema: "s", Data: a.encode()}, nil
}

// invoke has work computed, some time.
func (f *functions) invoke(n *node, work shard.Work, reply func(shard.Computed)) {
	w := f.w
	d := w.between(time.Millisecond, 20*time.Millisecond)
	if w.wide && w.faults.network > 0 && w.chance(600) {
		d = w.between(time.Second, 4*time.Second)
	}
	if w.chance(w.faults.functions) {
		d = w.between(0, 6*time.Second)
	}
	trouble := func(kind shard.TroubleKind, reason string) shard.Computed {
		return shard.Computed{Trouble: &shard.Trouble{Kind: kind, Reason: reason, Wait: w.between(0, 500*time.Millisecond), Policy: shard.Policy{Attempts: 3, Delay: 100 * time.Millisecond, MaxDelay: 2 * time.Second, Park: w.parks}}}
	}
	first := work.Commands[0]
	if f.poison[first] == killing && w.chance(300) {
		w.after(d, n, func() {
			if f.poison[first] == killing { // it has not been healed meanwhile
				w.after(0, nil, n.kill)
			}
		})
		w.after(6*time.Second, n, func() { reply(trouble(shard.Unavailable, "no answer within 5s")) })
		return
	}
	if d > 5*time.Second {
		w.after(5*time.Second, n, func() { reply(trouble(shard.Unavailable, "no answer within 5s")) })
		return
	}
	w.after(d, nil, func() {
		var c shard.Computed
		switch {
		case f.away:
			c = trouble(shard.Unavailable, "scaled to zero")
		case w.chance(w.faults.functions):
			c = trouble(shard.TroubleKind(1+w.rng.IntN(2)), "weather")
		default:
			c = f.compute(work, trouble)
			if w.chance(w.faults.functions) {
				w.saw["a function lies"]++
				f.lie(&c)
			}
		}
		w.after(w.between(0, 2*time.Millisecond), n, func() { reply(c) })
	})
}

// lie makes an answer one that no function may give, and that the gateway's checks
// let pass.
func (f *functions) lie(c *shard.Computed) {
	if len(c.Steps) == 0 {
		return
	}
	last := &c.Steps[len(c.Steps)-1]
	switch f.w.rng.IntN(4) {
	case 0:
		last.State.Version += uint64(f.w.rng.IntN(3)) - 1
	case 1:
		last.Events = nil
	case 2:
		for range 10 {
			c.Steps = append(c.Steps, *last)
		}
	default:
		*c = shard.Computed{}
	}
}

func (f *functions) compute(work shard.Work, trouble func(shard.TroubleKind, string) shard.Computed) shard.Computed {
	w := f.w
	var c shard.Computed
	state := work.State
	if w.has(bugFunctionCache) {
		if s, ok := f.cache[work.Aggregate][state.Version]; ok {
			state = s
		}
	}
	for _, m := range work.Commands {
		if f.poison[m] == failing {
			c.Trouble = trouble(shard.Failed, "poison").Trouble
			break
		}
		facts, t := f.handle(m, accountOf(state))
		step := shard.Step{}
		bad := false
		for _, x := range facts {
			data := x.encode()
			if f.poison[m] == tooLarge && w.chance(800) {
				data = append(data, make([]byte, recordMost)...)
			}
			next, err := f.apply(state, data, work.Aggregate)
			if err != nil && !w.has(bugAggregatorAfterCommit) {
				bad = true
				break
			}
			if err != nil {
				next = state
				next.Version++
			}
			state = next
			step.Events = append(step.Events, shard.Event{Type: t, Subject: m.Subject, Data: data, By: "f img schema"})
		}
		if bad {
			c.Trouble = trouble(shard.Failed, "the event cannot be applied").Trouble
			break
		}
		if len(c.Steps) > 0 {
			before := &c.Steps[len(c.Steps)-1]
			before.State = shard.UnknownState(before.State.Version) // only the last state of a call comes back
		}
		step.State = state
		c.Steps = append(c.Steps, step)
		if w.has(bugFunctionCache) {
			if f.cache[work.Aggregate] == nil {
				f.cache[work.Aggregate] = map[uint64]shard.State{}
			}
			f.cache[work.Aggregate][state.Version] = state
		}
		if w.chance(100) {
			break // the rest was not tried
		}
	}
	return c
}

// handle is the handler. It never answers the same twice.
func (f *functions) handle(m *runtime.Message, a account) ([]fact, runtime.TypeName) {
	if m.Type == typePublished {
		return []fact{factOf(m.Data)}, typePublished
	}
	amount := amountOf(m)
	if m.Type == typeTake && a.balance < amount {
		return []fact{{0, a.balance, f.w.rng.Uint64()}}, typeRefused
	}
	if m.Type == typeTake {
		amount = -amount
	}
	parts := int64(1 + f.w.rng.IntN(3))
	var facts []fact
	for i := range parts {
		delta := amount / parts
		if i == parts-1 {
			delta = amount - amount/parts*(parts-1)
		}
		a.balance += delta
		facts = append(facts, fact{delta, a.balance, f.w.rng.Uint64()})
	}
	return facts, typeChanged
}

func amountOf(m *runtime.Message) int64 {
	var n int64
	text, _, _ := strings.Cut(string(m.Data), " ")
	if _, err := fmt.Sscan(text, &n); err != nil {
		panic(err)
	}
	return n
}

// hashOf is what makes two commands of one key the same.
func hashOf(m *runtime.Message) string {
	h := string(m.Type) + string(m.Subject) + string(m.Data)
	if m.Expect != nil {
		h += fmt.Sprint(*m.Expect)
	}
	return h
}
