package simulate

import (
	"time"
)

// node is one process of a gateway. What it does is what gateway/engine*.go and
// internal/kafka do, in the same order; where those call something, it waits.
type node struct {
	w        *world
	id       int
	dead     bool
	frozen   bool // stands still, and does not know
	split    bool // does not reach Kafka
	stopping bool
	deferred []func()
	procs    []*proc

	// As the client library has them now.
	member     string
	generation int32
	// Of its first assignment; see bugCachedGeneration.
	firstMember     string
	firstGeneration int32

	group  *group
	fence  fence
	parts  []*part      // by partition; nil where it is not held
	tracks []*trackPart // of a dispatcher, which has no parts

	baton mutex
	turns []*turn
	turn  int

	roused   bool
	rouse    cond
	soloTurn bool
	tokens   int
	highs    []int64 // of the events, as seen when it joined; see bugHighBeforePosition
}

func (w *world) process(id int, g *group) *node {
	w.processes++
	n := &node{w: w, id: id, group: g, generation: -1, parts: make([]*part, w.partitions), highs: make([]int64, w.partitions)}
	n.fence = fence{n: n, generation: -1, terms: map[int32]int{}, open: map[held]int{}}
	for i := range 2 + w.rng.IntN(2) {
		n.turns = append(n.turns, &turn{id: nameOf(w.processes, i)})
	}
	return n
}

func (w *world) start(id int) *node {
	n := w.process(id, w.kafka.group)
	w.logf("gateway %d starts", id)
	w.spawn(n, n.membership)
	w.spawn(n, n.commitLoop)
	w.spawn(n, n.ticks)
	return n
}

func (n *node) own(p *proc) {
	if len(n.procs) > 200 {
		live := n.procs[:0]
		for _, o := range n.procs {
			if !o.done {
				live = append(live, o)
			}
		}
		clear(n.procs[len(live):])
		n.procs = live
	}
	n.procs = append(n.procs, p)
}

// kill ends the process at once. What it has sent is on its way nevertheless.
func (n *node) kill() {
	if n.dead {
		return
	}
	n.w.logf("gateway %d is killed", n.id)
	n.dead = true
	for _, p := range n.procs {
		p.kill()
	}
	n.procs, n.deferred = nil, nil
}

// freeze has the process stand still for a while: a stopped virtual machine.
func (n *node) freeze(d time.Duration) {
	if n.dead || n.frozen {
		return
	}
	n.w.logf("gateway %d stands still for %v", n.id, d)
	n.frozen = true
	n.w.after(d, nil, func() {
		n.w.logf("gateway %d goes on", n.id)
		n.frozen = false
		deferred := n.deferred
		n.deferred = nil
		for _, do := range deferred {
			n.w.after(0, n, do)
		}
	})
}

// membership joins the group again and again.
func (n *node) membership(p *proc) {
	k, w := n.w.kafka, n.w
	for !n.stopping {
		for part := range n.highs {
			n.highs[part] = k.logs[events][part].high
		}
		j, err := call(p, w, k.away, rebalanceTimeout+5*time.Second, func(reply func(joined)) { n.group.join(n.member, n.id, reply) })
		if err != nil || j.err != nil {
			if j.err != nil || w.chance(300) {
				n.member, n.generation = "", -1
			}
			p.sleep(w.between(20*time.Millisecond, 300*time.Millisecond))
			continue
		}
		n.member, n.generation = j.id, j.generation
		s, err := call(p, w, k.away, rebalanceTimeout, func(reply func(synced)) { n.group.sync(n.member, n.generation, reply) })
		if err != nil || s.err != nil {
			if s.err == errMember {
				n.member = ""
			}
			if s.err != errRebalance {
				n.generation = -1
			}
			p.sleep(w.between(5*time.Millisecond, 100*time.Millisecond))
			continue
		}
		if n.firstMember == "" {
			n.firstMember, n.firstGeneration = n.member, n.generation
		}
		n.assigned(s.parts)
		n.beat(p)
	}
	if n.member != "" {
		_, _ = call(p, w, k.away, time.Second, func(reply func(bool)) { n.group.leave(n.member); reply(true) })
	}
	w.after(0, nil, n.kill)
}

// beat stays in the group until a rebalance comes, or until it has thrown us out.
func (n *node) beat(p *proc) {
	k, w := n.w.kafka, n.w
	last := w.now
	for {
		if n.stopping {
			n.revoked(p)
			return
		}
		err, lost := call(p, w, k.away, 2*time.Second, func(reply func(error)) { reply(n.group.heartbeat(n.member, n.generation)) })
		switch {
		case lost != nil:
			if w.now-last > sessionTimeout && w.chance(500) {
				n.lost()
				return
			}
		case err == errRebalance:
			n.revokedBeating(p)
			return
		case err != nil:
			if err == errMember {
				n.member = ""
			}
			n.generation = -1
			n.lost()
			return
		default:
			last = w.now
		}
		p.sleep(500 * time.Millisecond)
	}
}

// revokedBeating gives everything up while another thread goes on with the heartbeats.
func (n *node) revokedBeating(p *proc) {
	over := false
	member, generation := n.member, n.generation
	n.w.spawn(n, func(p *proc) {
		for !over {
			_, _ = call(p, n.w, n.w.kafka.away, time.Second, func(reply func(error)) { reply(n.group.heartbeat(member, generation)) })
			p.sleep(500 * time.Millisecond)
		}
	})
	n.revoked(p)
	over = true
}

func (n *node) assigned(parts []int32) {
	n.w.logf("gateway %d: generation %d as %s, partitions %v", n.id, n.generation, n.member, parts)
	for _, h := range n.fence.assign(parts) {
		if n.tracks != nil {
			n.assignedTrack(h)
			continue
		}
		n.w.owners++
		pt := &part{n: n, held: h, owner: n.w.owners}
		n.parts[h.part] = pt
		n.w.spawn(n, pt.takeOver)
	}
}

// revoked gives the partitions up in good order: nothing more is read, the open
// batch ends, heads and a clean position are written.
func (n *node) revoked(p *proc) {
	list := n.fence.all()
	if len(list) == 0 {
		return
	}
	deadline := n.w.now + rebalanceTimeout
	if n.tracks != nil {
		n.revokedTracks(p, list, deadline)
	}
	var gone []*part
	for _, h := range list {
		if pt := n.drop(h); pt != nil {
			pt.closing = true
			gone = append(gone, pt)
		}
	}
	for _, pt := range gone {
		for pt.open && n.w.now < deadline {
			pt.idle.wait(p, deadline-n.w.now)
		}
	}
	n.writeHeads(p, gone, true, func() bool { return n.w.now >= deadline })
	for _, pt := range gone {
		pt.leave()
	}
	n.fence.drop(list)
	n.fence.quiet(p, list, deadline)
	n.w.logf("gateway %d: partitions revoked", n.id)
}

func (n *node) lost() {
	list := n.fence.all()
	n.fence.drop(list)
	for _, h := range list {
		if n.tracks != nil {
			n.lostTrack(h)
		}
		if pt := n.drop(h); pt != nil {
			pt.leave()
		}
	}
	n.w.logf("gateway %d: partitions lost", n.id)
}

func (n *node) drop(h held) *part {
	pt := n.parts[h.part]
	if pt == nil || pt.held != h {
		return nil
	}
	n.parts[h.part] = nil
	return pt
}
