package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// ownersFresh is how long an answer of the group is used without another look.
	// A wrong one costs one refused call: the gateway that is asked knows what it owns.
	ownersFresh = time.Second
	// ownersUsable is how old an answer may be that is used because the next one is
	// not there after ownersPatience, or fails.
	ownersUsable   = 10 * time.Second
	ownersPatience = 250 * time.Millisecond
	ownersTimeout  = 5 * time.Second
)

// ownerTable remembers for a moment who owns which partition. All who ask at a
// time share one question, and each waits for it only as long as he wants to.
type ownerTable struct {
	ask func(context.Context) (map[int32]string, error)
	ctx context.Context // of the questions
	run func(func())    // begins a goroutine

	mu     sync.Mutex // never held while the group is asked
	at     time.Time  // of owners
	owners map[int32]string
	asking *ownerQuestion // nil while nobody asks
}

type ownerQuestion struct {
	done   chan struct{} // closed when the rest is set
	owners map[int32]string
	err    error
}

// get returns the address of each partition's owner. The map must not be
// changed. Errors wrap [ErrNoOwner].
func (t *ownerTable) get(ctx context.Context) (map[int32]string, error) {
	t.mu.Lock()
	old, age := t.owners, time.Since(t.at)
	if old != nil && age <= ownersFresh {
		t.mu.Unlock()
		return old, nil
	}
	q := t.asking
	if q == nil {
		q = &ownerQuestion{done: make(chan struct{})}
		t.asking = q
		t.run(func() { t.answer(q) })
	}
	t.mu.Unlock()

	var late <-chan time.Time
	usable := old != nil && age <= ownersUsable
	if usable {
		timer := time.NewTimer(ownersPatience)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-q.done:
		if q.err == nil {
			return q.owners, nil
		}
		if usable {
			return old, nil
		}
		return nil, fmt.Errorf("%w: %w", ErrNoOwner, q.err)
	case <-late:
		return old, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNoOwner, context.Cause(ctx))
	}
}

func (t *ownerTable) answer(q *ownerQuestion) {
	ctx, cancel := context.WithTimeoutCause(t.ctx, ownersTimeout, errors.New("the consumer group did not say within 5s who owns what"))
	defer cancel()
	q.owners, q.err = t.ask(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asking = nil
	if q.err == nil {
		t.owners, t.at = q.owners, time.Now()
	}
	close(q.done)
}
