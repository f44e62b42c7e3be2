package httplimit

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// Listener is a listener with a bound for its open connections. At the bound a
// new connection takes the place of the one that has been without a request for
// the longest: one that is idle between requests, or has not sent its first one
// whole. When there is none, GiveWay is asked to end a request that is slow. While every
// connection is being served, new ones wait in the kernel's queue.
//
// Its [Listener.State] must be the ConnState of the server, or nothing gives way.
type Listener struct {
	net.Listener
	// GiveWay ends one request that moves slowly, and says whether there is one; its
	// connection is closed soon. Set before the first Accept; nil: there is never one.
	GiveWay func() bool

	max int

	mu     sync.Mutex // guards what follows, and conn.place
	open   int
	idle   *list.List    // of *conn without a request, the longest in front
	gave   uint64        // how many gave way
	room   chan struct{} // has room for one: something changed that Accept may wait for
	closed chan struct{}
	once   sync.Once
}

// Limit returns a Listener for at most max connections of l.
func Limit(l net.Listener, max int) *Listener {
	return &Listener{Listener: l, max: max, idle: list.New(), room: make(chan struct{}, 1), closed: make(chan struct{})}
}

// Max is the bound.
func (l *Listener) Max() int { return l.max }

// Open returns how many connections are open, and how many have given way so far.
func (l *Listener) Open() (open int, gaveWay uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.gave
}

// Accept implements [net.Listener]. It is for one caller at a time.
func (l *Listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for {
		c, oldest := l.admit(inner)
		if c != nil {
			return c, nil
		}
		if oldest != nil {
			oldest.Close() // its server sees a read that fails, and ends
			continue
		}
		if l.GiveWay != nil && l.GiveWay() {
			l.mu.Lock()
			l.gave++
			l.mu.Unlock()
		}
		select {
		case <-l.room:
		case <-l.closed:
			inner.Close()
			return nil, net.ErrClosed
		}
	}
}

// admit makes a connection of inner when there is room. Otherwise it returns the
// connection that gives way, or nothing at all when none does.
func (l *Listener) admit(inner net.Conn) (admitted, oldest *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open < l.max {
		l.open++
		c := &conn{Conn: inner, of: l}
		c.place = l.idle.PushBack(c)
		return c, nil
	}
	front := l.idle.Front()
	if front == nil {
		return nil, nil
	}
	oldest = front.Value.(*conn)
	l.idle.Remove(front)
	oldest.place = nil
	l.gave++
	return nil, oldest
}

// Close implements [net.Listener].
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// State is the ConnState of the server that serves l: it tells which connections
// have no request.
func (l *Listener) State(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok || c.of != l {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.gone:
	case state == http.StateIdle && c.place == nil:
		c.place = l.idle.PushBack(c)
		l.changed()
	case state == http.StateActive && c.place != nil:
		l.idle.Remove(c.place)
		c.place = nil
	}
}

// changed wakes an Accept that waits. l.mu is held.
func (l *Listener) changed() {
	select {
	case l.room <- struct{}{}:
	default:
	}
}

type conn struct {
	net.Conn
	of    *Listener
	place *list.Element // in of.idle; nil while a request is being served
	gone  bool
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.gone {
		c.gone = true
		l.open--
		if c.place != nil {
			l.idle.Remove(c.place)
			c.place = nil
		}
		l.changed()
	}
	return err
}
