package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// leaveOpen does what a process does that dies before the end: records are
// written, offsets are in the transaction, and nobody ends it.
func leaveOpen(t *testing.T, e *echo, txn Txn) string {
	t.Helper()
	p := newTurns(1, newWriterIDs())[0]
	if err := e.txns.begin(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.throwAway)
	held, err := txn.check()
	if err != nil {
		t.Fatal(err)
	}
	pass, err := e.group.fence.enter(t.Context(), held)
	if err != nil {
		t.Fatal(err)
	}
	defer e.group.fence.leave(pass)
	if _, failed := e.txns.produce(t.Context(), p, txn.Records); failed != nil {
		t.Fatal(failed.Err)
	}
	if failed := e.txns.commitInTxn(t.Context(), p, pass, txn.Offsets); failed != nil {
		t.Fatal(failed.Err)
	}
	return p.id
}

func TestTakeoverEndsTheTransactionOfADeadWriter(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 1)
	ctx := t.Context()
	if r := e.txns.Commit(ctx, oneRecord(e.out, held[0], 1, "done")); r.Outcome != Committed {
		t.Fatal(r)
	}
	waitStable(t, e, 2)
	if writers, err := e.look.OpenWriters(ctx, e.out, 0); err != nil || len(writers) != 0 {
		t.Errorf("open writers of a quiet partition: %q, %v", writers, err)
	}
	dead := leaveOpen(t, e, oneRecord(e.out, held[0], 2, "open"))
	// A transaction that came after it and is finished has nothing to do with it.
	if r := e.txns.Commit(ctx, oneRecord(e.out, held[0], 1, "later")); r.Outcome != Committed {
		t.Fatal(r)
	}
	// Kafka writes the marker of what has committed after it has said so.
	kafkatest.Wait(t, time.Minute, func() error {
		w, err := e.look.Watermarks(ctx, e.out, 0)
		if err == nil && w != (Watermarks{Stable: 2, High: 5}) {
			err = fmt.Errorf("watermarks %+v", w)
		}
		return err
	})
	if err := e.look.Scan(ctx, e.out, 0, 0, 5, 100*time.Millisecond, func(Record) error { return nil }); !errors.Is(err, ErrStalled) {
		t.Errorf("scan below an open transaction: %v, want %v", err, ErrStalled)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if pos, err := e.look.StableOffsets(short, []int32{0}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("position below an open transaction: %+v, %v", pos, err)
	}

	writers, err := e.look.OpenWriters(ctx, e.out, 0)
	if err != nil || !slices.Equal(writers, []string{dead}) {
		t.Fatalf("open writers %q, %v, want %q", writers, err, dead)
	}
	if err := e.look.EndWriter(ctx, dead); err != nil {
		t.Fatal(err)
	}
	pos, err := e.look.StableOffsets(ctx, []int32{0})
	if err != nil || pos[0].Offset != 1 {
		t.Errorf("position %+v, %v, want 1", pos, err)
	}
	w, err := e.look.Watermarks(ctx, e.out, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := e.look.Scan(ctx, e.out, 0, 0, w.High, 20*time.Second, func(r Record) error {
		got = append(got, string(r.Value))
		return nil
	}); err != nil {
		t.Error(err)
	}
	if !slices.Equal(got, []string{"done", "later"}) {
		t.Errorf("scanned %q", got)
	}
	if err := e.look.EndWriter(ctx, "nobody-ever-had-this"); err != nil {
		t.Errorf("end of a writer that never was: %v", err)
	}
}

// waitStable waits until the output has so many records, control records
// included, and none of them open: markers are written after the answer.
func waitStable(t *testing.T, e *echo, high int64) (w Watermarks) {
	t.Helper()
	kafkatest.Wait(t, time.Minute, func() (err error) {
		if w, err = e.look.Watermarks(t.Context(), e.out, 0); err == nil && (w.High != high || w.Stable != high) {
			err = fmt.Errorf("%+v, want both %d", w, high)
		}
		return err
	})
	return w
}

func TestScanGoesFromToAndStops(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 1)
	ctx := t.Context()
	// Each transaction ends with a control record, which Apache Kafka may write
	// after the next one's first record.
	var records []int64
	for i := range 20 {
		r := e.txns.Commit(ctx, oneRecord(e.out, held[0], 1, fmt.Sprint(i)))
		if r.Outcome != Committed {
			t.Fatal(r)
		}
		records = append(records, r.Offsets[0])
	}
	within := func(from, to int64) (offsets []int64) {
		for _, at := range records {
			if at >= from && at < to {
				offsets = append(offsets, at)
			}
		}
		return offsets
	}
	control := int64(0)
	for slices.Contains(records, control) {
		control++
	}
	w := waitStable(t, e, 40)
	scan := func(from, to int64, do func(Record) error) (offsets []int64, err error) {
		err = e.look.Scan(ctx, e.out, 0, from, to, 20*time.Second, func(r Record) error {
			offsets = append(offsets, r.Offset)
			return do(r)
		})
		return offsets, err
	}
	all := func(Record) error { return nil }
	if got, err := scan(0, w.High, all); err != nil || len(got) != 20 {
		t.Errorf("all: %d, %v", got, err)
	}
	if got, err := scan(4, 9, all); err != nil || !slices.Equal(got, within(4, 9)) {
		t.Errorf("4 to 9: %d, %v, want %d", got, err, within(4, 9))
	}
	if got, err := scan(control, control+1, all); err != nil || len(got) != 0 {
		t.Errorf("a control record alone: %d, %v", got, err)
	}
	if got, err := scan(7, 7, all); err != nil || len(got) != 0 {
		t.Errorf("nothing: %d, %v", got, err)
	}
	if got, err := scan(1000, 1001, all); !errors.Is(err, ErrTruncated) {
		t.Errorf("outside of the log: %d, %v", got, err)
	}
	enough := errors.New("enough")
	if got, err := scan(0, 40, func(Record) error { return enough }); !errors.Is(err, enough) || len(got) != 1 {
		t.Errorf("stopped by the caller: %d, %v", got, err)
	}
}

// Aborted records at the end of the log are not shown, and do not make a scan wait.
func TestScanPassesAbortedRecordsAtTheEnd(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 1)
	ctx := t.Context()
	for range 3 {
		id := leaveOpen(t, e, oneRecord(e.out, held[0], 1, "aborted"))
		if err := e.look.EndWriter(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	w := waitStable(t, e, 6)
	if err := e.look.Scan(ctx, e.out, 0, 0, w.High, 20*time.Second, func(r Record) error {
		return fmt.Errorf("showed %q", r.Value)
	}); err != nil {
		t.Error(err)
	}
}

// strangeTransaction leaves a transaction open in the first partition of a topic, by a
// client that is none of ours, whatever its id; its time-out is ten minutes.
func strangeTransaction(t *testing.T, k *kafkatest.Kafka, topic, id string) {
	t.Helper()
	stranger, err := kgo.NewClient(append(k.Opts(), kgo.TransactionalID(id), kgo.TransactionTimeout(10*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stranger.Close)
	if err := stranger.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := stranger.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: 0, Value: []byte("strange")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// A record of a transaction that does not say who writes it cannot be helped;
// the others can.
func TestOpenWriterWithoutNameIsTold(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 1)
	strangeTransaction(t, k, e.out, k.Prefix+"stranger")
	dead := leaveOpen(t, e, oneRecord(e.out, held[0], 1, "open"))
	writers, err := e.look.OpenWriters(t.Context(), e.out, 0)
	if err == nil || !slices.Equal(writers, []string{dead}) {
		t.Errorf("open writers %q, %v", writers, err)
	}
}
