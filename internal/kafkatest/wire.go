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
// alike.
type Wire struct {
	mu    sync.Mutex
	cuts  map[int16]*cutting
	done  map[int16]int
	still chan struct{} // not nil while frozen; closed by Thaw
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
	return &Wire{cuts: make(map[int16]*cutting), done: make(map[int16]int)}
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

// Freeze holds everything that is sent from now on, like a process that is
// paused: connections stay open, nothing moves. Thaw lets it go on.
func (w *Wire) Freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
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
	}
}

func (w *Wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &wireConn{Conn: conn, wire: w, closed: make(chan struct{})}, nil
}

type wireConn struct {
	net.Conn
	wire   *Wire
	once   sync.Once
	closed chan struct{}

	mu  sync.Mutex
	cut bool // the next answer is not passed on
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
	return w.still, where
}

func (c *wireConn) Write(b []byte) (int, error) {
	w := c.wire
	key, whole := requestKey(b)
	still, cut := w.next(key, whole)
	if still != nil {
		select {
		case <-still:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	switch cut {
	case BeforeSend:
		c.Close()
		return 0, ErrCut
	case AfterAnswer:
		c.mu.Lock()
		c.cut = true
		c.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	cut := c.cut
	c.mu.Unlock()
	if cut && err == nil {
		c.Close()
		return 0, ErrCut
	}
	return n, err
}

func (c *wireConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
