package simulate

import (
	"testing"
)

// bugSeeds is how many worlds a planted bug has before it must have been caught.
const bugSeeds = 2000

func TestPlantedBugsAreCaught(t *testing.T) {
	t.Parallel()
	if underRace {
		t.Skip("a world is one thread; the other tests suffice")
	}
	for _, b := range plantedBugs {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			for s := range uint64(bugSeeds) {
				w := newWorld(s + 1)
				w.bug = b
				if err := w.play(); err != nil {
					t.Logf("seed %d: %.300v", s+1, err)
					return
				}
			}
			t.Errorf("not caught in %d seeds", bugSeeds)
		})
	}
}
