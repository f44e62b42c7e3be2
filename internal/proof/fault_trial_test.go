package proof

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/verify"
)

// trial is one time that a fault is tried, in an installation of its own. It fails
// like a test, and writes down what it fails with: those are the violations.
type trial struct {
	testing.TB
	fault   fault
	seed    uint64
	ground  *ground
	world   *world
	load    *load
	probes  []*probe
	nets    []*network    // of the gateways, each its own; nil where the fault needs none
	strange []*kgo.Client // with a transaction each that hangs

	// When inject was begun, when heal was, when that was done, and when no command
	// was begun any more. Zero until then.
	injected, healing, healed, quiet time.Time

	stopMeanwhile func() // of meanwhile

	mu         sync.Mutex // guards what follows
	violations []string
}

func (tr *trial) note(text string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.violations = append(tr.violations, strings.TrimSuffix(text, "\n"))
}

// What a test fails with is written down, and then said as always.

func (tr *trial) Error(args ...any) {
	tr.Helper()
	tr.note(fmt.Sprintln(args...))
	tr.TB.Error(args...)
}

func (tr *trial) Errorf(format string, args ...any) {
	tr.Helper()
	tr.note(fmt.Sprintf(format, args...))
	tr.TB.Errorf(format, args...)
}

func (tr *trial) Fatal(args ...any) {
	tr.Helper()
	tr.note(fmt.Sprintln(args...))
	tr.TB.Fatal(args...)
}

func (tr *trial) Fatalf(format string, args ...any) {
	tr.Helper()
	tr.note(fmt.Sprintf(format, args...))
	tr.TB.Fatalf(format, args...)
}

// try tries a fault once, and adds what came of it to the report.
func (c *campaign) try(t *testing.T, f fault, repetition uint64) {
	tr := &trial{TB: t, fault: f, seed: *flagSeed + repetition, ground: c.on(f.needs.ground, t)}
	defer func() {
		if t.Skipped() {
			return
		}
		f, m := tr.measure()
		c.report.add(t, f, m)
		if t.Failed() {
			c.drop()
		} else {
			tr.ground.clear(t, tr.world.topics.Prefix)
		}
	}()
	tr.run()
}

// run is warm-up, fault, heal, quiet, check.
func (tr *trial) run() {
	f := tr.fault
	s := setup{gateways: f.needs.gateways, circle: f.needs.circle, session: f.needs.session, kafka: tr.ground.kafka(tr),
		redis: func(t testing.TB) redisServer { return startRealRedis(t) }}
	if f.needs.prepare != nil {
		f.needs.prepare(tr, &s)
	}
	tr.world = newWorld(tr, s)
	if f.needs.ready != nil {
		f.needs.ready(tr)
	}
	stop := tr.warmUp()
	tr.ground.brokers.awaitInSync(tr)

	tr.injected = time.Now()
	f.inject(tr)
	pause(f.lasts)
	tr.healing = time.Now()
	if f.heal != nil {
		f.heal(tr)
	}
	tr.healed = time.Now()
	tr.Logf("the fault lasted %v, its end took %v", tr.healing.Sub(tr.injected).Round(time.Millisecond), tr.healed.Sub(tr.healing).Round(time.Millisecond))

	// Each partition is served again before the load ends.
	for _, p := range tr.probes {
		wait(tr, func() error { return p.answeredSince(tr.healed) })
	}
	tr.world.awaitAllOwned(tr)
	tr.quiet = time.Now()
	stop()

	tr.world.awaitAllOwned(tr)
	e := tr.world.judge(tr, tr.load.history)
	tr.awaitRest()
	tr.checkAnswers()
	tr.checkReads(e)
	if f.needs.check != nil {
		f.needs.check(tr, e)
	}
}

// warmUp begins the load, and returns when it flows through each partition. The
// returned function ends it, and returns when all clients are through.
func (tr *trial) warmUp() (stop func()) {
	l := newLoad(tr.world)
	if tr.fault.needs.circle {
		l = newCircle(tr.world)
	}
	// Clients of a fault do not wait for ever: others are to be seen, too.
	l.seed, l.clients, l.pace = tr.seed, 12, 100*time.Millisecond
	l.wait, l.answerIn, l.giveUp = 2*time.Second, 8*time.Second, 10*time.Second
	if !slices.Contains(tr.fault.may, lateAnswer) {
		l.answerIn = 30 * time.Second // none comes late of a product that works: only a machine can be so slow
	}
	if tr.fault.needs.load != nil {
		tr.fault.needs.load(tr, l)
	}
	tr.load = l
	end := l.begin(tr, math.MaxInt32)
	stopProbes := tr.startProbes()
	const some = 100
	wait(tr, func() error {
		if n := l.done.Load() - int64(l.openings()); n < some {
			return fmt.Errorf("%d commands have ended", n)
		}
		return nil
	})
	flows := time.Now()
	for _, p := range tr.probes {
		wait(tr, func() error { return p.answeredSince(flows) })
	}
	// What is measured is the fault's rebalance, not one that the start left behind.
	tr.awaitGroups("Stable", len(tr.world.gateways))
	return func() {
		l.stopped.Store(true)
		end()
		stopProbes()
	}
}

// awaitGroups waits until all of the installation's groups are in this state, with so
// many members, and returns them.
func (tr *trial) awaitGroups(state string, members int) (groups []string) {
	tr.ground.brokers.admin(tr, func(ctx context.Context, a *kadm.Client) error {
		groups = nil
		described, err := a.DescribeGroups(ctx)
		if err != nil {
			return err
		}
		for _, g := range described.Sorted() {
			if !strings.HasPrefix(g.Group, tr.world.topics.Prefix) {
				continue
			}
			if g.State != state || len(g.Members) != members {
				return fmt.Errorf("group %s is %s with %d members, and should be %s with %d", g.Group, g.State, len(g.Members), state, members)
			}
			groups = append(groups, g.Group)
		}
		if len(groups) < 2 {
			return fmt.Errorf("the gateways have only the groups %q", groups)
		}
		return nil
	})
	return groups
}

// awaitRest waits until nothing is under way in Kafka: the gateways' position is
// behind the last command, and no transaction of theirs is open.
func (tr *trial) awaitRest() {
	commands := tr.world.topics.Commands()
	group := commands + "-gateway"
	tr.ground.brokers.admin(tr, func(ctx context.Context, a *kadm.Client) error {
		lags, err := a.Lag(ctx, group)
		if err == nil {
			err = lags.Error()
		}
		if err != nil {
			return err
		}
		for _, p := range lags[group].Lag[commands] {
			if p.Lag != 0 {
				return fmt.Errorf("the position of %s/%d is %d records behind the last one", p.Topic, p.Partition, p.Lag)
			}
		}
		open, err := tr.openTransactions(ctx, a)
		if err == nil && len(open) > 0 {
			err = fmt.Errorf("transaction %s is open", open[0].TxnID)
		}
		return err
	})
}

// openTransactions are those that are under way and write to the installation's topics.
func (tr *trial) openTransactions(ctx context.Context, a *kadm.Client) (open []kadm.DescribedTransaction, err error) {
	listed, err := a.ListTransactions(ctx, nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
	if err != nil || len(listed) == 0 {
		return nil, err
	}
	described, err := a.DescribeTransactions(ctx, listed.TransactionalIDs()...)
	if err != nil {
		return nil, err
	}
	for _, d := range described {
		for topic := range d.Topics {
			if strings.HasPrefix(topic, tr.world.topics.Prefix) {
				open = append(open, d)
				break
			}
		}
	}
	return open, nil
}

// checkAnswers holds the answers without success against what the fault allows.
func (tr *trial) checkAnswers() {
	tr.load.history.checkRefusals(tr)
	for class, n := range tr.load.history.troubles() {
		allowed := false
		for _, may := range tr.fault.may {
			allowed = allowed || strings.HasPrefix(class, may)
		}
		if !allowed {
			tr.Errorf("%d answers were %q, which nobody should see of this fault", n, class)
		}
	}
}

// checkReads holds what was read of the probes' accounts against what their senders
// were told: a read shows all that was answered before it was asked for.
func (tr *trial) checkReads(e evidence) {
	var reads []verify.Read
	for _, p := range tr.probes {
		reads = append(reads, p.reads...)
	}
	result := e.linear(tr, reads)
	if len(result.Undecided) > 0 {
		tr.Errorf("whether what was read is in order is not decided for %q", result.Undecided)
	}
	tr.Logf("%d operations are in order, %d of them reads", result.Operations, len(reads))
}

// Classes of answers without success, but for those of 503 and the like, which are
// their status and the type of their problem: "503 kafka-away".
const (
	noAnswer   = "no answer"   // the connection was refused, or ended
	lateAnswer = "late answer" // none came in the time that the client had for it
)

// class names an answer that tells a sender of trouble; "" is one that does not. What
// is wrong about a command itself (400, 409, 412...) is no trouble.
func (a *attempt) class() string {
	switch {
	case a.Status == 0 && strings.Contains(a.Err, context.DeadlineExceeded.Error()), a.Status == 0 && strings.Contains(a.Err, "Client.Timeout"):
		return lateAnswer
	case a.Status == 0:
		return noAnswer
	case a.Status == http.StatusTooManyRequests || a.Status/100 == 5:
		return strings.TrimSpace(fmt.Sprintf("%d %s", a.Status, a.Problem))
	}
	return ""
}

// troubles counts the answers that tell of trouble, by class.
func (h *history) troubles() map[string]int {
	by := map[string]int{}
	for _, c := range h.all() {
		for _, a := range c.tries() {
			if class := a.class(); class != "" {
				by[class]++
			}
		}
	}
	return by
}
