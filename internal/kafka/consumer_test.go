package kafka

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// consume runs a consumer until stop.
func consume(t *testing.T, k *kafkatest.Kafka, c ConsumerConfig, do func(Record, func())) (x *Consumer, stop func()) {
	t.Helper()
	c.Settings, c.Log = settings(t, strings.Join(k.Servers, ",")), quiet()
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

// A rebalance brings a partition that was not paused with the others: what is
// unfinished stays bounded nevertheless.
func TestConsumerStaysBoundedOverRebalances(t *testing.T) {
	t.Parallel()
	const records = 400
	k := kafkatest.Start(t)
	topic := k.Topic(t, "in", 2)
	fill(t, k, topic, 2, 0, records)
	begun := func(c ConsumerConfig, do func(Record, func())) (x *Consumer, stop func()) {
		c.Topic = topic
		return consume(t, k, c, do)
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

// A position of ours is gone on from; any other is none, whatever it leaves out.
func TestConsumerTrustsItsOwnPositionsAlone(t *testing.T) {
	t.Parallel()
	const records = 40
	k := kafkatest.Start(t)
	topic := k.Topic(t, "in", 2)
	fill(t, k, topic, 2, 0, records)
	client, err := kgo.NewClient(k.Opts()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	group := k.Group("g")
	// read reads until it has so many records, or one more than that.
	read := func(topicID string, want int) {
		t.Helper()
		var n atomic.Int64
		_, stop := consume(t, k, ConsumerConfig{Group: group, Topic: topic, TopicID: topicID}, func(_ Record, finished func()) { n.Add(1); finished() })
		kafkatest.Wait(t, time.Minute, func() error {
			if n.Load() < int64(want) {
				return fmt.Errorf("%d records were read, want %d", n.Load(), want)
			}
			return nil
		})
		stop()
		if n.Load() != int64(want) {
			t.Errorf("%d records were read, want %d", n.Load(), want)
		}
	}
	commit := func(change func(*kadm.Offset)) {
		t.Helper()
		kafkatest.Wait(t, time.Minute, func() error {
			had, err := admin.FetchOffsets(t.Context(), group)
			if err != nil {
				return err
			}
			var offsets kadm.Offsets
			had.Offsets().Each(func(o kadm.Offset) { change(&o); offsets.Add(o) })
			answers, err := admin.CommitOffsets(t.Context(), group, offsets)
			if err == nil {
				err = answers.Error()
			}
			return err
		})
	}
	read("one", records)
	fill(t, k, topic, 2, records, records/2)
	read("one", records/2)
	commit(func(o *kadm.Offset) { o.Metadata = "" }) // as tools do that reset a group to the end
	read("one", records*3/2)
	commit(func(o *kadm.Offset) { o.At++ })
	read("one", records*3/2)
	read("another", records*3/2)
}
