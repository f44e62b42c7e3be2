package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// echo is the smallest engine there can be: it writes each record of one topic
// to the same partition of another, once.
type echo struct {
	t       testing.TB
	out     string
	group   *Group
	txns    *Transactor
	look    *Takeover
	stop    context.CancelFunc
	done    chan struct{}
	results chan Result // of all commits, as far as somebody listens

	mu      sync.Mutex
	held    map[int32]Held
	revoked int // partitions
	lost    int
}

type echoConfig struct {
	in, out, group, address string
	member, writer          []kgo.Opt // connection of the member, and of all else
	session                 time.Duration
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// newEcho makes an engine that does nothing yet but be assigned partitions.
func newEcho(t testing.TB, c echoConfig) *echo {
	t.Helper()
	e := &echo{t: t, out: c.out, held: make(map[int32]Held), done: make(chan struct{}), results: make(chan Result, 100_000)}
	var err error
	e.group, err = NewGroup(GroupConfig{
		Client: c.member, Group: c.group, Topic: c.in, Address: c.address,
		SessionTimeout: c.session, RebalanceTimeout: 20 * time.Second,
		OnAssigned: e.assigned, OnRevoked: e.onRevoked, OnLost: e.onLost,
		Log: testLog(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	if e.txns, err = NewTransactor(TransactorConfig{Client: c.writer, Group: e.group, Watchdog: 10 * time.Second, TransactionTimeout: 20 * time.Second, Log: testLog(t)}); err != nil {
		t.Fatal(err)
	}
	if e.look, err = NewTakeover(c.writer, c.group, c.in, testLog(t)); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *echo) assigned(h Held) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held[h.Partition] = h
}

func (e *echo) onRevoked(_ context.Context, held []Held) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revoked += len(held)
	e.forget(held)
}

func (e *echo) onLost(held []Held) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost += len(held)
	e.forget(held)
}

func (e *echo) forget(held []Held) {
	for _, h := range held {
		if e.held[h.Partition] == h {
			delete(e.held, h.Partition)
		}
	}
}

// join joins, and waits until the member holds n partitions.
func (e *echo) join(n int) map[int32]Held {
	e.t.Helper()
	if err := e.group.Join(); err != nil {
		e.t.Fatal(err)
	}
	return e.holding(n)
}

func (e *echo) holding(n int) map[int32]Held {
	e.t.Helper()
	held := make(map[int32]Held)
	kafkatest.Wait(e.t, time.Minute, func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.held) != n {
			return fmt.Errorf("holds %d partitions, want %d", len(e.held), n)
		}
		for p, h := range e.held {
			held[p] = h
		}
		return nil
	})
	return held
}

// takeOver does what a new owner does, and starts reading.
func (e *echo) takeOver(ctx context.Context, h Held) error {
	writers, err := e.look.OpenWriters(ctx, e.out, h.Partition)
	if err != nil {
		return err
	}
	for _, w := range writers {
		if err := e.look.EndWriter(ctx, w); err != nil {
			return err
		}
	}
	stable, err := e.look.StableOffsets(ctx, []int32{h.Partition})
	if err != nil {
		return err
	}
	from := int64(0)
	if pos := stable[h.Partition]; pos.Found {
		from = pos.Offset
	}
	if err := e.group.Start(h, from); err != nil && !errors.Is(err, ErrStaleTerm) {
		return err
	}
	return nil
}

// run joins and echoes until close.
func (e *echo) run() {
	var ctx context.Context
	ctx, e.stop = context.WithCancel(context.Background())
	started := make(map[Held]bool)
	if err := e.group.Join(); err != nil {
		e.t.Error(err)
	}
	go func() {
		defer close(e.done)
		for ctx.Err() == nil {
			e.mu.Lock()
			var fresh []Held
			for _, h := range e.held {
				if !started[h] {
					fresh = append(fresh, h)
				}
			}
			e.mu.Unlock()
			for _, h := range fresh {
				if err := e.takeOver(ctx, h); err != nil && ctx.Err() == nil {
					e.t.Errorf("take over partition %d: %v", h.Partition, err)
				}
				started[h] = true
			}
			polling, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			fetched, err := e.group.Poll(polling)
			cancel()
			switch {
			case errors.Is(err, ErrClosed):
				return
			case err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
				e.t.Errorf("poll: %v", err)
			}
			e.commit(ctx, fetched)
		}
	}()
}

// commit writes what was fetched, until it is done or not ours any more.
func (e *echo) commit(ctx context.Context, fetched []Fetched) {
	for len(fetched) > 0 && ctx.Err() == nil {
		r := e.txns.Commit(ctx, echoTxn(e.out, fetched))
		select {
		case e.results <- r:
		default:
		}
		if r.Outcome == Committed {
			return
		}
		ours := fetched[:0:0]
		for _, f := range fetched {
			if e.group.Holds(f.Held) {
				ours = append(ours, f)
			}
		}
		fetched = ours
	}
}

func echoTxn(out string, fetched []Fetched) Txn {
	var txn Txn
	at := make(map[int32]int)
	for _, f := range fetched {
		for _, r := range f.Records {
			txn.Records = append(txn.Records, Record{
				Topic: out, Partition: f.Partition, Key: r.Key, Value: r.Value,
				Headers: []Header{{Key: "ce_id", Value: r.Value}},
			})
		}
		next := PartitionOffset{Held: f.Held, Offset: f.Records[len(f.Records)-1].Offset + 1, Metadata: "up to here"}
		if i, ok := at[f.Partition]; ok {
			txn.Offsets[i] = next
		} else {
			at[f.Partition] = len(txn.Offsets)
			txn.Offsets = append(txn.Offsets, next)
		}
	}
	return txn
}

// close stops as a process does that was asked to.
func (e *echo) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.group.Close(ctx); err != nil {
		e.t.Logf("close group: %v", err)
	}
	if e.stop != nil {
		e.stop()
		<-e.done
	}
	if err := e.txns.Close(ctx); err != nil {
		e.t.Errorf("close transactor: %v", err)
	}
	e.look.Close()
}

// fill writes n numbered records round the partitions of a topic, from first on.
func fill(t testing.TB, k *kafkatest.Kafka, topic string, partitions, first, n int) {
	t.Helper()
	cl, err := kgo.NewClient(append(k.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	records := make([]*kgo.Record, n)
	for i := range records {
		p := (first + i) % partitions
		records[i] = &kgo.Record{
			Topic: topic, Partition: int32(p),
			Key: fmt.Appendf(nil, "key-%d", p), Value: fmt.Appendf(nil, "%d", first+i),
		}
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("fill %s: %v", topic, err)
	}
}

// wantEachOnce checks that the numbers 0 to n-1 stand in the topic, each once and
// in order in its partition.
func wantEachOnce(t testing.TB, k *kafkatest.Kafka, topic string, partitions, n int) {
	t.Helper()
	got := k.Committed(t, topic)
	total := 0
	for p, records := range got {
		for i, r := range records {
			if want := fmt.Sprint(i*partitions + int(p)); string(r.Value) != want {
				t.Fatalf("%s partition %d: record %d is %q, want %q", topic, p, i, r.Value, want)
			}
		}
		total += len(records)
	}
	if total != n {
		t.Fatalf("%s has %d records, want %d", topic, total, n)
	}
}

// waitEcho waits until n records are committed.
func waitEcho(t testing.TB, k *kafkatest.Kafka, group, in string, partitions, n int) {
	t.Helper()
	look, err := NewTakeover(k.Opts(), group, in, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	all := make([]int32, partitions)
	for i := range all {
		all[i] = int32(i)
	}
	kafkatest.Wait(t, 2*time.Minute, func() error {
		stable, err := look.StableOffsets(t.Context(), all)
		if err != nil {
			return err
		}
		done := int64(0)
		for _, pos := range stable {
			done += max(pos.Offset, 0)
		}
		if done < int64(n) {
			return fmt.Errorf("%d of %d done", done, n)
		}
		return nil
	})
}
