package simulate

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

var (
	errStalled = errors.New("read stalled below an open transaction")
	errGone    = errors.New("the partition went to another gateway")
)

const takeoverStall = 10 * time.Second

// takeOver finds out where the last owner stopped and starts the shard there: see
// gateway/engine_takeover.go. It tries until it succeeds or the partition is gone.
func (pt *part) takeOver(p *proc) {
	w := pt.n.w
	for attempt := 1; !pt.gone; attempt++ {
		t := &takeover{pt: pt, n: pt.n, w: w, p: p, over: func() bool { return pt.gone }}
		err := t.run()
		if err == nil {
			pt.feed(p)
			return
		}
		w.logf("gateway %d: takeover of %d failed: %v", pt.n.id, pt.held.part, err)
		p.sleep(min(time.Duration(attempt)*200*time.Millisecond, 5*time.Second))
	}
}

type takeover struct {
	pt *part
	n  *node
	w  *world
	p  *proc

	over func() bool // the partition is gone

	committed committed
	position  position.Position
	missing   bool
	asides    []shard.Aside
	asideEnd  int64
	heads     map[runtime.AggregateID]shard.Head
	unsaved   map[runtime.AggregateID]struct{}
	torn      map[runtime.AggregateID]string
	last      *lastRecord
	events    int
}

func (t *takeover) log(topic topic) *partitionLog { return t.w.kafka.logs[topic][t.pt.held.part] }

func (t *takeover) run() error {
	// 1. End what dead writers left open.
	if !t.w.has(bugReadToStable) {
		for _, topic := range []topic{heads, parked, events} {
			if err := t.endWriters(t.log(topic)); err != nil {
				return err
			}
		}
	}
	steps := []func() error{
		t.readPosition, // 2.
		t.readAsides,   // 3.
		t.readHeads,
		t.readEvents, // 4. and 5.
		t.start,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
		if t.pt.gone {
			return errGone
		}
	}
	return nil
}

func (t *takeover) ask(l *partitionLog, do func()) error {
	_, err := call(t.p, t.w, t.w.kafka.away || l.away, 2*time.Second, func(reply func(bool)) { do(); reply(true) })
	return err
}

// endWriters ends the transactions that are open between the last stable offset
// and the high watermark.
func (t *takeover) endWriters(l *partitionLog) error {
	var high, stable int64
	if err := t.ask(l, func() { high = l.high }); err != nil {
		return err
	}
	if err := t.ask(l, func() { stable = min(l.stable(), high) }); err != nil {
		return err
	}
	if stable >= high {
		return nil
	}
	var got []*entry
	if err := t.ask(l, func() { got, _ = l.read(stable, 1<<20, false) }); err != nil {
		return err
	}
	open := map[int64]string{}
	for _, e := range got {
		switch {
		case e.offset >= high:
		case e.control:
			delete(open, e.pid)
		case e.txn != nil:
			open[e.pid] = e.writer
		}
	}
	for _, pid := range sortedKeys(open) {
		id := open[pid]
		t.w.saw["takeover: ends the transaction of another"]++
		t.w.logf("gateway %d: ends the open transaction of %s in %s/%d", t.n.id, id, l.topic, l.part)
		for {
			r, err := call(t.p, t.w, t.w.kafka.away || t.w.kafka.coordinator, 3*time.Second, func(reply func(producerID)) { reply(t.w.kafka.initProducer(id)) })
			if err == nil && r.err == nil {
				break
			}
			if t.over() {
				return errGone
			}
			t.p.sleep(t.w.between(5*time.Millisecond, 100*time.Millisecond))
		}
	}
	return nil
}

// fetchPosition asks for the stable committed position.
func (t *takeover) fetchPosition() error {
	for {
		r, err := call(t.p, t.w, t.w.kafka.away, 2*time.Second, func(reply func(fetched)) { reply(t.n.group.fetch(t.pt.held.part)) })
		if err == nil && r.err == nil {
			t.committed = r.committed
			return nil
		}
		if t.over() {
			return errGone
		}
		t.p.sleep(t.w.between(5*time.Millisecond, 250*time.Millisecond))
	}
}

func (t *takeover) readPosition() error {
	if err := t.fetchPosition(); err != nil {
		return err
	}
	c := t.committed
	var high int64
	if err := t.ask(t.log(commands), func() { high = t.log(commands).high }); err != nil {
		return err
	}
	if c.found {
		if p, err := position.Parse(c.offset, c.metadata, topicID); err == nil && p.Offset <= high {
			t.position = p
			if t.w.has(bugMetadataIgnored) {
				t.position = position.Position{Offset: p.Offset, End: p.Offset, Aside: t.log(parked).high}
			}
			return nil
		}
	}
	t.missing = true
	return nil
}

func (t *takeover) readAsides() error {
	l := t.log(parked)
	if err := t.ask(l, func() { t.asideEnd = l.high }); err != nil {
		return err
	}
	if t.w.has(bugAsidesNotRead) {
		return nil
	}
	live := map[int64]shard.Aside{}
	from := max(0, min(t.position.Aside, t.asideEnd))
	err := t.scan(l, from, t.asideEnd, func(e *entry) {
		offset, _ := strconv.ParseInt(e.key, 10, 64)
		if e.value == nil {
			delete(live, offset)
			return
		}
		a, err := shard.ParseAside(e.value.([]byte))
		if err != nil {
			t.w.check.fail("set-aside record: %v", err)
		}
		a.Offset, a.RecordAt = offset, e.offset
		live[offset] = a
	})
	if err != nil {
		return err
	}
	for _, offset := range sortedKeys(live) {
		a := live[offset]
		if !a.Parked() {
			a.Command = t.w.command(&t.log(commands).entries[offset])
			a.Stray = t.w.partition(string(a.Command.Message.Aggregate())) != t.pt.held.part && !t.w.has(bugStraysAreOwn)
		}
		t.asides = append(t.asides, a)
	}
	return t.ask(t.log(commands), func() {})
}

func (t *takeover) scan(l *partitionLog, from, to int64, do func(*entry)) error {
	if t.w.has(bugReadToStable) {
		to = min(to, l.stable())
	}
	return t.n.scan(t.p, l, from, to, takeoverStall, do)
}

func (t *takeover) readHeads() error {
	t.forgetHeads()
	l := t.log(heads)
	var high int64
	if err := t.ask(l, func() { high = l.high }); err != nil {
		return err
	}
	var c checkpoint
	known := map[runtime.AggregateID]struct{}{}
	err := t.scan(l, 0, high, func(e *entry) {
		if e.key == checkpointKey {
			c = e.value.(checkpoint)
			return
		}
		id := runtime.AggregateID(e.key)
		known[id] = struct{}{}
		if e.value == nil {
			delete(t.heads, id)
			return
		}
		t.heads[id] = e.value.(headValue).head
	})
	if err != nil {
		return err
	}
	usable := c.last != nil || len(t.heads) == 0
	if c.last != nil {
		found := ""
		if err := t.scan(t.log(events), c.last.offset, c.last.offset+1, func(e *entry) { found = e.id }); err != nil {
			return err
		}
		usable = found == c.last.id
	}
	if t.missing || !usable {
		t.forgetHeads()
		t.unsaved = known
		return nil
	}
	t.last = c.last
	return nil
}

func (t *takeover) forgetHeads() {
	t.heads, t.last = map[runtime.AggregateID]shard.Head{}, nil
	t.unsaved, t.torn = map[runtime.AggregateID]struct{}{}, map[runtime.AggregateID]string{}
}

func (t *takeover) readEvents() error {
	l := t.log(events)
	var high int64
	if err := t.ask(l, func() { high = l.high }); err != nil {
		return err
	}
	if t.w.has(bugHighBeforePosition) {
		high = t.n.highs[t.pt.held.part]
	}
	from := int64(0)
	if t.last != nil {
		from = t.last.offset + 1
	}
	return t.scan(l, from, high, func(e *entry) {
		t.events++
		m := e.msg
		key, pos, _ := runtime.ParseEventID(m.ID)
		id := m.Aggregate()
		before := t.heads[id]
		if m.Pos > 1 && (before.Command != key || int(before.Pos) != m.Pos-1) {
			t.torn[id] = "event before is missing"
		}
		version := before.Version
		if m.Sequence > 0 {
			if before.Exists() && m.Sequence != version+1 {
				t.torn[id] = "version is missing"
			}
			version = m.Sequence
		}
		t.unsaved[id] = struct{}{}
		t.heads[id] = shard.Head{Version: version, Offset: e.offset, Command: key, Pos: int32(pos)}
		t.last = &lastRecord{e.offset, m.ID}
		if t.missing && m.Cause.Partition == t.pt.held.part {
			t.position.Done = append(t.position.Done, m.Cause.Offset)
		}
	})
}

func (t *takeover) start() error {
	w, pt := t.w, t.pt
	r := shard.Restored{Position: t.position, Asides: t.asides, AsideEnd: t.asideEnd, Heads: t.heads, Unsaved: t.unsaved, Broken: t.torn, Since: t.events}
	if t.missing {
		slices.Sort(r.Position.Done)
		r.Position.Done = slices.Compact(r.Position.Done)
	}
	if !t.position.Clean {
		if err := t.ask(t.log(commands), func() { r.SuspectBelow = t.log(commands).high }); err != nil {
			return err
		}
	}
	if pt.closing {
		return errGone
	}
	w.logf("gateway %d: partition %d taken over at %d, %d finished above, %d set aside, %d heads, %d events read, clean=%v missing=%v", t.n.id, pt.held.part, t.position.Offset, len(t.position.Done), len(t.asides), len(t.heads), t.events, t.position.Clean, t.missing)
	w.check.tookOver(pt, r)
	w.saw["takeover"]++
	w.count("takeover: set-aside commands restored", len(r.Asides))
	w.count("takeover: finished above the position", len(r.Position.Done))
	if t.missing {
		w.saw["takeover: without a position"]++
	}
	if r.Position.Clean {
		w.saw["takeover: clean"]++
	}
	if r.Since < int(t.log(events).end()) && len(r.Heads) > 0 {
		w.saw["takeover: heads from a checkpoint"]++
	}
	pt.shard = shard.New(w.time(), shard.Config{
		Partition: pt.held.part, Commands: commands.String(), CommandsID: topicID, Installation: "sim", Seed: uint64(pt.owner),
		Failure:  func(t runtime.TypeName) bool { return t == typeRefused },
		Foldable: func(*runtime.Message) bool { return w.folds },
		Platform: func(publish bool, p *shard.Parked, r *shard.Reject) (runtime.TypeName, runtime.DataSchema, []byte) {
			data, _ := json.Marshal([]any{p, r})
			switch {
			case p != nil:
				return runtime.TypeCommandParked, "", data
			case publish:
				return runtime.TypePublishRejected, "", data
			}
			return runtime.TypeCommandRejected, "", data
		},
		MaxCached: w.cached, MaxFold: 5, MaxTail: 8,
	}, r)
	pt.last = t.last
	pt.with(func(time.Time, *shard.Shard) {})
	return nil
}
