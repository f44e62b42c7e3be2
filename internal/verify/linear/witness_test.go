package linear

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Where the likeliest order fits, the search finds one, too; and it does fit what
// honest clients were told, more often than not.
func TestWitnessIsAnOrder(t *testing.T) {
	t.Parallel()
	fits, lies := 0, 0
	const runs = 400
	for seed := range uint64(2 * runs) {
		r := honest(seed)
		random := rand.New(rand.NewPCG(seed, 8))
		if lie := seed >= runs; lie {
			for range 1 + random.IntN(2) {
				read := &r.reads[random.IntN(len(r.reads))]
				if read.Version += random.Uint64N(2); random.IntN(2) == 0 && read.Version > 0 {
					read.Version--
				}
				read.Done = read.Sent.Add(time.Duration(random.IntN(30)) * time.Millisecond)
			}
		}
		for id, list := range r.log.operations(r.history, r.reads, origin) {
			found := witness(list)
			if ok := porcupine.CheckOperations(model, list); found && !ok {
				t.Fatalf("seed %d: %s has no order, and the witness fits", seed, id)
			} else if !ok {
				lies++
			}
			if found && seed < runs {
				fits++
			}
		}
	}
	if fits < runs*3/4 || lies < runs/10 {
		t.Errorf("%d of %d honest runs fit, %d others have no order", fits, runs, lies)
	}
	t.Logf("%d of %d honest runs fit, %d others have no order", fits, runs, lies)
}
