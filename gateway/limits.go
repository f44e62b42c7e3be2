package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// gauge counts what is in use of something limited.
type limitGauge struct {
	used  atomic.Int64
	limit int64
}

// take takes n, or nothing and returns false when that would pass the limit.
func (g *limitGauge) take(n int64) bool {
	if g.used.Add(n) > g.limit {
		g.used.Add(-n)
		return false
	}
	return true
}

func (g *limitGauge) give(n int64) { g.used.Add(-n) }

// bodyReader reads bodies within the limit of one and the limit of all.
type bodyReader struct {
	max      int64
	buffered *limitGauge
}

// read returns the whole body and a function that gives its bytes back to the
// limit of all, to be called when the request is answered. A body of unknown
// length counts as the largest that is taken. Errors are problems.
func (b *bodyReader) read(w http.ResponseWriter, r *http.Request) ([]byte, func(), error) {
	tooLarge := func() error {
		return fail(problemTooLarge, "the body is larger than the limit of %d bytes that is set by %s", b.max, settingMaxBody).limit(settingMaxBody, b.max)
	}
	size := r.ContentLength
	if size > b.max {
		w.Header().Set("Connection", "close") // rather than read what nobody wants
		return nil, nil, tooLarge()
	}
	if size < 0 {
		size = b.max
	}
	if !b.buffered.take(size) {
		return nil, nil, fail(problemOverloaded, "the bodies of all requests together have reached the limit of %d bytes that is set by %s", b.buffered.limit, settingMaxBuffered).
			limit(settingMaxBuffered, b.buffered.limit).after(time.Second)
	}
	body, err := readSized(http.MaxBytesReader(w, r.Body, b.max), r.ContentLength)
	if err != nil {
		b.buffered.give(size)
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, nil, tooLarge()
		}
		return nil, nil, fail(problemMalformed, "the body cannot be read to its end").because(err)
	}
	return body, func() { b.buffered.give(size) }, nil
}

// readSized reads to the end, in one allocation when the size is known.
func readSized(r io.Reader, size int64) ([]byte, error) {
	if size < 0 {
		return io.ReadAll(r)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(r, body)
	return body, err
}

// limitListener lets at most n connections be open; further ones wait to be
// accepted, in the kernel's queue.
func limitListener(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	slots  chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}
