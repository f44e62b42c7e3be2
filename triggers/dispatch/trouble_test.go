package dispatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
)

func (g *gateway) parked() []Parked {
	list, _ := g.Parked()
	return list
}

func (g *gateway) awaitParked(n int) []Parked {
	g.w.t.Helper()
	var list []Parked
	kafkatest.Wait(g.w.t, patience, func() error {
		if list, _ = g.Parked(); len(list) != n {
			return fmt.Errorf("%d events are parked, want %d", len(list), n)
		}
		return nil
	})
	return list
}

// answerBad has the function fail about events whose name begins with "bad".
func (w *world) answerBad() {
	w.answer(func(event *runtime.Message) Answer {
		if strings.HasPrefix(w.name(event.ID), "bad") {
			return Answer{Trouble: &Trouble{Failed: true, Reason: "it panicked"}}
		}
		return w.transfer(event)
	})
}

// A poisoned event uses its attempts up and is parked. Others go on, of the same
// aggregate too; an operator may have it asked about again, also after a restart.
func TestPoisonedEventIsParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	w.answerBad()
	_, at := w.record("checking:1", "bad1")
	w.record("checking:2", "bad2")
	w.record("checking:1", "good1")
	w.record("checking:2", "good2")
	w.await(1, "good1", "good2")
	list := g.awaitParked(2)
	if p := list[0]; p.Dispatcher != name || p.Attempts != 3 || p.Reason != "it panicked" || p.Message == nil {
		t.Errorf("parked: %+v", p)
	}
	if n := w.calls("bad1"); n != 3 {
		t.Errorf("it was asked about %d times, want 1 and 2 retries", n)
	}
	g.stop()

	g = w.start("").started()
	g.awaitParked(2)
	if n := w.calls("bad1"); n != 3 {
		t.Errorf("after a restart it was asked about %d times", n)
	}
	if !g.Retry(name, at) { // it fails again
		t.Fatal("not retried")
	}
	kafkatest.Wait(t, patience, func() error {
		for _, p := range g.parked() {
			if p.At == at && p.Attempts == 4 {
				return nil
			}
		}
		return fmt.Errorf("not tried: %+v", g.parked())
	})
	w.answer(w.transfer)
	for _, p := range list {
		if !g.Retry(name, p.At) {
			t.Fatalf("%s is not retried", p.At)
		}
	}
	w.await(1, "bad1", "bad2")
	g.awaitParked(0)
	if g.Retry(name, at) {
		t.Error("what is decided is retried")
	}
	d := w.decisions()["bad1"]
	if len(d) != 2 || d[0].Status != avro.DispatchParked || d[1].Status != avro.DispatchDecided {
		t.Errorf("decisions %+v", d)
	}
	g.stop()
	w.start("").started().awaitParked(0)
}

// A parked event that an operator drops has its record, leads to nothing, and is not
// asked about again by any later owner.
func TestParkedEventIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	w.answerBad()
	_, at := w.record("checking:1", "bad1")
	_, other := w.record("checking:1", "bad2")
	w.record("checking:2", "good1")
	w.await(1, "good1")
	g.awaitParked(2)
	if dropped, err := g.Drop(t.Context(), "bank/nobody", at, "x"); dropped || err != nil {
		t.Errorf("dropped for a dispatcher that is not there: %v", err)
	}
	if dropped, err := g.Drop(t.Context(), name, at, "dropped by an operator: not needed"); !dropped || err != nil {
		t.Fatalf("dropped: %v, %v", dropped, err)
	}
	if dropped, err := g.Drop(t.Context(), name, at, "again"); dropped || err != nil {
		t.Errorf("dropped twice: %v, %v", dropped, err)
	}
	if g.Retry(name, at) {
		t.Error("what is dropped is retried")
	}
	if list := g.awaitParked(1); list[0].At != other {
		t.Errorf("still parked: %+v", list)
	}
	d := w.decisions()["bad1"]
	if len(d) != 2 || d[1].Status != avro.DispatchDropped || d[1].Reason != "dropped by an operator: not needed" || len(d[1].Commands) != 0 {
		t.Errorf("decisions %+v", d)
	}
	calls := w.calls("bad1")
	g.stop()
	w.answer(w.transfer)
	g = w.start("").started()
	g.awaitParked(1)
	w.record("checking:1", "good2")
	w.await(1, "good2")
	if n := w.calls("bad1"); n != calls {
		t.Errorf("it was asked about %d times more", n-calls)
	}
	w.await(0, "bad1")
}

// A function that is not there costs no attempt.
func TestUnavailableFunctionIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	w.answer(func(*runtime.Message) Answer {
		return Answer{Trouble: &Trouble{Wait: 10 * time.Millisecond, Reason: "scaled to zero"}}
	})
	w.record("checking:1", "e0")
	w.record("checking:1", "e1")
	kafkatest.Wait(t, patience, func() error {
		if n := w.calls("e0"); n < 10 {
			return fmt.Errorf("asked %d times", n)
		}
		return nil
	})
	if w.calls("e1") != 0 {
		t.Error("the next event of the aggregate went ahead")
	}
	if n := len(g.parked()); n != 0 {
		t.Errorf("%d events are parked", n)
	}
	w.answer(w.transfer)
	w.oneEach([]string{"e0", "e1"})
}

// A rewind asks about everything again, under new ids.
func TestReplayGivesNewIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.record("checking:1", "old")
	a := w.start(trigger("latest"))
	b := w.start("")
	kafkatest.Wait(t, patience, func() error {
		if n := a.holds(w.topics.Events("")) + b.holds(w.topics.Events("")); n != partitions {
			return fmt.Errorf("%d partitions are held", n)
		}
		return nil
	})
	var events []string
	for i := range 8 {
		events = append(events, fmt.Sprintf("e%d", i))
		w.record(fmt.Sprintf("checking:%d", i), events[i])
	}
	w.await(1, events...)
	epoch, err := a.Replay(w.ctx(), name, time.Time{}, nil)
	if err != nil || epoch != 1 {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	// The same order after the same epoch is one order; another one is refused.
	zero := uint64(0)
	if epoch, err := a.Replay(w.ctx(), name, time.Time{}, &zero); err != nil || epoch != 1 {
		t.Errorf("repeated: epoch %d, %v", epoch, err)
	}
	var other *EpochError
	if _, err := a.Replay(w.ctx(), name, time.Unix(1000, 0), &zero); !errors.As(err, &other) || other.Have != 1 {
		t.Errorf("another order after an epoch that is over: %v", err)
	}
	after := w.await(2, events...)
	for _, id := range events {
		if x, y := after[id][0], after[id][1]; x.ID == y.ID || y.Subject == x.Subject {
			t.Errorf("%s: commands %s and %s", id, x.ID, y.ID)
		}
	}
	w.await(1, "old")
	if _, err := a.Replay(context.Background(), "bank/none", time.Time{}, nil); err == nil {
		t.Error("a dispatcher that is not declared was sent back")
	}
	// Nothing of it is done once more.
	a.stop()
	b.stop()
	w.start("").started()
	w.record("checking:1", "last")
	w.await(1, "last")
	w.await(2, events...)
}

// The relay begins again where not all was acknowledged, and a lost position of it
// is the beginning.
func TestRelayRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	var events []string
	for i := range 20 {
		events = append(events, fmt.Sprintf("e%d", i))
		w.record(fmt.Sprintf("checking:%d", i), events[i])
		if i == 10 {
			g.crash()
			g = w.start("")
		}
	}
	w.oneEach(events)
	g.stop()
	w.deleteGroup(w.topics.Dispatched() + "-relay")
	before := len(w.messages(w.topics.Commands()))
	w.start("")
	kafkatest.Wait(t, patience, func() error {
		if n := len(w.messages(w.topics.Commands())); n < before+len(events) {
			return fmt.Errorf("%d commands, want all %d again", n-before, len(events))
		}
		return nil
	})
	w.oneEach(events) // a repeat is the same command
}

// Triggers change while the gateway runs.
func TestTriggersChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	reload := func(text string) {
		t.Helper()
		w.must(os.WriteFile(w.file, []byte(text), 0o600))
		w.must(g.cfg.Router.Load(w.ctx()))
	}
	w.record("checking:1", "e0")
	w.await(1, "e0")
	reload(strings.Replace(trigger("latest"), "prefix: {type: CheckingAccount.}", "exact: {type: CheckingAccount.Closed}", 1))
	w.record("checking:1", "e1")
	w.recordType("checking:1", "e2", "CheckingAccount.Closed")
	w.await(1, "e2")
	if w.calls("e1") != 0 {
		t.Error("the changed filter let it pass")
	}
	// A second one begins, the first one stops and keeps its position.
	reload(strings.Replace(trigger("earliest"), "name: transfers", "name: other", 1))
	kafkatest.Wait(t, patience, func() error {
		if runners := g.list(); len(runners) != 1 || runners[0].name != "bank/other" {
			return fmt.Errorf("%d dispatchers run", len(runners))
		}
		return nil
	})
	all := w.await(2, "e0", "e2")
	if a, b := all["e0"][0].Source, all["e0"][1].Source; a == b {
		t.Errorf("both commands are of %s", a)
	}
	w.record("checking:1", "e3")
	w.await(1, "e3")
	reload(trigger("latest"))
	w.await(2, "e3")
	if w.calls("e0") != 2 || w.calls("e3") != 2 {
		t.Errorf("e0 was asked about %d times, e3 %d times", w.calls("e0"), w.calls("e3"))
	}
}

// Events that come after a Trigger is gone, and before its dispatcher has stopped,
// are there when it is back.
func TestEventsBetweenGoneAndStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	r := g.list()[0]
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	reload := func(text string) {
		t.Helper()
		w.must(os.WriteFile(w.file, []byte(text), 0o600))
		w.must(g.cfg.Router.Load(w.ctx()))
	}
	g.mu.Lock() // nothing is stopped meanwhile
	reload(strings.Replace(trigger("latest"), "name: transfers", "name: other", 1))
	_, at := w.record("checking:1", "e0")
	kafkatest.Wait(t, patience, func() error {
		passed := false
		for _, p := range s.list() {
			p.each(func(u *unit) { passed = passed || p.held.Partition == at.Partition && u.track.Low() > at.Offset })
		}
		if s.ctx.Err() == nil && !passed {
			return fmt.Errorf("the event has not come")
		}
		return nil
	})
	g.mu.Unlock()
	reload(trigger("latest"))
	w.oneEach([]string{"e0"})
}

// An answer that makes no command that can be sent spends attempts like any other
// wrong one; no decision is recorded whose commands are lost.
func TestCommandThatCannotBeSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	w.answer(func(event *runtime.Message) Answer {
		return Answer{Commands: []*runtime.Message{command("savings:1"), command("")}, By: "bank/transfers image"}
	})
	w.record("checking:1", "e0")
	if p := g.awaitParked(1)[0]; p.Attempts != 3 || !strings.Contains(p.Reason, "command 2 of 2") {
		t.Errorf("parked: %+v", p)
	}
	// The relay leaves nothing out that was decided.
	m, d := &runtime.Message{Source: "/evento/test/dispatchers/bank/transfers"}, &avro.Dispatched{Commands: []avro.DispatchedCommand{{Type: "SavingsAccount.ReceiveDeposit"}}}
	if _, err := commandsOf(m, d); err == nil || errors.Is(err, kafka.ErrRecord) {
		t.Errorf("a command that cannot be sent: %v", err)
	}
}

// What is finished above an event that waits is not asked about again.
func TestFinishedAboveTheOneThatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	w.answer(func(event *runtime.Message) Answer {
		if w.name(event.ID) == "stuck" {
			return Answer{Trouble: &Trouble{Wait: 20 * time.Millisecond, Reason: "away"}}
		}
		return w.transfer(event)
	})
	_, at := w.record("checking:0", "stuck")
	var events []string
	for i := 0; len(events) < 6; i++ { // other aggregates of the same partition
		account := fmt.Sprintf("checking:other%d", i)
		if kafka.Partition(account, partitions) == at.Partition {
			events = append(events, fmt.Sprintf("e%d", len(events)))
			w.record(account, events[len(events)-1])
		}
	}
	w.await(1, events...)
	g.crash()
	w.start("").started()
	w.answer(w.transfer)
	w.oneEach(append(events, "stuck"))
	w.asksEachOnce(6)
}

// More events wait than the position's metadata has room for: they are set aside,
// and found again by the next owner.
func TestManyThatWaitAreSetAside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	w.answer(func(event *runtime.Message) Answer {
		if strings.HasPrefix(w.name(event.ID), "stuck") {
			return Answer{Trouble: &Trouble{Wait: time.Second, Reason: "away"}}
		}
		return w.transfer(event)
	})
	var quick, stuck []string
	for i := 0; len(stuck) < 1300; i++ {
		account := fmt.Sprintf("checking:n%d", i)
		if kafka.Partition(account, partitions) != 0 {
			continue
		}
		if id := fmt.Sprint(i); len(quick) == len(stuck) {
			quick = append(quick, "quick"+id)
			w.record(account, "quick"+id)
		} else {
			stuck = append(stuck, "stuck"+id)
			w.record(account, "stuck"+id)
		}
	}
	w.await(1, quick...)
	kafkatest.Wait(t, patience, func() error {
		if len(g.parked()) == 0 {
			return fmt.Errorf("nothing is set aside")
		}
		return nil
	})
	aside := g.parked()
	if aside[0].Status != avro.DispatchWaiting {
		t.Errorf("%+v", aside[0])
	}
	g.crash()
	w.answer(w.transfer)
	g = w.start("").started()
	w.await(1, append(quick, stuck...)...)
	g.awaitParked(0)
	for id, list := range w.decisions() {
		decided := 0
		for _, d := range list {
			if d.Status == avro.DispatchDecided {
				decided++
			}
		}
		if decided != 1 {
			t.Errorf("%s: %d decisions", id, decided)
		}
	}
	for _, id := range quick {
		if n := w.calls(id); n != 1 {
			t.Errorf("%s was asked about %d times", id, n)
		}
	}
}
