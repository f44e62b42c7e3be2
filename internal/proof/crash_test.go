package proof

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	checkinggen "github.com/evento-oss/evento/examples/bank/checking/gen"
	savingsgen "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/runtime"
)

// TestCrashBetweenDecisionAndCommand ends the gateway at each point of the way
// from what a dispatcher answers to its command in Kafka, while transfers are
// under way. There is only one gateway, so what it has not finished is there when
// it comes back, or is lost. Each transfer must end, once, and the money with it.
func TestCrashBetweenDecisionAndCommand(t *testing.T) {
	w := newWorld(t, setup{circle: true})
	g := w.gateways[0]
	g.program = crashing(t)
	restart := func(env ...string) {
		g.env = env
		g.start(t)
		g.awaitReady(t)
		w.awaitAllOwned(t)
	}

	for i, row := range crash.Points {
		point := row.Point
		if row.Where != crash.Dispatch {
			continue
		}
		t.Run(string(point), func(t *testing.T) {
			g.now().terminate(t)
			// Not at once: some have come through already, others are at all stages.
			restart(fmt.Sprintf("%s=%s:%d", crash.Variable, point, 6))
			c := &crashRun{w: w, from: fmt.Sprintf("checking:%s-%d", w.run, i), to: fmt.Sprintf("savings:%s-%d", w.run, i)}
			c.must(t, c.command("open", c.from, "OpenCheckingAccount", map[string]any{"client": "client:none"}))
			c.must(t, c.command("open", c.to, "OpenSavingsAccount", map[string]any{"client": "client:none", "rate_bps": 100}))
			c.must(t, c.command("in", c.from, "ReceiveDeposit", map[string]any{"transaction_id": "in", "source": "atm:1", "amount": map[string]any{"minor": 10000}}))

			var sent []*command
			died := g.now().exited
		send:
			// An account has at most 100 transfers under way, and none ends while the
			// group of the dead gateway's relay waits for it.
			for n := range 90 {
				select {
				case <-died:
					break send
				default:
				}
				to := c.to
				if n%3 == 2 {
					to = fmt.Sprintf("savings:%s-%d-nobody", w.run, i)
				}
				transfer := c.command(fmt.Sprint("t", n), c.from, "TransferToSavings", map[string]any{"transaction_id": fmt.Sprint("t", n), "destination": to, "amount": map[string]any{"minor": 1}})
				sent = append(sent, transfer)
				g.send(transfer, time.Second) // what becomes of it is asked again below
			}
			wait(t, func() error {
				select {
				case <-died:
					return nil
				default:
					return fmt.Errorf("the gateway has not got to %s with %d transfers", point, len(sent))
				}
			})
			if status, ok := g.now().cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
				t.Fatalf("the gateway ended otherwise than at %s: %v", point, g.now().err)
			}
			restart()
			for _, transfer := range sent {
				c.must(t, transfer)
			}
			c.awaitEnd(t, len(sent))
		})
	}
}

// crashRun is one pair of accounts.
type crashRun struct {
	w        *world
	from, to string
}

func (c *crashRun) command(id, entity, commandType string, payload map[string]any) *command {
	return &command{ID: id, Source: "/proof/crash", Entity: entity, Type: commandType, Payload: payload}
}

// must sends a command until it has its outcome.
func (c *crashRun) must(t *testing.T, command *command) {
	t.Helper()
	wait(t, func() error {
		if a := c.w.gateways[0].send(command, 10*time.Second); a.Status != http.StatusOK {
			return fmt.Errorf("%s: %d %s %s", command, a.Status, a.Problem, a.Err)
		}
		return nil
	})
}

// awaitEnd waits until no transfer is under way, and counts what became of each.
func (c *crashRun) awaitEnd(t *testing.T, n int) {
	t.Helper()
	var left, deposited, ended map[string]int
	var returned int
	wait(t, func() error {
		left, deposited, ended, returned = map[string]int{}, map[string]int{}, map[string]int{}, 0
		for _, topic := range c.w.eventTopics() {
			for _, e := range c.w.read(t, topic) {
				if at := string(e.M.Subject); at != c.from && at != c.to || e.M.Platform() {
					continue
				}
				record, err := bank[e.M.Aggregate().Prefix()].Record(e.M.Schema, e.M.Data)
				if err != nil {
					t.Fatal(err)
				}
				switch r := record.(type) {
				case *checkinggen.TransferredToSavings:
					left[r.Transaction_id]++
				case *savingsgen.DepositReceived:
					deposited[r.Transaction_id]++
				case *checkinggen.TransferCompleted:
					ended[r.Transaction_id]++
				case *checkinggen.TransferReturned:
					ended[r.Transaction_id]++
					returned++
				}
			}
		}
		if len(ended) < n {
			return fmt.Errorf("%d of %d transfers have ended", len(ended), n)
		}
		return nil
	})
	for id, times := range ended {
		if left[id] != 1 || times != 1 || deposited[id] > 1 {
			t.Errorf("transfer %s left %d times, arrived %d times and ended %d times", id, left[id], deposited[id], times)
		}
	}
	if n-returned != len(deposited) || returned != n/3 {
		t.Errorf("of %d transfers %d were returned and %d arrived", n, returned, len(deposited))
	}
	for entity, want := range map[string]int64{c.from: 10000 - int64(len(deposited)), c.to: int64(len(deposited))} {
		if s, err := c.w.gateways[0].state(entity); err != nil || s.State.Balance.Minor != want {
			t.Errorf("%s has %d (%v), want %d", entity, s.State.Balance.Minor, err, want)
		}
	}
	c.oneDecisionEach(t)
}

// oneDecisionEach looks for two decisions of one dispatcher about one event.
func (c *crashRun) oneDecisionEach(t *testing.T) {
	t.Helper()
	seen := map[string]runtime.Coordinates{}
	decisions := 0
	for _, r := range c.w.read(t, c.w.topics.Dispatched()) {
		decisions++
		if before, again := seen[r.M.ID]; again {
			t.Errorf("decision %s stands at %s and at %s", r.M.ID, before, r.At)
		}
		seen[r.M.ID] = r.At
	}
	if decisions == 0 {
		t.Error("there are no decisions")
	}
}
