package proof

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// scriptedStack is poisonStack with functions that must answer soon.
var scriptedStack = strings.ReplaceAll(poisonStack, "      evento.io/aggregate: CheckingAccount\n",
	"      evento.io/aggregate: CheckingAccount\n      evento.io/timeout: PT3S\n")

// functionFaults are what functions do that they must not: about single aggregates,
// and as a whole.
func functionFaults() []fault {
	type ways map[string]ending
	list := []fault{
		spoiltFault("function-wrong", "a function answers nonsense about some aggregates: garbage, half a value, another's event, thousands, none, made-up causes", ways{
			badGarbage: {holds, "answer of"}, badTwice: {holds, "results for"}, badAvro: {holds, "no valid value"},
			badStranger: {holds, "checking:somebody-else"}, badForeign: {holds, "SavingsAccount.CashWithdrawn"},
			badMany: {holds, "10000 events"}, badEmpty: {holds, "a refusal is an event too"}, badForged: {goesOn, ""},
		}),
		spoiltFault("function-large", "a function answers 100 MB about some aggregates", ways{badHuge: {holds, "longer than the limit"}}),
		spoiltFault("function-silent", "a function hangs, drips a byte a second, or answers after the deadline, about some aggregates",
			ways{badHang: {waits, ""}, badDrip: {waits, ""}, badLate: {waits, ""}}),
		spoiltFault("function-dying", "a function ends when it is asked about some aggregates, before or in the middle of its answer",
			ways{badCrash: {waits, ""}, badHalf: {waits, ""}}),
		moodFault("function-503", "both functions answer 503 for 30 s, as when scaled to zero", moodAway, 30*time.Second, 20),
		moodFault("function-429", "both functions answer 429 for 15 s", moodBusy, 15*time.Second, 100),
		moodFault("function-cold", "both functions are started from zero, which takes 15 s in which calls are held", moodCold, 15*time.Second, 100),
	}
	list[0].ci = true
	return list
}

// scriptedNeeds are checking accounts alone, whose functions can be told to go wrong.
func scriptedNeeds(stack string) needs {
	return needs{
		ground:  oneBroker,
		session: 10 * time.Second, // functions are what this is about
		prepare: func(tr *trial, s *setup) {
			self, err := os.Executable()
			if err != nil {
				tr.Fatal(err)
			}
			s.stack, s.programs = stack, map[string]string{"checking-handler": self, "checking-aggregator": self}
		},
		load: func(_ *trial, l *load) { l.savings = 0 },
	}
}

// ending is what becomes of a command whose function goes wrong: the fate, and
// what is shown as the reason must have in it.
type ending struct {
	fate   fate
	reason string
}

// spoiltFault has a function go wrong about some accounts in some ways, while others
// are used. Only the accounts concerned wait; those whose function fails are held and
// say why. When it gets well all is done, once, as if nothing had been.
func spoiltFault(name, does string, ways map[string]ending) fault {
	var all []*spoilt
	each := max(3, 12/len(ways)) // accounts
	f := fault{name: name, does: does, needs: scriptedNeeds(scriptedStack), lasts: 5 * time.Second}
	f.inject = func(tr *trial) {
		tr.world.functions["checking-handler"].keepUp(tr)
		all = nil
		for what, want := range ways {
			for i := range each {
				s := newSpoilt(tr.world, tr.load.history, what, i)
				s.fate, s.reason = want.fate, want.reason
				all = append(all, s)
			}
		}
		parallel(len(all), len(all), func(i int) { all[i].begin(tr) })
		tr.world.awaitFates(tr, all)
	}
	f.heal = func(tr *trial) {
		now := time.Now()
		for _, p := range tr.probes { // the others go on
			wait(tr, func() error { return p.answeredSince(now) })
		}
		tr.world.awaitFates(tr, all)
		if err := tr.world.functions["checking-handler"].getWell(); err != nil {
			tr.Fatal(err)
		}
		parallel(len(all), len(all), func(i int) { all[i].finish(tr) })
	}
	f.needs.check = func(tr *trial, _ evidence) {
		tr.world.checkMemory(tr)
		wait(tr, func() error { return tr.world.noAsides(tr) })
	}
	return f
}

// moodFault has both functions be in a mood for a while. Commands wait, and spend
// no attempt; the functions are not asked more often than so many times a second.
func moodFault(name, does, mood string, lasts time.Duration, often int) fault {
	f := fault{name: name, does: does, needs: scriptedNeeds(poisonStack), lasts: lasts}
	f.inject = func(tr *trial) {
		for _, fn := range tr.world.functions {
			if err := fn.mood(mood, lasts); err != nil {
				tr.Fatal(err)
			}
		}
	}
	f.heal = func(tr *trial) {
		tr.world.awaitFates(tr, nil) // nobody has spent an attempt
		for _, name := range sortedKeys(tr.world.functions) {
			calls, err := tr.world.functions[name].script(http.MethodGet, nil)
			if err != nil {
				tr.Fatal(err)
			}
			tr.Logf("%s was called %d times in %v", name, calls, lasts)
			if most := often * int(lasts/time.Second); calls > most {
				tr.Errorf("%s was called %d times in %v, which is a storm: more than %d", name, calls, lasts, most)
			}
		}
	}
	f.needs.check = func(tr *trial, _ evidence) { wait(tr, func() error { return tr.world.noAsides(tr) }) }
	return f
}

// fate is what the platform does about a command whose function answers badly.
type fate int

const (
	holds fate = iota // spends its attempts and is held: the function is there and fails
	waits             // spends none: the function cannot be reached, or is too late
	goesOn
)

// maxGatewayMemory is far more than a gateway takes in these tests, race
// detector included, and far less than it would with all that a function may send.
const maxGatewayMemory = 640 << 20

func (w *world) checkMemory(t testing.TB) {
	t.Helper()
	for _, g := range w.gateways {
		if peak := g.now().peakMemory(t); peak > maxGatewayMemory {
			t.Errorf("%s took %d MiB", g.name, peak>>20)
		} else {
			t.Logf("%s took %d MiB at most", g.name, peak>>20)
		}
	}
}

// spoilt is an account whose withdrawals go wrong, with a command behind the wrong one.
type spoilt struct {
	w                                *world
	what, account                    string
	open, deposit, withdraw, another *command
	fate                             fate
	reason                           string
}

func newSpoilt(w *world, h *history, what string, i int) *spoilt {
	s := &spoilt{w: w, what: what, account: fmt.Sprintf("checking:%s-bad.%s.%d", w.run, what, i)}
	add := func(id, commandType string, payload map[string]any) *command {
		return h.add(&command{ID: id, Source: "/proof/spoilt", Entity: s.account, Type: commandType, Payload: payload})
	}
	s.open = add("open", "OpenCheckingAccount", map[string]any{"client": "client:1", "currency": "USD"})
	s.deposit = add("deposit", "ReceiveDeposit", map[string]any{"transaction_id": "1", "source": "proof", "amount": money(1000)})
	s.withdraw = add("withdraw", "WithdrawCash", map[string]any{"destination": "atm", "amount": money(300)})
	s.another = add("another", "ReceiveDeposit", map[string]any{"transaction_id": "2", "source": "proof", "amount": money(5)})
	return s
}

// begin fills the account, and sends what goes wrong and one command behind it.
func (s *spoilt) begin(t testing.TB) {
	g := s.w.gateways[0]
	for i, c := range []*command{s.open, s.deposit} {
		s.done(t, c, uint64(i+1))
	}
	for _, c := range []*command{s.withdraw, s.another} {
		if a := g.send(c, 0); a.Result != accepted {
			t.Errorf("%s: %d %s %s", c, a.Status, a.Problem, a.Err)
		}
	}
}

// done sends a command until it is answered as done, which must be at this version.
func (s *spoilt) done(t testing.TB, c *command, version uint64) {
	var a attempt
	if err := try(patience, func() error {
		if a = s.w.gateways[0].send(c, 10*time.Second); !a.Outcome.final() {
			return fmt.Errorf("%s: %d %s %s", c, a.Status, a.Problem, a.Err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	} else if a.Outcome.Status != "done" || a.Outcome.Version != version {
		t.Errorf("%s: %+v, want version %d", c, a.Outcome, version)
	}
}

// finish waits for the end of both.
func (s *spoilt) finish(t testing.TB) {
	s.done(t, s.withdraw, 3)
	s.done(t, s.another, 4)
}

// awaitFates waits until the list of what is in trouble has what it must have of
// these accounts, and nothing of others.
func (w *world) awaitFates(t testing.TB, all []*spoilt) {
	t.Helper()
	wait(t, func() error {
		list, err := w.parked()
		if err != nil {
			return err
		}
		rows := map[string]parkedCommand{} // the withdrawals
		for _, p := range list {
			if badName.FindString(p.Entity) == "" && p.spends() {
				return fatal(fmt.Errorf("in trouble beside the spoilt ones: %+v", p))
			}
			if p.Command == "withdraw" {
				rows[p.Entity] = p
			}
		}
		for _, s := range all {
			row, there := rows[s.account]
			switch {
			case s.fate == holds && (row.Status != "held" || row.Attempts < 3 || !strings.Contains(row.Reason, s.reason)):
				return fmt.Errorf("%s is %+v, and must be held because of %q", s.account, row, s.reason)
			case s.fate == waits && there && row.spends():
				return fatal(fmt.Errorf("%s cannot be asked, and spends attempts: %+v", s.account, row))
			case s.fate == waits && !there:
				return fmt.Errorf("%s is not listed: %+v", s.account, list)
			case s.fate == goesOn && there:
				return fmt.Errorf("%s is in trouble: %+v", s.account, row)
			}
		}
		return nil
	})
}

// spends says whether attempts of a command are spent because of its function. That
// a gateway which lost its partitions may have died of it is another matter.
func (p *parkedCommand) spends() bool {
	return p.Status == "held" || p.Status == "parked" || p.Attempts > 0 && !strings.Contains(p.Reason, "a gateway stopped without a word")
}

// keepUp starts a function again whenever it has ended, as a platform does, until the test ends.
func (f *function) keepUp(t testing.TB) {
	stop := make(chan struct{})
	var over sync.WaitGroup
	over.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-f.now().exited:
			}
			select {
			case <-stop:
				return
			default:
				f.start(t)
			}
		}
	})
	t.Cleanup(func() { close(stop); over.Wait() })
}

// peakMemory is the most memory that a process has had, in bytes; 0 where that cannot be told.
func (p *process) peakMemory(t testing.TB) (bytes int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if os.IsNotExist(err) {
		return 0
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err = fmt.Sscan(rest, &bytes); err == nil {
				return bytes << 10
			}
		}
	}
	t.Errorf("memory of %s: %v", p.name, err)
	return 0
}
