package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func producer(t testing.TB, s Settings) *Producer {
	t.Helper()
	p, err := NewProducer(s, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestProducerKeepsOrderAndCounts(t *testing.T) {
	t.Parallel()
	_, s := fake(t, kfake.SeedTopics(2, "t"))
	p := producer(t, s)
	const each = 200
	var writers sync.WaitGroup
	for partition := range int32(2) {
		writers.Go(func() {
			last := int64(-1)
			for i := range each {
				offset, err := p.Produce(soon(t), Record{Topic: "t", Partition: partition, Key: []byte("k"), Value: fmt.Appendf(nil, "%d", i), Headers: []Header{{"h", []byte("v")}}})
				if err != nil || offset != last+1 {
					t.Errorf("record %d of partition %d: offset %d, %v", i, partition, offset, err)
					return
				}
				last = offset
			}
		})
	}
	writers.Wait()
	if n := p.Waiting(); n != 0 {
		t.Errorf("%d records on their way after all were acknowledged", n)
	}
}

func TestProducerTellsWhatIsCertain(t *testing.T) {
	t.Parallel()
	cluster, s := fake(t, kfake.SeedTopics(1, "t"))
	p := producer(t, s)
	ctx := soon(t)
	_, err := p.Produce(ctx, Record{Topic: "t", Value: bytes.Repeat([]byte("x"), 1_100_000)})
	if !errors.Is(err, ErrNotWritten) {
		t.Errorf("too big for the client: %v, want ErrNotWritten", err)
	}
	_, err = p.Produce(ctx, Record{Topic: "t", Partition: 7})
	if !errors.Is(err, ErrNotWritten) && !errors.Is(err, ErrInDoubt) {
		t.Errorf("unknown partition: %v", err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.Produce(over, Record{Topic: "t"}); !errors.Is(err, ErrNotWritten) || !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: %v, want ErrNotWritten", err)
	}

	// The broker says that the record itself is too big.
	cluster.ControlKey(int16(kmsg.Produce), produceError(kerr.MessageTooLarge.Code))
	if _, err = p.Produce(ctx, Record{Topic: "t"}); !errors.Is(err, ErrNotWritten) || !strings.Contains(err.Error(), "message.max.bytes is 1000000") {
		t.Errorf("too big for the broker: %v, want ErrNotWritten that names message.max.bytes", err)
	}

	// The broker takes requests and says nothing: nobody knows.
	release := make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.SleepControl(func() { <-release })
		return nil, errors.New("the broker goes away"), true
	})
	s, err = s.With("delivery.timeout.ms", "1000")
	if err != nil {
		t.Fatal(err)
	}
	p = producer(t, s)
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if _, err := p.Produce(short, Record{Topic: "t"}); !errors.Is(err, ErrInDoubt) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up by its context: %v, want ErrInDoubt", err)
	}
	if _, err := p.Produce(ctx, Record{Topic: "t"}); !errors.Is(err, ErrInDoubt) || !strings.Contains(err.Error(), "delivery.timeout.ms, 1s") {
		t.Errorf("without an answer: %v, want ErrInDoubt that names delivery.timeout.ms", err)
	}
	close(release)
}

func produceError(code int16) func(kmsg.Request) (kmsg.Response, error, bool) {
	return func(req kmsg.Request) (kmsg.Response, error, bool) {
		r := req.(*kmsg.ProduceRequest)
		resp := r.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	}
}

func TestProducerOutlivesAFatalError(t *testing.T) {
	t.Parallel()
	_, s := fake(t, kfake.SeedTopics(1, "t"))
	p := producer(t, s)
	ctx := soon(t)
	if _, err := p.Produce(ctx, Record{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	p.mu.RLock()
	dead := p.client
	p.mu.RUnlock()
	dead.TestFatalError(ck.ErrOutOfOrderSequenceNumber, "by the test")
	// Records that meet the dead client fail; soon there is a new one.
	for {
		offset, err := p.Produce(ctx, Record{Topic: "t"})
		if err == nil {
			if offset != 1 {
				t.Errorf("offset %d after the replacement, want 1", offset)
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestProducerClose(t *testing.T) {
	t.Parallel()
	cluster, s := fake(t, kfake.SeedTopics(1, "t"))
	p, err := NewProducer(s, quiet())
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 100)
	for range cap(results) {
		p.ProduceAsync(Record{Topic: "t"}, func(_ int64, err error) { results <- err })
	}
	if err := p.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Fatalf("Close did not flush: %v", err)
		}
	}
	if _, err := p.Produce(soon(t), Record{Topic: "t"}); !errors.Is(err, ErrNotWritten) {
		t.Errorf("after Close: %v, want ErrNotWritten", err)
	}
	if err := p.Close(soon(t)); err != nil {
		t.Errorf("second Close: %v", err)
	}

	// Nobody answers: Close gives up at its deadline, and says so to all.
	if p, err = NewProducer(s, quiet()); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	defer close(release)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.SleepControl(func() { <-release })
		return nil, nil, false
	})
	p.ProduceAsync(Record{Topic: "t"}, func(_ int64, err error) { results <- err })
	short, cancel := context.WithTimeout(soon(t), 100*time.Millisecond)
	defer cancel()
	if err := p.Close(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close without an answer: %v", err)
	}
	if err := <-results; !errors.Is(err, ErrInDoubt) {
		t.Errorf("the record that was given up: %v, want ErrInDoubt", err)
	}
}

// One alone shows the latency of a write, many at once what batching is worth.
func BenchmarkProduce(b *testing.B) {
	for _, linger := range []string{"0", "0.5", "2"} {
		for _, writers := range []int{1, 128} {
			b.Run(fmt.Sprintf("linger.ms=%s/writers=%d", linger, writers), func(b *testing.B) {
				l := newLog(b)
				s, err := l.settings.With("linger.ms", linger)
				if err != nil {
					b.Fatal(err)
				}
				p := producer(b, s)
				r := NewRecord(l.topic, 0, busy())
				var left atomic.Int64
				left.Store(int64(b.N))
				var all sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range writers {
					all.Go(func() {
						for left.Add(-1) >= 0 {
							if _, err := p.Produce(b.Context(), r); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}
