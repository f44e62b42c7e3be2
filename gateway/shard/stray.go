package shard

import (
	"slices"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// A stray is a command that stands in this partition and belongs to another one:
// its producer partitions in some other way. It has no outcome here. It is to be
// written to its own partition, and until that is done it waits like any command:
// set aside after a while, so that it holds up nothing and is not lost.

// Stray takes a record of the commands topic like [Shard.Record], for a command
// that belongs to another partition. [Shard.Strays] lists it until
// [Shard.Forwarded] says that it stands there.
func (s *Shard) Stray(now time.Time, c *Command) {
	e := s.arrived(now, c)
	if e == nil {
		return
	}
	s.arrivals = append(s.arrivals, e)
	s.strand(e)
}

func (s *Shard) strand(e *entry) {
	// An aggregate of its own, that nobody finds by its id: the one of that id is
	// another shard's.
	s.hold(e, &aggregate{id: e.cmd.Message.Aggregate(), inFlight: map[runtime.CommandKey]*entry{}})
	e.agg.queue.push(e)
	e.stray, e.suspect = true, false // nothing is called for it here
	s.strays[e.cmd.Offset] = e
}

// Strays returns the strays that are to be written to their own partitions,
// ascending by offset.
func (s *Shard) Strays() []*Command {
	list := make([]*Command, 0, len(s.strays))
	for _, e := range s.strays {
		list = append(list, e.cmd)
	}
	slices.SortFunc(list, func(a, b *Command) int { return cmpUint64(uint64(a.Offset), uint64(b.Offset)) })
	return list
}

// StrayFailed says why a stray could not be written to its own partition yet.
func (s *Shard) StrayFailed(offset int64, reason string) {
	e := s.strays[offset]
	if e == nil {
		return
	}
	e.attempts++
	if e.reason == "" {
		s.setAside(e) // once: the next try says much the same
	}
	e.reason = reason
}

// Forwarded ends a stray that stands in its own partition now. Whoever waits for
// its outcome is answered from there.
func (s *Shard) Forwarded(offset int64) {
	e := s.strays[offset]
	if e == nil {
		return
	}
	delete(s.strays, offset)
	s.finish(e)
	s.unrecorded = true
}
