package httplimit

import (
	"container/list"
	"sync"
	"time"
)

// budget shares a number of bytes. Where they do not suffice, the part that has
// been moving over its connection for the longest gives way. Most are through in no
// time, so that this is one whose client is slow.
type budget struct {
	mu     sync.Mutex // guards what follows, and the parts
	held   int64
	whole  int64     // of that, what does not give way
	moving list.List // of *part, the oldest in front
}

// part is what one request has of a budget.
type part struct {
	held   int64
	place  *list.Element // in moving; nil once it has moved
	cut    bool          // given up for others
	cutOff func(deadline time.Time) error
}

func (b *budget) sum() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// begin makes a part that may be given up; cutOff sets the deadline of its connection.
func (b *budget) begin(p *part, cutOff func(time.Time) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.cutOff = cutOff
	p.place = b.moving.PushBack(p)
}

// settle keeps a part from being given up, and says whether it was.
func (b *budget) settle(p *part) (cut bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.place != nil {
		b.moving.Remove(p.place)
		p.place = nil
		b.whole += p.held
	}
	return p.cut
}

// fits says whether n bytes have a place when everything gives way that may.
func (b *budget) fits(total, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.whole+n <= total
}

// take takes n bytes of total for a part that has not settled. Older parts give
// way for it; where they are not enough, or there is none, it is false and the
// part itself has given way.
func (b *budget) take(p *part, total, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.cut {
		return false
	}
	missing := b.held + n - total
	last := b.moving.Front()
	for ; missing > 0 && last != p.place; last = last.Next() {
		missing -= last.Value.(*part).held
	}
	if missing > 0 {
		b.cut(p)
		return false
	}
	for b.held+n > total {
		b.cutOldest()
	}
	b.held += n
	p.held += n
	return true
}

// GiveWay ends what has been moving over its connection for the longest. It is
// false when nothing is.
func (b *budget) GiveWay() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.moving.Len() == 0 {
		return false
	}
	b.cutOldest()
	return true
}

// cutOldest gives the oldest moving part up. b.mu is held.
func (b *budget) cutOldest() {
	oldest := b.moving.Front().Value.(*part)
	b.cut(oldest)
	// Where this is not supported, the time of the whole request ends it.
	_ = oldest.cutOff(time.Unix(1, 0))
}

// cut gives a part up. b.mu is held.
func (b *budget) cut(p *part) {
	b.moving.Remove(p.place)
	b.held -= p.held
	p.held, p.place, p.cut = 0, nil, true
}

// release gives back what a part has that has settled.
func (b *budget) release(p *part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= p.held
	b.whole -= p.held
	p.held = 0
}
