package shard

// queue is a first-in first-out list of entries that also takes entries back at its front.
type queue struct {
	items []*entry
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) first() *entry {
	if q.len() == 0 {
		return nil
	}
	return q.items[q.head]
}

// all returns the entries in order; the slice is valid until the next change.
func (q *queue) all() []*entry { return q.items[q.head:] }

func (q *queue) push(e *entry) { q.items = append(q.items, e) }

func (q *queue) pop() *entry {
	e := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	} else if q.head > 64 && q.head*2 > len(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return e
}

// unshift puts entries before all others, in their order.
func (q *queue) unshift(entries []*entry) {
	if len(entries) == 0 {
		return
	}
	q.items = append(append(make([]*entry, 0, len(entries)+q.len()+8), entries...), q.all()...)
	q.head = 0
}

// remove takes e out, wherever it stands.
func (q *queue) remove(e *entry) {
	for i, other := range q.all() {
		if other == e {
			q.items = append(append(make([]*entry, 0, q.len()), q.items[q.head:q.head+i]...), q.items[q.head+i+1:]...)
			q.head = 0
			return
		}
	}
}

// idleList is the least recently used order of aggregates without work.
type idleList struct {
	root idleNode
	len  int
}

type idleNode struct {
	prev, next *idleNode
	agg        *aggregate
}

func (l *idleList) init() { l.root.prev, l.root.next = &l.root, &l.root }

func (l *idleList) push(agg *aggregate) {
	l.remove(agg)
	n := &agg.idleNode
	n.agg = agg
	n.prev, n.next = l.root.prev, &l.root
	n.prev.next, n.next.prev = n, n
	agg.idle = true
	l.len++
}

func (l *idleList) remove(agg *aggregate) {
	if !agg.idle {
		return
	}
	n := &agg.idleNode
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil
	agg.idle = false
	l.len--
}

// pop removes the aggregate that has been idle longest.
func (l *idleList) pop() *aggregate {
	agg := l.root.next.agg
	l.remove(agg)
	return agg
}
