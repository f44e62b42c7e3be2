package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// savedSnapshots is a Redis as the writer sees it.
type savedSnapshots struct {
	mu    sync.Mutex
	fail  error
	took  time.Duration // of each call
	calls int
	saved map[runtime.AggregateID]uint64 // version
}

func (s *savedSnapshots) save(ctx context.Context, all []shard.Snapshot) error {
	s.mu.Lock()
	took := s.took
	s.mu.Unlock()
	select {
	case <-time.After(took): // virtual time
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fail != nil {
		return s.fail
	}
	for _, snapshot := range all {
		s.saved[snapshot.Aggregate] = snapshot.State.Version
	}
	return nil
}

// writing runs a test in virtual time with a writer in front of a savedSnapshots.
func writing(t *testing.T, test func(t *testing.T, w *SnapshotWriter, s *savedSnapshots)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &savedSnapshots{saved: map[runtime.AggregateID]uint64{}}
		w := NewSnapshotWriter(s.save, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.Run(ctx)
		}()
		test(t, w, s)
		cancel()
		<-done
	})
}

func versionOf(a runtime.AggregateID, version uint64) shard.Snapshot {
	return shard.Snapshot{Aggregate: a, State: shard.State{Version: version, Data: make([]byte, 100)}}
}

func TestSnapshotWriterWritesTheNewestOfEach(t *testing.T) {
	t.Parallel()
	writing(t, func(t *testing.T, w *SnapshotWriter, s *savedSnapshots) {
		s.took = time.Second
		for version := range uint64(100) {
			for a := range 20 {
				w.Put(versionOf(runtime.AggregateID(fmt.Sprint("credit:", a)), version+1))
			}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(s.saved) != 20 {
			t.Errorf("%d aggregates saved, want 20", len(s.saved))
		}
		for a, version := range s.saved {
			if version != 100 {
				t.Errorf("%s was saved at version %d, want 100", a, version)
			}
		}
		if s.calls > 3 {
			t.Errorf("%d round trips for snapshots that replaced each other", s.calls)
		}
	})
}

func TestSnapshotWriterNeverBlocksAndIsBounded(t *testing.T) {
	t.Parallel()
	writing(t, func(t *testing.T, w *SnapshotWriter, s *savedSnapshots) {
		w.limit, w.bytes = 1000, 50_000
		s.took = time.Hour
		began := time.Now()
		for a := range 10_000 {
			w.Put(versionOf(runtime.AggregateID(fmt.Sprint("credit:", a)), 1))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("puts waited %v", took)
		}
		synctest.Wait()
		waiting, dropped := w.Queued()
		if waiting > 1000+pipelineSnapshots || dropped == 0 || w.size > w.bytes {
			t.Errorf("%d wait with %d bytes, %d dropped; the limits are %d and %d", waiting, w.size, dropped, w.limit, w.bytes)
		}
		s.mu.Lock()
		s.took = 0
		s.mu.Unlock()
		if err := w.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if w.size != 0 || len(w.waiting) != 0 || w.order != nil {
			t.Errorf("%d bytes in %d snapshots left after a flush", w.size, len(w.waiting))
		}
	})
}

func TestSnapshotWriterTriesAgainWithoutGoingBack(t *testing.T) {
	t.Parallel()
	writing(t, func(t *testing.T, w *SnapshotWriter, s *savedSnapshots) {
		away := errors.New("away")
		s.fail, s.took = away, time.Second
		w.Put(versionOf("credit:1", 1))
		w.Put(versionOf("credit:2", 1))
		synctest.Wait() // the first try is under way
		if err := w.Flush(t.Context()); !errors.Is(err, away) {
			t.Fatalf("flush says %v while redis is away", err)
		}
		// While the old one is on its way once more, and fails once more, a newer one comes.
		<-time.After(snapshotRetryDelay + s.took/2)
		w.Put(versionOf("credit:1", 2))
		<-time.After(s.took/2 + snapshotRetryDelay/2) // then it is left alone
		s.mu.Lock()
		s.fail, s.took = nil, 0
		s.mu.Unlock()
		began := time.Now()
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("flush waited %v for the next try", took)
		}
		if s.saved["credit:1"] != 2 || s.saved["credit:2"] != 1 {
			t.Errorf("saved %v, want the newest of each", s.saved)
		}
	})
}

func TestSnapshotWriterFlushEndsWithItsContext(t *testing.T) {
	t.Parallel()
	writing(t, func(t *testing.T, w *SnapshotWriter, s *savedSnapshots) {
		s.took = time.Hour
		w.Put(versionOf("credit:1", 1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush says %v, want that its time is up", err)
		}
	})
}
