package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A slow look at the group holds up nobody longer than he wants to wait, is
// shared by all, and where an answer of a moment ago is at hand, that is used.
func TestSlowOwnersHoldUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, slowOwners)
}

func slowOwners(t *testing.T) {
	asked := make(chan struct{}, 10)
	answer := make(chan map[int32]string)
	table := &ownerTable{
		ctx: t.Context(), run: func(f func()) { go f() },
		ask: func(ctx context.Context) (map[int32]string, error) {
			asked <- struct{}{}
			select {
			case owners := <-answer:
				return owners, nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		},
	}
	type result struct {
		owners map[int32]string
		err    error
	}
	results := make(chan result, 10)
	get := func(ctx context.Context) {
		owners, err := table.get(ctx)
		results <- result{owners, err}
	}
	go get(patience(t))
	<-asked
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := table.get(impatient); !errors.Is(err, ErrNoOwner) || !errors.Is(err, context.Canceled) {
		t.Errorf("whoever has gone gets %v", err)
	}
	go get(patience(t))
	answer <- map[int32]string{0: "a"}
	for range 2 {
		if r := <-results; r.err != nil || r.owners[0] != "a" {
			t.Errorf("%+v", r)
		}
	}

	table.mu.Lock()
	table.at = table.at.Add(-ownersFresh - time.Millisecond)
	table.mu.Unlock()
	if owners, err := table.get(patience(t)); err != nil || owners[0] != "a" {
		t.Errorf("while the group is slow: %v, %v; want what it said a moment ago", owners, err)
	}
	answer <- map[int32]string{0: "b"}
	ctx := patience(t)
	for {
		owners, err := table.get(ctx)
		if err == nil && owners[0] == "b" {
			break
		}
		if !sleep(ctx, 10*time.Millisecond) {
			t.Fatalf("the new answer is not used: %v, %v", owners, err)
		}
	}
	table.mu.Lock()
	table.at = time.Time{}
	table.mu.Unlock()
	if n := len(asked); n > 1 {
		t.Errorf("the group was asked %d times more", n)
	}
}
