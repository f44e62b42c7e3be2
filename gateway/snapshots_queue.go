package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// SnapshotWriter stands between the engine and [Snapshots.Save], so that no
// commit waits for Redis. Of several snapshots of one aggregate only the newest
// is written. When the queue is full, what does not fit is dropped: the value
// in Redis then is older than it might be, and costs its reader some events.
type SnapshotWriter struct {
	save  func(context.Context, []shard.Snapshot) error
	log   *slog.Logger
	limit int // aggregates that may wait
	bytes int // of state that may wait

	mu      sync.Mutex
	waiting map[runtime.AggregateID]shard.Snapshot // guarded by mu
	order   []runtime.AggregateID                  // guarded by mu: of waiting, oldest first
	size    int                                    // guarded by mu: bytes of state in waiting
	writing int                                    // guarded by mu: snapshots in the hands of Run
	dropped uint64                                 // guarded by mu
	tries   uint64                                 // guarded by mu: finished calls of save
	lastErr error                                  // guarded by mu: of the last of them
	changed chan struct{}                          // guarded by mu: closed when a call of save ends

	wake  chan struct{} // capacity 1: something waits
	flush chan struct{} // capacity 1: somebody wants it written now
}

// SnapshotQueueSize and SnapshotQueueBytes bound what waits for Redis.
const (
	SnapshotQueueSize  = 50_000
	SnapshotQueueBytes = 64 << 20
)

// snapshotRetryDelay is how long the writer leaves Redis alone after a failure.
const snapshotRetryDelay = 200 * time.Millisecond

// NewSnapshotWriter returns a queue in front of save. Nothing is written before
// [SnapshotWriter.Run] is called.
func NewSnapshotWriter(save func(context.Context, []shard.Snapshot) error, log *slog.Logger) *SnapshotWriter {
	return &SnapshotWriter{
		save: save, log: log, limit: SnapshotQueueSize, bytes: SnapshotQueueBytes,
		waiting: map[runtime.AggregateID]shard.Snapshot{}, changed: make(chan struct{}),
		wake: make(chan struct{}, 1), flush: make(chan struct{}, 1),
	}
}

// Put queues a snapshot to be written and never blocks. The writer keeps what
// it is given: Seen has to be a clone that nobody changes.
func (w *SnapshotWriter) Put(s shard.Snapshot) {
	w.mu.Lock()
	w.put(s)
	w.mu.Unlock()
	signal(w.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put is called with mu held.
func (w *SnapshotWriter) put(s shard.Snapshot) {
	before, there := w.waiting[s.Aggregate]
	size := w.size + len(s.State.Data) - len(before.State.Data)
	if !there && len(w.waiting) >= w.limit || size > w.bytes && len(s.State.Data) > len(before.State.Data) {
		w.dropped++
		return
	}
	if !there {
		w.order = append(w.order, s.Aggregate)
	}
	w.waiting[s.Aggregate], w.size = s, size
}

// Queued returns how many snapshots wait, and how many have been dropped since the start.
func (w *SnapshotWriter) Queued() (waiting int, dropped uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting) + w.writing, w.dropped
}

// Run writes what is queued until ctx ends. What is queued then stays unwritten:
// call [SnapshotWriter.Flush] before.
func (w *SnapshotWriter) Run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		for batch := w.take(); len(batch) > 0; batch = w.take() {
			err := w.save(ctx, batch)
			w.done(batch, err)
			if err == nil {
				continue
			}
			if !errors.Is(err, ErrSnapshotsAway) && ctx.Err() == nil {
				w.log.Warn("snapshots could not be written; they are tried again", "count", len(batch), "err", err)
			}
			pause.Reset(snapshotRetryDelay)
			select {
			case <-ctx.Done():
				return
			case <-pause.C:
			case <-w.flush:
			}
		}
	}
}

// take returns what is to be written next, the oldest first.
func (w *SnapshotWriter) take() []shard.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.order), pipelineSnapshots)
	batch := make([]shard.Snapshot, n)
	for i, a := range w.order[:n] {
		batch[i] = w.waiting[a]
		w.size -= len(batch[i].State.Data)
		delete(w.waiting, a)
	}
	if w.order = w.order[n:]; len(w.order) == 0 {
		w.order = nil
	}
	w.writing = n
	return batch
}

// done puts back what could not be written and is not superseded by now.
func (w *SnapshotWriter) done(batch []shard.Snapshot, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = 0
	if err != nil {
		for _, s := range batch {
			if _, newer := w.waiting[s.Aggregate]; !newer {
				w.put(s)
			}
		}
	}
	w.tries++
	w.lastErr = err
	close(w.changed)
	w.changed = make(chan struct{})
}

// Flush waits until all that was put before is written. It returns the error of
// a try that failed meanwhile, or of ctx; what could not be written stays queued.
// Run has to be running.
func (w *SnapshotWriter) Flush(ctx context.Context) error {
	w.mu.Lock()
	begun := w.tries
	inHand := w.writing > 0
	w.mu.Unlock()
	if inHand {
		begun++ // the try under way began before: its failure is not the answer
	}
	signal(w.wake)
	signal(w.flush)
	for {
		w.mu.Lock()
		idle := len(w.waiting)+w.writing == 0
		failed := w.tries > begun && w.lastErr != nil
		err, changed := w.lastErr, w.changed
		w.mu.Unlock()
		switch {
		case idle:
			return nil
		case failed:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
