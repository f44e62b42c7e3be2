package track

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

var (
	flagSeeds = flag.Int("seeds", 400, "how many simulations are run")
	flagSeed  = flag.Uint64("seed", 0, "the one simulation that is run")
)

const simTopicID = "t"

// simDecision is a committed record of the dispatched topic.
type simDecision struct {
	there  bool // false: aborted, or a marker
	offset int64
	status avro.DispatchStatus
	parts  []string
}

// world is one partition of events, Kafka, and a function that answers each call
// differently. Owners come and go.
type world struct {
	rng    *rand.Rand
	seed   uint64
	bug    string
	now    time.Time
	events []*runtime.Message // by offset; nil is none for the dispatcher

	log    []simDecision
	offset int64 // the committed position; -1 for none
	meta   string

	track   *Track
	fed     int64 // offset of the next event to be fed
	asks    []Ask
	working map[runtime.AggregateID]int64 // the event that the owner asks about
	txn     *Batch                        // of the owner, not ended
	healed  bool

	empty  map[int64]bool // answered with nothing
	parked map[int64]bool // ever
	decide map[int64]int  // decisions in the log
	drops  map[int64]int  // those of them that an operator made
	worst  int            // longest metadata
	aside  int            // waiting records
}

func newWorld(seed uint64, bug string) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 99)), seed: seed, bug: bug, now: time.Unix(1000, 0), offset: -1,
		empty: map[int64]bool{}, parked: map[int64]bool{}, decide: map[int64]int{}, drops: map[int64]int{},
	}
	aggregates := 1 + w.rng.IntN(8)
	for i := range 20 + w.rng.IntN(100) {
		var e *runtime.Message
		if w.rng.IntN(4) > 0 {
			e = &runtime.Message{ID: fmt.Sprintf("e%d", i), Subject: runtime.Entity(fmt.Sprintf("acc:%d", w.rng.IntN(aggregates)))}
		}
		w.events = append(w.events, e)
	}
	return w
}

// takeOver makes the next owner, as the I/O does: the open transaction ends, then
// the position is read, then the decisions.
func (w *world) takeOver() error {
	offset, meta := w.offset, w.meta
	if w.txn != nil {
		if w.rng.IntN(2) == 0 { // it had been asked to commit
			w.commit(w.txn)
		} else {
			w.abort(w.txn)
		}
		w.txn = nil
	}
	if w.bug != "position before the transaction's end" {
		offset, meta = w.offset, w.meta
	}
	var r Restored
	rebuilt := offset < 0
	if !rebuilt {
		p, err := position.Parse(offset, meta, simTopicID)
		if err != nil {
			return err
		}
		r.Position = p
	}
	if w.bug == "finished ones forgotten" {
		r.Position.Done = nil
	}
	live := map[int64]Live{}
	from := r.Position.Aside
	if w.bug == "set-aside ones forgotten" {
		from = int64(len(w.log))
	}
	for at := from; at < int64(len(w.log)); at++ {
		d := w.log[at]
		if !d.there {
			continue
		}
		if rebuilt && w.bug != "lost position not rebuilt" {
			r.Position.Done = append(r.Position.Done, d.offset)
		}
		if d.status == avro.DispatchDecided || d.status == avro.DispatchDropped && w.bug != "dropped ones still listed" {
			delete(live, d.offset)
		} else {
			live[d.offset] = Live{Offset: d.offset, Message: w.events[d.offset], RecordAt: at, Status: avro.DispatchParked}
			if d.status == avro.DispatchWaiting {
				live[d.offset] = Live{Offset: d.offset, Message: w.events[d.offset], RecordAt: at, Status: d.status}
			}
		}
	}
	for _, l := range live {
		r.Live = append(r.Live, l)
	}
	SortLive(r.Live)
	r.AsideEnd = int64(len(w.log))
	w.track = New(Config{TopicID: simTopicID, MaxCalls: 1 + w.rng.IntN(6), Soft: 45 + w.rng.IntN(40), Span: 10 + w.rng.Int64N(60)}, r)
	w.fed, w.asks, w.working = w.track.Next(), nil, map[runtime.AggregateID]int64{}
	return w.takeAsks()
}

func (w *world) commit(b *Batch) []int64 {
	var offsets []int64
	for _, r := range b.Records {
		offsets = append(offsets, int64(len(w.log)))
		d := simDecision{there: true, offset: r.Offset, status: r.Status}
		for _, c := range r.Commands {
			d.parts = append(d.parts, c.ID)
		}
		w.log = append(w.log, d)
		switch r.Status {
		case avro.DispatchDecided:
			w.decide[r.Offset]++
		case avro.DispatchDropped:
			w.decide[r.Offset]++
			w.drops[r.Offset]++
		case avro.DispatchParked:
			w.parked[r.Offset] = true
		default:
			w.aside++
		}
	}
	w.log = append(w.log, simDecision{}) // marker
	w.offset, w.meta = b.Offset, b.Metadata
	w.worst = max(w.worst, len(b.Metadata))
	return offsets
}

func (w *world) abort(b *Batch) {
	w.log = append(w.log, make([]simDecision, len(b.Records)+1)...)
}

// takeAsks takes over what is to be asked, and holds it against the rules.
func (w *world) takeAsks() error {
	for _, a := range w.track.Asks() {
		if w.decide[a.Offset] > 0 {
			return fmt.Errorf("event %d is asked about, and its decision is recorded", a.Offset)
		}
		id := a.Message.Aggregate()
		if other, ok := w.working[id]; ok && !w.parked[a.Offset] && !w.parked[other] {
			return fmt.Errorf("events %d and %d of %s are asked about at the same time", other, a.Offset, id)
		}
		w.working[id] = a.Offset
		w.asks = append(w.asks, a)
	}
	return nil
}

func (w *world) answer() {
	n := w.rng.IntN(len(w.asks))
	a := w.asks[n]
	w.asks = append(w.asks[:n], w.asks[n+1:]...)
	delete(w.working, a.Message.Aggregate())
	var answer Answer
	dice := w.rng.IntN(10)
	if w.healed {
		dice = 9
	}
	switch {
	case dice < 2:
		answer.Trouble = &Trouble{Wait: time.Duration(w.rng.IntN(50)) * time.Millisecond, Reason: "away"}
	case dice < 4:
		answer.Trouble = &Trouble{Failed: true, Last: a.Attempts >= 2, Wait: 10 * time.Millisecond, Reason: "panic"}
	case dice < 6:
		w.empty[a.Offset] = true
	default:
		for range 1 + w.rng.IntN(3) {
			answer.Commands = append(answer.Commands, &runtime.Message{ID: fmt.Sprint(w.rng.Uint64())})
		}
	}
	w.track.Answered(w.now, a.Token, answer)
}

func (w *world) step() error {
	switch dice := w.rng.IntN(100); {
	case dice < 30 && w.fed < int64(len(w.events)):
		if e := w.events[w.fed]; e != nil {
			w.track.Record(w.fed, e)
		} else if w.rng.IntN(3) > 0 { // else a gap, as markers leave them
			w.track.Skip(w.fed)
		}
		w.fed++
	case dice < 60 && len(w.asks) > 0:
		w.answer()
	case dice < 70:
		w.now = w.now.Add(time.Duration(w.rng.IntN(30)) * time.Millisecond)
		w.track.Tick(w.now)
	case dice < 82:
		if w.txn == nil {
			w.txn = w.track.Take(1 + w.rng.IntN(4))
			break
		}
		w.end()
	case dice < 90:
		if offset, meta, ok := w.track.TakePlain(); ok {
			took := w.healed || w.rng.IntN(3) > 0
			if took {
				w.offset, w.meta = offset, meta
			}
			if !took || !w.healed && w.rng.IntN(4) == 0 {
				w.track.ReturnPlain() // it may have been taken all the same
			}
		}
	case dice < 93:
		if live := w.track.Live(); len(live) > 0 {
			w.track.Retry(live[w.rng.IntN(len(live))].Offset)
		}
	case dice < 94:
		if live := w.track.Live(); len(live) > 0 {
			l := live[w.rng.IntN(len(live))]
			if w.track.Drop(l.Offset, "not needed") && l.Status != avro.DispatchParked {
				return fmt.Errorf("event %d is dropped, and it is %s", l.Offset, l.Status)
			}
		}
	case dice < 97 && !w.healed:
		if w.rng.IntN(4) == 0 && w.txn == nil {
			w.offset = -1 // expired
		}
		return w.takeOver()
	}
	return w.takeAsks()
}

// end ends the open transaction.
func (w *world) end() {
	b := w.txn
	w.txn = nil
	dice := w.rng.IntN(10)
	if w.healed {
		dice = 9
	}
	switch {
	case dice < 2:
		w.abort(b)
		w.track.Aborted(b, false, "a leader moved")
	case dice < 3:
		w.abort(b)
		w.track.Aborted(b, len(b.Records) == 1, "too large")
	case dice < 4 && w.bug == "uncertain taken for aborted":
		w.commit(b)
		w.track.Aborted(b, false, "timed out")
	default:
		w.track.Committed(w.now, b, w.commit(b))
	}
}

func (w *world) run() error {
	if err := w.takeOver(); err != nil {
		return err
	}
	for range 600 {
		if err := w.step(); err != nil {
			return err
		}
	}
	w.healed = true
	for n := 0; ; n++ {
		if err := w.step(); err != nil {
			return err
		}
		waiting := 0
		for _, l := range w.track.Live() {
			if l.Status == avro.DispatchWaiting {
				waiting++
			}
		}
		if w.fed == int64(len(w.events)) && w.track.Backlog() == 0 && waiting == 0 && w.txn == nil && !w.track.Pending() && len(w.asks) == 0 {
			break
		}
		if n > 100_000 {
			return fmt.Errorf("it does not come to an end: fed %d of %d, backlog %d, %d waiting, %d asks", w.fed, len(w.events), w.track.Backlog(), waiting, len(w.asks))
		}
	}
	return w.check()
}

func (w *world) check() error {
	last := map[runtime.AggregateID]int64{}
	live := map[int64]bool{}
	for _, l := range w.track.Live() {
		live[l.Offset] = true
	}
	for _, d := range w.log {
		if !d.there || d.status != avro.DispatchDecided || w.parked[d.offset] || w.empty[d.offset] { // these may be asked about again later
			continue
		}
		id := w.events[d.offset].Aggregate()
		if last[id] > d.offset {
			return fmt.Errorf("event %d of %s is decided after %d", d.offset, id, last[id])
		}
		last[id] = d.offset
	}
	for _, d := range w.log {
		if d.status == avro.DispatchDropped && (len(d.parts) > 0 || !w.parked[d.offset]) {
			return fmt.Errorf("event %d was dropped with the commands %v, parked before: %v", d.offset, d.parts, w.parked[d.offset])
		}
	}
	for offset, e := range w.events {
		n := w.decide[int64(offset)]
		switch {
		case n > 1:
			return fmt.Errorf("%d decisions about event %d", n, offset)
		case e == nil && n > 0:
			return fmt.Errorf("a decision about %d, which is none of the dispatcher's", offset)
		case e != nil && n == 0 && !w.empty[int64(offset)] && !live[int64(offset)]:
			return fmt.Errorf("nothing is decided about event %d", offset)
		}
	}
	if low := w.track.Low(); low < int64(len(w.events))-1 && w.events[low] != nil {
		return fmt.Errorf("the position stays at %d of %d", low, len(w.events))
	}
	if w.worst > position.MetadataLimit {
		return fmt.Errorf("metadata of %d bytes", w.worst)
	}
	return nil
}

func TestSimulation(t *testing.T) {
	if *flagSeed != 0 {
		if err := newWorld(*flagSeed, "").run(); err != nil {
			t.Fatal(err)
		}
		return
	}
	aside, drops := 0, 0
	for seed := uint64(1); seed <= uint64(*flagSeeds); seed++ {
		w := newWorld(seed, "")
		if err := w.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		aside += w.aside
		drops += len(w.drops)
	}
	if drops == 0 {
		t.Error("nothing was ever dropped: that was not tried")
	}
	if aside == 0 {
		t.Error("nothing was ever set aside: that was not tried")
	}
}

// Mistakes that the I/O around a track could make; the checks find each.
func TestPlantedBugsAreCaught(t *testing.T) {
	for _, bug := range []string{
		"uncertain taken for aborted", "finished ones forgotten", "position before the transaction's end",
		"lost position not rebuilt", "set-aside ones forgotten", "dropped ones still listed",
	} {
		t.Run(bug, func(t *testing.T) {
			for seed := uint64(1); seed <= 400; seed++ {
				if newWorld(seed, bug).run() != nil {
					return
				}
			}
			t.Error("not caught in 400 simulations")
		})
	}
}
