package proxy

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Proxy is the network between a client, or several, and the brokers of one
// cluster. Its methods may be called from any goroutine.
type Proxy struct {
	servers []string
	running sync.WaitGroup
	closing chan struct{}

	mu        sync.Mutex // guards what follows
	closed    bool
	listeners map[string]net.Listener // by the broker's address
	links     map[*link]struct{}
	faults    []*Fault // in force, in the order of their numbers
	rules     int64    // ever added
	seen      map[kmsg.Key]int
	problems  []error
}

// Start makes a network without faults in front of the brokers at these
// addresses (host:port). It ends with the test, which fails if the proxy did not
// understand what it was to pass on.
func Start(t testing.TB, servers []string) *Proxy {
	t.Helper()
	p := &Proxy{closing: make(chan struct{}), listeners: map[string]net.Listener{}, links: map[*link]struct{}{}, seen: map[kmsg.Key]int{}}
	t.Cleanup(func() {
		for i, err := range p.Close() {
			if i == 10 {
				t.Error("proxy: and more")
				break
			}
			t.Errorf("proxy: %v", err)
		}
	})
	for _, s := range servers {
		address, err := p.listen(s)
		if err != nil {
			t.Fatalf("proxy of %s: %v", s, err)
		}
		p.servers = append(p.servers, address)
	}
	return p
}

// Servers are the addresses to give to clients in place of the brokers' own.
func (p *Proxy) Servers() []string { return p.servers }

// Add puts a rule in force, for what has not been passed on yet.
func (p *Proxy) Add(r Rule) *Fault {
	if r.Do == 0 || r.Do == Limit && r.BytesPerSecond <= 0 {
		panic(fmt.Sprintf("proxy: the rule %+v says nothing to do", r))
	}
	f := &Fault{rule: r, p: p, ended: make(chan struct{}), left: r.Times}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules++
	f.number = p.rules
	p.faults = append(p.faults, f)
	for l := range p.links {
		l.toBroker.look()
		l.toClient.look()
	}
	return f
}

// Cut holds everything in a direction, or in both: a partition, until the fault ends.
func (p *Proxy) Cut(d Direction) *Fault { return p.Add(Rule{Do: Hold, Direction: d}) }

// Mend ends all rules.
func (p *Proxy) Mend() {
	p.mu.Lock()
	faults := p.faults
	p.mu.Unlock()
	for _, f := range faults {
		f.End()
	}
}

// Passed is how many requests of a kind have been passed on to brokers.
func (p *Proxy) Passed(key kmsg.Key) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[key]
}

// Close cuts all connections and returns what was not understood. A second call
// returns the same.
func (p *Proxy) Close() []error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.closing)
		for _, l := range p.listeners {
			l.Close()
		}
		for l := range p.links {
			l.close()
		}
	}
	p.mu.Unlock()
	p.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problems
}

func (p *Proxy) forget(f *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.faults {
		if p.faults[i] == f {
			p.faults = append(p.faults[:i:i], p.faults[i+1:]...)
			return
		}
	}
}

// judge asks all rules about a frame that have not been asked yet.
func (p *Proxy) judge(fr *frame, d Direction) {
	p.mu.Lock()
	faults, last := p.faults, p.rules
	p.mu.Unlock()
	for _, f := range faults {
		if f.number > fr.judged && f.takes(fr, d) {
			fr.rules = append(fr.rules, f)
			if due := time.Now().Add(f.wait()); f.rule.Do == Delay && due.After(fr.due) {
				fr.due = due
			}
		}
	}
	fr.judged = max(fr.judged, last)
}

func (p *Proxy) passed(key int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[kmsg.Key(key)]++
}

func (p *Proxy) problem(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.problems = append(p.problems, err)
	}
}

// ours gives our address for a broker's. There is one for each address that any
// broker has been known by.
func (p *Proxy) ours(host string, port int32) (string, int32) {
	address, err := p.listen(net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		p.problem(err)
		return host, port
	}
	own, text, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(text)
	return own, int32(n)
}

// listen gives the address at which we listen for a broker, from now on if not before.
func (p *Proxy) listen(broker string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return "", net.ErrClosed
	}
	if l := p.listeners[broker]; l != nil {
		return l.Addr().String(), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	p.listeners[broker] = l
	p.running.Go(func() { p.accept(l, broker) })
	return l.Addr().String(), nil
}

func (p *Proxy) accept(from net.Listener, broker string) {
	for {
		c, err := from.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.problem(err)
			}
			return
		}
		l := newLink(p, c, broker)
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			c.Close()
			return
		}
		p.links[l] = struct{}{}
		p.running.Go(func() {
			l.run()
			p.mu.Lock()
			delete(p.links, l)
			p.mu.Unlock()
		})
		p.mu.Unlock()
	}
}
