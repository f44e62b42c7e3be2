package shard

import (
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// An aggregate that left memory comes to rest once more, since a transaction that has
// just ended knows it: the one that has its id now stays, with its work. (Before, the
// next to leave took that away: its command waited for the next owner, and those behind
// it went before it. It needs a takeover from a dead owner and a full cache.)
func TestOneThatLeftMemoryTakesNobodyAway(t *testing.T) {
	t.Parallel()
	s := testShard(Restored{})
	s.cfg.MaxCached = 1
	old := s.named("acc:1", simEvents)
	s.rest(old)
	for _, id := range []runtime.AggregateID{"acc:2", "acc:3"} {
		s.rest(s.named(id, simEvents))
	}
	if s.aggregates["acc:1"] != nil {
		t.Fatal("it did not leave memory")
	}
	s.Record(testNow, testCommand(0, "acc:1", "v"))
	working := s.aggregates["acc:1"]
	s.pump(testNow, old)
	for _, id := range []runtime.AggregateID{"acc:4", "acc:5"} {
		s.rest(s.named(id, simEvents))
	}
	if s.aggregates["acc:1"] != working {
		t.Error("an aggregate with a command under way has left memory")
	}
}
