package kafka

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/kafkatest"
)

func TestSpansEndBelowOpenTransactions(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.reader(20 * time.Second)
	p := Place{l.topic, 0}
	stable := func() int64 {
		t.Helper()
		spans, err := r.Spans(soon(t), []Place{p})
		if err != nil || spans[p].Low != 0 {
			t.Fatalf("spans: %v, %v", spans, err)
		}
		return spans[p].Stable
	}
	if got := stable(); got != 0 {
		t.Errorf("an empty partition is stable to %d", got)
	}
	l.write("a", "b")
	end := l.transaction("c")
	if got := stable(); got != 2 {
		t.Errorf("with a transaction open from 2 it is stable to %d", got)
	}
	end(kgo.TryCommit)
	if got := stable(); got != 4 {
		t.Errorf("after the transaction it is stable to %d, want 4", got)
	}
	if _, err := r.Spans(soon(t), []Place{{l.topic + "-not", 0}}); err == nil {
		t.Error("a topic that does not exist has a span")
	}
}

func TestOffsetAtATime(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.reader(20 * time.Second)
	client := l.client()
	base := time.Now().Add(-5 * time.Second).UnixMilli() // a client does not send old records
	for i := range 4 {
		record := &kgo.Record{Topic: l.topic, Value: []byte{'a'}, Timestamp: time.UnixMilli(base + int64(1000*i))}
		if err := client.ProduceSync(soon(t), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for ms, want := range map[int64]int64{-1000: 0, 0: 0, 1: 1, 2500: 3, 3000: 3, 3001: 4, 1 << 30: 4} {
		if got, err := r.OffsetAt(soon(t), Place{l.topic, 0}, time.UnixMilli(base+ms)); err != nil || got != want {
			t.Errorf("at %d ms: offset %d, want %d (%v)", ms, got, want, err)
		}
	}
}

func TestTailReadsOnAndTakesFurtherPartitions(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.reader(20 * time.Second)
	l.write("a", "b", "c")
	l.transaction("x")(kgo.TryAbort) // 3, marker 4
	var mu sync.Mutex
	var got []string
	reached := map[Place]int64{}
	await := func(what string, done func() bool) {
		t.Helper()
		kafkatest.Wait(t, 30*time.Second, func() error {
			mu.Lock()
			defer mu.Unlock()
			if !done() {
				return fmt.Errorf("%s: got %v up to %v", what, got, reached)
			}
			return nil
		})
	}
	further := l.topic + "-further"
	if _, err := kadm.NewClient(l.plain).CreateTopic(soon(t), 1, -1, nil, further); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	more := make(chan map[Place]int64, 1)
	done := make(chan error, 1)
	go func() {
		done <- r.Tail(ctx, map[Place]int64{{l.topic, 0}: 1}, more, func(r Record) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, string(r.Value))
		}, func(p Place, to int64) {
			mu.Lock()
			defer mu.Unlock()
			reached[p] = to
		})
	}()
	await("from offset 1, past what was aborted", func() bool { return fmt.Sprint(got) == "[b c]" && reached[Place{l.topic, 0}] == 5 })
	end := l.transaction("d", "e")
	l.write("f")
	end(kgo.TryCommit)
	await("a transaction is given when it commits", func() bool { return fmt.Sprint(got) == "[b c d e f]" })
	if err := l.plain.ProduceSync(soon(t), &kgo.Record{Topic: further, Value: []byte("g")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	more <- map[Place]int64{{further, 0}: 0}
	await("a further partition", func() bool { return reached[Place{further, 0}] == 1 && got[len(got)-1] == "g" })
	stop()
	if err := <-done; err != nil {
		t.Errorf("the end of the context: %v", err)
	}
	err := r.Tail(soon(t), map[Place]int64{{l.topic, 0}: 1000}, nil, func(Record) {}, func(Place, int64) {})
	if err == nil {
		t.Error("from beyond the log: no error")
	}
}
