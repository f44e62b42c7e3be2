package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// fence decides whether a transaction may still be made on behalf of a
// partition, and as which member of the group (KIP-447).
//
// The broker checks the member and its generation when offsets are committed in
// a transaction, never the partition; and what the client reports as current
// may already be the generation of a rebalance whose revocation has not reached
// us, in which the partition belongs to somebody else. So a transaction uses
// the member and generation that were saved when its partitions were assigned,
// it is let in only while all its partitions are held at the terms it names,
// and a revocation waits for those that were let in.
type fence struct {
	// reported gives member id and generation as the client has them now.
	reported func() (member string, generation int32)

	// mu is the lock that the rebalance callbacks share with everyone who is
	// let in. It is never held across a call that leaves the process.
	mu         sync.Mutex
	member     string         // of the last assignment; "" when none
	generation int32          // of the last assignment; -1 when none
	terms      map[int32]Term // the partitions held
	open       map[Held]int   // transactions inside, by partition and term
	last       Term           // the last term given out
	changed    chan struct{}  // closed and replaced at each change of the above
}

// pass is the permission to make one transaction.
type pass struct {
	member     string
	generation int32
	held       []Held
}

// recheck is how often the fence looks at the client while it waits for it:
// a generation can change without any callback.
const recheck = 20 * time.Millisecond

func newFence(reported func() (string, int32)) *fence {
	return &fence{
		reported:   reported,
		generation: -1,
		terms:      make(map[int32]Term),
		open:       make(map[Held]int),
		changed:    make(chan struct{}),
	}
}

// signal wakes who waits for a change. The lock is held.
func (f *fence) signal() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// assign saves who we are in this generation and gives each partition its term.
func (f *fence) assign(partitions []int32) []Held {
	member, generation := f.reported()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.member, f.generation = member, generation
	held := make([]Held, 0, len(partitions))
	for _, p := range partitions {
		f.last++
		f.terms[p] = f.last
		held = append(held, Held{Partition: p, Term: f.last})
	}
	f.signal()
	return held
}

// drop ends the terms of these partitions: nobody is let in for them any more.
// With eager balancing all partitions go at once, and the membership with them.
func (f *fence) drop(held []Held) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range held {
		if f.terms[h.Partition] == h.Term {
			delete(f.terms, h.Partition)
		}
	}
	if len(f.terms) == 0 {
		f.member, f.generation = "", -1
	}
	f.signal()
}

// holds says whether a partition is held at this term.
func (f *fence) holds(h Held) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return h.Term != 0 && f.terms[h.Partition] == h.Term
}

// all lists what is held.
func (f *fence) all() []Held {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := make([]Held, 0, len(f.terms))
	for p, t := range f.terms {
		held = append(held, Held{Partition: p, Term: t})
	}
	slices.SortFunc(held, func(a, b Held) int { return int(a.Partition - b.Partition) })
	return held
}

// enter lets a transaction in, or says why not: [ErrStaleTerm], [ErrNoMember],
// or the context's error when the client kept reporting another membership than
// the one saved. Who was let in must leave.
func (f *fence) enter(ctx context.Context, held []Held) (pass, error) {
	for {
		f.mu.Lock()
		err := f.refusal(held)
		if err != nil {
			f.mu.Unlock()
			return pass{}, err
		}
		if member, generation := f.reported(); member == f.member && generation == f.generation {
			for _, h := range held {
				f.open[h]++
			}
			p := pass{member: f.member, generation: f.generation, held: held}
			f.mu.Unlock()
			return p, nil
		}
		changed := f.changed
		f.mu.Unlock()
		if err := wait(ctx, changed, recheck); err != nil {
			return pass{}, fmt.Errorf("wait for the group's next assignment: %w", err)
		}
	}
}

// refusal says why these partitions may not be written for. The lock is held.
func (f *fence) refusal(held []Held) error {
	for _, h := range held {
		if t := f.terms[h.Partition]; h.Term == 0 || t != h.Term {
			return fmt.Errorf("partition %d, term %d (now %d): %w", h.Partition, h.Term, t, ErrStaleTerm)
		}
	}
	if f.member == "" || f.generation < 0 {
		return fmt.Errorf("member %q, generation %d: %w", f.member, f.generation, ErrNoMember)
	}
	return nil
}

// saved is who we were at the last assignment; "" when we are nobody.
func (f *fence) saved() (member string, generation int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.member, f.generation
}

// standing says whether a partition is held at this term, as a member.
func (f *fence) standing(h Held) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refusal([]Held{h})
}

// check says whether what was let in may go on to commit its offsets.
func (f *fence) check(p pass) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refusal(p.held); err != nil {
		return err
	}
	if member, generation := f.reported(); member != p.member || generation != p.generation {
		return fmt.Errorf("member %q of generation %d is now %q of %d: %w", p.member, p.generation, member, generation, ErrStaleTerm)
	}
	return nil
}

// leave ends what enter began.
func (f *fence) leave(p pass) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range p.held {
		if f.open[h]--; f.open[h] <= 0 {
			delete(f.open, h)
		}
	}
	f.signal()
}

// quiet waits until nothing is inside for these partitions.
func (f *fence) quiet(ctx context.Context, held []Held) error {
	for {
		f.mu.Lock()
		busy := slices.ContainsFunc(held, func(h Held) bool { return f.open[h] > 0 })
		changed := f.changed
		f.mu.Unlock()
		if !busy {
			return nil
		}
		if err := wait(ctx, changed, time.Hour); err != nil {
			return err
		}
	}
}

// wait waits for a change or for d, and fails when the context ends first.
func wait(ctx context.Context, changed <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
		return nil
	case <-timer.C:
		return nil
	}
}
