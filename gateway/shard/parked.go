package shard

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// A command that is parked has its outcome, and nothing waits for it. But
// somebody may want to see it and to send it again, so its set-aside record
// stays, with the state "parked", until an operator drops it:
//
//  1. The transaction of its CommandParked holds a set-aside record as well, with
//     "ending". An owner that finds that record looks for the outcome before it
//     does anything else, as with every command that may be a repeat.
//  2. A later transaction replaces it by one that says that the command is parked.
//     An owner that finds this one need not look further.
//
// So what stands there never claims an outcome that is not recorded, and an owner
// that dies between the two leaves a record that leads the next one to 2.

// Ended is what a set-aside record says of a parked command, so that a takeover
// need not read the command.
type Ended struct {
	Entity  runtime.Entity   `json:"entity"`
	Command string           `json:"command"` // id
	Source  string           `json:"source"`
	Type    runtime.TypeName `json:"type"`
	Time    time.Time        `json:"time,omitzero"` // of the command
	Outcome int64            `json:"outcome"`       // offset of its CommandParked in the events topic
}

// listable says whether a parked command is listed: an operator who dropped one
// knows of it.
func listable(reason string) bool { return !strings.HasPrefix(reason, droppedBy) }

// park takes a command whose outcome says that it is parked into the list.
func (s *Shard) park(e *entry, o Outcome) {
	if o.Status != ParkedS || len(o.Records) == 0 || !listable(o.Reason) {
		return
	}
	m := e.cmd.Message
	s.parked[e.cmd.Offset] = &Aside{
		Aggregate: e.agg.id, State: ParkedS, Attempts: o.Attempts, Reason: clip(o.Reason, 1000), Function: e.function, Image: clip(e.image, 200), Failing: e.failing, Offset: e.cmd.Offset,
		Ended: &Ended{Entity: m.Subject, Command: m.ID, Source: m.Source, Type: m.Type, Time: m.Time, Outcome: o.Records[0].At.Offset},
	}
}

// parkAgain does the same for a command whose outcome was found in the history:
// the last owner did not come to say that it is parked. Repeats are not listed,
// nor what is read again after it was dropped, because the position was lost.
func (s *Shard) parkAgain(e *entry, o Outcome) {
	if e.ending && len(o.Records) > 0 && o.Records[0].Message.Cause.Offset == e.cmd.Offset {
		s.park(e, o)
	}
}

// dismiss takes a parked command off the list, for the order e, which ends when
// the deletion is committed.
func (s *Shard) dismiss(e *entry) {
	offset := e.cmd.Order.Offset
	delete(s.parked, offset)
	s.tombstones = append(s.tombstones, offset)
	s.dismissals[offset] = e
	e.stage = computed // nothing is to be set aside
	s.rest(e.agg)
}

// closing is the record that replaces the set-aside record of a command that
// has its outcome: its deletion, or that it is parked.
func (s *Shard) closing(offset int64) BatchRecord {
	r := BatchRecord{Kind: AsideRecord, Offset: offset}
	if p := s.parked[offset]; p != nil {
		value, err := json.Marshal(p)
		if err != nil {
			panic(err) // a struct of strings and numbers
		}
		r.Value = value
	}
	return r
}

// closed takes over a record of closing that is committed at an offset of the parked topic.
func (s *Shard) closed(r *BatchRecord, at int64) {
	if r.Value != nil {
		s.asideLive[r.Offset] = at
		s.asideOrder.push(at, r.Offset)
		return
	}
	delete(s.asideLive, r.Offset)
	if order := s.dismissals[r.Offset]; order != nil {
		delete(s.dismissals, r.Offset)
		s.finishWithout(order, Outcome{Status: Done})
	}
}

// waiter shows a parked command.
func (a *Aside) waiter() Waiter {
	return Waiter{
		Command:  &Command{Offset: a.Offset, Message: &runtime.Message{ID: a.Ended.Command, Source: a.Ended.Source, Subject: a.Ended.Entity, Type: a.Ended.Type, Time: a.Ended.Time}},
		Function: a.Function, Image: a.Image, Failing: a.Failing, Outcome: Outcome{Status: ParkedS, Reason: a.Reason, Attempts: a.Attempts},
		OutcomeAt: a.Ended.Outcome,
	}
}
