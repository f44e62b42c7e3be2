package shard

import (
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// HeadsEvery is how many records of a partition lie between two checkpoints of its heads.
const HeadsEvery = 50_000

// HeadsDue says whether it is time for a checkpoint.
func (s *Shard) HeadsDue() bool { return s.sinceHeads >= HeadsEvery && s.batch == nil }

// Checkpoint is a set of changed heads, and the position to commit beside them.
type Checkpoint struct {
	Heads    map[runtime.AggregateID]Head   // one that does not exist is to be deleted
	Broken   map[runtime.AggregateID]string // those of Heads whose log contradicts itself, and why
	Offset   int64
	Metadata string
}

// TakeCheckpoint returns the heads that changed since the last checkpoint, with
// the position as it stands. clean marks the end of a graceful stop: nothing is
// under way and nothing will be. No batch may be open. When the checkpoint
// cannot be written, give it back with [Shard.ReturnCheckpoint].
func (s *Shard) TakeCheckpoint(clean bool) Checkpoint {
	c := Checkpoint{Heads: make(map[runtime.AggregateID]Head, len(s.dirtyHeads)), Broken: map[runtime.AggregateID]string{}, Offset: s.offsets.Low()}
	for id := range s.dirtyHeads {
		c.Heads[id] = s.heads[id]
		if agg := s.aggregates[id]; agg != nil && agg.torn {
			c.Broken[id] = agg.broken
		}
	}
	c.Metadata = s.bounded(s.offsets, clean)
	s.dirtyHeads = map[runtime.AggregateID]struct{}{}
	s.sinceHeads = 0
	return c
}

// ReturnCheckpoint takes back a checkpoint that was not written.
func (s *Shard) ReturnCheckpoint(c Checkpoint) {
	for id := range c.Heads {
		s.dirtyHeads[id] = struct{}{}
	}
	s.sinceHeads = HeadsEvery / 2 // not at once again
}

// TakePlain returns the position to commit without a transaction: offsets have
// been finished that needed no record. ok is false when there is nothing to
// commit, or when a batch is open, which carries the position itself.
func (s *Shard) TakePlain() (offset int64, metadata string, ok bool) {
	if !s.unrecorded || s.batch != nil {
		return 0, "", false
	}
	s.unrecorded = false
	return s.offsets.Low(), s.bounded(s.offsets, false), true
}

// ReturnPlain says that a position of [Shard.TakePlain] was not committed.
func (s *Shard) ReturnPlain() { s.unrecorded = true }

// bounded encodes the position, cut to what the broker takes.
func (s *Shard) bounded(o *position.Offsets, clean bool) string {
	from := s.asideFrom()
	metadata := o.Encode(position.Note{Aside: from, Clean: clean, TopicID: s.cfg.CommandsID})
	if len(metadata) <= position.MetadataSoft {
		return metadata
	}
	// What is not in it will be done again, and found to be a repeat.
	short := o.Clone()
	for len(metadata) > position.MetadataSoft {
		short.Truncate()
		metadata = short.Encode(position.Note{Aside: from, Clean: clean, TopicID: s.cfg.CommandsID})
	}
	return metadata
}
