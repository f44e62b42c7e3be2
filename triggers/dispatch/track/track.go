package track

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// Track works one partition of events off. It is not safe for concurrent use.
type Track struct {
	cfg     Config
	offsets *position.Offsets

	items  map[int64]*item                 // by the event's offset
	queues map[runtime.AggregateID][]*item // in order; the first is worked on
	heads  []*item                         // first ones that are to be asked about now, in the order in which they came there
	rest   restHeap
	tokens map[uint64]*item
	token  uint64
	calls  int
	ready  []*item // in the order in which they were decided

	live     map[int64]*Live
	memory   int // of items and live
	asideEnd int64

	batch    *Batch
	unsaved  bool // the position has moved since it was last put into a commit
	crowded  bool // it cannot be committed before events are set aside
	aside    int  // of items: those whose place the position does not hold
	draining bool
	asks     []Ask
}

// New begins where the last owner stopped.
func New(cfg Config, r Restored) *Track {
	cfg.MaxCalls = max(cfg.MaxCalls, 1)
	cfg.Soft, cfg.Span = cmp.Or(cfg.Soft, position.MetadataSoft), cmp.Or(cfg.Span, MaxSpan)
	t := &Track{
		cfg: cfg, offsets: position.NewOffsets(r.Position),
		items: map[int64]*item{}, queues: map[runtime.AggregateID][]*item{}, tokens: map[uint64]*item{},
		live: map[int64]*Live{}, asideEnd: r.AsideEnd,
	}
	for _, l := range r.Live {
		t.setLive(l.Offset, &l)
		if l.Status == avro.DispatchWaiting && l.Message != nil {
			i := &item{offset: l.Offset, event: l.Message, attempts: l.Attempts, reason: l.Reason}
			t.enqueue(i)
			t.putAside(i)
		}
	}
	t.pump()
	return t
}

// Next is the offset of the event to be read next.
func (t *Track) Next() int64 { return t.offsets.Next() }

// Low is the lowest event that is not finished.
func (t *Track) Low() int64 { return t.offsets.Low() }

// Epoch is the replay epoch that the track works in.
func (t *Track) Epoch() uint64 { return t.cfg.Epoch }

// Backlog is how many events are in memory whose place the position still holds.
func (t *Track) Backlog() int { return len(t.items) - t.aside }

// Memory is about how many bytes the events have that are kept: unfinished ones,
// those that are set aside, and parked ones.
func (t *Track) Memory() int { return t.memory }

// weight is about what an event takes in memory.
func weight(m *runtime.Message) int {
	if m == nil {
		return 0
	}
	return 1000 + len(m.Data)
}

// setLive notes that an event is parked or set aside, or with nil that it is not.
func (t *Track) setLive(offset int64, l *Live) {
	if old := t.live[offset]; old != nil {
		t.memory -= weight(old.Message)
		delete(t.live, offset)
	}
	if l != nil {
		t.memory += weight(l.Message)
		t.live[offset] = l
	}
}

// Record takes an event that has been read. Events come in the order of their
// offsets; one that is finished already is left out.
func (t *Track) Record(offset int64, event *runtime.Message) {
	if offset < t.offsets.Next() {
		return
	}
	t.see(offset)
	if t.offsets.Finished(offset) {
		return
	}
	t.enqueue(&item{offset: offset, event: event})
	t.pump()
}

// Skip takes a record that the dispatcher is not given.
func (t *Track) Skip(offset int64) {
	if offset < t.offsets.Next() {
		return
	}
	t.see(offset)
	if !t.offsets.Finished(offset) {
		t.offsets.Finish(offset)
		t.unsaved = true
	}
}

// see takes an offset up; what was left out before it (markers, aborted records)
// counts as finished.
func (t *Track) see(offset int64) {
	if offset > t.offsets.Next() {
		t.unsaved = true
	}
	t.offsets.See(offset)
}

func (t *Track) enqueue(i *item) {
	t.keep(i)
	id := i.event.Aggregate()
	t.queues[id] = append(t.queues[id], i)
	if len(t.queues[id]) == 1 {
		t.heads = append(t.heads, i)
	}
}

// putAside notes that the position does not hold the place of an item any more.
func (t *Track) putAside(i *item) {
	if !i.aside {
		i.aside = true
		t.aside++
	}
}

func (t *Track) keep(i *item) {
	t.items[i.offset] = i
	t.memory += weight(i.event)
}

func (t *Track) remove(i *item) {
	delete(t.items, i.offset)
	t.memory -= weight(i.event)
	if i.aside {
		t.aside--
	}
}

// leave takes the first of a queue out and has the next one asked about.
func (t *Track) leave(i *item) {
	if i.again {
		return
	}
	id := i.event.Aggregate()
	q := t.queues[id]
	q[0] = nil
	if q = q[1:]; len(q) == 0 {
		delete(t.queues, id)
		return
	}
	t.queues[id] = q
	t.heads = append(t.heads, q[0])
}

// pump asks about as many as may be asked about.
func (t *Track) pump() {
	for len(t.heads) > 0 && t.calls < t.cfg.MaxCalls && !t.draining {
		i := t.heads[0]
		t.heads[0] = nil
		t.heads = t.heads[1:]
		t.ask(i)
	}
}

func (t *Track) ask(i *item) {
	t.calls++
	t.token++
	i.stage = asked
	t.tokens[t.token] = i
	t.asks = append(t.asks, Ask{Token: t.token, Offset: i.offset, Message: i.event, Attempts: i.attempts})
}

// Asks returns what is to be asked now, once.
func (t *Track) Asks() []Ask {
	asks := t.asks
	t.asks = nil
	return asks
}

// Calls is how many answers are outstanding.
func (t *Track) Calls() int { return t.calls }

// Drain asks about nothing more: the partition is given up.
func (t *Track) Drain() { t.draining = true }

// Answered takes the answer to an [Ask].
func (t *Track) Answered(now time.Time, token uint64, a Answer) {
	i := t.tokens[token]
	if i == nil {
		return
	}
	delete(t.tokens, token)
	t.calls--
	defer t.pump()
	if a.Trouble != nil {
		t.troubled(now, i, a.Trouble)
		return
	}
	if len(a.Commands) == 0 && !i.aside {
		// Nothing to send, nothing to record. Should the position be lost, the
		// event is asked about again, and what it then leads to is the first decision.
		t.offsets.Finish(i.offset)
		t.unsaved = true
		t.remove(i)
		t.leave(i)
		return
	}
	i.commands, i.by, i.parked = a.Commands, a.By, false
	t.decided(i)
}

func (t *Track) troubled(now time.Time, i *item, trouble *Trouble) {
	i.reason = trouble.Reason
	if trouble.Failed {
		i.attempts++
	}
	switch {
	case i.again: // parked it is, and parked it stays
		l := t.live[i.offset]
		l.Reason, l.Attempts = i.reason, i.attempts
		t.remove(i)
	case trouble.Failed && trouble.Last:
		i.parked = true
		t.decided(i)
	default:
		i.stage, i.next = resting, now.Add(trouble.Wait)
		heap.Push(&t.rest, i)
	}
}

func (t *Track) decided(i *item) {
	i.stage = ready
	t.ready = append(t.ready, i)
	t.leave(i)
}

// Tick lets time pass.
func (t *Track) Tick(now time.Time) {
	for len(t.rest) > 0 && !t.rest[0].next.After(now) {
		i := heap.Pop(&t.rest).(*item)
		i.stage = queued
		t.heads = append(t.heads, i)
	}
	t.pump()
}

// Retry has a parked event asked about once more. It returns false when no event
// is parked at this offset, or it is being asked about.
func (t *Track) Retry(offset int64) bool {
	l := t.live[offset]
	if l == nil || l.Status != avro.DispatchParked || l.Message == nil || t.items[offset] != nil || t.draining {
		return false
	}
	i := &item{offset: offset, event: l.Message, attempts: l.Attempts, again: true}
	t.keep(i)
	t.putAside(i)
	t.ask(i)
	return true
}

// Drop ends a parked event without commands, for a reason that is recorded. It is
// off the list once that is committed. It returns false when no event is parked at
// this offset, or it is being asked about.
func (t *Track) Drop(offset int64, reason string) bool {
	l := t.live[offset]
	if l == nil || l.Status != avro.DispatchParked || l.Message == nil || t.items[offset] != nil || t.draining {
		return false
	}
	i := &item{offset: offset, event: l.Message, attempts: l.Attempts, reason: reason, again: true, dropped: true}
	t.keep(i)
	t.putAside(i)
	t.decided(i)
	return true
}

// Parked says whether an event is parked at this offset.
func (t *Track) Parked(offset int64) bool {
	l := t.live[offset]
	return l != nil && l.Status == avro.DispatchParked
}

// Live lists what is parked or set aside, by offset.
func (t *Track) Live() []Live {
	list := make([]Live, 0, len(t.live))
	for _, l := range t.live {
		one := *l
		if i := t.items[l.Offset]; i != nil && !i.dropped {
			one.Reason, one.Attempts = i.reason, i.attempts
		}
		list = append(list, one)
	}
	SortLive(list)
	return list
}

// SortLive puts a list in the order of the events' offsets.
func SortLive(list []Live) {
	slices.SortFunc(list, func(a, b Live) int { return cmp.Compare(a.Offset, b.Offset) })
}

// restHeap has the one whose time comes first on top.
type restHeap []*item

func (h restHeap) Len() int           { return len(h) }
func (h restHeap) Less(a, b int) bool { return h[a].next.Before(h[b].next) }
func (h restHeap) Swap(a, b int)      { h[a], h[b] = h[b], h[a] }

// Push implements heap.Interface.
func (h *restHeap) Push(x any) { *h = append(*h, x.(*item)) }

// Pop implements heap.Interface.
func (h *restHeap) Pop() any {
	old := *h
	i := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return i
}
