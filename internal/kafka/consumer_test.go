package kafka

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// A rebalance brings a partition that was not paused with the others: what is
// unfinished stays bounded nevertheless.
func TestConsumerStaysBoundedOverRebalances(t *testing.T) {
	t.Parallel()
	const records = 400
	k := kafkatest.Start(t)
	topic := k.Topic(t, "in", 2)
	fill(t, k, topic, 2, 0, records)
	begun := func(c ConsumerConfig, do func(Record, func())) (x *Consumer, stop func()) {
		c.Settings, c.Topic, c.Log = settings(t, strings.Join(k.Servers, ",")), topic, quiet()
		x, err := NewConsumer(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx, do) }()
		return x, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	holds := func(x *Consumer, n int) {
		t.Helper()
		kafkatest.Wait(t, time.Minute, func() error {
			x.mu.Lock()
			defer x.mu.Unlock()
			if len(x.parts) != n {
				return fmt.Errorf("%d partitions are held, want %d", len(x.parts), n)
			}
			return nil
		})
	}
	var given atomic.Int64
	never := func(Record, func()) { given.Add(1) }
	bounded := ConsumerConfig{Group: k.Group("bounded"), Outstanding: 5}
	x, stop := begun(bounded, never)
	defer stop()
	y, leave := begun(bounded, func(Record, func()) {})
	holds(x, 1)
	holds(y, 1)
	kafkatest.Wait(t, time.Minute, func() error {
		if x.mu.Lock(); !x.paused {
			defer x.mu.Unlock()
			return fmt.Errorf("%d unfinished, not paused", x.outstanding)
		}
		x.mu.Unlock()
		return nil
	})
	leave()
	holds(x, 2)
	// The time that another group needs for all there is was time enough.
	var all atomic.Int64
	_, end := begun(ConsumerConfig{Group: k.Group("clock")}, func(_ Record, finished func()) { all.Add(1); finished() })
	kafkatest.Wait(t, time.Minute, func() error {
		if all.Load() < records {
			return fmt.Errorf("%d records", all.Load())
		}
		return nil
	})
	end()
	if n := given.Load(); n > 50 {
		t.Errorf("%d records are unfinished, and 5 is the bound", n)
	}
}
