package proof

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/evento-oss/evento/internal/kafka"
)

// newCircle is a load that needs dispatchers: money goes from account to account
// and comes back from those that are not there or closed, accounts are linked to
// clients and closed when these leave, months end.
func newCircle(w *world) *load {
	l := newLoad(w)
	l.people = 20
	l.choose = l.circle
	return l
}

// circle is the i-th command, or event from outside, of such a load. A pair shares
// its id and differs in its source.
func (l *load) circle(i int, random *rand.Rand) *command {
	c := &command{ID: fmt.Sprintf("c-%d", i/2), Source: fmt.Sprintf("/proof/%c", 'a'+i%2)}
	tx := fmt.Sprintf("tx-%d", i)
	pick := func(first, n int) string {
		if random.IntN(4) == 0 {
			n = 2 // accounts that everybody uses
		}
		return l.entity(first + random.IntN(n))
	}
	checking, savings := pick(0, l.checking), pick(l.checking, l.savings)
	either := checking
	if random.IntN(2) == 0 {
		either = savings
	}
	// Where money is not taken: nobody's account, and those of clients who leave, in time.
	off := func(account string) string {
		if random.IntN(8) == 0 {
			return account + "-nobody"
		}
		return account
	}
	if random.IntN(40) == 0 {
		c.Expect = fmt.Sprint(random.IntN(20))
	}
	amount := money(1 + random.Int64N(500))
	switch dice := random.IntN(100); {
	case dice < 25:
		c.Entity, c.Type = off(either), "ReceiveDeposit"
		c.Payload = map[string]any{"transaction_id": tx, "source": "cash", "amount": money(1 + random.Int64N(5000))}
		if random.IntN(10) == 0 {
			c.Payload["source"] = checking // it says so, and it is not true
		}
	case dice < 33:
		c.Entity, c.Type, c.Payload = checking, "WithdrawCash", map[string]any{"destination": "atm", "amount": amount}
	case dice < 58:
		c.Entity, c.Type = checking, "TransferToSavings"
		c.Payload = map[string]any{"transaction_id": tx, "destination": off(savings), "amount": amount}
	case dice < 78:
		c.Entity, c.Type = savings, "TransferToChecking"
		c.Payload = map[string]any{"transaction_id": tx, "destination": off(checking), "amount": amount}
	case dice < 88:
		// Interest lets six more transfers go.
		c.Entity, c.Type, c.Publish = savings, "MonthEnded", true
		c.Payload = map[string]any{"period": fmt.Sprintf("%04d-%02d", 2000+i/12, 1+i%12)}
	case dice < 92:
		c.Entity, c.Type, c.Payload = either, "CloseCheckingAccount", map[string]any{"reason": nil}
		if either == savings {
			c.Type = "CloseSavingsAccount"
		}
	case dice < 95:
		c.Entity, c.Type = l.person(random.IntN(l.people)), "DeactivateClient"
		c.Payload = map[string]any{"reason": "moved away"}
	default:
		c.Entity, c.Type = fmt.Sprintf("checking:%s-late-%d", l.w.run, i), "OpenCheckingAccount"
		c.Payload = map[string]any{"client": l.person(random.IntN(l.people)), "currency": "USD"}
	}
	return c
}

// TestProofOfTheCircle sends what makes dispatchers work to two gateways, kills
// one and restarts the other on the way, and holds what came of it against the
// promises: also that no cent is lost or made.
func TestProofOfTheCircle(t *testing.T) {
	w := newWorld(t, setup{gateways: 2, circle: true})
	l := newCircle(w)
	end := l.begin(t, max(200, *flagCommands/4))
	loseGateways(t, w, l)
	end()
	w.awaitAllOwned(t)
	w.judgeCircle(t, l.history)
}

// TestCrashesBetweenEventAndCommand kills dispatchers and gateways again and again
// while money is under way: between an event, the decision about it, the commands
// of that and the position behind them.
func TestCrashesBetweenEventAndCommand(t *testing.T) {
	w := newWorld(t, setup{gateways: 2, circle: true, layout: kafka.PerAggregate})
	l := newCircle(w)
	n, rounds := max(200, *flagCommands/5), max(4, *flagCommands/1000)
	part := 1 / float64(rounds+1)
	l.upTo(part, n)
	end := l.begin(t, n)
	for round := range rounds {
		g := w.gateways[round%2]
		g.awaitDispatchers(t)
		watched := []string{"evento_dispatch_decisions_total", "evento_relayed_commands_total"}[round/2%2]
		before, _ := g.metric(watched) // none yet is 0
		l.upTo(float64(round+2)*part, n)
		waitFor(t, groupPatience, func() error {
			if now, err := g.metric(watched); now < before+3 {
				return fmt.Errorf("%s: %s is %v and was %v: %v", g.name, watched, now, before, err)
			}
			return nil
		})
		g.now().kill()
		for i, name := range []string{"transfers", "holdings", "interest"} {
			if f := w.functions[name]; i == 0 || (round+i)%2 == 0 {
				f.now().kill()
				f.start(t)
			}
		}
		g.start(t)
		g.awaitReady(t)
	}
	l.gate.Store(0)
	end()
	w.awaitAllOwned(t)
	w.judgeCircle(t, l.history)
}

// awaitDispatchers waits until the gateway has partitions of each dispatcher. Who
// is killed before holds up the embedded broker's groups for a minute and more.
func (g *gateway) awaitDispatchers(t testing.TB) {
	t.Helper()
	for name := range dispatchers {
		g.now().awaitLineFor(t, groupPatience, "dispatcher took a partition over", `"`+name+`"`)
	}
}

// judgeCircle is judge, for a run in which things must have happened that are
// there to be judged.
func (w *world) judgeCircle(t testing.TB, h *history) {
	t.Helper()
	e := w.judge(t, h)
	types := map[string]int{}
	for _, r := range e.Events {
		types[string(r.M.Type)]++
	}
	for _, name := range []string{
		"CheckingAccount.TransferCompleted", "CheckingAccount.TransferReturned", "SavingsAccount.TransferCompleted", "SavingsAccount.TransferReturned",
		"SavingsAccount.InterestPaid", "Client.AccountLinked", "Client.ClientDeactivated", "CheckingAccount.CheckingAccountClosed",
	} {
		if types[name] == 0 {
			t.Errorf("no %s in the whole run: it has shown nothing about that", name)
		}
	}
	t.Logf("events: %v", types)
}
