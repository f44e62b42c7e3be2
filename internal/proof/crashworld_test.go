package proof

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafka"
)

// crashSession is how long a dead gateway keeps its partitions in these tests.
const crashSession = time.Second

// crashStack is the bank's accounts, with handlers that fail now and then:
// deposits are parked at last, withdrawals are held.
const crashStack = `version: 1.0
provider:
  name: openfaas
functions:
  checking-handler:
    lang: evento-handler
    handler: .
    image: checking-handler:latest
    annotations:
      evento.io/role: handler
      evento.io/aggregate: CheckingAccount
      evento.io/commands: OpenCheckingAccount,ReceiveDeposit,CloseCheckingAccount
      evento.io/on-failure: park
      evento.io/retry: "1"
      evento.io/backoff-delay: PT0.1S
  checking-withdrawals:
    lang: evento-handler
    handler: .
    image: checking-withdrawals:latest
    annotations:
      evento.io/role: handler
      evento.io/aggregate: CheckingAccount
      evento.io/commands: WithdrawCash
      evento.io/retry: "1"
      evento.io/backoff-delay: PT0.1S
      evento.io/max-backoff: PT0.5S
  checking-aggregator:
    lang: evento-aggregator
    handler: .
    image: checking-aggregator:latest
    annotations:
      evento.io/role: aggregator
      evento.io/aggregate: CheckingAccount
  savings-handler:
    lang: evento-handler
    handler: .
    image: savings-handler:latest
    annotations:
      evento.io/role: handler
      evento.io/aggregate: SavingsAccount
  savings-aggregator:
    lang: evento-aggregator
    handler: .
    image: savings-aggregator:latest
    annotations:
      evento.io/role: aggregator
      evento.io/aggregate: SavingsAccount
`

func crashPrograms(t *testing.T) map[string]string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{"checking-handler": self, "checking-withdrawals": self}
	for _, name := range []string{"checking-aggregator", "savings-handler", "savings-aggregator"} {
		programs[name] = bankFunction(t, name)
	}
	return programs
}

// crashRounds is a world in which gateways die again and again under one load.
type crashRounds struct {
	t         *testing.T // of the world: a process that a round starts may live longer than it
	w         *world
	l         *load
	endLoad   func() // no client sends any more
	idle      func() // nobody gives orders any more
	takeovers []time.Duration
	opened    bool // a gateway has died in a transaction that had records
}

// crashing is the program under test, with crash points.
func crashing(t testing.TB) string {
	t.Helper()
	return program(t, "evento-crashing", "./cmd/evento", append(slices.Clone(buildFlags), "-tags", "crashpoints")...)
}

// newCrashRounds begins the load.
func newCrashRounds(t *testing.T, w *world) *crashRounds {
	t.Helper()
	for _, g := range w.gateways {
		g.program = crashing(t) // from its next start on
	}
	l := newLoad(w)
	l.clients, l.wait, l.pace = 10, 5*time.Second, 40*time.Millisecond
	l.choose = l.troubled
	r := &crashRounds{t: t, w: w, l: l}
	wait := l.begin(t, 1<<30)
	r.endLoad = func() {
		l.aborted.Store(true)
		wait()
	}
	l.reached(t, 0) // the accounts are open
	r.idle = r.others(t)
	return r
}

// troubled is the i-th command of the load: now and then one that fails for a
// while or for good, or has several events.
func (l *load) troubled(i int, random *rand.Rand) *command {
	c := l.next(i, random)
	kind := []string{flaky, split, split, poison}[random.IntN(4)]
	if random.IntN(8) > 0 {
		return c
	}
	// Accounts of their own: who waits behind a poisoned one waits long.
	c.Entity, c.Expect = l.entity(l.checking-8+random.IntN(8)), ""
	c.Type, c.Payload = "ReceiveDeposit", map[string]any{"transaction_id": fmt.Sprintf("tx-%d", i), "source": kind, "amount": money(3 + random.Int64N(500))}
	if kind != split && random.IntN(2) == 0 {
		c.Type, c.Payload = "WithdrawCash", map[string]any{"destination": kind, "amount": money(1 + random.Int64N(5))}
	}
	return c
}

// others are those who send beside the load: one sends commands again, and an
// operator orders held ones to be tried again and then to be dropped, and takes
// parked ones off the list.
func (r *crashRounds) others(t *testing.T) (end func()) {
	over := make(chan struct{})
	var all sync.WaitGroup
	every := func(d time.Duration, do func(i int, random *rand.Rand)) {
		all.Go(func() {
			random := rand.New(rand.NewPCG(*flagSeed, uint64(d)))
			tick := time.NewTicker(d)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				case <-tick.C:
					do(i, random)
				}
			}
		})
	}
	every(30*time.Millisecond, func(_ int, random *rand.Rand) {
		sent := r.l.history.all()
		r.l.gateway(random).send(sent[random.IntN(len(sent))], time.Second)
	})
	ordered := map[string]int{} // by coordinates of the command
	var waiting sync.Map        // those whose order has no answer yet
	every(150*time.Millisecond, func(i int, _ *rand.Rand) {
		for _, g := range r.w.gateways {
			list, err := g.parked()
			if err != nil {
				continue
			}
			for _, p := range list {
				what, body := "drop", any(map[string]string{"reason": "it never works"})
				switch {
				case p.Status == "retrying":
					continue
				case p.Status == "held" && ordered[p.Coordinates]%2 == 0:
					what, body = "retry", nil
				}
				if _, busy := waiting.LoadOrStore(p.Coordinates, true); busy {
					continue
				}
				ordered[p.Coordinates]++
				all.Go(func() {
					defer waiting.Delete(p.Coordinates)
					_, _, _ = g.order(p.Coordinates, what, body) // what came of it the next look tells
				})
			}
			return
		}
	})
	var once sync.Once
	end = func() { once.Do(func() { close(over); all.Wait() }) }
	t.Cleanup(end)
	return end
}

// loseRedis has the gateway find nothing in Redis, and nothing in its memory.
func (r *crashRounds) loseRedis() {
	r.w.redis.flush(r.t, r.w.run)
	r.w.gateways[0].start(r.t)
}

// stop asks the gateway to stop.
func (r *crashRounds) stop() {
	signal(r.t, r.w.gateways[0].now(), syscall.SIGTERM)
}

// orphan has the other gateway die in a transaction, and whoever takes its
// partitions over finds that open.
func (r *crashRounds) orphan() {
	t, other := r.t, r.w.gateways[1]
	other.now().terminate(t)
	other.env = []string{fmt.Sprintf("%s=%s:10", crash.Variable, crash.TxnProduced)}
	other.start(t)
	r.w.gateways[0].start(t)
	<-other.now().exited
	wait(t, func() error {
		select {
		case <-r.w.gateways[0].now().exited:
			return nil
		default:
			return fmt.Errorf("the open transaction has not been met")
		}
	})
	other.env = nil
	other.start(t)
	other.awaitReady(t)
}

// fenceWriters takes ids away from writers that have just written something, for
// as long as the gateway lives.
func (r *crashRounds) fenceWriters() {
	t, g := r.t, r.w.gateways[0]
	look, err := kafka.NewTakeover(r.w.kafka.Opts(), "proof", r.w.topics.Commands(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	reader, err := kgo.NewClient(append(r.w.kafka.Opts(), kgo.ConsumeTopics(r.w.eventTopics()...), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		<-g.now().exited
		cancel()
	}()
	random := rand.New(rand.NewPCG(*flagSeed, 96))
	for ctx.Err() == nil {
		met := map[string]bool{}
		reader.PollFetches(ctx).EachRecord(func(record *kgo.Record) {
			for _, h := range record.Headers {
				if h.Key == kafka.WriterHeader {
					met[string(h.Value)] = true
				}
			}
		})
		for writer := range met {
			// Not always, so that some transactions get through and the next one does
			// not wait long, and sooner or later, so that it is at all stages.
			if random.IntN(2) == 0 {
				continue
			}
			pause(time.Duration(random.IntN(4000)) * time.Microsecond)
			if err := look.EndWriter(ctx, writer); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}
}

// judge ends the load, brings both gateways back and checks the run.
func (r *crashRounds) judge(t *testing.T) {
	t.Helper()
	for _, g := range r.w.gateways {
		g.env = nil
		select {
		case <-g.now().exited:
			g.start(t)
		default:
		}
		g.awaitReady(t)
	}
	r.w.awaitAllOwned(t)
	r.endLoad()
	wait(t, func() error { // the operator gets through with what is left
		list, err := r.w.parked()
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("still in trouble: %+v", list)
		}
		return err
	})
	r.idle()
	r.w.judge(t, r.l.history)
	wait(t, func() error { return r.w.noAsides(t) })
	r.wholeOrNothing(t)
	if len(r.takeovers) > 0 {
		t.Logf("with sessions of %v, takeovers after a crash in a transaction took %v", crashSession, r.takeovers)
	}
}

// wholeOrNothing looks for transactions of which committed readers see a part:
// each has a number of its own, which all its records carry.
func (r *crashRounds) wholeOrNothing(t *testing.T) {
	t.Helper()
	type transaction struct {
		producer int64
		epoch    int16
	}
	type seen struct{ shown, hidden []string }
	all := map[transaction]*seen{}
	for _, topic := range append(r.w.eventTopics(), r.w.topics.Parked(), r.w.topics.Heads()) {
		shown := r.w.kafka.Committed(t, topic)
		for p, records := range r.w.kafka.Written(t, topic) {
			there := map[int64]bool{}
			for _, record := range shown[p] {
				there[record.Offset] = true
			}
			for _, record := range records {
				id := transaction{record.ProducerID, record.ProducerEpoch}
				if all[id] == nil {
					all[id] = &seen{}
				}
				at := topic + "/" + strconv.Itoa(int(p)) + "/" + strconv.FormatInt(record.Offset, 10)
				if there[record.Offset] {
					all[id].shown = append(all[id].shown, at)
				} else {
					all[id].hidden = append(all[id].hidden, at)
				}
			}
		}
	}
	hidden := 0
	for id, s := range all {
		if len(s.hidden) > 0 {
			hidden++
		}
		if len(s.hidden) > 0 && len(s.shown) > 0 {
			t.Errorf("transaction %v: shown are %v, hidden are %v", id, s.shown, s.hidden)
		}
	}
	t.Logf("%d transactions; %d of them were given up, and nothing of these is seen", len(all), hidden)
	if hidden == 0 && r.opened {
		t.Error("no transaction was open when a gateway died: the run has shown nothing about that")
	}
}
