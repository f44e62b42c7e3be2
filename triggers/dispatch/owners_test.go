package dispatch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
)

// oneEach checks that each event has one decision and one command, the same.
func (w *world) oneEach(events []string) {
	w.t.Helper()
	commands, decisions := w.await(1, events...), w.decisions()
	for _, id := range events {
		d := decisions[id]
		if len(d) != 1 || d[0].Status != avro.DispatchDecided || d[0].Commands[0].Target != commands[id][0].Subject {
			w.t.Errorf("event %s: decisions %+v, command to %s", id, d, commands[id][0].Subject)
		}
	}
}

// The function answers each call with another target. Owners come and go, with
// and without a last word.
func TestTakeoversLeaveOneDecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	rng := rand.New(rand.NewPCG(1, 2))
	first := w.start(trigger("latest")).started()
	running := []*gateway{first}
	var events []string
	for round := range 6 {
		for range 15 {
			id := fmt.Sprintf("e%d", len(events))
			events = append(events, id)
			w.record(fmt.Sprintf("checking:%d", rng.IntN(20)), id)
		}
		switch {
		case round%2 == 0:
			running = append(running, w.start(""))
		case rng.IntN(2) == 0:
			running[0].crash()
			running = running[1:]
		default:
			running[0].stop()
			running = running[1:]
		}
	}
	w.oneEach(events)
}

// Answers to the ends of transactions are lost: whether they took effect is found
// in the log.
func TestUncertainTransactionsLeaveOneDecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	if w.kafka.Fake == nil {
		t.Skip("the real one loses no answers on request")
	}
	w.start(trigger("latest")).started()
	var ends atomic.Int64
	w.kafka.Fake.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.Fake.KeepControl()
		if ends.Add(1)%3 == 0 {
			return nil, errors.New("cut"), true
		}
		return nil, nil, false
	})
	var events []string
	for i := range 40 {
		events = append(events, fmt.Sprintf("e%d", i))
		w.record(fmt.Sprintf("checking:%d", i%7), events[i])
		if i%5 == 4 {
			w.await(1, events[i])
		}
	}
	w.oneEach(events)
	if ends.Load() < 3 {
		t.Errorf("only %d transactions were ended", ends.Load())
	}
}

// A position that is lost is made from the start and the decisions: what is
// decided is not asked about again, and what came meanwhile is.
func TestLostPosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.record("checking:0", "before")
	g := w.start(trigger("latest")).started()
	var events []string
	for i := range 12 {
		events = append(events, fmt.Sprintf("e%d", i))
		w.record(fmt.Sprintf("checking:%d", i), events[i])
	}
	w.await(1, events...)
	g.stop()
	w.deleteGroup(w.groupID())
	for i := range 4 {
		events = append(events, fmt.Sprintf("later%d", i))
		w.record(fmt.Sprintf("checking:%d", i), events[len(events)-1])
	}
	w.start("").started()
	w.oneEach(events)
	for _, id := range events {
		if n := w.calls(id); n != 1 {
			t.Errorf("%s was asked about %d times", id, n)
		}
	}
	if w.calls("before") != 0 {
		t.Error("an event from before the dispatcher's start was asked about")
	}
}

// A plain commit that was given up reaches the group late, after the transactions
// that came behind it.
func TestPositionThatWasMovedBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	w.record("checking:0", "e0")
	w.await(1, "e0")
	cl, err := kgo.NewClient(w.kafka.Opts()...)
	w.must(err)
	defer cl.Close()
	admin := kadm.NewClient(cl)
	before, err := admin.FetchOffsets(w.ctx(), w.groupID())
	w.must(err)
	for i := 1; i < 4; i++ {
		w.record("checking:0", fmt.Sprintf("e%d", i))
	}
	w.await(1, "e1", "e2", "e3")
	g.stop()
	w.must(admin.CommitAllOffsets(w.ctx(), w.groupID(), before.Offsets()))
	w.record("checking:0", "e4")
	w.start("").started()
	w.oneEach([]string{"e0", "e1", "e2", "e3", "e4"})
	w.asksEachOnce(5)
}

// Events are recorded in transactions, whose ends take offsets: nothing of them
// counts as unfinished.
func TestEndsOfTransactionsAreNoLag(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	cl, err := kgo.NewClient(append(w.kafka.Opts(), kgo.TransactionalID(w.topics.Prefix+"writer"), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	w.must(err)
	defer cl.Close()
	for p := range int32(partitions) {
		w.must(cl.BeginTransaction())
		w.must(cl.ProduceSync(w.ctx(), &kgo.Record{Topic: w.topics.Events(""), Partition: p, Value: []byte("none of ours")}).FirstErr())
		w.must(cl.EndTransaction(w.ctx(), kgo.TryCommit))
	}
	kafkatest.Wait(t, patience, func() error {
		if n := w.committed(w.topics.Events("")); n != 2*partitions {
			return fmt.Errorf("the positions add up to %d, want %d", n, 2*partitions)
		}
		return nil
	})
	kafkatest.Wait(t, patience, func() error {
		if s, ok := g.Status(name); !ok || s.Lag != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func (w *world) groupID() string { return w.topics.Dispatched() + ".bank.transfers" }

func (w *world) deleteGroup(group string) {
	w.t.Helper()
	cl, err := kgo.NewClient(w.kafka.Opts()...)
	w.must(err)
	defer cl.Close()
	kafkatest.Wait(w.t, patience, func() error {
		r, err := kadm.NewClient(cl).DeleteGroups(w.ctx(), group)
		if err == nil {
			err = r.Error()
		}
		return err
	})
}

// committed adds up the dispatcher's positions in a topic.
func (w *world) committed(topic string) (sum int64) {
	w.t.Helper()
	franz, err := w.settings.Franz(w.log)
	w.must(err)
	look, err := kafka.NewTakeover(franz, w.groupID(), topic, w.log)
	w.must(err)
	defer look.Close()
	positions, err := look.StableOffsets(w.ctx(), []int32{0, 1, 2, 3})
	w.must(err)
	for _, p := range positions {
		if p.Found {
			sum += p.Offset
		}
	}
	return sum
}

func TestFilterThatMatchesNothingMovesThePosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.start(trigger("latest")).started()
	for i := range 20 {
		w.recordType(fmt.Sprintf("savings:%d", i), fmt.Sprintf("s%d", i), "SavingsAccount.Opened")
	}
	kafkatest.Wait(t, patience, func() error {
		if n := w.committed(w.topics.Events("")); n != 20 {
			return fmt.Errorf("the positions add up to %d, want 20", n)
		}
		return nil
	})
	if n := len(w.messages(w.topics.Dispatched())); n != 0 {
		t.Errorf("%d decisions", n)
	}
}

// Aggregates are registered while the dispatcher runs; each has a topic.
func TestTopicsOfNewAggregates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kafka.PerAggregate)
	w.register("SavingsAccount.avsc")
	g := w.start(trigger("latest"))
	g.started(w.topics.Events("SavingsAccount"))
	w.register("CheckingAccount.avsc")
	var events []string
	for i := range 8 {
		events = append(events, fmt.Sprintf("e%d", i))
		w.record(fmt.Sprintf("checking:%d", i), events[i])
		w.recordType(fmt.Sprintf("savings:%d", i), fmt.Sprintf("s%d", i), "SavingsAccount.Opened")
	}
	w.oneEach(events)
	g.stop()
	events = append(events, "e8")
	w.record("checking:3", "e8")
	w.start("").started(w.topics.Events("CheckingAccount"))
	w.oneEach(events)
	w.asksEachOnce(9)
}

func TestGatewaysShareADispatcher(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	a, b := w.start(trigger("latest")), w.start("")
	topic := w.topics.Events("")
	kafkatest.Wait(t, patience, func() error {
		if x, y := a.holds(topic), b.holds(topic); x == 0 || y == 0 || x+y != partitions {
			return fmt.Errorf("they hold %d and %d", x, y)
		}
		return nil
	})
	var events []string
	for i := range 30 {
		events = append(events, fmt.Sprintf("e%d", i))
		w.record(fmt.Sprintf("checking:%d", i), events[i])
		if i == 15 {
			go a.crash()
		}
	}
	w.oneEach(events)
}
