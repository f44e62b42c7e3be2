package kafka

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// Who owns a partition has it confirmed, as often as it likes; who has been thrown out
// of the group without knowing it has not, although at home everything looks as before.
func TestOwnershipIsConfirmedByTheGroup(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	out := k.Topic(t, "out", 1)
	idle := newEcho(t, echoConfig{in: k.Topic(t, "idle", 1), out: out, group: k.Group("idle"), address: "127.0.0.1:3", member: k.Opts(), writer: k.Opts()})
	defer idle.close()
	if err := idle.group.Confirm(t.Context(), Held{Partition: 0, Term: 1}); !errors.Is(err, ErrStaleTerm) {
		t.Errorf("before it has joined: %v", err)
	}
	l := loseMember(t, k, out, func(a *echo, h Held) {
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if err := a.group.Confirm(t.Context(), h); err != nil {
					t.Errorf("the owner's: %v", err)
				}
			})
		}
		all.Wait()
		if err := a.group.Confirm(t.Context(), Held{Partition: 0, Term: h.Term + 1}); !errors.Is(err, ErrStaleTerm) {
			t.Errorf("of another term: %v", err)
		}
	})
	a, h, b, hb := l.lost, l.had, l.owner, l.has
	if err := b.group.Confirm(t.Context(), hb); err != nil {
		t.Errorf("the new owner's: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := a.group.Confirm(short, h); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the lost one's, cut off: %v", err)
	}
	answer := make(chan error)
	go func() { answer <- a.group.Confirm(t.Context(), h) }()
	l.thaw()
	if err := <-answer; err == nil {
		t.Error("the lost one's was confirmed")
	}
}

// A call is answered by a request that was sent after it, and many share one.
func TestConfirmsShareTheNextRequest(t *testing.T) {
	t.Parallel()
	var c confirms
	sent := make(chan struct{})
	results := make(chan error)
	ask := func() error {
		sent <- struct{}{}
		return <-results
	}
	first := c.join(ask)
	<-sent
	second, third := c.join(ask), c.join(ask)
	if second == first || second != third {
		t.Fatal("those who came after a request was sent do not share the next one")
	}
	results <- nil
	<-first.done
	<-sent
	results <- ErrStaleTerm
	<-second.done
	if first.err != nil || !errors.Is(second.err, ErrStaleTerm) {
		t.Errorf("answers: %v, %v", first.err, second.err)
	}
	again := c.join(ask)
	<-sent
	results <- nil
	<-again.done
}
