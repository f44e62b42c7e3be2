package simulate

import (
	"fmt"
	"time"
)

const (
	sessionTimeout   = 6 * time.Second
	rebalanceTimeout = 10 * time.Second
)

type groupState int

const (
	groupEmpty groupState = iota
	groupPreparing
	groupCompleting
	groupStable
)

// group is the coordinator of the gateways' consumer group: the classic protocol
// with eager balancing.
type group struct {
	k          *cluster
	topicID    string
	state      groupState
	generation int32
	members    []*member // in the order of joining
	born       int
	round      int // of joining; a round's deadline does not count for the next
	offsets    []committed
	pending    []pendingOffset
	assigned   map[int32]string // by partition: who had it last
	serial     int
}

type member struct {
	id     string
	beat   int // each sign of life has a number; an older deadline does not count
	joined func(joined)
	synced func(synced)
	parts  []int32
}

type committed struct {
	offset   int64
	metadata string
	found    bool
	serial   int // of what is committed: an older one never replaces a newer
}

type pendingOffset struct {
	txn  *transaction
	part int32
	committed
}

type joined struct {
	id         string
	generation int32
	leader     bool
	err        error
}

type synced struct {
	parts []int32
	err   error
}

func newGroup(k *cluster, partitions int32, topicID string) *group {
	return &group{k: k, topicID: topicID, offsets: make([]committed, partitions), assigned: map[int32]string{}}
}

func (g *group) find(id string) *member {
	for _, m := range g.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// alive gives a member its session anew.
func (g *group) alive(m *member) {
	m.beat++
	beat := m.beat
	g.k.w.after(sessionTimeout, nil, func() {
		if m.beat == beat && g.find(m.id) == m && m.joined == nil {
			g.k.w.logf("broker: session of %s has expired", m.id)
			g.remove(m)
		}
	})
}

func (g *group) remove(m *member) {
	for i, o := range g.members {
		if o == m {
			g.members = append(g.members[:i:i], g.members[i+1:]...)
			break
		}
	}
	if m.joined != nil {
		m.joined(joined{err: errMember})
	}
	if len(g.members) == 0 {
		g.state = groupEmpty
		g.generation++
		return
	}
	if g.state == groupPreparing {
		g.tryComplete(false)
		return
	}
	g.prepare()
}

// prepare begins a rebalance: everybody has to join again.
func (g *group) prepare() {
	if g.state == groupPreparing {
		return
	}
	for _, m := range g.members {
		if m.synced != nil {
			m.synced(synced{err: errRebalance})
			m.synced = nil
		}
	}
	g.state = groupPreparing
	g.round++
	round := g.round
	g.k.w.after(rebalanceTimeout, nil, func() {
		if g.state == groupPreparing && g.round == round {
			g.tryComplete(true)
		}
	})
}

// tryComplete ends the joining when all are there, or when the time is over:
// then without those who are not.
func (g *group) tryComplete(late bool) {
	var there []*member
	for _, m := range g.members {
		if m.joined != nil {
			there = append(there, m)
		}
	}
	if len(there) == 0 && late {
		g.members, g.state = nil, groupEmpty
		g.generation++
		return
	}
	if len(there) < len(g.members) && !late {
		return
	}
	g.members = there
	g.generation++
	g.state = groupCompleting
	g.share()
	for i, m := range g.members {
		g.alive(m)
		reply := m.joined
		m.joined = nil
		reply(joined{m.id, g.generation, i == 0, nil})
	}
	for _, m := range g.members {
		g.alive(m)
	}
	g.k.w.logf("broker: generation %d with %d members", g.generation, len(g.members))
}

// share gives the partitions out: mostly they stay where they are.
func (g *group) share() {
	for _, m := range g.members {
		m.parts = nil
	}
	for p := range int32(len(g.offsets)) {
		var to *member
		if had := g.find(g.assigned[p]); had != nil && g.k.w.chance(600) {
			to = had
		} else {
			to = g.members[g.k.w.rng.IntN(len(g.members))]
		}
		to.parts = append(to.parts, p)
		g.assigned[p] = to.id
	}
}

func (g *group) join(id string, node int, reply func(joined)) {
	m := g.find(id)
	if m == nil {
		if id != "" {
			reply(joined{err: errMember})
			return
		}
		g.born++
		m = &member{id: fmt.Sprintf("m%d.%d", node, g.born)}
		g.members = append(g.members, m)
	}
	if g.state != groupPreparing {
		g.prepare()
	}
	m.joined = reply
	m.beat++ // no session runs out while it waits for the others
	g.tryComplete(false)
}

func (g *group) sync(id string, generation int32, reply func(synced)) {
	m := g.find(id)
	switch {
	case m == nil:
		reply(synced{err: errMember})
	case generation != g.generation:
		reply(synced{err: errGeneration})
	case g.state == groupPreparing:
		reply(synced{err: errRebalance})
	case g.state == groupStable:
		g.alive(m)
		reply(synced{parts: m.parts})
	default:
		g.alive(m)
		m.synced = reply
		if g.members[0] == m {
			g.state = groupStable
			for _, m := range g.members {
				if m.synced != nil {
					m.synced(synced{parts: m.parts})
					m.synced = nil
				}
			}
		}
	}
}

func (g *group) heartbeat(id string, generation int32) error {
	m := g.find(id)
	switch {
	case m == nil:
		return errMember
	case generation != g.generation:
		return errGeneration
	}
	g.alive(m)
	if g.state == groupPreparing {
		return errRebalance
	}
	return nil
}

func (g *group) leave(id string) {
	if m := g.find(id); m != nil {
		g.remove(m)
	}
}

// allowed checks who commits offsets, as a broker does: the member and its
// generation, never the partition; and nobody at all where neither is named.
func (g *group) allowed(id string, generation int32, transactional bool) error {
	if generation < 0 && g.state == groupEmpty {
		return nil
	}
	if generation >= 0 || id != "" {
		if g.find(id) == nil {
			return errMember
		}
		if generation != g.generation {
			return errGeneration
		}
	} else if !transactional && g.state != groupEmpty {
		return errMember
	}
	if !transactional && g.state == groupCompleting {
		return errRebalance
	}
	return nil
}

// partOffset is a position to be committed.
type partOffset struct {
	held
	offset   int64
	metadata string
}

// commitInTxn is TxnOffsetCommit.
func (g *group) commitInTxn(id string, pid int64, epoch int16, memberID string, generation int32, offsets []partOffset) error {
	if err := g.allowed(memberID, generation, true); err != nil {
		g.k.w.saw["broker: a zombie's positions are refused"]++
		return err
	}
	var t *transaction
	var err error
	if g.k.tv2 {
		t, err = g.k.begin(id, pid, epoch)
	} else if t, err = g.k.ongoing(id, pid, epoch); err == nil && !t.names(g) {
		err = errTxnState
	}
	if err != nil {
		return err
	}
	for _, o := range offsets {
		if len(o.metadata) > metadataMost {
			return errMetadataSize
		}
	}
	t.add(g)
	for _, o := range offsets {
		g.serial++
		g.pending = append(g.pending, pendingOffset{t, o.part, committed{o.offset, o.metadata, true, g.serial}})
	}
	return nil
}

func (g *group) commitPlain(memberID string, generation int32, offsets []partOffset) error {
	if err := g.allowed(memberID, generation, false); err != nil {
		return err
	}
	for _, o := range offsets {
		if len(o.metadata) > metadataMost {
			return errMetadataSize
		}
	}
	for _, o := range offsets {
		g.serial++
		g.offsets[o.part] = committed{o.offset, o.metadata, true, g.serial}
		g.k.w.mix(uint64(o.offset))
	}
	return nil
}

// mark ends a transaction at the group.
func (g *group) mark(t *transaction) {
	left := g.pending[:0]
	for _, p := range g.pending {
		switch {
		case p.txn != t:
			left = append(left, p)
		case t.commit && g.offsets[p.part].serial < p.serial:
			g.offsets[p.part] = p.committed
			g.k.w.mix(uint64(p.offset))
		}
	}
	g.pending = left
}

type fetched struct {
	committed
	err error
}

// fetch is OffsetFetch with stable offsets.
func (g *group) fetch(part int32) fetched {
	for _, p := range g.pending {
		if p.part == part {
			return fetched{err: errUnstable}
		}
	}
	return fetched{committed: g.offsets[part]}
}
