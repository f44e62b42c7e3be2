package kafka

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// begin runs a consumer until its context ends; what Run returns comes from ended.
func begin(ctx context.Context, t *testing.T, k *kafkatest.Kafka, c ConsumerConfig, do func(Record, func())) (x *Consumer, ended <-chan error) {
	t.Helper()
	c.Settings, c.Log = settings(t, strings.Join(k.Servers, ",")), quiet()
	x, err := NewConsumer(c)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx, do) }()
	return x, done
}

// consume runs a consumer until stop.
func consume(t *testing.T, k *kafkatest.Kafka, c ConsumerConfig, do func(Record, func())) (x *Consumer, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	x, ended := begin(ctx, t, k, c, do)
	return x, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// awaitCount waits until there are so many of what is counted.
func awaitCount(t *testing.T, n *atomic.Int64, want int64, what string) {
	t.Helper()
	kafkatest.Wait(t, time.Minute, func() error {
		if have := n.Load(); have < want {
			return fmt.Errorf("%d %s, want %d", have, what, want)
		}
		return nil
	})
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
	awaitCount(t, &all, records, "records")
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
		awaitCount(t, &n, int64(want), "records")
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

// One that stops while its group rebalances, and has not been told so yet, stops:
// librdkafka by itself closes without waiting for the callback, which then waits for
// ever. What was finished is committed nevertheless, and the others go on after it.
func TestConsumerStopsDuringRebalance(t *testing.T) {
	t.Parallel()
	const records = 8
	k := kafkatest.Embedded(t)
	topic := k.Topic(t, "in", 2)
	fill(t, k, topic, 2, 0, records)
	group := k.Group("g")
	seen := func(key kmsg.Key) *atomic.Int64 {
		n := new(atomic.Int64)
		k.Fake.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			k.Fake.KeepControl()
			n.Add(1)
			return nil, nil, false
		})
		return n
	}

	// The first record keeps the one that reads busy until the test lets it go on.
	busy, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var finish func()
	ctx, stop := context.WithCancel(t.Context())
	_, ended := begin(ctx, t, k, ConsumerConfig{Group: group, Topic: topic}, func(_ Record, finished func()) {
		once.Do(func() { finish = finished; close(busy); <-goOn })
	})
	<-busy

	// Another one comes. It joins, and two heartbeats later the first one's client knows;
	// with five, the time to commit has come as well, and what is finished after that
	// commit is what there is to be committed at the end.
	joins := seen(kmsg.JoinGroup)
	var others atomic.Int64
	_, leave := consume(t, k, ConsumerConfig{Group: group, Topic: topic}, func(_ Record, finished func()) { others.Add(1); finished() })
	awaitCount(t, joins, 1, "requests to join")
	awaitCount(t, seen(kmsg.Heartbeat), 5, "heartbeats")

	// The one that reads stops, with something to be committed when it is told.
	commits := seen(kmsg.OffsetCommit)
	stop()
	close(goOn)
	awaitCount(t, commits, 1, "commits")
	finish()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(consumerClose * 2 / 3): // it was not left behind
		t.Fatal("the consumer does not stop")
	}
	awaitCount(t, &others, records-1, "records of the other one")
	leave()
	if n := others.Load(); n != records-1 {
		t.Errorf("the other one has read %d records, and one of %d was finished before", n, records)
	}
}
