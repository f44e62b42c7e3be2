package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func (l *logOf) scan(r *Reader, from, to int64, isolation Isolation) string {
	l.t.Helper()
	var got []string
	err := r.Scan(soon(l.t), l.topic, 0, from, to, isolation, func(r Record) error {
		got = append(got, fmt.Sprintf("%d:%s", r.Offset, r.Value))
		return nil
	})
	if err != nil {
		l.t.Errorf("scan from %d to %d, %s: %v", from, to, isolation, err)
	}
	return strings.Join(got, " ")
}

func TestScanEndsWhereNothingCanBeRead(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.reader(20 * time.Second)
	if got := l.scan(r, 0, ToEnd, ReadCommitted); got != "" {
		t.Errorf("empty topic: %s", got)
	}
	l.write("a", "b")                      // 0, 1
	l.transaction("c", "d")(kgo.TryCommit) // 2, 3, marker 4
	l.transaction("x", "y")(kgo.TryAbort)  // 5, 6, marker 7
	l.transaction("z")(kgo.TryAbort)       // 8, marker 9
	low, stable, high, err := r.Watermarks(soon(t), l.topic, 0)
	if err != nil || low != 0 || high != 10 {
		t.Fatalf("watermarks %d, %d, %d, %v", low, stable, high, err)
	}
	for _, c := range []struct {
		from, to  int64
		isolation Isolation
		want      string
	}{
		{0, ToEnd, ReadCommitted, "0:a 1:b 2:c 3:d"},
		{0, ToEnd, ReadUncommitted, "0:a 1:b 2:c 3:d 5:x 6:y 8:z"},
		{1, 3, ReadCommitted, "1:b 2:c"},
		{4, 10, ReadCommitted, ""},
		{5, 7, ReadCommitted, ""},
		{4, 9, ReadUncommitted, "5:x 6:y 8:z"},
		{10, 10, ReadCommitted, ""},
		{9, 3, ReadCommitted, ""},
	} {
		if got := l.scan(r, c.from, c.to, c.isolation); got != c.want {
			t.Errorf("from %d to %d, %s: %q, want %q", c.from, c.to, c.isolation, got, c.want)
		}
	}
	if err := r.Scan(soon(t), l.topic, 0, 11, 12, ReadCommitted, nil); !errors.Is(err, ErrTruncated) {
		t.Errorf("from beyond the log: %v, want ErrTruncated", err)
	}
	if got := l.scan(r, 0, 1, ReadCommitted); got != "0:a" {
		t.Errorf("after an error: %q", got)
	}
	enough := errors.New("enough")
	if err := r.Scan(soon(t), l.topic, 0, 0, ToEnd, ReadCommitted, func(Record) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("an error of do: %v", err)
	}
	if err := r.Scan(soon(t), l.topic+"-not", 0, 0, 1, ReadCommitted, nil); err == nil || errors.Is(err, ErrStalled) {
		t.Errorf("a topic that does not exist: %v", err)
	}
}

func TestCommittedReadsWaitForOpenTransactions(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.write("a")
	end := l.transaction("b")
	l.write("c") // committed, and behind the open one: a reader to the last stable offset would miss it
	impatient := l.reader(300 * time.Millisecond)
	if low, stable, high, err := impatient.Watermarks(soon(t), l.topic, 0); err != nil || low != 0 || stable != 1 || high != 3 {
		t.Fatalf("watermarks %d, %d, %d, %v, want 0, 1, 3", low, stable, high, err)
	}
	if err := impatient.Scan(soon(t), l.topic, 0, 0, ToEnd, ReadCommitted, func(Record) error { return nil }); !errors.Is(err, ErrStalled) {
		t.Errorf("scan: %v, want ErrStalled", err)
	}
	if _, err := impatient.Points(soon(t), l.topic, 0, []int64{2}); !errors.Is(err, ErrStalled) {
		t.Errorf("points: %v, want ErrStalled", err)
	}
	patient := l.reader(20 * time.Second)
	if got := l.scan(patient, 0, ToEnd, ReadUncommitted); got != "0:a 1:b 2:c" {
		t.Errorf("uncommitted scan: %q", got)
	}

	var waiting sync.WaitGroup
	read := make(chan struct{}, 1)
	waiting.Go(func() {
		var got []string
		err := patient.Scan(soon(t), l.topic, 0, 0, 3, ReadCommitted, func(r Record) error {
			got = append(got, string(r.Value))
			select {
			case read <- struct{}{}:
			default:
			}
			return nil
		})
		if err != nil || !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("scan across the end of the transaction: %v, %v", got, err)
		}
	})
	waiting.Go(func() {
		if got, err := patient.Points(soon(t), l.topic, 0, []int64{2}); err != nil || len(got) != 1 || string(got[0].Value) != "c" {
			t.Errorf("points across the end of the transaction: %v, %v", got, err)
		}
	})
	<-read
	end(kgo.TryCommit)
	waiting.Wait()

	ctx, cancel := context.WithCancel(soon(t))
	cancel()
	if err := patient.Scan(ctx, l.topic, 0, 0, 5, ReadCommitted, func(Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: %v", err)
	}
}

// lines are what a log writes.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// Long before a read below an open transaction fails, the log says where it waits.
func TestReadsThatGetNoFurtherAreToldOf(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.write("a")
	l.transaction("b")
	l.write("c")
	warnings := make(lines, 100)
	r, err := NewReader(ReaderConfig{Settings: l.settings, Stall: 20 * time.Second,
		Log: slog.New(slog.NewTextHandler(warnings, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	ctx, cancel := context.WithCancel(soon(t))
	ended := make(chan error, 1)
	go func() {
		ended <- r.Scan(ctx, l.topic, 0, 0, ToEnd, ReadCommitted, func(Record) error { return nil })
	}()
	want := fmt.Sprintf("topic=%s partition=0 offset=1 target=3 waited=", l.topic)
	for told := 0; told == 0; {
		select {
		case line := <-warnings: // others may be of a slow start
			told = strings.Count(line, want)
		case err := <-ended:
			t.Fatalf("the read failed before: %v", err)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestPoints(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.reader(20 * time.Second)
	const many = 300
	var all []*kgo.Record
	for i := range many {
		all = append(all, kgo.StringRecord(fmt.Sprint(i)))
	}
	if err := l.plain.ProduceSync(soon(t), all...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	l.transaction("x", "y")(kgo.TryAbort) // 300, 301, marker 302
	l.write("last")                       // 303
	points := func(offsets ...int64) string {
		t.Helper()
		records, err := r.Points(soon(t), l.topic, 0, offsets)
		if err != nil {
			t.Errorf("points %v: %v", offsets, err)
		}
		var got []string
		for _, r := range records {
			got = append(got, fmt.Sprintf("%d:%s", r.Offset, r.Value))
		}
		return strings.Join(got, " ")
	}
	for _, c := range []struct {
		offsets []int64
		want    string
	}{
		{nil, ""},
		{[]int64{7}, "7:7"},
		{[]int64{299, 0, 150, 0, 151}, "0:0 150:150 151:151 299:299"},
		{[]int64{300}, ""},
		{[]int64{298, 301, 302, 303}, "298:298 303:last"},
		{[]int64{303, 304}, "303:last"},
		{[]int64{304}, ""},
		{[]int64{-1, 5, 100_000}, "5:5"},
		{[]int64{100_000}, ""},
		{[]int64{1, 20, 50, 100, 130, 160, 190, 220, 250, 280, 302}, "1:1 20:20 50:50 100:100 130:130 160:160 190:190 220:220 250:250 280:280"},
	} {
		if got := points(c.offsets...); got != c.want {
			t.Errorf("points %v: %q, want %q", c.offsets, got, c.want)
		}
	}
	var readers sync.WaitGroup
	for i := range int64(8) {
		readers.Go(func() {
			for j := range int64(20) {
				offset := (i*37 + j*13) % many
				if got, want := points(offset), fmt.Sprintf("%d:%d", offset, offset); got != want {
					t.Errorf("read by many: %q, want %q", got, want)
				}
			}
		})
	}
	readers.Wait()
}

func TestPointsBelowTheLogAreNotThere(t *testing.T) {
	t.Parallel()
	cluster, s := fake(t)
	l := &logOf{t: t, settings: s, topic: "t"}
	if err := cluster.CreateTopic("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	l.plain = l.client()
	l.write("0", "1", "2", "3")
	if err := cluster.DeleteRecords("t", 0, 2); err != nil {
		t.Fatal(err)
	}
	r := l.reader(20 * time.Second)
	got, err := r.Points(soon(t), "t", 0, []int64{0, 1, 2, 3})
	if err != nil || len(got) != 2 || got[0].Offset != 2 || got[1].Offset != 3 {
		t.Errorf("got %v, %v, want the records 2 and 3", got, err)
	}
	if err := r.Scan(soon(t), "t", 0, 0, 4, ReadCommitted, nil); !errors.Is(err, ErrTruncated) {
		t.Errorf("scan from below the log: %v, want ErrTruncated", err)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.reader(20 * time.Second)
	l.write("a")
	l.transaction("x")(kgo.TryAbort)
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	got := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- r.Follow(ctx, l.topic, func(r Record) { got <- string(r.Value) }, func() { got <- "(caught up)" })
	}()
	next := func(want string) {
		t.Helper()
		select {
		case g := <-got:
			if g != want {
				t.Errorf("got %q, want %q", g, want)
			}
		case <-soon(t).Done():
			t.Fatalf("%q did not come", want)
		}
	}
	next("a")
	next("(caught up)")
	l.write("b")
	next("b")
	l.transaction("c")(kgo.TryCommit)
	next("c")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("after its context is over: %v", err)
	}
	go func() {
		ended <- r.FollowFrom(soon(t), l.topic+"-not", nil, func(Record) {}, func() {})
	}()
	if err := <-ended; err == nil {
		t.Error("a topic that does not exist is followed")
	}
}

func TestFollowEmptyTopic(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.reader(20 * time.Second)
	ctx, cancel := context.WithCancel(soon(t))
	if err := r.Follow(ctx, l.topic, func(Record) { t.Error("a record came") }, cancel); err != nil {
		t.Error(err)
	}
	if context.Cause(ctx) != context.Canceled {
		t.Error("it never caught up")
	}
}
