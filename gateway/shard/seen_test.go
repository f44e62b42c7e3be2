package shard

import (
	"encoding/binary"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

func keyOf(i int) runtime.CommandKey {
	return runtime.NewCommandKey("/test", "a:1", string(binary.AppendUvarint(nil, uint64(i))))
}

func TestSeenFindsEveryCommandForEver(t *testing.T) {
	const n = 50_000
	var s Seen
	for i := range n {
		if got := s.Find(SeenHash(keyOf(i))); len(got) != 0 {
			t.Fatalf("command %d is new, but was found at %v", i, got)
		}
		s.Add(SeenEntry{Hash: SeenHash(keyOf(i)), Offset: int64(i)})
	}
	if s.Len() != n {
		t.Fatalf("%d commands known, want %d", s.Len(), n)
	}
	for i := range n {
		got := s.Find(SeenHash(keyOf(i)))
		if len(got) != 1 || got[0] != int64(i) {
			t.Fatalf("command %d found at %v", i, got)
		}
	}
	if len(s.Runs) > 5*runsPerLevel {
		t.Errorf("%d runs for %d commands: they are not merged", len(s.Runs), n)
	}
	for _, r := range s.Runs {
		if SeenRunName(r.Entries) != r.Name {
			t.Errorf("run of %d entries does not have the name of its content", len(r.Entries))
		}
	}
}

func TestSeenCloneStaysAsItWas(t *testing.T) {
	var s Seen
	for i := range 100 {
		s.Add(SeenEntry{Hash: uint64(i), Offset: int64(i)})
	}
	c := s.Clone()
	for i := range 1000 {
		s.Add(SeenEntry{Hash: uint64(1000 + i), Offset: int64(i)})
	}
	if c.Len() != 100 || len(c.Find(1500)) != 0 || len(c.Find(99)) != 1 {
		t.Errorf("clone changed: %d entries", c.Len())
	}
}

func BenchmarkSeen(b *testing.B) {
	var s Seen
	for i := range b.N {
		k := SeenHash(keyOf(i))
		s.Find(k)
		s.Add(SeenEntry{Hash: k, Offset: int64(i)})
	}
}
