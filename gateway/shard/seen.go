package shard

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sort"

	"github.com/evento-oss/evento/runtime"
)

// RecentSeen is how many commands stand in [Seen.Recent] before they become a run.
const RecentSeen = 64

// runsPerLevel is how many runs of one size are merged into one of the next.
const runsPerLevel = 8

// Seen knows every command of one aggregate that has an outcome, for ever, at
// 16 bytes each: a hash, and the offset of the first record of the outcome as a
// hint. The newest stand in Recent; older ones in immutable sorted runs, merged
// eightfold, so that a command costs a constant share of a merge and a look-up
// a few binary searches. A found hash is only a suspicion: it is confirmed
// against the record itself.
//
// Seen is owned by its shard. [Seen.Clone] may be read by anyone.
type Seen struct {
	Recent []SeenEntry // oldest first, at most RecentSeen
	Runs   []*SeenRun  // largest first
}

// SeenEntry is one command with an outcome.
type SeenEntry struct {
	Hash   uint64 // of the CommandKey, see SeenHash
	Offset int64  // of the first record of the outcome, in the aggregate's events topic
}

// SeenRun is an immutable run of entries, sorted by hash.
type SeenRun struct {
	Name    string // hex digest of the entries: who has the name can check the content
	Entries []SeenEntry
}

// SeenHash is the hash under which a command is remembered.
func SeenHash(k runtime.CommandKey) uint64 { return binary.LittleEndian.Uint64(k[:8]) }

// NewSeenRun sorts entries, which it takes over, and names them.
func NewSeenRun(entries []SeenEntry) *SeenRun {
	slices.SortFunc(entries, func(a, b SeenEntry) int {
		switch {
		case a.Hash != b.Hash:
			return cmpUint64(a.Hash, b.Hash)
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	return &SeenRun{Name: SeenRunName(entries), Entries: entries}
}

func cmpUint64(a, b uint64) int {
	if a < b {
		return -1
	}
	return 1
}

// SeenRunName digests entries in their order: 32 hex digits.
func SeenRunName(entries []SeenEntry) string {
	h := sha256.New()
	var b [16]byte
	for _, e := range entries {
		binary.LittleEndian.PutUint64(b[:8], e.Hash)
		binary.LittleEndian.PutUint64(b[8:], uint64(e.Offset))
		h.Write(b[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Len returns how many commands are known.
func (s *Seen) Len() int {
	n := len(s.Recent)
	for _, r := range s.Runs {
		n += len(r.Entries)
	}
	return n
}

// Find returns the offsets under which a command with this hash may be found,
// none for a new one.
func (s *Seen) Find(hash uint64) []int64 {
	var found []int64
	for _, e := range s.Recent {
		if e.Hash == hash {
			found = append(found, e.Offset)
		}
	}
	for _, r := range s.Runs {
		i := sort.Search(len(r.Entries), func(i int) bool { return r.Entries[i].Hash >= hash })
		for ; i < len(r.Entries) && r.Entries[i].Hash == hash; i++ {
			found = append(found, r.Entries[i].Offset)
		}
	}
	return found
}

// Add remembers a command.
func (s *Seen) Add(e SeenEntry) {
	s.Recent = append(s.Recent, e)
	if len(s.Recent) < RecentSeen {
		return
	}
	// A fresh slice: clones still read the old one.
	run := NewSeenRun(slices.Clone(s.Recent))
	s.Recent = nil
	runs := append(slices.Clone(s.Runs), run)
	for {
		same := 1
		for same < len(runs) && len(runs[len(runs)-1-same].Entries) <= 2*len(runs[len(runs)-1].Entries) {
			same++
		}
		if same < runsPerLevel {
			break
		}
		var all []SeenEntry
		for _, r := range runs[len(runs)-same:] {
			all = append(all, r.Entries...)
		}
		runs = append(runs[:len(runs)-same:len(runs)-same], NewSeenRun(all))
	}
	s.Runs = runs
}

// Clone returns a copy that later calls of Add do not change.
func (s *Seen) Clone() *Seen {
	if s == nil {
		return &Seen{}
	}
	return &Seen{Recent: slices.Clone(s.Recent), Runs: s.Runs}
}
