package proof

import (
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestKafkaAway takes the only broker away under load, for so long that senders
// are told and gateways call themselves not ready: first it falls silent, later it
// dies, a gateway with it, and comes back with its data. What that gateway had
// taken and not written is gone; nobody may have been told that it was accepted.
// Nothing else has to be done for all to go on.
func TestKafkaAway(t *testing.T) {
	const silence = 20 * time.Second // longer than a gateway waits for an acknowledgement
	b := startBrokers(t, 1)
	w := newWorld(t, setup{gateways: 2, kafka: b.kafka})
	l := newLoad(w)
	n := max(900, *flagCommands/4)
	l.upTo(0.3, n)
	end := l.begin(t, n)

	l.reached(t, 0.2)
	began := time.Now()
	signal(t, b.list[0], syscall.SIGSTOP)
	l.upTo(0.6, n)
	w.awaitAway(t, l.history, began)
	pause(silence - time.Since(began))
	signal(t, b.list[0], syscall.SIGCONT)
	w.awaitBack(t)

	l.upTo(0.8, n)
	l.reached(t, 0.7)
	began = time.Now()
	b.list[0].kill()
	l.upTo(1, n)
	w.awaitAway(t, l.history, began)
	lost := w.gateways[0]
	lost.now().kill()
	b.start(t, 0)
	b.awaitReady(t, 0)
	lost.start(t)
	w.awaitBack(t)

	end()
	w.awaitAllOwned(t)
	w.judge(t, l.history)
	l.history.checkRefusals(t)
}

func signal(t testing.TB, p *process, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}

// awaitAway waits until each gateway knows that Kafka is away, and has told a sender so.
func (w *world) awaitAway(t testing.TB, h *history, began time.Time) {
	t.Helper()
	for _, g := range w.gateways {
		wait(t, func() error {
			if _, status, err := fetchStatus(g.url + "/readyz"); status != http.StatusServiceUnavailable {
				return fmt.Errorf("without Kafka, %s says of itself %d (%v)", g.name, status, err)
			}
			return nil
		})
		wait(t, func() error {
			if h.refused(g, began) == 0 {
				return fmt.Errorf("without Kafka, %s has told no sender so", g.name)
			}
			return nil
		})
	}
	t.Logf("each gateway knew, and had said so, after %v", ago(began))
}

// awaitBack waits until all partitions are owned, and ready, after Kafka has come back.
func (w *world) awaitBack(t testing.TB) {
	t.Helper()
	began := time.Now()
	wait(t, func() error { return w.allOwned(w.gateways...) })
	t.Logf("all partitions were owned again %v after Kafka was back", ago(began))
}

// TestBrokerLost kills a broker of three under load, starts it again, and then
// does the same with another one: first who coordinates the gateways' group, then
// who leads most partitions. Nothing has to be done about it, at any time.
func TestBrokerLost(t *testing.T) {
	b := startBrokers(t, 3)
	w := newWorld(t, setup{gateways: 2, kafka: b.kafka})
	l := newLoad(w)
	n := max(800, *flagCommands/4)
	l.upTo(0.5, n)
	var end func()
	share := 0.1
	for round, who := range []struct {
		does string
		find func() int
	}{
		{"coordinates the group", func() int { return b.coordinator(t, w.topics.Commands()+"-gateway") }},
		{"leads most partitions", func() int { return b.leader(t, w.topics.Prefix) }},
	} {
		b.awaitInSync(t)
		i := who.find()
		if round == 0 {
			end = l.begin(t, n)
		} else {
			l.upTo(1, n)
		}
		l.reached(t, share)
		began := time.Now()
		b.list[i].kill()
		l.reached(t, share+0.3)
		t.Logf("%s, which %s, was killed; %d commands were done %v later, without one for %v", b.list[i].name, who.does, n*3/10, ago(began), l.history.silence(began))
		b.start(t, i)
		b.awaitReady(t, i)
		share = 0.6
	}
	end()
	w.awaitAllOwned(t)
	w.judge(t, l.history)
	l.history.checkRefusals(t)
}

func ago(at time.Time) time.Duration { return time.Since(at).Round(10 * time.Millisecond) }

// refused counts the answers of a gateway, of what was sent since, that say that
// it cannot accept anything now, or does not know whether it did.
func (h *history) refused(g *gateway, since time.Time) (n int) {
	for _, c := range h.all() {
		for _, a := range c.tries() {
			if a.Gateway == g.name && a.Status == http.StatusServiceUnavailable && a.Sent.After(since) {
				n++
			}
		}
	}
	return n
}

// checkRefusals holds the answers without success against what is promised: who
// is not accepted knows when to come again, and with which id.
func (h *history) checkRefusals(t testing.TB) {
	t.Helper()
	by := map[string]int{}
	for _, c := range h.all() {
		for _, a := range c.tries() {
			if a.Status/100 != 5 {
				continue
			}
			by[fmt.Sprintf("%d %s", a.Status, a.Problem)]++
			if a.Status != http.StatusServiceUnavailable || a.RetryAfter == "" || a.RepeatID != c.ID {
				t.Errorf("%s at %s was answered %d %s, Retry-After %q, id %q: %s", c, a.Gateway, a.Status, a.Problem, a.RetryAfter, a.RepeatID, a.Err)
			}
		}
	}
	t.Logf("not accepted: %v", by)
}

// silence is the longest time since then in which no sender got an outcome.
func (h *history) silence(since time.Time) (longest time.Duration) {
	told := []time.Time{since}
	for _, c := range h.all() {
		for _, a := range c.tries() {
			if a.Outcome.final() && a.Done.After(since) {
				told = append(told, a.Done)
			}
		}
	}
	slices.SortFunc(told, time.Time.Compare)
	for i := 1; i < len(told); i++ {
		longest = max(longest, told[i].Sub(told[i-1]))
	}
	return longest.Round(10 * time.Millisecond)
}
