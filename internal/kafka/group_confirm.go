package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// confirmTimeout is how long the coordinator may take to confirm a membership.
const confirmTimeout = 5 * time.Second

// Confirm asks the group whether this process owns a partition in this term: when it
// returns nil, that was so at some moment between the call and its return, and
// nobody else had committed anything for the partition until then. What is in memory
// of the partition may then be shown as the newest, which nothing at home can tell: a
// process that was cut off, or stood still, does not know what it has missed.
//
// It fails with [ErrStaleTerm], [ErrNoMember], or what kept the group from answering.
// Calls share requests: one is under way, and who comes meanwhile shares the next.
func (g *Group) Confirm(ctx context.Context, h Held) error {
	if err := g.fence.standing(h); err != nil {
		return err
	}
	r := g.confirms.join(g.askMembership)
	select {
	case <-r.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.err != nil {
		return r.err
	}
	// The answer was about the membership that was saved when it was asked for; that
	// the partition is held in the same term means that it is still that one.
	return g.fence.standing(h)
}

// confirmRound is one request, and those who wait for its answer.
type confirmRound struct {
	done chan struct{}
	err  error // when done
}

// confirms shares requests among those who need an answer that was asked for after
// they came.
type confirms struct {
	mu   sync.Mutex
	next *confirmRound // has been joined and not been sent; nil for none
	busy bool          // a request is under way
}

// join gives the round that is sent next, and has it sent.
func (c *confirms) join(ask func() error) *confirmRound {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = &confirmRound{done: make(chan struct{})}
	}
	r := c.next
	if !c.busy {
		c.busy = true
		go c.run(ask)
	}
	return r
}

// run sends rounds until nobody waits for one.
func (c *confirms) run(ask func() error) {
	for {
		c.mu.Lock()
		r := c.next
		c.next = nil
		c.busy = r != nil
		c.mu.Unlock()
		if r == nil {
			return
		}
		r.err = ask()
		close(r.done)
	}
}

// askMembership has the coordinator look at the membership that was saved at the last
// assignment. While a rebalance is prepared, which it answers with an error, all
// members still hold what they had: generations change when all have come or their
// time is over.
func (g *Group) askMembership() error {
	member := g.client()
	id, generation := g.fence.saved()
	if member == nil || id == "" {
		return ErrNoMember
	}
	ctx, cancel := context.WithTimeout(context.Background(), confirmTimeout)
	defer cancel()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = g.cfg.Group, id, generation
	resp, err := req.RequestWith(ctx, member)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	switch {
	case err == nil, errors.Is(err, kerr.RebalanceInProgress):
		return nil
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kgo.ErrClientClosed):
		return fmt.Errorf("confirm the membership of consumer group %q: %w: %w", g.cfg.Group, ErrStaleTerm, err)
	default:
		return fmt.Errorf("confirm the membership of consumer group %q: %w", g.cfg.Group, err)
	}
}
