package kafka

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// reach is what the franz-go clients made from one [Settings] know together of
// which brokers answer.
//
// A broker can fall silent without dying: its process is stopped, its machine
// hangs, a firewall drops what is sent. TCP does not tell, since a kernel goes on
// accepting connections. A time limit on requests does not tell soon, since many
// may rightly wait: a join for as long as a rebalance takes, the end of a
// transaction until all replicas have it. And a client that was made a moment ago
// knows nothing of what the one before it has found out.
//
// So a broker that lets an answer wait for [suspicion] is asked, on a connection of
// its own, what costs it nothing to answer (ApiVersions). When it does not answer
// that either within [patience], nor anything on any other connection meanwhile, all
// connections to it are closed and no new ones are opened, which the clients
// understand: they try again with another broker, or ask who leads now. It is asked on
// until it answers.
type reach struct {
	mu      sync.Mutex
	brokers map[string]*peer // by host:port: those with links, and those being asked
}

const (
	// suspicion is how long an answer may be waited for before the broker is asked
	// whether it is there. Questions are cheap, so it may be wrong.
	suspicion = 2 * time.Second

	// patience is how long a broker may take to answer that it is there. Together
	// they are well below the time after which Kafka itself gives up on a broker
	// (broker.session.timeout.ms, 9 s), so that nobody still waits for an answer of
	// the old leader when there is a new one.
	patience = 3 * time.Second

	// longPatience is the same of one that was found silent: it may be slow when it
	// comes back.
	longPatience = 10 * time.Second

	// interest is how long a silent broker is asked on when nobody wants to reach it.
	interest = time.Minute
)

// errSilent is why a connection to a silent broker is closed, or not opened.
var errSilent = errors.New("the broker does not answer")

// peer is one broker, by its address.
type peer struct {
	links  map[*link]struct{}
	heard  atomic.Int64 // when something of it was read last on any link, in nanoseconds
	asked  bool         // somebody is finding out
	silent bool         // found out
	wanted time.Time    // when silent: the last time that somebody wanted to reach it
}

// link is a connection, or one that is being opened.
type link struct {
	cut func() // ends it; called once at most, when the broker is found silent
}

func newReach() *reach { return &reach{brokers: map[string]*peer{}} }

// peer gives what is known of a broker; mu is held.
func (r *reach) peer(addr string) *peer {
	p := r.brokers[addr]
	if p == nil {
		p = &peer{links: map[*link]struct{}{}}
		r.brokers[addr] = p
	}
	return p
}

// forget drops a broker of which there is nothing to know; mu is held.
func (r *reach) forget(addr string, p *peer) {
	if len(p.links) == 0 && !p.asked {
		delete(r.brokers, addr)
	}
}

// open notes that a connection is being opened, unless the broker is silent.
func (r *reach) open(addr string, cut func()) (*peer, *link, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peer(addr)
	if p.silent {
		p.wanted = time.Now()
		return nil, nil, errSilent
	}
	l := &link{cut: cut}
	p.links[l] = struct{}{}
	return p, l, nil
}

// opened changes how a link is cut, and says false when it was cut already.
func (r *reach) opened(p *peer, l *link, cut func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.cut = cut
	_, there := p.links[l]
	return there
}

// close forgets a link.
func (r *reach) close(addr string, l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.brokers[addr]; p != nil {
		delete(p.links, l)
		r.forget(addr, p)
	}
}

// suspect has somebody find out whether a broker answers, if nobody does already.
func (r *reach) suspect(addr string, ask func(time.Duration) error, log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.peer(addr); !p.asked {
		p.asked, p.wanted = true, time.Now()
		go r.findOut(addr, p, ask, log)
	}
}

// findOut asks until the broker answers, or refuses to, or nobody wants to know.
func (r *reach) findOut(addr string, p *peer, ask func(time.Duration) error, log *slog.Logger) {
	for wait := patience; ; wait = longPatience {
		began := time.Now()
		err := ask(wait)
		if !r.noAnswer(addr, p, began, err, log) {
			return
		}
		// An answer's absence has taken its time already, a resolver's may not have.
		<-time.After(100 * time.Millisecond)
	}
}

// noAnswer takes in how a question ended, and says whether to ask again.
func (r *reach) noAnswer(addr string, p *peer, began time.Time, err error, log *slog.Logger) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if late(err) && (p.silent || p.heard.Load() < began.UnixNano()) {
		if !p.silent {
			p.silent = true
			log.Warn("broker does not answer; its connections are closed until it does", "broker", addr, "connections", len(p.links))
			for l := range p.links {
				go l.cut() // may wait for what holds the connection
			}
			clear(p.links)
		}
		if time.Since(p.wanted) < interest {
			return true
		}
		err = errors.New("nobody wants to reach it any more")
	}
	if p.silent {
		log.Info("broker is tried again", "broker", addr, "err", err)
	}
	p.asked, p.silent = false, false
	r.forget(addr, p)
	return false
}

// late says whether an error tells of a broker's silence, and not of a resolver's.
func late(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() && !errors.As(err, new(*net.DNSError))
}

// dialer opens connections to brokers, as [reach] allows.
type dialer struct {
	reach *reach
	tls   *tls.Config // nil for plain connections
	limit time.Duration
	log   *slog.Logger
}

// DialContext opens a connection for a client.
func (d *dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, l, err := d.reach.open(addr, cancel)
	if err != nil {
		return nil, undialed(network, addr, err)
	}
	suspect := func() {
		d.reach.suspect(addr, func(patience time.Duration) error { return d.ask(addr, patience) }, d.log)
	}
	dialing := time.AfterFunc(suspicion, suspect)
	conn, err := d.dial(ctx, network, addr)
	dialing.Stop()
	cut := func() {}
	if err == nil {
		cut = func() { _ = conn.Close() }
	}
	if !d.reach.opened(p, l, cut) {
		cut()
		return nil, undialed(network, addr, errSilent)
	}
	if err != nil {
		d.reach.close(addr, l)
		return nil, err
	}
	return &watched{
		Conn: conn, heard: &p.heard, reading: newWaiting(suspect), writing: newWaiting(suspect),
		close: func() { d.reach.close(addr, l) },
	}, nil
}

// undialed is an error as dialing gives it: the library tries another broker then.
func undialed(network, addr string, why error) error {
	return &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s: %w", addr, why)}
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: d.limit}
	if d.tls == nil {
		return plain.DialContext(ctx, network, addr)
	}
	return (&tls.Dialer{NetDialer: plain, Config: d.tls}).DialContext(ctx, network, addr)
}

// ask asks a broker which requests it knows, and waits for the beginning of the
// answer. Brokers answer that before they know who asks (KIP-511).
func (d *dialer) ask(addr string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := d.dial(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	request := kmsg.NewRequestFormatter(kmsg.FormatterClientID("evento-reach")).AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 1)
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var answer [8]byte // its size, and the number of the request
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if n := binary.BigEndian.Uint32(answer[4:]); n != 1 {
		return fmt.Errorf("%s answers request 1 with an answer to %d", addr, n)
	}
	return nil
}

// watched is a connection on which it is noticed when an answer lets itself be
// waited for: the library reads only when one is due.
type watched struct {
	net.Conn
	heard            *atomic.Int64
	reading, writing *waiting
	close            func() // forgets it
}

func (w *watched) Read(p []byte) (int, error) {
	w.reading.begin()
	defer w.reading.end()
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	w.writing.begin()
	defer w.writing.end()
	return w.Conn.Write(p)
}

func (w *watched) Close() error {
	w.close()
	return w.Conn.Close()
}

// waiting calls due each time that a wait has gone on for [suspicion].
type waiting struct {
	due   func()
	on    atomic.Bool
	timer *time.Timer
}

func newWaiting(due func()) *waiting {
	w := &waiting{due: due}
	w.timer = time.AfterFunc(time.Hour, w.over)
	w.timer.Stop()
	return w
}

func (w *waiting) begin() {
	w.on.Store(true)
	w.timer.Reset(suspicion)
}

func (w *waiting) end() {
	w.on.Store(false)
	w.timer.Stop()
}

func (w *waiting) over() {
	if w.on.Load() {
		w.due()
		w.timer.Reset(suspicion)
	}
}
