package proxy

import (
	"net"
	"slices"
	"sync"
	"time"
)

// lane is one direction of a connection: what was read from one end and is not
// passed on to the other yet, in its order.
type lane struct {
	direction Direction
	changed   chan struct{} // something to look at, for who passes on

	lost bool // of who passes on: a frame was lost, and so is all behind it

	mu    sync.Mutex // guards queue
	queue []*frame
}

func newLane(d Direction) *lane { return &lane{direction: d, changed: make(chan struct{}, 1)} }

// look wakes who passes on.
func (n *lane) look() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

func (n *lane) push(p *Proxy, fr *frame) {
	p.judge(fr, n.direction) // now, since delays count from here
	n.mu.Lock()
	n.queue = append(n.queue, fr)
	n.mu.Unlock()
	n.look()
}

// next takes the first frame, and waits for one; nil when done is closed before.
func (n *lane) next(done <-chan struct{}) *frame {
	for {
		n.mu.Lock()
		if len(n.queue) > 0 {
			fr := n.queue[0]
			n.queue = n.queue[1:]
			n.mu.Unlock()
			return fr
		}
		n.mu.Unlock()
		select {
		case <-done:
			return nil
		case <-n.changed:
		}
	}
}

// admit waits until a frame may be passed on, and says what the rules have for it
// besides: [Lose], [Reset], or 0 for nothing. It returns at once when done or
// over is closed, and [Lose] for all that comes after what was lost.
func (n *lane) admit(p *Proxy, fr *frame, done, over <-chan struct{}) Action {
	if n.lost {
		return Lose
	}
	for {
		p.judge(fr, n.direction)
		if holds := slices.IndexFunc(fr.rules, (*Fault).holding); holds >= 0 {
			f := fr.rules[holds]
			f.add(&f.held, 1)
			select {
			case <-f.ended:
			case <-n.changed: // a new rule, perhaps
			case <-done:
			case <-over:
			}
			f.add(&f.held, -1)
		} else if wait := time.Until(fr.due); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-n.changed:
			case <-done:
			case <-over:
			}
			timer.Stop()
		} else {
			break
		}
		select {
		case <-done:
			return 0
		case <-over:
			return 0
		default:
		}
	}
	for _, f := range fr.rules {
		if f.rule.Do == Lose || f.rule.Do == Reset {
			n.lost = f.rule.Do == Lose
			return f.rule.Do
		}
	}
	return 0
}

// write writes a frame, as fast as the rules for it allow.
func (n *lane) write(c net.Conn, fr *frame, done <-chan struct{}) error {
	rest := fr.bytes
	for _, f := range fr.rules {
		if f.rule.Do != Limit {
			continue
		}
		for part := max(1, min(1400, f.rule.BytesPerSecond/20)); len(rest) > part && !f.isOver(); {
			if _, err := c.Write(rest[:part]); err != nil {
				return err
			}
			rest = rest[part:]
			timer := time.NewTimer(time.Until(f.reserve(n.direction, part)))
			select {
			case <-timer.C:
			case <-f.ended:
			case <-done:
			}
			timer.Stop()
		}
	}
	_, err := c.Write(rest)
	return err
}
