package simulate

import (
	"fmt"
	"strconv"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// operation is a command that a client sends until it has its outcome.
type operation struct {
	m        *runtime.Message
	key      runtime.CommandKey
	part     int32
	order    bool
	began    time.Duration // of the first try
	acked    bool          // it was told that the command is accepted
	answered bool
	answer   shard.Outcome
	at       time.Duration // of the answer
	news     cond
}

// send has a client begin a command: a new one, one with an id that another
// client uses too, a repeat, one that says otherwise, or an operator's order.
func (w *world) send() {
	agg := runtime.AggregateID("acc:" + strconv.Itoa(w.rng.IntN(w.aggregates)))
	id := "c" + strconv.Itoa(len(w.ops))
	if w.chance(150) {
		id = "c" + strconv.Itoa(w.rng.IntN(len(w.ops)+1))
	}
	m := &runtime.Message{ID: id, Type: typeAdd, Source: "/client", Subject: agg.Root(), Data: []byte(strconv.Itoa(1 + w.rng.IntN(9)))}
	if w.chance(150) {
		m.Source = "/other"
	}
	switch n := w.rng.IntN(100); {
	case n < 35:
		m.Type = typeTake
	case n < 40:
		m.Type, m.Data = typePublished, fact{int64(w.rng.IntN(5)), anyBalance, w.rng.Uint64()}.encode()
	case n < 50:
		v := uint64(w.rng.IntN(20))
		m.Expect = &v
	}
	if w.chance(150) && len(w.ops) > 0 { // the same again
		if old := w.ops[w.rng.IntN(len(w.ops))]; !old.order {
			again := *old.m
			m = &again
			if w.chance(150) && m.Type == typeAdd {
				m.Data = []byte(string(m.Data) + " other")
			}
		}
	}
	op := &operation{m: m, began: w.now}
	if w.chance(40) {
		if m := w.orderFor(); m != nil {
			op.m, op.order = m, true
		}
	}
	op.key = op.m.Key()
	op.part = w.partition(string(op.m.Aggregate()))
	if !op.order {
		switch n := w.rng.IntN(1000); {
		case n < w.faults.poison:
			w.functions.poison[op.m] = failing
		case n < w.faults.poison*3/2:
			w.functions.poison[op.m] = tooLarge
		case n < w.faults.poison*2:
			w.functions.poison[op.m] = killing
		}
	}
	w.ops = append(w.ops, op)
	w.opOf[op.m] = op
	w.logf("client: %s %s of %s to %s: %q", op.m.Type, op.m.ID, op.m.Source, op.m.Subject, op.m.Data)
	w.spawn(nil, func(p *proc) { w.pursue(p, op) })
}

// orderFor is an operator's order about a command that waits or is parked.
func (w *world) orderFor() *runtime.Message {
	for _, n := range w.nodes {
		for _, pt := range w.partsOf(n) {
			list := pt.shard.Troubled()
			if len(list) == 0 {
				continue
			}
			target := list[w.rng.IntN(len(list))]
			if target.Stray {
				continue
			}
			t := runtime.TypeRetryNow
			if w.chance(500) {
				t = runtime.TypeDropCommand
			}
			return &runtime.Message{ID: "order" + strconv.Itoa(len(w.ops)), Type: t, Source: "/operator", Subject: target.Command.Message.Subject, Data: []byte(fmt.Sprint(target.Command.Offset))}
		}
	}
	return nil
}

// pursue sends a command until its outcome is known.
func (w *world) pursue(p *proc, op *operation) {
	for !op.answered {
		n := w.anyNode()
		if n == nil {
			p.sleep(w.between(50*time.Millisecond, 500*time.Millisecond))
			continue
		}
		w.spawn(n, func(p *proc) {
			part := op.part
			if !op.order && w.chance(w.faults.strays) || w.has(bugStraysAreOwn) && w.chance(300) {
				part = int32(w.rng.IntN(w.partitions)) // a producer that partitions in its own way
			}
			if _, err := w.append(p, n, op.m, part); err == nil {
				w.after(w.between(0, 2*time.Millisecond), nil, func() { op.acked = true })
			}
		})
		op.news.wait(p, w.between(3*time.Second, 10*time.Second))
	}
}

// append writes a message to the commands topic: idempotent, not transactional.
// What was given up may arrive late.
func (w *world) append(p *proc, n *node, m *runtime.Message, part int32) (int64, error) {
	l := w.kafka.logs[commands][part]
	for deadline := w.now + 5*time.Second; ; {
		r, err := call(p, w, w.kafka.away, 2*time.Second, func(reply func(produced)) {
			w.kafka.produce(l, "", 0, 0, 0, []record{{topic: commands, part: part, key: string(m.Aggregate()), msg: m, id: m.ID}}, reply)
		})
		if err == nil && r.err == nil {
			return r.first, nil
		}
		if w.now > deadline || w.chance(300) {
			return -1, errConnection
		}
		p.sleep(w.between(10*time.Millisecond, 200*time.Millisecond))
	}
}

// tell posts an outcome to the client, who may not get it.
func (w *world) tell(n *node, c *shard.Command, o shard.Outcome) {
	op := w.opOf[c.Message]
	if op == nil || !o.Status.Final() || w.chance(w.faults.network) {
		return
	}
	w.after(w.between(time.Millisecond, 10*time.Millisecond), nil, func() {
		if !op.answered {
			op.answered, op.answer, op.at = true, o, w.now
			op.news.broadcast()
		}
	})
}
