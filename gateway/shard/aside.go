package shard

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Aside is a set-aside record: a command that waits although the committed
// position has moved past it. Its key in the parked topic is the command's
// offset.
type Aside struct {
	Aggregate runtime.AggregateID `json:"aggregate"`
	State     Status              `json:"state"` // pending, retrying or held; parked: it has its outcome
	Attempts  int                 `json:"attempts"`
	Next      time.Time           `json:"next,omitzero"`
	Reason    string              `json:"reason,omitempty"`
	Function  string              `json:"function,omitempty"`
	Image     string              `json:"image,omitempty"`  // what the function ran
	Failing   time.Time           `json:"failing,omitzero"` // since when
	Ending    bool                `json:"ending,omitempty"` // stands in the transaction of its CommandParked
	Ended     *Ended              `json:"ended,omitempty"`  // of a parked one

	Offset   int64    `json:"-"` // of the command
	RecordAt int64    `json:"-"` // of this record in the parked topic
	Stray    bool     `json:"-"` // Command belongs to another partition
	Command  *Command `json:"-"` // read from the commands topic; nil when it cannot be read here: its record is kept for the next owner
}

// Parked says whether the command has its outcome and is only listed. Its
// Command is not needed.
func (a *Aside) Parked() bool { return a.State == ParkedS && a.Ended != nil }

// ParseAside reads the value of a set-aside record.
func ParseAside(value []byte) (Aside, error) {
	var a Aside
	if err := json.Unmarshal(value, &a); err != nil {
		return a, fmt.Errorf("set-aside record: %w", err)
	}
	return a, nil
}

// setAside asks for a set-aside record, or for a newer one.
func (s *Shard) setAside(e *entry) {
	switch {
	case e.aside == asideNone:
		e.aside = asideWanted
		s.asideWanted = append(s.asideWanted, e)
	case e.aside == asideRecorded && !e.asideChanged:
		e.asideChanged = true
		s.asideWanted = append(s.asideWanted, e)
	case e.aside == asideBatched:
		e.asideChanged = true
	}
}

func (s *Shard) restoreAside(now time.Time, a Aside) {
	if s.entries[a.Offset] != nil {
		return
	}
	if a.Parked() {
		s.asideLive[a.Offset], s.parked[a.Offset] = a.RecordAt, &a
		return
	}
	if a.Command == nil {
		s.asideLive[a.Offset] = a.RecordAt
		return
	}
	e := &entry{
		cmd: a.Command, arrived: now, attempts: a.Attempts, held: a.State == Held, reason: a.Reason, function: a.Function, image: a.Image, failing: a.Failing,
		aside: asideRecorded, suspect: a.Offset < s.suspect, ending: a.Ending,
	}
	s.asideLive[a.Offset] = a.RecordAt
	if a.Stray {
		s.strand(e)
		return
	}
	s.enqueue(now, e)
	if agg := e.agg; agg.queue.first() == e && agg.call == 0 && a.Next.After(now) {
		s.delay(agg, now, a.Next.Sub(now))
	}
}

// asideRecord writes the record of e as it is now.
func (s *Shard) asideRecord(e *entry) BatchRecord {
	o := e.outlook()
	value, err := json.Marshal(Aside{Aggregate: e.agg.id, State: o.Status, Attempts: e.attempts, Next: o.NextTry, Reason: clip(e.reason, 1000), Function: e.function, Image: clip(e.image, 200), Failing: e.failing, Ending: e.ending || e.stage == batched})
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	return BatchRecord{Kind: AsideRecord, Offset: e.cmd.Offset, Value: value}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}

// asideOrder knows the live set-aside records in the order of the parked topic.
type asideOrder struct {
	items []asideItem
	head  int
}

type asideItem struct{ at, command int64 }

func (o *asideOrder) push(at, command int64) { o.items = append(o.items, asideItem{at, command}) }

// restore takes the live records that a takeover found.
func (o *asideOrder) restore(asides []Aside) {
	for _, a := range asides {
		o.push(a.RecordAt, a.Offset)
	}
	slices.SortFunc(o.items, func(a, b asideItem) int { return cmp.Compare(a.at, b.at) })
}

// oldest returns the offset of the first record that is still live, or -1.
func (o *asideOrder) oldest(live map[int64]int64) int64 {
	for ; o.head < len(o.items); o.head++ {
		it := o.items[o.head]
		if at, ok := live[it.command]; ok && at == it.at {
			break
		}
	}
	if o.head > 1024 && o.head*2 > len(o.items) {
		o.items = slices.Clone(o.items[o.head:])
		o.head = 0
	}
	if o.head == len(o.items) {
		return -1
	}
	return o.items[o.head].at
}

// asideFrom returns the offset from which the parked topic must be read to find
// every live set-aside record, those of the open batch included.
func (s *Shard) asideFrom() int64 {
	if oldest := s.asideOrder.oldest(s.asideLive); oldest >= 0 {
		return oldest
	}
	return s.asideEnd
}

func sortWaiters(list []Waiter) {
	slices.SortFunc(list, func(a, b Waiter) int { return cmp.Compare(a.Command.Offset, b.Command.Offset) })
}
