package shard

import (
	"fmt"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// check holds the log and the answers against P2, P3, P4 and P5.
func (w *world) check() error {
	if n := w.shard.Backlog().Commands; n > 0 {
		return fmt.Errorf("%d commands never ended", n)
	}
	for _, r := range w.reads {
		if at := w.fold(r.id); at.State.Version >= r.version {
			return fmt.Errorf("a read of %s from version %d on has no answer, and it is at %d", r.id, r.version, at.State.Version)
		}
	}
	for offset, forwarded := range w.strays {
		if !forwarded {
			return fmt.Errorf("the command at offset %d belongs to another partition, and was never forwarded: it is lost", offset)
		}
	}
	type chain struct {
		version uint64
		offsets []int64
		state   string
		cause   int64
	}
	chains := map[runtime.AggregateID]*chain{}
	outcomes := map[runtime.CommandKey][]*runtime.Message{}
	var last time.Time
	for offset, e := range w.events {
		if e.m == nil {
			continue
		}
		m := e.m
		key, pos, ok := runtime.ParseEventID(m.ID)
		if !ok {
			return fmt.Errorf("event id %q", m.ID)
		}
		c := chains[m.Aggregate()]
		if c == nil {
			c = &chain{}
			chains[m.Aggregate()] = c
		}
		if m.Platform() != (m.Sequence == 0) {
			return fmt.Errorf("offset %d: type %s with sequence %d", offset, m.Type, m.Sequence)
		}
		if m.Sequence > 0 {
			if m.Sequence != c.version+1 {
				return fmt.Errorf("offset %d: version %d of %s after %d", offset, m.Sequence, m.Aggregate(), c.version)
			}
			if pos == 1 {
				if m.Cause.Offset < c.cause {
					return fmt.Errorf("offset %d: the command at offset %d of %s takes effect after the one at %d", offset, m.Cause.Offset, m.Aggregate(), c.cause)
				}
				c.cause = m.Cause.Offset
				if want := w.commands[m.Cause.Offset].Message.Expect; want != nil && *want != c.version {
					return fmt.Errorf("offset %d: the command at offset %d expects version %d and is done at %d", offset, m.Cause.Offset, *want, c.version)
				}
			}
			c.version, c.state = m.Sequence, c.state+string(m.Data)
		}
		if m.Type == runtime.TypeCommandRejected {
			if want := w.commands[m.Cause.Offset].Message.Expect; want == nil || *want == c.version {
				return fmt.Errorf("offset %d: the command at offset %d is rejected at version %d, which it expects", offset, m.Cause.Offset, c.version)
			}
		}
		if err := w.checkLinks(int64(offset), m, c.offsets); err != nil {
			return err
		}
		c.offsets = append(c.offsets, int64(offset))
		if m.RecordedTime.Before(last.Add(-time.Hour)) {
			return fmt.Errorf("offset %d: recorded at %v after %v", offset, m.RecordedTime, last)
		}
		last = m.RecordedTime
		if pos != len(outcomes[key])+1 || pos != m.Pos {
			return fmt.Errorf("offset %d: position %d of command %s after %d events: a second outcome or a torn one", offset, pos, m.CausationID, len(outcomes[key]))
		}
		outcomes[key] = append(outcomes[key], m)
	}
	for key, events := range outcomes {
		if len(events) != events[0].Count {
			return fmt.Errorf("command %s has %d events of %d", events[0].CausationID, len(events), events[0].Count)
		}
		if w.sent[key] == nil {
			return fmt.Errorf("outcome of a command nobody sent: %+v", events[0])
		}
	}
	if w.seed%4 == 0 && len(chains) > 0 && len(chains["acc:0"].offsets) < SkipEvery {
		return fmt.Errorf("the only aggregate has %d records: eventoskip was not tried", len(chains["acc:0"].offsets))
	}
	for key, c := range w.sent {
		if len(outcomes[key]) == 0 {
			return fmt.Errorf("command %s to %s has no outcome", c.Message.ID, c.Message.Subject)
		}
	}
	for id, c := range chains {
		if got := string(w.fold(id).State.Data); got != c.state {
			return fmt.Errorf("state of %s is %q, folded %q", id, got, c.state)
		}
	}
	for _, a := range w.answers {
		want := outcomes[a.cmd.Key]
		switch {
		case a.cmd.Order != nil:
			continue
		case a.o.Status == Conflict:
			if want[0].Hash == a.cmd.Hash {
				return fmt.Errorf("command %s at offset %d is refused as a conflict, and is the one that has the outcome", a.cmd.Message.ID, a.cmd.Offset)
			}
			continue
		}
		if len(a.o.Records) != len(want) {
			return fmt.Errorf("command %s was answered with %d events, %d are recorded", a.cmd.Message.ID, len(a.o.Records), len(want))
		}
		for i, r := range a.o.Records {
			if r.Message.ID != want[i].ID || string(r.Message.Data) != string(want[i].Data) || w.events[r.At.Offset].m != want[i] {
				return fmt.Errorf("command %s was answered with an event that is not the recorded one: %+v", a.cmd.Message.ID, r)
			}
		}
		if first := w.sent[a.cmd.Key]; want[0].Hash != a.cmd.Hash {
			return fmt.Errorf("command %s (%s) was answered with the outcome of %s, first %s", a.cmd.Message.ID, a.cmd.Hash, want[0].Hash, first.Hash)
		}
	}
	return nil
}

// checkLinks holds eventoprev and eventoskip against the offsets before. A
// distance may be off where aborted records lie between; here transactions are whole.
func (w *world) checkLinks(offset int64, m *runtime.Message, before []int64) error {
	resolve := func(link int64) int64 {
		if link < 0 {
			return offset + link
		}
		return link
	}
	// A distance counts the records of the transaction; strangers' records among
	// them make it point behind the one that is meant, never before it.
	fits := func(link, want int64) bool {
		at := resolve(link)
		return at == want || w.gaps() && link < 0 && at > want && at < offset
	}
	switch {
	case len(before) == 0:
		if m.Prev != runtime.NoPrev {
			return fmt.Errorf("offset %d: the first record of %s has eventoprev %d", offset, m.Aggregate(), m.Prev)
		}
	case !fits(m.Prev, before[len(before)-1]):
		return fmt.Errorf("offset %d: eventoprev %d, want %d", offset, m.Prev, before[len(before)-1])
	}
	if due := len(before) > 0 && len(before)%SkipEvery == 0; due != (m.Skip != nil) {
		return fmt.Errorf("offset %d: %d records before it and eventoskip %v", offset, len(before), m.Skip)
	}
	for i, link := range m.Skip {
		if want := before[len(before)-SkipEvery+i]; !fits(link, want) {
			return fmt.Errorf("offset %d: eventoskip[%d] is %d, want %d", offset, i, link, want)
		}
	}
	return nil
}
