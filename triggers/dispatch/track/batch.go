package track

import (
	"slices"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/position"
)

// Bounds of what one partition brings to a transaction.
const (
	batchRecords = 500
	batchBytes   = 4 << 20
)

// Pending says whether there is something for a transaction.
func (t *Track) Pending() bool {
	return t.batch == nil && (len(t.ready) > 0 || t.crowded)
}

// MaxSpan is how far the position may stay behind what is finished: writing and
// reading the metadata takes as long as that is.
const MaxSpan = 1 << 16

// long says whether a position needs events set aside before it is committed.
func (t *Track) long(o *position.Offsets) bool {
	return o.End()-o.Low() > t.cfg.Span || len(t.encode(o)) > t.cfg.Soft
}

// Take returns what the next transaction is to carry, at most limit decisions,
// or nil. It must be ended by [Track.Committed] or [Track.Aborted] before the
// next is taken.
func (t *Track) Take(limit int) *Batch {
	if !t.Pending() {
		return nil
	}
	b := &Batch{}
	after := t.offsets.Clone()
	size := 0
	for _, i := range t.ready {
		n := 500 + len(i.event.ID)
		for _, c := range i.commands {
			n += 200 + len(c.Data)
		}
		if len(b.Records) > 0 && (len(b.Records) >= min(limit, batchRecords) || size+n > batchBytes) {
			break
		}
		size += n
		r := Record{Status: avro.DispatchDecided, Offset: i.offset, Event: i.event, Commands: i.commands, By: i.by, Attempts: i.attempts, item: i}
		if i.parked {
			r.Status, r.Reason, r.Commands = avro.DispatchParked, i.reason, nil
		}
		if i.dropped {
			r.Status, r.Reason = avro.DispatchDropped, i.reason
		}
		i.stage = batched
		b.Records = append(b.Records, r)
		after.Finish(i.offset)
	}
	t.ready = slices.Delete(t.ready, 0, len(b.Records))
	t.setAside(b, after)
	t.crowded = false
	if len(b.Records) == 0 {
		return nil
	}
	b.Offset, b.Metadata = after.Low(), t.encode(after)
	if len(b.Metadata) > position.MetadataSoft { // which every broker takes
		// A position that was made from the decisions, with finished events that
		// have not been read yet. No metadata has it made from them once more.
		b.Metadata = ""
	}
	t.batch, t.unsaved = b, false
	return b
}

// setAside adds the lowest unfinished events to a batch until the metadata is
// short. What is finished above them must be in it: forgetting any would have a
// decided event asked about again.
func (t *Track) setAside(b *Batch, after *position.Offsets) {
	for t.long(after) {
		moved := 0
		for offset := after.Low(); offset < after.Next() && moved < 64; offset++ {
			i := t.items[offset]
			if i == nil || after.Finished(offset) {
				continue
			}
			b.Records = append(b.Records, Record{Status: avro.DispatchWaiting, Offset: offset, Event: i.event, Reason: i.reason, Attempts: i.attempts, item: i})
			t.putAside(i)
			after.Finish(offset)
			moved++
		}
		if moved == 0 {
			return // all is finished, so it is short
		}
	}
}

func (t *Track) encode(o *position.Offsets) string {
	return o.Encode(position.Note{Aside: t.asideFrom(), Epoch: t.cfg.Epoch, TopicID: t.cfg.TopicID})
}

// asideFrom is the offset in the dispatched topic from which all live records
// are found.
func (t *Track) asideFrom() int64 {
	from := t.asideEnd
	for _, l := range t.live {
		from = min(from, l.RecordAt)
	}
	return from
}

// Committed ends a batch whose transaction is known to be committed. offsets are
// those of its records in the dispatched topic.
func (t *Track) Committed(now time.Time, b *Batch, offsets []int64) {
	if t.batch != b {
		return
	}
	t.batch = nil
	for n := range b.Records {
		r := &b.Records[n]
		i := r.item
		t.asideEnd = max(t.asideEnd, offsets[n]+1)
		t.offsets.Finish(i.offset)
		t.putAside(i)
		if r.Status == avro.DispatchDecided || r.Status == avro.DispatchDropped {
			t.setLive(i.offset, nil)
		} else {
			t.setLive(i.offset, &Live{Offset: i.offset, Message: i.event, RecordAt: offsets[n], Status: r.Status, Attempts: i.attempts, Reason: i.reason, Since: now})
		}
		if r.Status != avro.DispatchWaiting {
			t.remove(i)
		}
	}
}

// Aborted ends a batch whose transaction is known to be aborted. What was decided
// stays decided and is taken again. refused says that Kafka will never take the
// one decision that the batch holds: then it is parked instead.
func (t *Track) Aborted(b *Batch, refused bool, reason string) {
	if t.batch != b {
		return
	}
	t.batch, t.unsaved = nil, true
	var back []*item
	for n := range b.Records {
		i := b.Records[n].item
		if b.Records[n].Status == avro.DispatchWaiting {
			i.aside = false
			t.aside--
			continue
		}
		if refused && len(b.Records) == 1 && i.dropped {
			t.remove(i) // it stays parked
			continue
		}
		i.stage = ready
		if refused && len(b.Records) == 1 && !i.parked {
			i.parked, i.reason, i.commands = true, "the decision cannot be recorded: "+reason, nil
			i.attempts++
		}
		back = append(back, i)
	}
	t.ready = append(back, t.ready...)
}

// TakePlain returns the position to commit without a transaction: events have
// been finished without a record since it was last committed. ok is false when
// there is nothing to commit, or a transaction has to do it. Whoever could not
// commit it calls [Track.ReturnPlain].
func (t *Track) TakePlain() (offset int64, metadata string, ok bool) {
	if !t.unsaved || t.batch != nil {
		return 0, "", false
	}
	if t.long(t.offsets) {
		t.crowded = true
		return 0, "", false
	}
	metadata = t.encode(t.offsets)
	t.unsaved = false
	return t.offsets.Low(), metadata, true
}

// ReturnPlain says that the position is not committed, or has to be once more.
func (t *Track) ReturnPlain() { t.unsaved = true }
