package proof

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// attacker has connections to one listener, and never closes one before the end.
type attacker struct {
	t       *testing.T
	address string
	path    string // of a request with a body
	media   string // of such a body
	stop    chan struct{}

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func newAttacker(t *testing.T, url, path, media string) *attacker {
	a := &attacker{t: t, address: strings.TrimPrefix(url, "http://"), path: path, media: media, stop: make(chan struct{})}
	t.Cleanup(a.end)
	return a
}

// end closes all connections.
func (a *attacker) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.conns {
		c.Close()
	}
	a.conns = nil
}

// dial opens a connection. Where the listener's queue is full that takes a while.
func (a *attacker) dial() net.Conn {
	c, err := net.DialTimeout("tcp", a.address, patience)
	if err != nil {
		a.t.Errorf("attack %s: %v", a.address, err)
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns = append(a.conns, c)
	return c
}

// each opens n connections, some at a time, and does something with each.
func (a *attacker) each(n int, do func(net.Conn)) {
	slots := make(chan struct{}, 64)
	var all sync.WaitGroup
	for range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if c := a.dial(); c != nil {
				do(c)
			}
		})
	}
	all.Wait()
}

// head is the beginning of a request with a body.
func (a *attacker) head(more string) string {
	return "POST " + a.path + " HTTP/1.1\r\nHost: " + a.address + "\r\nContent-Type: " + a.media + "\r\n" + more
}

// say sends a request whole and returns the status that it is answered with, 0 when the
// connection ends without an answer.
func (a *attacker) say(request string) int {
	c := a.dial()
	if c == nil {
		return 0
	}
	defer c.Close()
	go io.WriteString(c, request) // it may be answered before it has been read
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	r.Body.Close()
	return r.StatusCode
}

func (a *attacker) want(name, request string, statuses ...int) {
	a.t.Helper()
	got := a.say(request)
	for _, s := range statuses {
		if got == s {
			return
		}
	}
	a.t.Errorf("%s: %s is answered %d, want one of %v", a.address, name, got, statuses)
}

// idle opens connections that make one request and then keep still.
func (a *attacker) idle(n int) {
	a.each(n, func(c net.Conn) {
		fmt.Fprintf(c, "GET /nowhere HTTP/1.1\r\nHost: %s\r\n\r\n", a.address)
		_, _ = c.Read(make([]byte, 1)) // the answer, or the end, if it had to give way
	})
}

// slowHeaders begins requests and goes on with them a byte at a time, until the server has had
// enough of each.
func (a *attacker) slowHeaders(n int, within time.Duration) {
	deadline := time.Now().Add(within + patience)
	var open sync.WaitGroup
	a.each(n, func(c net.Conn) {
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nX-Slow: ", a.address)
		open.Go(func() {
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			for {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				if time.Now().After(deadline) {
					a.t.Errorf("%s: headers that do not end are still taken after %s", a.address, within+patience)
					return
				}
				<-tick.C
			}
		})
	})
	open.Wait()
}

// slowBodies announces bodies and sends only the first bytes of each.
func (a *attacker) slowBodies(n, announced, sent int) {
	part := bytes.Repeat([]byte("x"), sent)
	a.each(n, func(c net.Conn) {
		io.WriteString(c, a.head(fmt.Sprintf("Content-Length: %d\r\n\r\n", announced)))
		_, _ = c.Write(part) // it may be cut off meanwhile
	})
}

// slowReaders asks for large answers and takes nothing of them.
func (a *attacker) slowReaders(n int, path string) {
	a.each(n, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, a.address)
	})
}

// endless sends a body in chunks that never ends, until the server cuts it.
func (a *attacker) endless(n int) {
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 32<<10, strings.Repeat("x", 32<<10))
	a.each(n, func(c net.Conn) {
		io.WriteString(c, a.head("Transfer-Encoding: chunked\r\n\r\n"))
		for sent := 0; ; sent += len(chunk) {
			if _, err := io.WriteString(c, chunk); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					a.t.Errorf("%s: an endless body is neither refused nor cut", a.address)
				}
				return
			}
			if sent > 1<<30 {
				a.t.Errorf("%s: a gigabyte of one body is taken", a.address)
				return
			}
		}
	})
}

// headers sends too many, too long and odd headers.
func (a *attacker) headers() {
	get := "GET /nowhere HTTP/1.1\r\nHost: " + a.address + "\r\n"
	a.want("a header of a megabyte", get+"X-Long: "+strings.Repeat("x", 1<<20)+"\r\n\r\n", 431)
	a.want("headers of a megabyte", get+strings.Repeat("X-Many: 1\r\n", 100_000)+"\r\n", 431)
	a.want("a request line of a megabyte", "GET /"+strings.Repeat("x", 1<<20)+" HTTP/1.1\r\nHost: x\r\n\r\n", 431, 414)
	many := a.head("Content-Length: 2\r\n")
	for i := 0; len(many) < 30_000; i++ {
		many += fmt.Sprintf("ce-x%d: %d\r\n", i, i)
	}
	a.want("thousands of headers", many+"\r\n{}", 204, 400, 422)
	a.want("two lengths", a.head("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), 400)
	a.want("a negative length", a.head("Content-Length: -1\r\n\r\n{}"), 400)
	a.want("a length beyond all", a.head("Content-Length: 99999999999999999999\r\n\r\n{}"), 400)
	a.want("a large length", a.head("Content-Length: 9223372036854775807\r\n\r\n{}"), 413)
	a.want("no host", "GET / HTTP/1.1\r\n\r\n", 400)
	a.want("an unknown transfer coding", a.head("Transfer-Encoding: gzip\r\n\r\n{}"), 501, 400)
	a.want("a NUL in a header", get+"X-Nul: a\x00b\r\n\r\n", 400)
}

// garbage sends what is no HTTP, alone and behind a request.
func (a *attacker) garbage() {
	noise := strings.Repeat("\x00\xff\x16\x03\x01 garbage \r\n", 1000)
	for name, text := range map[string]string{
		"noise": noise, "a TLS hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "an end": "\r\n\r\n", "half a line": "POST",
	} {
		c := a.dial()
		if c == nil {
			return
		}
		go func() {
			io.WriteString(c, text)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		if answer, _ := io.ReadAll(c); len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 400")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 431")) {
			a.t.Errorf("%s: %s is answered %.100q", a.address, name, answer)
		}
		c.Close()
	}
	// A request before it is answered all the same.
	a.want("a request before garbage", "GET /nowhere HTTP/1.1\r\nHost: "+a.address+"\r\n\r\n"+noise, 404, 405)
}

// bombs sends what is small and would be huge.
func (a *attacker) bombs() {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	zeros := make([]byte, 1<<20)
	for range 100 {
		z.Write(zeros)
	}
	z.Close()
	a.want("a packed body", a.head(fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", packed.Len()))+packed.String(), 415)
}

// frame makes a frame of HTTP/2.
func frame(kind, flags byte, stream uint32, payload ...byte) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	f = append(f, flags)
	f = binary.BigEndian.AppendUint32(f, stream)
	return append(f, payload...)
}

// rapidReset opens streams of HTTP/2 and takes each back at once. It returns how
// many the server took before it ended the connection.
func (a *attacker) rapidReset(n int) {
	c := a.dial()
	if c == nil {
		return
	}
	go io.Copy(io.Discard, c)
	w := bufio.NewWriter(c)
	w.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	w.Write(frame(4, 0, 0)) // SETTINGS
	// :method POST, :scheme http, :path /, :authority x, by the static table of HPACK.
	headers := []byte{0x83, 0x86, 0x84, 0x41, 1, 'x'}
	for i := range n {
		stream := uint32(2*i + 1)
		w.Write(frame(1, 4, stream, headers...)) // HEADERS, END_HEADERS
		w.Write(frame(3, 0, stream, 0, 0, 0, 8)) // RST_STREAM, CANCEL
		if w.Flush() != nil {
			return // it has had enough
		}
	}
}
