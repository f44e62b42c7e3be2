package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// An aggregate that is held with more commands than a partition reads at a time
// stops no other, and when too much is set aside it alone takes no more.
func TestHeldAggregateWithAHugeQueueStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 1)
	e := w.start(1, func(c *EngineConfig) { c.MaxBacklog, c.MaxAside = 20, 50 })
	e.send(w.open(t, "checking:1"))
	e.send(w.open(t, "checking:2"))
	w.wire.setFault(func(_ context.Context, _ string, items []runtime.Invocation) error {
		for _, i := range items {
			if i.Aggregate == "checking:1" {
				return &runtime.CallError{Kind: runtime.CallFailed, Status: 500, Reason: "no"}
			}
		}
		return nil
	})
	var last *runtime.Message
	for i := range 200 { // as another gateway's intake does, which does not know
		last = w.deposit(t, "checking:1", fmt.Sprintf("d%d", i), 1)
		if _, err := w.producer.Produce(patience(t), e.commandRecord(last)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		if o := e.send(w.deposit(t, "checking:2", fmt.Sprintf("d%d", i), 1)); o.Version != uint64(i+2) {
			t.Fatalf("beside it: %+v", o)
		}
	}
	ctx := patience(t)
	told := func() bool {
		return e.metric("evento_aside_commands") >= 200 && e.metric("evento_aside_full") == 1 && e.metric("evento_aside_bytes") >= 200*1000
	}
	for !e.full.Load() || !told() {
		if !sleep(ctx, 10*time.Millisecond) {
			t.Fatalf("200 commands wait, and %v count as set aside, with %v bytes", e.metric("evento_aside_commands"), e.metric("evento_aside_bytes"))
		}
	}
	more := w.deposit(t, "checking:1", "more", 1)
	if _, err := e.Append(ctx, more); !errors.Is(err, ErrTooManyWaiting) {
		t.Errorf("it takes one more: %v", err)
	}
	if !slices.Contains(e.Crowded(), "checking:1") || slices.Contains(e.Crowded(), "checking:2") {
		t.Errorf("the other gateways are told of %v", e.Crowded())
	}
	if o := e.send(w.deposit(t, "checking:2", "still", 1)); o.Version != 32 {
		t.Errorf("beside it: %+v", o)
	}

	w.wire.setFault(nil)
	if o := e.outcome(patience(t), last); o.Version != 201 {
		t.Errorf("the last one of the queue: %+v", o)
	}
	for e.full.Load() {
		if !sleep(ctx, 10*time.Millisecond) {
			t.Fatal("the queue is gone, and still too much is set aside")
		}
	}
	if o := e.send(more); o.Version != 202 {
		t.Errorf("it goes on: %+v", o)
	}
}
