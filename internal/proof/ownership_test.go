package proof

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// TestGracefulStopMovesPartitions stops a gateway under load. Its partitions
// move because it says goodbye, long before its silence would be noticed, and
// who waits there is answered.
func TestGracefulStopMovesPartitions(t *testing.T) {
	const session = 28 * time.Second
	w := newWorld(t, setup{gateways: 2, session: session})
	l := newLoad(w)
	end := l.begin(t, 400)
	stops, stays := w.gateways[0], w.gateways[1]

	l.reached(t, 0.3)
	began := time.Now()
	if err := stops.now().cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, session/2, func() error { return w.allOwned(stays) })
	t.Logf("all partitions moved within %v", time.Since(began).Round(10*time.Millisecond))
	<-stops.now().exited
	if err := stops.now().err; err != nil {
		t.Errorf("%s did not end well when it was asked to: %v", stops.name, err)
	}
	t.Logf("it ended within %v", time.Since(began).Round(10*time.Millisecond))
	l.reached(t, 0.7)
	stops.start(t)
	stops.awaitReady(t)
	end()
	w.awaitAllOwned(t)
	w.judge(t, l.history)

	// Who was there before it was asked to stop has an answer, if only "accepted". That a
	// request is sent and that it is read are two things, on a busy machine some time apart.
	const read = 3 * time.Second
	for _, c := range l.history.all() {
		for _, a := range c.tries() {
			if a.Gateway == stops.name && a.Status == 0 && a.Sent.Before(began.Add(-read)) {
				t.Errorf("%s, sent %v before the stop, was not answered: %s", c, began.Sub(a.Sent), a.Err)
			}
		}
	}
}

// TestPausedGatewayIsFenced lets a gateway fall silent in the middle of its work
// and come back when others own its partitions: nothing that it then tries counts.
func TestPausedGatewayIsFenced(t *testing.T) {
	w := newWorld(t, setup{gateways: 2})
	l := newLoad(w)
	end := l.begin(t, 500)
	paused, other := w.gateways[0], w.gateways[1]

	l.reached(t, 0.3)
	signal := func(s syscall.Signal) {
		if err := paused.now().cmd.Process.Signal(s); err != nil {
			t.Error(err)
		}
	}
	signal(syscall.SIGSTOP)
	wait(t, func() error { return w.allOwned(other) })
	signal(syscall.SIGCONT)
	end()
	w.awaitAllOwned(t)
	w.judge(t, l.history)
}

// TestWaitAtTheOtherGateway waits for outcomes at the gateway that does not own
// the aggregate.
func TestWaitAtTheOtherGateway(t *testing.T) {
	w := newWorld(t, setup{gateways: 2})
	h := &history{}
	covered := map[int32]bool{}
	var accounts []string
	for i := 0; len(covered) < partitions; i++ {
		id := fmt.Sprintf("checking:%s-%d", w.run, i)
		if p := kafka.Partition(string(runtime.AggregateID(id)), partitions); !covered[p] {
			covered[p] = true
			accounts = append(accounts, id)
		}
	}
	parallel(len(accounts), len(accounts), func(i int) {
		for j, g := range append(w.gateways, w.gateways...) {
			c := h.add(&command{ID: fmt.Sprintf("c-%d", j), Source: "/proof", Entity: accounts[i], Type: "ReceiveDeposit",
				Payload: map[string]any{"transaction_id": "tx", "source": "proof", "amount": money(5)}})
			if j == 0 {
				c.Type, c.Payload = "OpenCheckingAccount", map[string]any{"client": "client:1", "currency": "USD"}
			}
			if a := g.send(c, 30*time.Second); a.Outcome == nil || a.Outcome.Status != "done" || a.Outcome.Version != uint64(j+1) {
				t.Errorf("%s at %s: %d %s %+v %s", c, g.name, a.Status, a.Problem, a.Outcome, a.Err)
			}
		}
	})
	w.judge(t, h)
}
