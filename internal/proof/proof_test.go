package proof

import (
	"testing"

	"github.com/evento-oss/evento/internal/kafka"
)

// TestProof sends mixed commands to two gateways, many of them more than once,
// kills one gateway and restarts the other on the way, and holds what came of it
// against the promises.
func TestProof(t *testing.T) {
	t.Run("single", func(t *testing.T) { proof(t, kafka.Single, *flagCommands) })
	t.Run("per-aggregate", func(t *testing.T) { proof(t, kafka.PerAggregate, max(200, *flagCommands/5)) })
}

func proof(t *testing.T, layout kafka.Layout, n int) {
	w := newWorld(t, setup{gateways: 2, layout: layout})
	l := newLoad(w)
	end := l.begin(t, n)
	loseGateways(t, w, l)
	l.reached(t, 1)
	end()
	w.awaitAllOwned(t)
	w.judge(t, l.history)
}

// loseGateways kills one of two gateways and restarts the other one while a load
// is under way.
func loseGateways(t *testing.T, w *world, l *load) {
	killed, restarted := w.gateways[0], w.gateways[1]
	l.reached(t, 0.25)
	killed.now().kill()
	l.reached(t, 0.4) // the other one goes on alone
	killed.start(t)
	killed.awaitReady(t)

	l.reached(t, 0.6)
	restarted.now().terminate(t)
	l.reached(t, 0.75)
	restarted.start(t)
	restarted.awaitReady(t)
}
