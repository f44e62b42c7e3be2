package proof

import (
	"testing"
	"time"
)

// TestRedisLost loses Redis in the middle of a run, and later puts an old copy of
// it back, each time with a gateway that is killed: whoever takes its partitions
// over has nothing but what Redis says, and the log. The copy is as old as
// -proof.copyage says, with commands all the time since.
func TestRedisLost(t *testing.T) {
	w := newWorld(t, setup{gateways: 2, redis: startOwnRedis})
	l := newLoad(w)
	const n, remembered, putBack = 800, 0.25, 0.7
	// So that the commands in between take about so long.
	l.pace = time.Duration(float64(*flagCopyAge) * float64(l.clients) / (n * (putBack - remembered)))
	end := l.begin(t, n)
	restart := func(g *gateway) {
		g.now().kill()
		g.start(t)
		g.awaitReady(t)
	}

	l.reached(t, remembered)
	w.redis.remember(t, w.run)
	copied := time.Now()
	l.reached(t, 0.4)
	w.redis.flush(t, w.run)
	restart(w.gateways[0])
	l.reached(t, putBack)
	t.Logf("the copy that is put back is %v old", ago(copied))
	w.redis.putBack(t, w.run)
	restart(w.gateways[1])
	end()
	w.awaitAllOwned(t)
	e := w.judge(t, l.history)

	// The old copy once more, for gateways that know nothing, and are asked at once.
	w.redis.putBack(t, w.run)
	for _, g := range w.gateways {
		restart(g)
	}
	w.awaitAllOwned(t)
	w.checkAPI(t, e)
	// And commands are sent again, whose ids the copy does not have.
	e = w.judge(t, l.history)
	w.redis.flush(t, w.run)
	for _, g := range w.gateways {
		restart(g)
	}
	w.awaitAllOwned(t)
	w.checkAPI(t, e)
	w.checkSnapshots(t, e)
}
