package shard

import (
	"time"

	"github.com/evento-oss/evento/runtime"
)

type reader struct {
	token   uint64
	version uint64
}

// Read asks for the committed snapshot of an aggregate, at least at the version
// minVersion. The [Reply] may come at once, after a load, or when the version is
// reached; [Shard.Unread] takes the question back.
func (s *Shard) Read(now time.Time, token uint64, id runtime.AggregateID, topic string, minVersion uint64) {
	known := s.aggregates[id] != nil || s.heads[id].Exists()
	if !known && minVersion == 0 {
		s.emit(Reply{Token: token, Missing: true})
		return
	}
	agg := s.named(id, topic)
	if agg.broken != "" {
		s.emit(Reply{Token: token, Err: agg.broken, Broken: true})
		return
	}
	agg.readers = append(agg.readers, reader{token, minVersion})
	if !agg.loaded {
		s.load(agg)
		return
	}
	s.answerReaders(agg)
	s.rest(agg)
}

// Unread takes back a [Shard.Read] that was not answered yet.
func (s *Shard) Unread(id runtime.AggregateID, token uint64) {
	agg := s.aggregates[id]
	if agg == nil {
		return
	}
	for i, r := range agg.readers {
		if r.token == token {
			agg.readers = append(agg.readers[:i:i], agg.readers[i+1:]...)
			break
		}
	}
	s.rest(agg)
}

func (s *Shard) answerReaders(agg *aggregate) {
	if len(agg.readers) == 0 {
		return
	}
	var left []reader
	for _, r := range agg.readers {
		switch {
		case agg.snapshot.State.Version < r.version:
			left = append(left, r)
		case !agg.snapshot.Head.Exists():
			s.emit(Reply{Token: r.token, Missing: true})
		default:
			s.emit(Reply{Token: r.token, Snapshot: agg.copy()})
		}
	}
	agg.readers = left
}

func (s *Shard) failReaders(agg *aggregate, reason string, broken bool) {
	for _, r := range agg.readers {
		s.emit(Reply{Token: r.token, Err: reason, Broken: broken})
	}
	agg.readers = nil
}
