package simulate

import (
	"strconv"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers/dispatch/track"
)

const (
	eventsID         = "id-of-events"
	dispatcherSource = "/evento/sim/dispatchers/bank/transfers"
)

// decision is a record of the dispatched topic.
type decision struct {
	offset   int64 // of the event
	status   avro.DispatchStatus
	commands []*runtime.Message
	reason   string
	attempts int32
}

// trackPart is a partition of events that a dispatcher holds: see triggers/dispatch.
type trackPart struct {
	n       *node
	held    held
	owner   int
	track   *track.Track // nil until it is taken over
	gone    bool
	closing bool
	open    bool
	idle    cond
	solo    bool
	next    time.Duration // a partition whose batch aborted goes alone, and not before
	pause   time.Duration
	relayed int64 // the relay's position, as far as a commit of it was answered
}

// startDispatcher starts a process that dispatches and relays.
func (w *world) startDispatcher(id int) *node {
	n := w.process(id, w.kafka.dispatchers)
	n.tracks = make([]*trackPart, w.partitions)
	w.logf("dispatcher %d starts", id)
	w.spawn(n, n.membership)
	w.spawn(n, n.dispatchLoop)
	return n
}

func (n *node) assignedTrack(h held) {
	n.w.owners++
	tp := &trackPart{n: n, held: h, owner: n.w.owners}
	n.tracks[h.part] = tp
	n.w.spawn(n, tp.takeOver)
}

// revokedTracks gives partitions up: nothing more is asked, the open batch ends,
// the position is committed.
func (n *node) revokedTracks(p *proc, list []held, deadline time.Duration) {
	for _, h := range list {
		tp := n.tracks[h.part]
		if tp == nil || tp.held != h {
			continue
		}
		if tp.track != nil {
			tp.track.Drain()
		}
		tp.closing = true
		for tp.open && n.w.now < deadline {
			tp.idle.wait(p, deadline-n.w.now)
		}
		if tp.track != nil && !tp.open {
			if offset, metadata, ok := tp.track.TakePlain(); ok {
				_ = n.commitPlain(p, []partOffset{{h, offset, metadata}})
			}
		}
		n.lostTrack(h)
	}
}

func (n *node) lostTrack(h held) {
	if tp := n.tracks[h.part]; tp != nil && tp.held == h {
		tp.gone, tp.closing, tp.track = true, true, nil
		n.tracks[h.part] = nil
	}
}

func (tp *trackPart) log(t topic) *partitionLog { return tp.n.w.kafka.logs[t][tp.held.part] }

func (tp *trackPart) takeOver(p *proc) {
	for attempt := 1; !tp.gone; attempt++ {
		err := tp.tryTakeOver(p)
		if err == nil {
			tp.n.w.spawn(tp.n, tp.relay)
			tp.feed(p)
			return
		}
		p.sleep(min(time.Duration(attempt)*100*time.Millisecond, 5*time.Second))
	}
}

// tryTakeOver has open transactions end, then reads the position, then the
// decisions up to an end that is taken after it.
func (tp *trackPart) tryTakeOver(p *proc) error {
	n, w, l := tp.n, tp.n.w, tp.log(dispatched)
	t := &takeover{n: n, w: w, p: p, pt: &part{n: n, held: tp.held}, over: func() bool { return tp.gone }}
	if err := t.endWriters(l); err != nil {
		return err
	}
	if err := t.fetchPosition(); err != nil {
		return err
	}
	var r track.Restored
	rebuilt := true
	if c := t.committed; c.found {
		if pos, err := position.Parse(c.offset, c.metadata, eventsID); err == nil {
			r.Position, rebuilt = pos, false
		}
	}
	high, err := n.high(p, l)
	if err != nil {
		return err
	}
	r.AsideEnd = high
	live := map[int64]track.Live{}
	var decided []int64
	err = n.scan(p, l, min(r.Position.Aside, high), high, takeoverStall, func(e *entry) {
		d := e.value.(*decision)
		decided = append(decided, d.offset)
		if d.status == avro.DispatchDecided {
			delete(live, d.offset)
			return
		}
		live[d.offset] = track.Live{Offset: d.offset, RecordAt: e.offset, Status: d.status, Attempts: d.attempts, Reason: d.reason, Message: tp.log(events).entries[d.offset].msg}
	})
	if err != nil {
		return err
	}
	for _, offset := range decided {
		if offset >= r.Position.Offset {
			r.Position.Done = append(r.Position.Done, offset)
		}
	}
	for _, offset := range sortedKeys(live) {
		r.Live = append(r.Live, live[offset])
	}
	if tp.closing {
		return errGone
	}
	w.logf("dispatcher %d: partition %d taken over at %d, %d finished above, %d live", n.id, tp.held.part, r.Position.Offset, len(r.Position.Done), len(r.Live))
	w.saw["dispatcher: takeover"]++
	w.check.dispatchOwners[tp.held.part] = max(w.check.dispatchOwners[tp.held.part], tp.owner)
	tp.track = track.New(track.Config{TopicID: eventsID, MaxCalls: 8}, r)
	if rebuilt {
		tp.track.ReturnPlain()
	}
	tp.ask()
	return nil
}

// feed gives the track its events, and markers too: they are no lag.
func (tp *trackPart) feed(p *proc) {
	w, l := tp.n.w, tp.log(events)
	next := tp.track.Next()
	type chunk struct {
		got  []*entry
		next int64
	}
	for !tp.gone && !tp.closing {
		c, err := call(p, w, w.kafka.away || l.away, 3*time.Second, func(reply func(chunk)) {
			got, next := l.read(next, 1+w.rng.IntN(30), true)
			reply(chunk{got, next})
		})
		if err != nil || c.next == next {
			p.sleep(w.between(20*time.Millisecond, 100*time.Millisecond))
			continue
		}
		next = c.next
		if tp.track == nil || tp.closing {
			return
		}
		for _, e := range c.got {
			if e.msg.Platform() {
				tp.track.Skip(e.offset)
			} else {
				tp.track.Record(e.offset, e.msg)
			}
		}
		if tp.track.Next() < next {
			tp.track.Skip(next - 1)
		}
		tp.ask()
	}
}

// ask has the function asked about events.
func (tp *trackPart) ask() {
	n, w := tp.n, tp.n.w
	tr := tp.track
	if tr == nil {
		return
	}
	for _, a := range tr.Asks() {
		d := w.between(time.Millisecond, 20*time.Millisecond)
		if w.chance(w.faults.functions) {
			d = w.between(0, 5*time.Second)
		}
		w.after(d, n, func() {
			if tp.track != tr {
				return
			}
			answer := w.dispatch(tp, a)
			if w.has(bugDispatchedEarly) {
				for _, m := range answer.Commands {
					w.spawn(n, func(p *proc) { _, _ = w.append(p, n, m, w.partition(string(m.Aggregate()))) })
				}
			}
			tr.Answered(w.time(), a.Token, answer)
			n.rouseCommit()
			tp.ask()
		})
	}
}

// dispatch is the dispatcher: it never decides the same twice. What it has caused
// itself leads to nothing more.
func (w *world) dispatch(tp *trackPart, a track.Ask) track.Answer {
	m := a.Message
	cause := w.kafka.logs[commands][tp.held.part].entries[m.Cause.Offset].msg
	if w.chance(w.faults.functions * 5) {
		return track.Answer{Trouble: &track.Trouble{Failed: true, Last: a.Attempts >= 2, Wait: 200 * time.Millisecond, Reason: "weather"}}
	}
	if cause.Source == dispatcherSource || m.Type != typeChanged || w.chance(500) {
		w.check.nothing[place{tp.held.part, a.Offset}] = true
		return track.Answer{}
	}
	var answer track.Answer
	for i := range 1 + w.rng.IntN(2) {
		to := runtime.AggregateID("acc:" + strconv.Itoa(w.rng.IntN(w.aggregates)))
		answer.Commands = append(answer.Commands, &runtime.Message{
			ID: m.ID + "-" + strconv.Itoa(i), Type: typeAdd, Source: dispatcherSource, Subject: to.Root(), Data: []byte(strconv.Itoa(1 + w.rng.IntN(9))),
			CausationID: m.ID, CorrelationID: m.CorrelationID, Cause: runtime.Coordinates{Topic: events.String(), Partition: tp.held.part, Offset: a.Offset},
		})
	}
	return answer
}

// dispatchLoop records what was decided, with the positions.
func (n *node) dispatchLoop(p *proc) {
	w := n.w
	plain := w.now + time.Second
	for {
		n.rouse.wait(p, 100*time.Millisecond)
		for _, tp := range n.tracks {
			if tp != nil && tp.track != nil {
				tp.track.Tick(w.time())
				tp.ask()
			}
		}
		if w.now > plain {
			plain = w.now + time.Second
			n.dispatchPlain(p)
		}
		for n.dispatchOnce(p) {
		}
	}
}

func (n *node) dispatchPlain(p *proc) {
	for _, tp := range n.tracks {
		if tp == nil || tp.track == nil || tp.open || tp.closing {
			continue
		}
		tr := tp.track
		if offset, metadata, ok := tr.TakePlain(); ok {
			if err := n.commitPlain(p, []partOffset{{tp.held, offset, metadata}}); err != nil {
				tr.ReturnPlain()
			}
		}
	}
}

func (n *node) dispatchOnce(p *proc) bool {
	type taken struct {
		tp    *trackPart
		tr    *track.Track
		batch *track.Batch
	}
	var all []taken
	take := func(solo bool) {
		for _, tp := range n.tracks {
			if tp == nil || tp.track == nil || tp.closing || tp.open || tp.solo != solo || tp.next > n.w.now || solo && len(all) > 0 {
				continue
			}
			limit := 1 << 30
			if solo {
				limit = 1
			}
			if b := tp.track.Take(limit); b != nil {
				tp.open = true
				all = append(all, taken{tp, tp.track, b})
			}
		}
	}
	if take(true); len(all) == 0 {
		take(false)
	}
	if len(all) == 0 {
		return false
	}
	var t txn
	for _, x := range all {
		t.offsets = append(t.offsets, partOffset{x.tp.held, x.batch.Offset, x.batch.Metadata})
		for i := range x.batch.Records {
			r := &x.batch.Records[i]
			d := &decision{offset: r.Offset, status: r.Status, commands: r.Commands, reason: r.Reason, attempts: r.Attempts}
			t.records = append(t.records, record{topic: dispatched, part: x.tp.held.part, key: strconv.FormatInt(r.Offset, 10), value: d, id: n.identity(), owner: x.tp.owner})
		}
	}
	r := n.commit(p, t)
	first := 0
	for _, x := range all {
		count := len(x.batch.Records)
		x.tp.open = false
		x.tp.idle.broadcast()
		switch r.verdict {
		case done:
			x.tp.solo, x.tp.pause = false, 0
			x.tr.Committed(n.w.time(), x.batch, r.offsets[first:first+count])
		case aborted:
			x.tp.solo = true
			x.tp.pause = min(max(2*x.tp.pause, 10*time.Millisecond), 5*time.Second)
			x.tp.next = n.w.now + x.tp.pause
			x.tr.Aborted(x.batch, len(all) == 1 && r.refused, "refused")
		default:
			x.tp.closing = true
		}
		first += count
		x.tp.ask()
	}
	return true
}

// relay sends the commands of decisions. Its position moves when all of a
// decision are acknowledged, so each is sent at least once.
func (tp *trackPart) relay(p *proc) {
	n, w, l := tp.n, tp.n.w, tp.log(dispatched)
	next, err := call(p, w, w.kafka.away, 2*time.Second, func(reply func(int64)) { reply(w.kafka.relayed[tp.held.part]) })
	if err != nil {
		next = 0
	}
	type chunk struct {
		got  []*entry
		next int64
	}
	for tp.relayed = next; !tp.gone; {
		if at := next; tp.relayed != at {
			if _, err := call(p, w, w.kafka.away, 2*time.Second, func(reply func(bool)) { reply(w.kafka.relay(tp.held.part, tp.owner, at)) }); err == nil {
				tp.relayed = at
			}
		}
		c, err := call(p, w, w.kafka.away || l.away, 2*time.Second, func(reply func(chunk)) {
			got, next := l.read(next, 10, true)
			reply(chunk{got, next})
		})
		if err != nil || c.next == next {
			p.sleep(w.between(20*time.Millisecond, 100*time.Millisecond))
			continue
		}
		for _, e := range c.got {
			d := e.value.(*decision)
			if d.status != avro.DispatchDecided {
				continue
			}
			for _, m := range d.commands {
				for {
					if _, err := w.append(p, n, m, w.partition(string(m.Aggregate()))); err == nil {
						break
					}
					p.sleep(time.Second)
				}
			}
		}
		next = c.next
	}
}
