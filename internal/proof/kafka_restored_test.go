package proof

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestKafkaOlderThanRedis brings Kafka back as it was some time ago, while Redis
// has all that came since. What Kafka has lost is lost, and Redis must not bring
// back a piece of it: those commands are sent again and are new ones.
func TestKafkaOlderThanRedis(t *testing.T) {
	b := startBrokers(t, 1)
	w := newWorld(t, setup{gateways: 2, kafka: b.kafka, redis: func(t testing.TB) redisServer { return startRealRedis(t) }})
	l := newLoad(w)
	l.run(t, 300)
	w.evidence(t, l.history) // all of it has an outcome

	data := filepath.Join(b.dir, "data-1")
	kept := filepath.Join(t.TempDir(), "copy")
	down := func(s syscall.Signal) {
		t.Helper()
		for _, g := range w.gateways {
			g.now().kill()
		}
		signal(t, b.list[0], s)
		<-b.list[0].exited
	}
	up := func() {
		t.Helper()
		b.start(t, 0)
		b.awaitReady(t, 0)
		for _, g := range w.gateways {
			g.start(t)
		}
		for _, g := range w.gateways {
			g.awaitReady(t)
		}
		w.awaitAllOwned(t)
	}
	down(syscall.SIGTERM)
	if err := os.CopyFS(kept, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	up()

	// What comes now is going to be lost.
	lost := newLoad(w)
	lost.choose = func(i int, random *rand.Rand) *command {
		c := lost.next(i, random)
		c.Source += "/lost"
		return c
	}
	lost.mix(400)
	before := w.versions(t)

	down(syscall.SIGKILL)
	if err := errors.Join(os.RemoveAll(data), os.Rename(kept, data)); err != nil {
		t.Fatal(err)
	}
	up()
	w.redisLies = true // it is ahead until each aggregate is used
	behind := 0
	for id, version := range w.versions(t) {
		if version < before[id] {
			behind++
		}
	}
	if behind < 20 {
		t.Fatalf("only %d aggregates have lost events: there is nothing to be tried", behind)
	}
	// In another order than before, so that other commands stand at the same offsets.
	again := lost.history.all()
	rand.New(rand.NewPCG(l.seed, 5)).Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
	parallel(8, len(again), func(i int) {
		c := again[i]
		once := l.history.add(&command{ID: c.ID, Source: c.Source, Entity: c.Entity, Type: c.Type, Payload: c.Payload, Expect: c.Expect})
		if err := try(patience, func() error {
			if a := w.gateways[i%2].send(once, l.wait); !a.Outcome.final() {
				return fmt.Errorf("%s: %d %s %s", once, a.Status, a.Problem, a.Err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d aggregates were older than Redis said; %d commands were sent again", behind, len(again))
	w.judge(t, l.history)
}

// versions are the aggregates' versions as the log has them.
func (w *world) versions(t testing.TB) map[string]uint64 {
	t.Helper()
	versions := map[string]uint64{}
	for _, topic := range w.eventTopics() {
		for _, r := range w.read(t, topic) {
			versions[string(r.M.Aggregate())] = max(versions[string(r.M.Aggregate())], r.M.Sequence)
		}
	}
	return versions
}
