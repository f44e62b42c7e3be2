package proxy

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Action is what a rule does with what it is about. The package's comment says
// what each means.
type Action uint8

// The actions.
const (
	Hold Action = iota + 1
	Delay
	Lose
	Reset
	Limit
)

// Direction says which half of the traffic a rule is about.
type Direction uint8

// The directions. A rule is about requests when it does not say.
const (
	Requests Direction = iota
	Answers
	BothWays
)

// Rule says what is to go wrong, for what.
type Rule struct {
	Do        Action
	Direction Direction

	// Keys are the kinds of requests, or of those whose answers are meant. None
	// means all, and the connection's end too, which is then held and delayed
	// like what was sent before it.
	Keys []kmsg.Key
	// Client is a part of the client.id of those who are meant; "" for all.
	Client string
	// Where, if it is not nil, is asked about each request that would be taken,
	// and says which ones are. It must not change it, and may be called from
	// several goroutines.
	Where func(kmsg.Request) bool

	// Chance is how likely each of them is taken; 0 means that all are.
	Chance float64
	// Times is how many are taken before the rule takes no more; 0 for no end.
	Times int

	// Wait and Jitter are for Delay: each one waits Wait, and up to Jitter more.
	Wait, Jitter time.Duration
	// BytesPerSecond is for Limit. All connections share it, in each direction.
	BytesPerSecond int
}

// Fault is a rule that is in force.
type Fault struct {
	rule   Rule
	number int64 // rules are numbered as they are added
	p      *Proxy
	ended  chan struct{}

	mu    sync.Mutex // guards what follows
	over  bool
	left  int // of Times
	hits  int
	held  int
	late  int
	clear [2]time.Time // when the bandwidth is free again, by direction
}

// End ends the rule and lets go what it holds. What it has made late or lost
// stays so. A second call does nothing.
func (f *Fault) End() {
	f.p.forget(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over {
		f.over = true
		close(f.ended)
	}
}

// Hits is how many requests, answers and ends of connections the rule has taken.
func (f *Fault) Hits() int { return f.count(&f.hits) }

// Held is how many are waiting now because of the rule, those behind what it
// has taken not counted.
func (f *Fault) Held() int { return f.count(&f.held) }

// Late is how many requests that the rule took have reached a broker after their
// client had closed the connection.
func (f *Fault) Late() int { return f.count(&f.late) }

func (f *Fault) count(n *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *n
}

func (f *Fault) add(n *int, by int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*n += by
}

// takes says whether the rule is about a frame that goes in this direction.
func (f *Fault) takes(fr *frame, d Direction) bool {
	r := &f.rule
	if r.Direction != BothWays && r.Direction != d {
		return false
	}
	if fr.request == nil {
		if r.Keys != nil || r.Where != nil || r.Client != "" || r.Do != Hold && r.Do != Delay {
			return false
		}
	} else {
		if r.Keys != nil && !slices.Contains(r.Keys, kmsg.Key(fr.request.key)) || !strings.Contains(fr.request.client, r.Client) {
			return false
		}
		if r.Where != nil {
			if q := fr.request.decode(); q == nil || !r.Where(q) {
				return false
			}
		}
	}
	if r.Chance > 0 && rand.Float64() >= r.Chance {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over || r.Times > 0 && f.left == 0 {
		return false
	}
	f.left--
	f.hits++
	return true
}

func (f *Fault) isOver() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

// holding says whether what the rule has taken is to wait.
func (f *Fault) holding() bool { return f.rule.Do == Hold && !f.isOver() }

// wait is how long a frame is made to wait by a Delay.
func (f *Fault) wait() time.Duration {
	d := f.rule.Wait
	if f.rule.Jitter > 0 {
		d += rand.N(f.rule.Jitter)
	}
	return d
}

// reserve takes so many bytes of the bandwidth, and says when they are through.
func (f *Fault) reserve(d Direction, bytes int) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); f.clear[d].Before(now) {
		f.clear[d] = now
	}
	f.clear[d] = f.clear[d].Add(time.Duration(bytes) * time.Second / time.Duration(f.rule.BytesPerSecond))
	return f.clear[d]
}
