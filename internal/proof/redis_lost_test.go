package proof

import (
	"testing"
)

// TestRedisLost loses Redis in the middle of a run, and later puts an old copy of
// it back, each time with a gateway that is killed: whoever takes its partitions
// over has nothing but what Redis says, and the log.
func TestRedisLost(t *testing.T) {
	w := newWorld(t, setup{gateways: 2, redis: startOwnRedis})
	l := newLoad(w)
	end := l.begin(t, 800)
	restart := func(g *gateway) {
		g.now().kill()
		g.start(t)
		g.awaitReady(t)
	}

	l.reached(t, 0.25)
	w.redis.remember(t, w.run)
	l.reached(t, 0.4)
	w.redis.flush(t, w.run)
	restart(w.gateways[0])
	l.reached(t, 0.7)
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
	w.redis.flush(t, w.run)
	for _, g := range w.gateways {
		restart(g)
	}
	w.awaitAllOwned(t)
	w.checkAPI(t, e)
	w.checkSnapshots(t, e)
}
