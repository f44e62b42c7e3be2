package shard

import "testing"

// plantedBugs are mistakes that the world makes around the shard (see the uses
// of world.bug), each one that an engine could make.
var plantedBugs = []string{
	"late answers count",
	"repeats are new",
	"an uncertain commit is taken for aborted",
	"an aborted commit counts",
	"the position moves alone",
	"nobody fences a former owner",
	"set-aside records are not read",
	"the pointer to set-aside records runs ahead",
	"the heads stop at an open transaction",
	"a checkpoint leaves heads out",
	"parked records are deleted",
}

// The checker is worth nothing unless it catches them: each within so many
// seeds, of which each takes a bounded number of steps.
func TestPlantedBugsAreCaught(t *testing.T) {
	t.Parallel()
	const seeds = 150
	for _, bug := range plantedBugs {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(seeds) {
				w := newWorld(seed + 1)
				w.bug = bug
				if err := w.play(); err != nil {
					t.Logf("seed %d: %.200v", seed+1, err)
					return
				}
			}
			t.Errorf("not caught in %d seeds", seeds)
		})
	}
}
