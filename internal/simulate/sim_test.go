package simulate

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/position"
)

var (
	seeds = flag.Int("seeds", defaultSeeds, "how many seeds are run")
	seed  = flag.Uint64("seed", 0, "run this one alone and print its history")
	from  = flag.Uint64("from", 1, "the first seed")
	with  = flag.String("bug", "", "with this planted bug")
)

func TestSimulation(t *testing.T) {
	if *seed != 0 {
		w := newWorld(*seed)
		w.bug, w.print = bug(*with), &strings.Builder{}
		err := w.play()
		fmt.Print(w.print.String())
		if err != nil {
			t.Fatalf("seed %d: %v", *seed, err)
		}
		return
	}
	var next, commits atomic.Uint64
	var workers sync.WaitGroup
	next.Store(*from)
	began := time.Now()
	for range 2 {
		workers.Go(func() {
			for !t.Failed() {
				s := next.Add(1) - 1
				if s >= *from+uint64(*seeds) {
					return
				}
				w := newWorld(s)
				if err := w.play(); err != nil {
					t.Errorf("seed %d: %v\nrepeat with: go test ./internal/simulate -run TestSimulation -seed %d", s, err, s)
				}
				commits.Add(uint64(w.commits))
			}
		})
	}
	workers.Wait()
	t.Logf("%d seeds in %v, %d transactions", *seeds, time.Since(began).Round(time.Millisecond), commits.Load())
}

// The worlds must have something to check: each of these has to happen, in some
// of them.
func TestSimulationMeetsWhatItIsFor(t *testing.T) {
	t.Parallel()
	if underRace {
		t.Skip("a world is one thread; the other tests suffice")
	}
	saw := map[string]int{}
	worst := 0
	for s := range uint64(120) {
		w := newWorld(s + 1)
		if err := w.play(); err != nil {
			t.Fatalf("seed %d: %v", s+1, err)
		}
		for what, n := range w.saw {
			saw[what] += n
		}
		worst = max(worst, w.check.worst)
	}
	for _, what := range []string{
		"takeover", "takeover: clean", "takeover: without a position", "takeover: set-aside commands restored", "takeover: finished above the position",
		"takeover: heads from a checkpoint", "takeover: ends the transaction of another", "end not seen: it was aborted", "end not seen: it was committed",
		"aborted: stale", "aborted: fenced", "aborted: record", "aborted: broker", "load: a snapshot", "load: a snapshot and events", "load: events",
		"answer: done", "answer: refused", "answer: rejected", "answer: parked", "answer: conflict", "answer: a repeat", "a function lies", "reading pauses",
		"broker: the end of an older transaction comes late", "broker: a zombie's positions are refused",
		"a read of the newest", "a read that the group does not confirm", "dispatcher: takeover", "dispatcher: decided", "dispatcher: parked",
	} {
		if saw[what] == 0 {
			t.Errorf("never: %s", what)
		}
	}
	for _, what := range sortedKeys(saw) {
		t.Logf("%7d %s", saw[what], what)
	}
	if worst < position.MetadataSoft*2/3 || worst > position.MetadataLimit {
		t.Errorf("the longest metadata of a position have %d bytes; they were to come near %d, and never to be more than %d", worst, position.MetadataSoft, position.MetadataLimit)
	}
}

// All follows from the seed, to the last letter.
func TestSimulationIsDeterministic(t *testing.T) {
	t.Parallel()
	for s := range uint64(defaultSeeds / 80) {
		var hashes [2]uint64
		var histories [2]string
		for i := range hashes {
			w := newWorld(s + 1)
			w.print = &strings.Builder{}
			if err := w.play(); err != nil {
				t.Fatalf("seed %d: %v", s+1, err)
			}
			hashes[i], histories[i] = w.hash, w.print.String()
		}
		if histories[0] != histories[1] {
			one, two := strings.Split(histories[0], "\n"), strings.Split(histories[1], "\n")
			for i := range min(len(one), len(two)) {
				if one[i] != two[i] {
					t.Fatalf("seed %d: line %d is once\n%s\nand once\n%s", s+1, i+1, one[i], two[i])
				}
			}
		}
		if hashes[0] != hashes[1] {
			t.Fatalf("seed %d: the histories have the hashes %x and %x", s+1, hashes[0], hashes[1])
		}
		quiet := newWorld(s + 1)
		if err := quiet.play(); err != nil || quiet.hash != hashes[0] {
			t.Fatalf("seed %d: without its history written down it goes otherwise: %v", s+1, err)
		}
	}
}
