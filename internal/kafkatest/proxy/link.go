package proxy

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"
)

// link is one connection of a client's, and ours to the broker behind it. Four
// goroutines serve it: each of its lanes is filled by one and emptied by another.
type link struct {
	p        *Proxy
	broker   string
	client   net.Conn
	toBroker *lane
	toClient *lane
	gone     chan struct{} // closed when the client has closed the connection
	done     chan struct{} // closed when the link is
	serving  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	up     net.Conn   // to the broker; nil before the first request
	asked  []*request // that the broker has and has not answered, in their order
	last   bool       // nothing more will be asked
}

func newLink(p *Proxy, client net.Conn, broker string) *link {
	return &link{
		p: p, broker: broker, client: client, toBroker: newLane(Requests), toClient: newLane(Answers),
		gone: make(chan struct{}), done: make(chan struct{}),
	}
}

func (l *link) run() {
	l.serving.Go(l.readRequests)
	l.serving.Go(l.writeAnswers)
	l.serving.Go(l.writeRequests)
	l.serving.Wait()
	l.close()
}

func (l *link) readRequests() {
	defer func() {
		close(l.gone)
		l.toBroker.push(l.p, &frame{})
	}()
	for {
		b, err := readFrame(l.client)
		if err != nil {
			return
		}
		r, err := parseRequest(b)
		if err != nil {
			l.p.problem(fmt.Errorf("to %s: %w", l.broker, err))
			return
		}
		l.toBroker.push(l.p, &frame{bytes: b, request: r})
	}
}

func (l *link) writeRequests() {
	for {
		fr := l.toBroker.next(l.done)
		if fr == nil {
			return
		}
		action := l.toBroker.admit(l.p, fr, l.done, nil)
		if action == Reset {
			l.reset()
			return
		}
		if fr.request == nil {
			l.finish()
			return
		}
		if action == Lose {
			continue
		}
		if err := l.send(fr); err != nil {
			l.close()
			return
		}
	}
}

// dialTimeout is how long a broker on this machine may take to accept a
// connection, and answerTimeout to answer what reached it after its client had gone.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 10 * time.Second
)

// send passes a request on.
func (l *link) send(fr *frame) error {
	l.mu.Lock()
	up := l.up
	l.mu.Unlock()
	if up == nil {
		var err error
		if up, err = net.DialTimeout("tcp", l.broker, dialTimeout); err != nil {
			return err
		}
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			up.Close()
			return net.ErrClosed
		}
		l.up = up
		l.serving.Go(func() { l.readAnswers(up) })
		l.mu.Unlock()
	}
	if !fr.request.silent() {
		l.mu.Lock()
		l.asked = append(l.asked, fr.request)
		l.mu.Unlock()
	}
	l.p.passed(fr.request.key) // before anybody can know it from the broker
	if err := l.toBroker.write(up, fr, l.done); err != nil {
		return err
	}
	if isClosed(l.gone) {
		for _, f := range fr.rules {
			f.add(&f.late, 1)
		}
	}
	return nil
}

// finish ends the connection to the broker after the client has ended its own.
// What reached the broker just now is given time: it may drop requests that it
// has not read when their connection ends.
func (l *link) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = true
	if l.up == nil || len(l.asked) == 0 {
		l.closeLocked()
		return
	}
	l.up.SetReadDeadline(time.Now().Add(answerTimeout))
}

func (l *link) readAnswers(up net.Conn) {
	defer l.toClient.push(l.p, &frame{})
	for {
		b, err := readFrame(up)
		if err != nil {
			return
		}
		l.mu.Lock()
		if len(l.asked) == 0 {
			l.mu.Unlock()
			l.p.problem(fmt.Errorf("%s answers what it was not asked", l.broker))
			return
		}
		r := l.asked[0]
		l.asked = l.asked[1:]
		idle := l.last && len(l.asked) == 0
		l.mu.Unlock()
		if idle {
			l.close()
			return
		}
		if c := int32(binary.BigEndian.Uint32(b[4:])); c != r.correlation {
			l.p.problem(fmt.Errorf("%s answers %s with the correlation id %d, not %d", l.broker, keyName(r.key), c, r.correlation))
			return
		}
		if b, err = rewrite(r, b, l.p.ours); err != nil {
			l.p.problem(fmt.Errorf("from %s: %w", l.broker, err))
			return
		}
		l.toClient.push(l.p, &frame{bytes: b, request: r})
	}
}

func (l *link) writeAnswers() {
	for {
		fr := l.toClient.next(l.done)
		if fr == nil {
			return
		}
		action := l.toClient.admit(l.p, fr, l.done, l.gone)
		if action == Reset {
			l.reset()
			return
		}
		if fr.request == nil {
			l.client.Close() // and so the rest ends
			return
		}
		if action != Lose && !isClosed(l.gone) {
			l.toClient.write(l.client, fr, l.done) // who reads from the client hears of its failure
		}
	}
}

// reset makes the client see its connection reset, and not just closed.
func (l *link) reset() {
	if c, ok := l.client.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	l.close()
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked()
}

func (l *link) closeLocked() {
	if l.closed {
		return
	}
	l.closed = true
	close(l.done)
	l.client.Close()
	if l.up != nil {
		l.up.Close()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
