package kafkatest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Wire is the network between a client and its brokers, to be broken at will.
// It works by the key of each request, so it breaks embedded and real clusters
// alike. A wire that was frozen must be thawed before the test ends.
type Wire struct {
	mu    sync.Mutex
	cuts  map[int16]*cutting
	done  map[int16]int
	still chan struct{}  // not nil while frozen; closed by Thaw
	only  map[int16]bool // when frozen: these requests alone, if any are named
	given int            // connections given up with something held
	late  int
}

// Cut says where a request's connection is to be cut.
type Cut int

const (
	// BeforeSend cuts before anything of the request is sent.
	BeforeSend Cut = iota + 1
	// AfterAnswer cuts when the broker has answered, and so has done what it
	// was asked, before the answer reaches the client.
	AfterAnswer
)

// Always is how often to cut for as long as the wire is not mended.
const Always = -1

type cutting struct {
	where Cut
	left  int
}

// ErrCut is what the client sees of a cut.
var ErrCut = errors.New("connection cut by the test")

// NewWire makes an unbroken network.
func NewWire() *Wire {
	return &Wire{cuts: make(map[int16]*cutting), done: make(map[int16]int), only: make(map[int16]bool)}
}

// Opt makes a client use this network.
func (w *Wire) Opt() kgo.Opt { return kgo.Dialer(w.dial) }

// Cut cuts the next requests with this key, so many of them.
func (w *Wire) Cut(key kmsg.Key, where Cut, times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cuts[int16(key)] = &cutting{where, times}
}

// Mend ends all cutting.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cuts)
}

// Cuts tells how many requests with this key were cut.
func (w *Wire) Cuts(key kmsg.Key) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done[int16(key)]
}

// Freeze holds what is sent from now on, or requests with these keys if any are
// given and what is sent behind them on the same connection, as a network does that
// delivers late: writes succeed, connections stay open, nothing arrives. What was
// held arrives on Thaw, even if the client has closed the connection meanwhile
// and gone on without it.
func (w *Wire) Freeze(keys ...kmsg.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range keys {
		w.only[int16(key)] = true
	}
	if w.still == nil {
		w.still = make(chan struct{})
	}
}

// Thaw ends Freeze.
func (w *Wire) Thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.still != nil {
		close(w.still)
		w.still = nil
		clear(w.only)
	}
}

// GivenUp tells how many connections their client has closed while something it
// had sent was held.
func (w *Wire) GivenUp() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.given
}

// Late tells how many requests were answered after their client had given up.
func (w *Wire) Late() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.late
}

func (w *Wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &wireConn{Conn: conn, wire: w}, nil
}

type wireConn struct {
	net.Conn
	wire *Wire

	mu     sync.Mutex
	cut    bool   // the next answer is not passed on
	held   []byte // sent while frozen
	late   bool   // held is on its way: whatever is sent waits behind it
	closed bool
}

// requestKey reads a request's key: the client writes a request at once, its
// length in four bytes and then its key in two.
func requestKey(b []byte) (int16, bool) {
	if len(b) < 8 || int(binary.BigEndian.Uint32(b)) != len(b)-4 {
		return 0, false
	}
	return int16(binary.BigEndian.Uint16(b[4:])), true
}

// next says what is to happen to a request: what it is to wait for, if anything,
// and where it is cut.
func (w *Wire) next(key int16, whole bool) (still chan struct{}, where Cut) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.cuts[key]; whole && c != nil {
		where = c.where
		w.done[key]++
		if c.left--; c.left == 0 {
			delete(w.cuts, key)
		}
	}
	if len(w.only) > 0 && !(whole && w.only[key]) {
		return nil, where
	}
	return w.still, where
}

func (c *wireConn) Write(b []byte) (int, error) {
	key, whole := requestKey(b)
	still, cut := c.wire.next(key, whole)
	if cut == BeforeSend {
		c.Close()
		return 0, ErrCut
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.cut = c.cut || cut == AfterAnswer
	if still == nil && !c.late {
		return c.Conn.Write(b)
	}
	c.held = append(c.held, b...)
	if !c.late {
		c.late = true
		go c.deliver(still)
	}
	return len(b), nil
}

// deliver sends what was held, when the time comes.
func (c *wireConn) deliver(still <-chan struct{}) {
	<-still
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // its deadlines are the client's, and long over
		c.Conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	c.Conn.Write(c.held)
	c.held, c.late = nil, false
	if c.closed {
		if _, err := c.Conn.Read(make([]byte, 4)); err == nil {
			c.wire.mu.Lock()
			c.wire.late++
			c.wire.mu.Unlock()
		}
		c.Conn.Close()
	}
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	cut, closed := c.cut, c.closed
	c.mu.Unlock()
	if closed && err == nil {
		// The client's reader had not been told yet when the deadline was set
		// anew, and took the late answer instead of deliver.
		c.wire.mu.Lock()
		c.wire.late++
		c.wire.mu.Unlock()
		return 0, net.ErrClosed
	}
	if cut && err == nil {
		c.Close()
		return 0, ErrCut
	}
	return n, err
}

func (c *wireConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.closed
	c.closed = true
	if c.late {
		if !was {
			c.wire.mu.Lock()
			c.wire.given++
			c.wire.mu.Unlock()
		}
		return c.Conn.SetReadDeadline(time.Unix(1, 0)) // who reads is told; what was sent still arrives
	}
	return c.Conn.Close()
}
