package gateway

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// wantStopped holds an aggregate whose log is torn against what it may do, and
// another one that goes on.
func (r *runningEngine) wantStopped(t *testing.T, torn, fine runtime.AggregateID, id string, version uint64) {
	t.Helper()
	r.awaitHeld(t)
	if _, _, err := r.State(patience(t), torn, 0); !errors.Is(err, ErrBroken) {
		t.Errorf("its state: %v, want ErrBroken", err)
	}
	if _, _, err := r.Events(patience(t), torn, 0, 10); !errors.Is(err, ErrBroken) {
		t.Errorf("its events: %v, want ErrBroken", err)
	}
	m := r.w.deposit(t, torn, id, 1)
	if _, err := r.Append(patience(t), m); err != nil {
		t.Fatal(err)
	}
	if o, err := r.Outcome(patience(t), torn, m.Key()); err != nil || o.Status != OutcomeHeld || o.Reason == "" {
		t.Errorf("a command to it: %+v, %v; want it held, with the reason", o, err)
	}
	list, _, err := r.Parked(patience(t), ParkedFilter{Aggregate: torn, Status: OutcomeHeld})
	if err != nil || len(list) == 0 {
		t.Errorf("its commands are not listed: %+v, %v", list, err)
	}
	eventually(t, "it counts as corrupt", func() bool { return r.metric("evento_corrupt_aggregates_total") == 1 })
	if o := r.send(r.w.deposit(t, fine, id, 1)); o.Version != version {
		t.Errorf("another aggregate: %+v", o)
	}
}

// Kafka promises that no transaction is there in part. Should it be, whoever
// misses an event is stopped, for later owners, too, and nobody else.
func TestTornCommitIsStoppedAndShown(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 1)
	var tear atomic.Bool
	w.made = func(e *Engine) {
		e.commitTxn = func(ctx context.Context, txn kafka.Txn) kafka.Result {
			r := e.commit.Commit(ctx, txn)
			for i := range txn.Records {
				if r.Outcome == kafka.Committed && txn.Records[i].Topic == w.topics.Events("CheckingAccount") && string(txn.Records[i].Key) == "checking:1" && tear.Load() {
					r.Offsets[i], r.Err = -1, kafka.ErrTorn
				}
			}
			return r
		}
	}
	e := w.start(1)
	e.send(w.open(t, "checking:1"))
	e.send(w.open(t, "checking:2"))
	tear.Store(true)
	torn := w.deposit(t, "checking:1", "torn", 1)
	if _, err := e.Append(patience(t), torn); err != nil {
		t.Fatal(err)
	}
	ctx := patience(t)
	for {
		o, err := e.Outcome(ctx, "checking:1", torn.Key())
		if err == nil && o.Status == OutcomeHeld && strings.Contains(o.Reason, "committed in part") {
			break
		}
		if !sleep(ctx, 10*time.Millisecond) {
			t.Fatalf("the torn command: %+v, %v", o, err)
		}
	}
	e.wantStopped(t, "checking:1", "checking:2", "d1", 2)
	e.stop()
	second := w.start(1)
	second.wantStopped(t, "checking:1", "checking:2", "d2", 3)
	if p := w.positions(t, 0)[0]; !p.Found {
		t.Error("there is no position")
	}
}

// A takeover finds a command with fewer events than it had; the one after it,
// which begins to read behind that, knows it from the heads.
func TestTornLogIsFoundAndRemembered(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 1)
	first := w.start(1)
	first.send(w.open(t, "checking:1"))
	first.send(w.open(t, "checking:2"))
	first.stop()
	half := headEvent(0, "half", 1, 2, 2)
	half.Topic, half.Key = w.topics.Events("CheckingAccount"), []byte("checking:1")
	for i := range half.Headers {
		switch half.Headers[i].Key {
		case kafka.HeaderName("subject"):
			half.Headers[i].Value = []byte("checking:1")
		case kafka.HeaderName("partitionkey"):
			half.Headers[i].Value = []byte("checking:1")
		}
	}
	if _, err := w.producer.Produce(patience(t), half); err != nil {
		t.Fatal(err)
	}
	second := w.start(1)
	second.wantStopped(t, "checking:1", "checking:2", "d1", 2)
	second.stop()
	third := w.start(1)
	third.wantStopped(t, "checking:1", "checking:2", "d2", 3)
	third.crash()
	fourth := w.start(1)
	fourth.wantStopped(t, "checking:1", "checking:2", "d3", 4)
}
