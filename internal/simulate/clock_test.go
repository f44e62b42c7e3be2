package simulate

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"
)

// clock is virtual time: events in the order of their times, then of their making.
// All that happens in a world happens in one of them, one after the other.
type clock struct {
	now    time.Duration // since the world began
	made   uint64
	events []event // a binary heap
	rng    *rand.Rand
	hash   uint64 // of all that happened
}

type event struct {
	at   time.Duration
	made uint64
	node *node // whose process it is of; nil for what no process can lose
	do   func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.made < o.made }

// after has do called when so much time has passed. What belongs to a process
// waits while that stands still, and never happens when it is dead.
func (c *clock) after(d time.Duration, n *node, do func()) {
	c.made++
	c.events = append(c.events, event{c.now + max(d, 0), c.made, n, do})
	i := len(c.events) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !c.events[i].before(&c.events[up]) {
			break
		}
		c.events[i], c.events[up] = c.events[up], c.events[i]
		i = up
	}
}

func (c *clock) pop() event {
	first := c.events[0]
	last := len(c.events) - 1
	c.events[0] = c.events[last]
	c.events[last] = event{}
	c.events = c.events[:last]
	for i := 0; ; {
		least := i
		for down := 2*i + 1; down <= 2*i+2 && down < last; down++ {
			if c.events[down].before(&c.events[least]) {
				least = down
			}
		}
		if least == i {
			return first
		}
		c.events[i], c.events[least] = c.events[least], c.events[i]
		i = least
	}
}

// run lets time pass up to an instant, or until done says so.
func (c *clock) run(until time.Duration, done func() bool) {
	for len(c.events) > 0 && c.events[0].at <= until && !done() {
		e := c.pop()
		c.now = e.at
		if e.node != nil {
			if e.node.dead {
				continue
			}
			if e.node.frozen {
				e.node.deferred = append(e.node.deferred, e.do)
				continue
			}
		}
		c.mix(uint64(e.at))
		c.mix(e.made)
		e.do()
	}
	if !done() {
		c.now = max(c.now, until)
	}
}

// mix makes a number part of the history's hash.
func (c *clock) mix(n uint64) { c.hash = (c.hash ^ n) * 0x100000001b3 }

func (c *clock) chance(perMille int) bool { return perMille > 0 && c.rng.IntN(1000) < perMille }

// between draws a duration.
func (c *clock) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(c.rng.Int64N(int64(most-least)))
}

// proc is a thread of a process: it runs until it waits for something, and then
// others do. The code reads as the gateway's own does.
type proc struct {
	c      *clock
	n      *node
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	ticket uint64 // of what it waits for; older wake-ups do not count
	done   bool
}

var errKilled = errors.New("killed")

// spawn begins a thread of a process.
func (c *clock) spawn(n *node, do func(*proc)) {
	p := &proc{c: c, n: n}
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		defer func() {
			if r := recover(); r != nil && r != errKilled {
				panic(fmt.Sprintf("%v\n%s", r, trace()))
			}
		}()
		do(p)
	})
	if n != nil {
		n.own(p)
	}
	c.after(0, n, p.resume)
}

func (p *proc) resume() {
	if p.done {
		return
	}
	if _, more := p.next(); !more {
		p.done = true
	}
}

func (p *proc) kill() {
	if !p.done {
		p.done = true
		p.stop()
	}
}

// expect says that the next park waits for a wake with this ticket.
func (p *proc) expect() uint64 {
	p.ticket++
	return p.ticket
}

func (p *proc) park() {
	if !p.yield(struct{}{}) {
		panic(errKilled)
	}
}

func (p *proc) wake(ticket uint64) {
	if !p.done && p.ticket == ticket {
		p.ticket++
		p.resume()
	}
}

func (p *proc) sleep(d time.Duration) {
	t := p.expect()
	p.c.after(d, p.n, func() { p.wake(t) })
	p.park()
}

// cond is something that threads wait for.
type cond struct{ waiting []waiter }

type waiter struct {
	p      *proc
	ticket uint64
}

// wait waits for a broadcast, or for d. Who wakes looks again.
func (c *cond) wait(p *proc, d time.Duration) {
	t := p.expect()
	c.waiting = append(c.waiting, waiter{p, t})
	p.c.after(d, p.n, func() { p.wake(t) })
	p.park()
}

func (c *cond) broadcast() {
	for _, w := range c.waiting {
		w.p.c.after(0, w.p.n, func() { w.p.wake(w.ticket) })
	}
	c.waiting = nil
}

// mutex is given in the order of asking.
type mutex struct {
	held bool
	next []waiter
}

func (m *mutex) lock(p *proc) {
	if !m.held {
		m.held = true
		return
	}
	t := p.expect()
	m.next = append(m.next, waiter{p, t})
	p.park()
}

func (m *mutex) unlock() {
	if len(m.next) == 0 {
		m.held = false
		return
	}
	w := m.next[0]
	m.next = m.next[1:]
	w.p.c.after(0, w.p.n, func() { w.p.wake(w.ticket) })
}
