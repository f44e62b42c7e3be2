package proof

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is clients that send commands of the bank to the gateways of a world.
type load struct {
	w        *world
	seed     uint64
	clients  int
	people   int           // clients of the bank that are registered
	checking int           // accounts
	savings  int           // accounts
	wait     time.Duration // for outcomes
	pace     time.Duration // that a client waits after each command
	answerIn time.Duration // that a client waits for any answer; 0: very long
	giveUp   time.Duration // how long a client repeats a command that it got no outcome for
	history  *history
	choose   func(i int, random *rand.Rand) *command // the i-th command

	done    atomic.Int64 // commands that their clients are through with
	gate    atomic.Int64 // commands that may be begun; 0: all
	aborted atomic.Bool  // the test is over: no client sends any more
	stopped atomic.Bool  // no command is begun any more
	total   int

	mu    sync.Mutex // guards what follows
	later []*command // to be sent again some time
}

func newLoad(w *world) *load {
	l := &load{w: w, seed: *flagSeed, clients: 32, checking: 40, savings: 20, wait: 10 * time.Second, giveUp: 60 * time.Second, history: &history{}}
	l.choose = l.next
	return l
}

// openings is how many commands come before the mixed ones.
func (l *load) openings() int { return l.people + l.checking + l.savings }

// run opens the accounts and sends n mixed commands. It returns when all clients
// are through.
func (l *load) run(t testing.TB, n int) {
	t.Helper()
	l.each(l.openings(), func(i int, random *rand.Rand) { l.execute(l.open(i), random, modeWait) })
	l.mix(n)
	t.Logf("%s; %s", l.history.counts(), l.history.slowest())
}

// begin opens the accounts and sends commands in the background; the returned
// function waits for their end. A test that ends before leaves no client behind.
func (l *load) begin(t testing.TB, n int) (end func()) {
	t.Helper()
	l.total = n
	over := make(chan struct{})
	go func() {
		defer close(over)
		l.run(t, n)
	}()
	t.Cleanup(func() {
		l.aborted.Store(true)
		<-over
	})
	return func() { <-over }
}

// reached waits until the clients are through with a share of the commands.
func (l *load) reached(t testing.TB, share float64) {
	t.Helper()
	want := int64(share*float64(l.total)) + int64(l.openings())
	before, at := int64(-1), time.Now()
	for {
		now := l.done.Load()
		if now >= want {
			return
		}
		if now != before {
			before, at = now, time.Now()
		} else if time.Since(at) > patience {
			t.Errorf("no command has ended for %v, %d of %d have", patience, now, l.total)
			t.FailNow()
		}
		pause(20 * time.Millisecond)
	}
}

// upTo lets clients begin this share of the commands and no more for now, so that
// a fault that comes later meets some. Before begin, it is of n commands.
func (l *load) upTo(share float64, n int) { l.gate.Store(int64(share * float64(n))) }

// pause is a client's way to wait: what it does next does not depend on how long it was.
func pause(d time.Duration) { <-time.After(d) }

func (l *load) mix(n int) {
	l.each(n, func(i int, random *rand.Rand) {
		for gate := l.gate.Load(); gate > 0 && int64(i) >= gate && !l.aborted.Load(); gate = l.gate.Load() {
			pause(20 * time.Millisecond)
		}
		mode := modeWait
		switch random.IntN(20) {
		case 0, 1:
			mode = modeAccept
		case 2:
			mode = modeOnce
		}
		l.execute(l.choose(i, random), random, mode)
		if c := l.takeLater(random); c != nil {
			l.gateway(random).sendWithin(c, l.wait, l.answerIn)
		}
	})
}

// each calls do n times, with a source of chance that depends on the seed and the number alone.
func (l *load) each(n int, do func(i int, random *rand.Rand)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(l.clients, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && !l.aborted.Load() && !l.stopped.Load(); i = int(next.Add(1)) - 1 {
				do(i, rand.New(rand.NewPCG(l.seed, uint64(i))))
				l.done.Add(1)
				if l.pace > 0 && !l.aborted.Load() && !l.stopped.Load() {
					pause(l.pace)
				}
			}
		})
	}
	wg.Wait()
}

func (l *load) gateway(random *rand.Rand) *gateway {
	return l.w.gateways[random.IntN(len(l.w.gateways))]
}

// mode says what a client does about a command.
type mode int

const (
	modeWait   mode = iota // waits for the outcome, and repeats until it has it
	modeAccept             // repeats until it is accepted
	modeOnce               // sends it once and never looks again
)

// execute sends a command as one client does, now and then twice at a time.
func (l *load) execute(c *command, random *rand.Rand, m mode) {
	l.history.add(c)
	var twin sync.WaitGroup
	defer twin.Wait()
	if random.IntN(10) == 0 {
		other := l.gateway(random)
		twin.Go(func() { other.sendWithin(c, l.wait, l.answerIn) })
	}
	wait := l.wait
	if m == modeAccept || m == modeOnce && random.IntN(2) == 0 {
		wait = 0
	}
	for deadline := time.Now().Add(l.giveUp); ; {
		a := l.gateway(random).sendWithin(c, wait, l.answerIn)
		enough := m == modeOnce || a.Outcome.final() || m == modeAccept && a.Result == accepted || a.Result == failed && a.Status/100 == 4 && a.Status != 429
		if enough || l.aborted.Load() || time.Now().After(deadline) {
			break
		}
		pause(time.Duration(20+random.IntN(100)) * time.Millisecond)
	}
	if random.IntN(10) == 0 {
		l.mu.Lock()
		l.later = append(l.later, c)
		l.mu.Unlock()
	}
}

// takeLater gives now and then a command to be sent once more.
func (l *load) takeLater(random *rand.Rand) *command {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.later) == 0 || random.IntN(20) != 0 {
		return nil
	}
	i := random.IntN(len(l.later))
	c := l.later[i]
	l.later[i] = l.later[len(l.later)-1]
	l.later = l.later[:len(l.later)-1]
	return c
}

// entity names an account of this run: the first ones are checking accounts.
func (l *load) entity(i int) string {
	if i < l.checking {
		return fmt.Sprintf("checking:%s-%d", l.w.run, i)
	}
	return fmt.Sprintf("savings:%s-%d", l.w.run, i-l.checking)
}

func money(minor int64) map[string]any { return map[string]any{"minor": minor, "currency": "USD"} }

// person is a client of the bank.
func (l *load) person(i int) string { return fmt.Sprintf("client:%s-%d", l.w.run, i) }

// open is the i-th of the openings: first the clients are registered, if any.
func (l *load) open(i int) *command {
	c := &command{ID: fmt.Sprintf("open-%d", i), Source: "/proof/opener"}
	if i < l.people {
		c.Entity, c.Type, c.Payload = l.person(i), "RegisterClient", map[string]any{"name": c.ID}
		return c
	}
	i -= l.people
	c.Entity, c.Type = l.entity(i), "OpenCheckingAccount"
	c.Payload = map[string]any{"client": fmt.Sprintf("client:%d", i), "currency": "USD"}
	if l.people > 0 {
		c.Payload["client"] = l.person(i % l.people)
	}
	if i >= l.checking {
		c.Type = "OpenSavingsAccount"
		c.Payload["rate_bps"] = 300
	}
	return c
}

// next is the i-th command. A pair of commands shares its id and differs in its source.
func (l *load) next(i int, random *rand.Rand) *command {
	c := &command{ID: fmt.Sprintf("c-%d", i/2), Source: fmt.Sprintf("/proof/%c", 'a'+i%2)}
	tx := fmt.Sprintf("tx-%d", i)
	account := random.IntN(l.checking + l.savings)
	if random.IntN(4) == 0 {
		account = random.IntN(2) // two accounts that everybody uses
	}
	c.Entity = l.entity(account)
	if random.IntN(200) == 0 {
		c.Entity += "-nobody" // an account that is not opened
	}
	if random.IntN(25) == 0 {
		c.Expect = fmt.Sprint(random.IntN(20))
	}
	amount := money(1 + random.Int64N(500))
	switch dice := random.IntN(100); {
	case dice < 45:
		c.Type, c.Payload = "ReceiveDeposit", map[string]any{"transaction_id": tx, "source": "proof", "amount": amount}
	case account < l.checking && dice < 97:
		c.Type, c.Payload = "WithdrawCash", map[string]any{"destination": "atm", "amount": amount}
	case account < l.checking && dice < 98:
		c.Type, c.Payload = "CloseCheckingAccount", map[string]any{"reason": nil}
	case account < l.checking:
		c.Type, c.Payload = "OpenCheckingAccount", map[string]any{"client": "client:0", "currency": "USD"}
	case dice < 85:
		c.Type, c.Payload = "TransferToChecking", map[string]any{"transaction_id": tx, "destination": l.entity(0), "amount": amount}
	case dice < 98:
		c.Type, c.Payload = "PayInterest", map[string]any{"period": fmt.Sprintf("20%02d-%02d", 10+random.IntN(80), 1+random.IntN(12))}
	default:
		c.Type, c.Payload = "OpenSavingsAccount", map[string]any{"client": "client:0", "currency": "USD", "rate_bps": 100}
	}
	return c
}
