package kafka

import (
	"context"
	"errors"
	"testing"
	"time"
)

// client is what a fence sees of the client: it reports a membership.
type client struct {
	member     string
	generation int32
}

func (c *client) report() (string, int32) { return c.member, c.generation }

func fenced(t *testing.T) (*client, *fence, []Held) {
	t.Helper()
	c := &client{"m", 1}
	f := newFence(c.report)
	return c, f, f.assign([]int32{0, 1})
}

func TestFenceRefusesWhoHoldsNothing(t *testing.T) {
	t.Parallel()
	c, f, held := fenced(t)
	stale := Held{Partition: 0, Term: held[0].Term + 7}
	for _, h := range []Held{stale, {Partition: 0}, {Partition: 5, Term: 1}, {Partition: 5}} {
		if _, err := f.enter(t.Context(), []Held{held[1], h}); !errors.Is(err, ErrStaleTerm) {
			t.Errorf("%+v: %v, want %v", h, err, ErrStaleTerm)
		}
	}
	f.drop(held)
	if _, err := f.enter(t.Context(), held[:1]); !errors.Is(err, ErrStaleTerm) {
		t.Errorf("after the end of the term: %v, want %v", err, ErrStaleTerm)
	}
	// An assignment in which the client says that it is nobody.
	for _, nobody := range []client{{"", 1}, {"m", -1}} {
		*c = nobody
		held = f.assign([]int32{0})
		if _, err := f.enter(t.Context(), held); !errors.Is(err, ErrNoMember) {
			t.Errorf("%+v: %v, want %v", nobody, err, ErrNoMember)
		}
		f.drop(held)
	}
}

func TestFenceGivesTheSavedMembershipOnly(t *testing.T) {
	t.Parallel()
	c, f, held := fenced(t)
	p, err := f.enter(t.Context(), held)
	if err != nil || p.member != "m" || p.generation != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := f.check(p); err != nil {
		t.Errorf("check: %v", err)
	}
	// The client has joined another generation; its callbacks have not come yet.
	f.mu.Lock()
	c.generation = 2
	f.mu.Unlock()
	if err := f.check(p); !errors.Is(err, ErrStaleTerm) {
		t.Errorf("check of the old generation: %v, want %v", err, ErrStaleTerm)
	}
	short, cancel := context.WithTimeout(t.Context(), 3*recheck)
	defer cancel()
	if p, err := f.enter(short, held); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("let in as %+v, %v, while the client reports another", p, err)
	}
	// Now they come.
	waiting := make(chan error, 1)
	go func() {
		_, err := f.enter(context.Background(), held)
		waiting <- err
	}()
	f.drop(held)
	again := f.assign([]int32{0})
	if err := <-waiting; !errors.Is(err, ErrStaleTerm) {
		t.Errorf("who waited: %v, want %v", err, ErrStaleTerm)
	}
	if p, err := f.enter(t.Context(), again); err != nil || p.generation != 2 || again[0].Term == held[0].Term {
		t.Errorf("in the new generation: %+v, %v", p, err)
	}
}

func TestRevocationWaitsForWhoIsInside(t *testing.T) {
	t.Parallel()
	_, f, held := fenced(t)
	p, err := f.enter(t.Context(), held[:1])
	if err != nil {
		t.Fatal(err)
	}
	f.drop(held)
	if err := f.check(p); !errors.Is(err, ErrStaleTerm) {
		t.Errorf("check after the end of the term: %v, want %v", err, ErrStaleTerm)
	}
	if err := f.quiet(t.Context(), held[1:]); err != nil {
		t.Errorf("the other partition: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := f.quiet(short, held); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("quiet with somebody inside: %v", err)
	}
	quiet := make(chan error, 1)
	go func() { quiet <- f.quiet(context.Background(), held) }()
	f.leave(p)
	if err := <-quiet; err != nil {
		t.Error(err)
	}
}
