package shard

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// SkipEvery is how many records of an aggregate stand between two that carry
// the offsets of those before them.
const SkipEvery = 64

// RecordKind says what a [BatchRecord] is.
type RecordKind uint8

const (
	EventRecord RecordKind = iota // an event or platform record, for the events topic
	AsideRecord                   // a set-aside record, or with a nil Value its deletion, for the parked topic
)

// BatchRecord is one record of a transaction.
type BatchRecord struct {
	Kind    RecordKind
	Topic   string           // EventRecord: the events topic
	Message *runtime.Message // EventRecord
	Offset  int64            // AsideRecord: the key, the command's offset
	Value   []byte           // AsideRecord
}

// Batch is what a shard wants in the next transaction: records, and the
// position that holds once they are committed. There is one open at a time; it
// ends with [Shard.Committed] or [Shard.Aborted].
type Batch struct {
	Records  []BatchRecord
	Offset   int64
	Metadata string

	results    []result
	asides     []placed
	tombstones []int64 // their records begin at closings
	closings   int
}

type result struct {
	entry   *entry
	first   int // index of its first record
	records int
}

type placed struct {
	entry *entry
	index int
}

// Results returns how many commands the batch ends.
func (b *Batch) Results() int { return len(b.results) }

// Ready returns how many results wait for a transaction, and whether there is
// anything else that wants one.
func (s *Shard) Ready() (results int, other bool) {
	if s.batch != nil {
		return 0, false
	}
	return len(s.ready), len(s.asideWanted) > 0 || len(s.tombstones) > 0
}

// pen is where an aggregate's next record of a batch stands in its chain.
type pen struct {
	links    []int64 // like Snapshot.Links; a place in this batch is encoded as ^index
	version  uint64
	recorded time.Time
	last     int // index in its topic of the last record of this batch; -1 for none
}

// Take opens a batch of at most max results and about maxBytes of records. It
// returns nil when there is nothing to commit or a batch is open.
func (s *Shard) Take(now time.Time, max, maxBytes int) *Batch {
	if s.batch != nil || len(s.ready)+len(s.asideWanted)+len(s.tombstones) == 0 {
		return nil
	}
	b := &Batch{}
	pens := map[*aggregate]*pen{}
	placeIn := map[string]int{}
	after := s.offsets.Clone()
	size, n := 0, 0
	for _, e := range s.ready {
		if full := n >= min(max, s.limit) || size > maxBytes; full && (n == 0 || s.ready[n-1].whole()) {
			break // but never within a run of folded commands: the state there is not known
		}
		n++
		r := result{entry: e, first: len(b.Records)}
		size += s.write(now, b, e, pens, placeIn)
		r.records = len(b.Records) - r.first
		b.results = append(b.results, r)
		e.stage = batched
		if e.verdict != nil && e.verdict.parked != nil && listable(e.verdict.parked.Reason) {
			s.putAside(b, e, after) // see park
		}
		after.Finish(e.cmd.Offset)
		for _, again := range e.repeats {
			after.Finish(again.cmd.Offset)
		}
	}
	s.ready = s.ready[n:]

	s.takeAsides(b, after)
	b.tombstones, b.closings, s.tombstones = s.tombstones, len(b.Records), nil
	for _, offset := range b.tombstones {
		b.Records = append(b.Records, s.closing(offset))
	}
	b.Offset, b.Metadata = s.position(b, after)
	if len(b.Records) == 0 {
		return nil
	}
	s.batch, s.unrecorded = b, false
	return b
}

// takeAsides adds the set-aside records that are wanted to a batch.
func (s *Shard) takeAsides(b *Batch, after *position.Offsets) {
	wanted := s.asideWanted
	s.asideWanted = nil
	for _, e := range slices.Backward(wanted) { // the last one of a queue takes those before it along
		switch {
		case e.stage >= computed:
			if e.aside == asideWanted {
				e.aside = asideNone // it has a result: the next transaction ends it
			}
			e.asideChanged = false
		case e.aside == asideRecorded:
			s.putAside(b, e, after)
		case e.aside != asideWanted:
			// it went along
		case e.agg.unbatched():
			s.asideWanted = append(s.asideWanted, e) // those before it end first
		default:
			s.putAsideInOrder(b, e, after)
		}
	}
	slices.Reverse(s.asideWanted)
}

// putAsideInOrder sets e aside, and those before it of its aggregate: a takeover
// restores what is set aside before it reads on, so that whoever stood before e
// and were read again would come after it.
func (s *Shard) putAsideInOrder(b *Batch, e *entry, after *position.Offsets) {
	last := e
	if e.behind != nil {
		last = e.behind
	}
	if last.stage < computed {
		for _, before := range e.agg.queue.all() {
			if before.aside == asideNone || before.aside == asideWanted {
				s.putAside(b, before, after)
			}
			if before == last {
				break
			}
		}
	}
	if e.aside != asideBatched {
		s.putAside(b, e, after)
	}
}

// putAside adds the set-aside record of e to a batch.
func (s *Shard) putAside(b *Batch, e *entry, after *position.Offsets) {
	b.asides = append(b.asides, placed{e, len(b.Records)})
	b.Records = append(b.Records, s.asideRecord(e))
	e.aside, e.asideChanged = asideBatched, false
	after.Finish(e.cmd.Offset)
}

// position encodes the position after a batch. Where the metadata would grow
// too long for the broker, the commands that hold it up are set aside as well.
func (s *Shard) position(b *Batch, after *position.Offsets) (int64, string) {
	for {
		metadata := after.Encode(position.Note{Aside: s.asideFrom(), TopicID: s.cfg.CommandsID})
		if len(metadata) <= position.MetadataSoft {
			return after.Low(), metadata
		}
		moved := 0
		for offset := after.Low(); offset < after.Next() && moved < 256; offset++ {
			if e := s.entries[offset]; e != nil && !after.Finished(offset) && e.stage < computed && e.cmd.Order == nil && e.aside == asideNone && !e.agg.unbatched() {
				s.putAsideInOrder(b, e, after)
				moved++
			}
		}
		if moved == 0 {
			// All that is left has results and ends soon.
			return after.Low(), s.bounded(after, false)
		}
	}
}

// write adds the records of a result and returns their size in bytes, about.
func (s *Shard) write(now time.Time, b *Batch, e *entry, pens map[*aggregate]*pen, placeIn map[string]int) int {
	agg, cmd := e.agg, e.cmd
	p := pens[agg]
	if p == nil {
		p = &pen{links: append([]int64(nil), agg.snapshot.Links...), version: agg.snapshot.State.Version, recorded: agg.snapshot.Recorded, last: -1}
		pens[agg] = p
	}
	events := e.events(s.cfg.Platform)
	size := 0
	for i := range events {
		ev := &events[i]
		if now.After(p.recorded) {
			p.recorded = now.Truncate(time.Millisecond)
		}
		m := &runtime.Message{
			ID: cmd.Key.EventID(i + 1), Type: ev.Type, Source: s.source(e, ev), Subject: ev.Subject, Schema: ev.Schema,
			Time: ev.Time, Data: ev.Data,
			CausationID: cmd.Message.ID, CorrelationID: cmd.Message.CorrelationID, TraceParent: cmd.Message.TraceParent,
			Cause:        runtime.Coordinates{Topic: s.cfg.Commands, Partition: s.cfg.Partition, Offset: cmd.Offset},
			RecordedTime: p.recorded, Pos: i + 1, Count: len(events), By: ev.By, Hash: cmd.Hash,
		}
		if m.CorrelationID == "" {
			m.CorrelationID = cmd.Message.ID
		}
		if m.Time.IsZero() {
			m.Time = p.recorded
		}
		if e.verdict == nil {
			p.version++
			m.Sequence = p.version
		}
		place := placeIn[agg.topic]
		placeIn[agg.topic] = place + 1
		switch {
		case p.last >= 0:
			m.Prev = int64(p.last - place)
		case len(p.links) > 0:
			m.Prev = p.links[len(p.links)-1]
		default:
			m.Prev = runtime.NoPrev
		}
		p.last = place
		if len(p.links) == SkipEvery {
			m.Skip = make([]int64, SkipEvery)
			for j, link := range p.links {
				if m.Skip[j] = link; link < 0 {
					m.Skip[j] = ^link - int64(place)
				}
			}
			p.links = nil
		}
		p.links = append(p.links, ^int64(place))
		size += len(m.Data) + 600
		b.Records = append(b.Records, BatchRecord{Kind: EventRecord, Topic: agg.topic, Message: m})
	}
	return size
}

// events returns what a result records: its events, or the platform's verdict.
func (e *entry) events(platform func(bool, *Parked, *Reject) (runtime.TypeName, runtime.DataSchema, []byte)) []Event {
	if e.verdict == nil {
		return e.step.Events
	}
	t, schema, data := platform(e.cmd.Publish, e.verdict.parked, e.verdict.rejected)
	return []Event{{Type: t, Subject: e.cmd.Message.Subject, Schema: schema, Data: data, By: "evento"}}
}

func (s *Shard) source(e *entry, ev *Event) string {
	if e.cmd.Publish && e.verdict == nil {
		return e.cmd.Message.Source
	}
	by, _, _ := strings.Cut(ev.By, " ")
	return "/evento/" + s.cfg.Installation + "/" + by
}

// Committed ends a batch whose transaction is known to be committed. offsets are
// those of its records, in order; -1 for one that is not there although others
// are, which Kafka promises never to happen. An aggregate that misses a record is
// stopped at the first result that is not whole. What it takes to set commands
// aside is written again.
func (s *Shard) Committed(now time.Time, b *Batch, offsets []int64) {
	s.batch = nil
	var touched, announced []*aggregate
	var rivals []*entry
	torn := map[*aggregate]string{}
	for _, r := range b.results {
		e, agg := r.entry, r.entry.agg
		if torn[agg] == "" {
			torn[agg] = s.missing(b, r, offsets)
		}
		if torn[agg] != "" {
			continue
		}
		if len(touched) == 0 || touched[len(touched)-1] != agg {
			touched = append(touched, agg)
		}
		o := s.take(b, r, offsets)
		agg.tail[0] = nil
		agg.tail = agg.tail[1:]
		delete(agg.inFlight, e.cmd.Key)
		s.emit(Answer{Command: e.cmd, Outcome: o})
		s.park(e, o)
		s.finish(e)
		o.Repeat = true
		for _, again := range e.repeats {
			s.finishWithout(again, o)
		}
		rivals = append(rivals, e.rivals...)
	}
	for _, p := range b.asides {
		e := p.entry
		if offsets[p.index] < 0 {
			s.asideAgain(e)
			continue
		}
		e.aside = asideRecorded
		s.asideLive[e.cmd.Offset] = offsets[p.index]
		s.asideOrder.push(offsets[p.index], e.cmd.Offset)
		s.offsets.Finish(e.cmd.Offset)
		if e.stage != finished {
			s.countAside(e)
		}
		switch {
		case e.stage == finished:
			s.tombstones = append(s.tombstones, e.cmd.Offset)
		case e.asideChanged:
			s.asideWanted = append(s.asideWanted, e)
		}
		if e.suspect {
			announced = append(announced, e.agg)
		}
	}
	for i := range b.tombstones {
		r, at := &b.Records[b.closings+i], offsets[b.closings+i]
		if at < 0 {
			s.tombstones = append(s.tombstones, r.Offset)
			continue
		}
		s.closed(r, at)
	}
	for i := range b.Records {
		switch {
		case offsets[i] < 0:
			s.unrecorded = true // the position in the transaction says that it is there
		case b.Records[i].Kind == AsideRecord:
			s.asideEnd = max(s.asideEnd, offsets[i]+1)
		}
	}
	for _, r := range b.results {
		if why := torn[r.entry.agg]; why != "" && r.entry.agg.broken == "" {
			s.tear(r.entry.agg, why)
		}
	}
	s.limit = min(MaxBatch, s.limit*2)
	saved := map[*aggregate]bool{}
	var stale []*aggregate
	for _, agg := range touched {
		if saved[agg] {
			continue
		}
		saved[agg] = true
		if agg.stale {
			stale = append(stale, agg)
			continue
		}
		if agg.loaded {
			s.emit(Save{Snapshot: agg.copy()})
			s.answerReaders(agg)
		}
		s.pump(now, agg)
	}
	s.reload(now, stale)
	for _, agg := range announced {
		s.pump(now, agg) // nothing new is recorded of it, perhaps nothing at all
	}
	s.rejoin(now, rivals)
}

// missing says what a result lacks in the log; "" when it is whole.
func (s *Shard) missing(b *Batch, r result, offsets []int64) string {
	for i := r.first; i < r.first+r.records; i++ {
		if offsets[i] < 0 {
			m := b.Records[i].Message
			return fmt.Sprintf("a transaction was committed in part: event %d of %d of the command at offset %d of %s is missing", m.Pos, m.Count, r.entry.cmd.Offset, s.cfg.Commands)
		}
	}
	return ""
}

// copy returns the committed snapshot for somebody else to keep.
func (a *aggregate) copy() Snapshot {
	c := a.snapshot
	c.Links = append([]int64(nil), c.Links...)
	c.Seen = c.Seen.Clone()
	return c
}

// take makes a result the committed state of its aggregate and returns its outcome.
func (s *Shard) take(b *Batch, r result, offsets []int64) Outcome {
	e, snapshot := r.entry, &r.entry.agg.snapshot
	o := Outcome{Status: Done}
	refused := true
	for i := r.first; i < r.first+r.records; i++ {
		m := b.Records[i].Message
		at := offsets[i]
		if m.Skip != nil {
			snapshot.Links = nil
		}
		snapshot.Links = append(snapshot.Links, at)
		snapshot.Head = Head{Version: snapshot.Head.Version, Offset: at, Command: e.cmd.Key, Pos: int32(m.Pos)}
		if m.Sequence > 0 {
			snapshot.Head.Version, o.Version = m.Sequence, m.Sequence
		}
		snapshot.Recorded = m.RecordedTime
		refused = refused && s.cfg.Failure(m.Type)
		o.Records = append(o.Records, Recorded{Message: m, At: runtime.Coordinates{Topic: b.Records[i].Topic, Partition: s.cfg.Partition, Offset: at}})
	}
	snapshot.Aggregate = e.agg.id
	snapshot.Seen.Add(SeenEntry{Hash: SeenHash(e.cmd.Key), Offset: offsets[r.first]})
	s.heads[e.agg.id] = snapshot.Head
	s.dirtyHeads[e.agg.id] = struct{}{}
	s.sinceHeads += r.records
	switch {
	case e.verdict != nil && e.verdict.parked != nil:
		o.Status, o.Reason, o.Attempts = ParkedS, e.verdict.parked.Reason, e.verdict.parked.Attempts
	case e.verdict != nil:
		o.Status, o.Reason = Rejected, e.verdict.rejected.Code+": "+e.verdict.rejected.Reason
	default:
		snapshot.State = e.step.State
		if refused {
			o.Status = Refused
		}
	}
	return o
}

// Aborted ends a batch whose transaction is known not to be committed. All that
// was computed of its aggregates is dropped and done again. alone says that
// the batch was the whole transaction: if it held a single command, that one
// spends an attempt, since trying the same again for ever would stop the partition.
func (s *Shard) Aborted(now time.Time, b *Batch, alone bool, reason string) {
	s.batch, s.unrecorded = nil, true // perhaps; the next position tells
	rolled := map[*aggregate]bool{}
	var order []*aggregate
	for _, r := range b.results {
		if agg := r.entry.agg; !rolled[agg] {
			rolled[agg] = true
			order = append(order, agg)
			s.rollBack(agg)
		}
	}
	s.sweepReady()
	for _, p := range b.asides {
		s.asideAgain(p.entry)
	}
	s.tombstones = append(s.tombstones, b.tombstones...)
	s.limit = max(1, min(s.limit, len(b.results))/2)
	if alone && len(b.results) == 1 {
		e := b.results[0].entry
		s.trouble(now, e, &Trouble{Kind: Failed, Reason: "its records could not be committed: " + reason, Policy: DefaultPolicy})
	}
	for _, agg := range order {
		if agg.stale {
			s.reload(now, []*aggregate{agg})
			continue
		}
		s.pump(now, agg)
	}
}

// asideAgain takes back a set-aside record that was not written.
func (s *Shard) asideAgain(e *entry) {
	if _, live := s.asideLive[e.cmd.Offset]; live {
		e.aside, e.asideChanged = asideRecorded, false
	} else {
		e.aside = asideNone
	}
	if e.stage != finished {
		s.setAside(e)
	} else if e.aside == asideRecorded || s.parked[e.cmd.Offset] != nil {
		s.tombstones = append(s.tombstones, e.cmd.Offset)
	}
}

// sweepReady leaves out what was rolled back.
func (s *Shard) sweepReady() {
	keep := make([]*entry, 0, len(s.ready))
	for _, e := range s.ready {
		if e.stage == computed {
			keep = append(keep, e)
		}
	}
	s.ready = keep
}
