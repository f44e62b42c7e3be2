package simulate

import (
	"fmt"
	"strconv"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// part is a held partition; its shard is nil until it is taken over. See
// gateway/engine.go.
type part struct {
	n     *node
	held  held
	owner int // of all assignments that there ever were, which one

	shard     *shard.Shard
	gone      bool
	closing   bool
	open      bool
	idle      cond
	solo      bool
	soloPause time.Duration
	soloNext  time.Duration
	last      *lastRecord
	fetching  bool
	forwards  bool
	readers   map[uint64]func(shard.Reply)
}

func (pt *part) leave() {
	pt.gone, pt.closing = true, true
	pt.shard = nil
	pt.n.w.after(0, pt.n, func() {
		for _, token := range sortedKeys(pt.readers) {
			pt.readers[token](shard.Reply{Token: token, Err: "gone"})
		}
		pt.readers = nil
	})
}

// with calls do with the shard, if there is one, and carries out what came of it.
func (pt *part) with(do func(now time.Time, s *shard.Shard)) {
	s := pt.shard
	if s == nil {
		return
	}
	do(pt.n.w.time(), s)
	outputs := s.Outputs()
	if results, other := s.Ready(); results > 0 || other {
		pt.n.rouseCommit()
	}
	pt.carryOut(outputs)
}

func (n *node) rouseCommit() {
	n.roused = true
	n.rouse.broadcast()
}

// ticks lets time pass for every shard.
func (n *node) ticks(p *proc) {
	for {
		p.sleep(50 * time.Millisecond)
		for _, pt := range n.parts {
			if pt != nil {
				pt.with(func(now time.Time, s *shard.Shard) { s.Tick(now) })
				pt.forward()
			}
		}
	}
}

func (pt *part) carryOut(outputs []shard.Output) {
	n, w := pt.n, pt.n.w
	for _, out := range outputs {
		switch o := out.(type) {
		case shard.Invoke:
			w.mix(o.Call)
			w.functions.invoke(n, o.Work, func(c shard.Computed) {
				if w.has(bugLateAnswersCount) {
					pt.with(func(now time.Time, s *shard.Shard) {
						for call := o.Call; call < o.Call+4; call++ {
							s.Computed(now, call, c)
						}
					})
					return
				}
				pt.with(func(now time.Time, s *shard.Shard) { s.Computed(now, o.Call, c) })
			})
		case shard.Load:
			w.spawn(n, func(p *proc) {
				snapshot, trouble := pt.load(p, o)
				pt.with(func(now time.Time, s *shard.Shard) { s.Loaded(now, o.Aggregate, o.Token, snapshot, trouble) })
			})
		case shard.Confirm:
			w.spawn(n, func(p *proc) {
				c := pt.confirm(p, o)
				pt.with(func(now time.Time, s *shard.Shard) { s.Confirmed(now, o.Token, c) })
			})
		case shard.Answer:
			w.check.answered(pt, o)
			w.saw["answer: "+string(o.Outcome.Status)]++
			if o.Outcome.Repeat {
				w.saw["answer: a repeat"]++
			}
			w.tell(n, o.Command, o.Outcome)
		case shard.Save:
			w.check.saved(pt, o.Snapshot, true)
			n.save(o.Snapshot)
		case shard.Reply:
			if reply := pt.readers[o.Token]; reply != nil {
				delete(pt.readers, o.Token)
				reply(o)
			}
		case shard.Corrupt:
			w.check.fail("gateway %d: the log of %s contradicts itself: %s", n.id, o.Aggregate, o.Reason)
		}
	}
}

// feed reads the commands of a partition: as soon as there are some, and in the
// order of their offsets. A fetch that comes back after its assignment has ended
// finds another part, or none.
func (pt *part) feed(p *proc) {
	w := pt.n.w
	l := w.kafka.logs[commands][pt.held.part]
	next := pt.shard.Next()
	type chunk struct {
		got  []*entry
		next int64
	}
	for !pt.gone {
		if s := pt.shard; s != nil {
			if b := s.Backlog(); b.Commands-b.Aside > w.backlog {
				w.saw["reading pauses"]++
				p.sleep(20 * time.Millisecond)
				continue
			}
		}
		if l.high <= next && !l.away {
			l.news.wait(p, 2*time.Second)
			if l.high <= next {
				continue
			}
		}
		c, err := call(p, w, w.kafka.away || l.away, 3*time.Second, func(reply func(chunk)) {
			got, next := l.read(next, 1+w.rng.IntN(30), true)
			reply(chunk{got, next})
		})
		if err != nil {
			p.sleep(w.between(10*time.Millisecond, 500*time.Millisecond))
			continue
		}
		next = c.next
		if pt.shard == nil || pt.closing {
			return
		}
		pt.with(func(now time.Time, s *shard.Shard) {
			for _, e := range c.got {
				c := w.command(e)
				if w.partition(string(c.Message.Aggregate())) != pt.held.part && !w.has(bugStraysAreOwn) {
					s.Stray(now, c)
				} else {
					s.Record(now, c)
				}
			}
		})
		pt.forward()
	}
}

// forward has what belongs to other partitions written there, by one thread at a time.
func (pt *part) forward() {
	n, w := pt.n, pt.n.w
	if pt.forwards || pt.shard == nil || len(pt.shard.Strays()) == 0 {
		return
	}
	pt.forwards = true
	w.spawn(n, func(p *proc) {
		for pt.shard != nil {
			list := pt.shard.Strays()
			if len(list) == 0 {
				break
			}
			c := list[0]
			_, err := w.append(p, n, c.Message, w.partition(string(c.Message.Aggregate())))
			if err != nil {
				pt.with(func(_ time.Time, s *shard.Shard) { s.StrayFailed(c.Offset, "away") })
				p.sleep(time.Second)
				continue
			}
			pt.with(func(_ time.Time, s *shard.Shard) { s.Forwarded(c.Offset) })
		}
		pt.forwards = false
	})
}

const plainEvery = 200 * time.Millisecond

type commitPart struct {
	pt    *part
	s     *shard.Shard
	batch *shard.Batch
}

// commitLoop makes one transaction after the other of what is ready: see
// gateway/engine_commit.go.
func (n *node) commitLoop(p *proc) {
	w := n.w
	plain := w.now + plainEvery
	pause := time.Duration(0)
	for {
		for !n.roused && w.now < plain {
			n.rouse.wait(p, plain-w.now)
		}
		if w.now >= plain {
			plain = w.now + plainEvery
			n.commitPositions(p)
			var due []*part
			for _, pt := range n.parts {
				if pt != nil && pt.shard != nil && !pt.closing && (pt.shard.HeadsDue() || w.chance(w.faults.checkpoints)) {
					due = append(due, pt)
				}
			}
			n.writeHeads(p, due, false, nil)
			continue
		}
		n.roused = false
		parts := n.gather()
		if len(parts) == 0 {
			continue
		}
		n.roused = true // there may be more already
		if n.commitParts(p, parts) {
			pause = 0
			continue
		}
		pause = min(2*pause+20*time.Millisecond, 2*time.Second)
		p.sleep(pause)
	}
}

func (n *node) gather() []commitPart {
	var together, alone []*part
	for _, pt := range n.parts {
		switch {
		case pt == nil:
		case !pt.solo:
			together = append(together, pt)
		case pt.soloNext <= n.w.now:
			alone = append(alone, pt)
		}
	}
	n.soloTurn = !n.soloTurn
	if n.soloTurn {
		for _, pt := range alone {
			if parts := n.take([]*part{pt}); len(parts) > 0 {
				return parts
			}
		}
	}
	if parts := n.take(together); len(parts) > 0 {
		return parts
	}
	for _, pt := range alone {
		if parts := n.take([]*part{pt}); len(parts) > 0 {
			return parts
		}
	}
	return nil
}

func (n *node) take(list []*part) []commitPart {
	var parts []commitPart
	budget := n.w.budget
	for _, pt := range list {
		if pt.shard != nil && !pt.closing && !pt.open && budget > 0 {
			if b := pt.shard.Take(n.w.time(), budget, 8<<20); b != nil {
				pt.open = true
				budget -= b.Results()
				parts = append(parts, commitPart{pt, pt.shard, b})
			}
		}
	}
	return parts
}

// identity tells a record from others with its key.
func (n *node) identity() string {
	n.tokens++
	return n.turns[0].id + "/" + strconv.Itoa(n.tokens)
}

func (pt *part) record(r *shard.BatchRecord) record {
	if r.Kind == shard.EventRecord {
		return record{topic: events, part: pt.held.part, key: string(r.Message.Aggregate()), msg: r.Message, id: r.Message.ID, owner: pt.owner, size: len(r.Message.Data)}
	}
	rec := record{topic: parked, part: pt.held.part, key: strconv.FormatInt(r.Offset, 10), id: pt.n.identity(), owner: pt.owner}
	if r.Value != nil {
		rec.value = r.Value
	}
	return rec
}

func (n *node) commitParts(p *proc, parts []commitPart) bool {
	w := n.w
	var t txn
	first := make([]int, len(parts))
	for i, cp := range parts {
		first[i] = len(t.records)
		for j := range cp.batch.Records {
			t.records = append(t.records, cp.pt.record(&cp.batch.Records[j]))
		}
		t.offsets = append(t.offsets, partOffset{cp.pt.held, cp.batch.Offset, cp.batch.Metadata})
		w.bugBatch(cp, &t)
		w.logf("gateway %d: batch of partition %d: %d results, %d records, position %d", n.id, cp.pt.held.part, cp.batch.Results(), len(cp.batch.Records), cp.batch.Offset)
	}
	if w.has(bugOffsetFirst) {
		if err := n.commitPlain(p, t.offsets); err == nil {
			p.sleep(w.between(0, 5*time.Millisecond))
		}
	}
	if w.has(bugTermIgnored) && w.chance(100) {
		p.sleep(w.between(0, 10*time.Second)) // it waits in a queue
	}
	r := n.commit(p, t)
	for r.verdict == aborted && w.has(bugSameBatchForEver) {
		p.sleep(100 * time.Millisecond)
		r = n.commit(p, t)
	}
	own := r.reason == isRecord || r.reason == isOffset
	for i, cp := range parts {
		pt := cp.pt
		pt.open = false
		pt.idle.broadcast()
		if pt.shard != cp.s {
			continue // given up meanwhile
		}
		switch r.verdict {
		case done:
			pt.solo, pt.soloPause = false, 0
			offsets := r.offsets[first[i]:]
			if r.offsets == nil {
				offsets = n.guess(t.records)[first[i]:]
			}
			for j := range cp.batch.Records {
				if br := &cp.batch.Records[j]; br.Kind == shard.EventRecord && offsets[j] >= 0 {
					pt.last = &lastRecord{offsets[j], br.Message.ID}
				}
			}
			cp.s.Committed(w.time(), cp.batch, offsets[:len(cp.batch.Records)])
		case aborted:
			if w.has(bugNoRewind) {
				continue
			}
			if own && (r.part < 0 || r.part == pt.held.part) {
				pt.solo = true
				pt.soloPause = min(max(2*pt.soloPause, 20*time.Millisecond), 20*time.Second)
				pt.soloNext = w.now + pt.soloPause
			}
			cp.s.Aborted(w.time(), cp.batch, own && r.refused && len(parts) == 1, fmt.Sprint(r.err))
		default:
			pt.closing = true
		}
		pt.carryOut(cp.s.Outputs())
	}
	return r.verdict == done || own
}

func (n *node) commitPositions(p *proc) {
	var offsets []partOffset
	var parts []*part
	var shards []*shard.Shard
	for _, pt := range n.parts {
		if pt != nil && pt.shard != nil && !pt.closing && !pt.open {
			if offset, metadata, ok := pt.shard.TakePlain(); ok {
				offsets = append(offsets, partOffset{pt.held, offset, metadata})
				parts, shards = append(parts, pt), append(shards, pt.shard)
			}
		}
	}
	if len(offsets) == 0 {
		return
	}
	var err error
	if n.w.has(bugOffsetsAlone) {
		if r := n.commit(p, txn{offsets: offsets}); r.verdict != done {
			err = errConnection
		}
	} else {
		err = n.commitPlain(p, offsets)
	}
	if err == nil {
		return
	}
	for i, pt := range parts {
		if pt.shard == shards[i] {
			pt.shard.ReturnPlain()
		}
	}
}

// command reads a record of the commands topic.
func (w *world) command(e *entry) *shard.Command {
	m := e.msg
	c := &shard.Command{Offset: e.offset, Message: m, Key: m.Key(), Topic: events.String()}
	if w.has(bugDedupWithoutSource) {
		c.Key = runtime.NewCommandKey("", m.Aggregate(), m.ID)
	}
	var at int64
	switch m.Type {
	case runtime.TypeRetryNow:
		_, _ = fmt.Sscan(string(m.Data), &at)
		c.Order = &shard.Order{Offset: at}
	case runtime.TypeDropCommand:
		_, _ = fmt.Sscan(string(m.Data), &at)
		c.Order = &shard.Order{Drop: true, Offset: at}
	default:
		c.Hash = hashOf(m)
		c.Publish = m.Type == typePublished
	}
	return c
}
