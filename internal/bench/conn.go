package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"
)

// conn is one kept-alive HTTP/1.1 connection to the gateway, for one client. It
// does what a benchmark needs of HTTP and no more: net/http's client costs
// several times as much, and that processor time is missing where it is measured.
type conn struct {
	address string // host:port
	head    []byte // request line and headers, all but the length
	net     net.Conn
	in      *bufio.Reader
	out     []byte
	body    []byte      // of the last answer
	sent    int64       // bytes
	got     int64       // bytes of answers, without chunk framing
	unhook  func() bool // lets go of the context that ends net
}

// answerLimit is how long an answer may take beyond what the gateway was asked to wait.
const answerLimit = 20 * time.Second

// maxBody is the greatest answer that is taken, in bytes.
const maxBody = 1 << 20

func newConn(gateway *url.URL, token string, wait time.Duration) *conn {
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST %s/v1/commands HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n", gateway.Path, gateway.Host)
	fmt.Fprintf(&head, "Prefer: wait=%d\r\n", int(wait.Seconds()))
	if token != "" {
		fmt.Fprintf(&head, "Authorization: Bearer %s\r\n", token)
	}
	head.WriteString("Content-Length: ")
	return &conn{address: gateway.Host, head: head.Bytes()}
}

// post sends one command and reads the answer: its status, and its body, which
// is valid until the next call. After an error the next call connects anew.
func (c *conn) post(ctx context.Context, command []byte, limit time.Duration) (status int, body []byte, err error) {
	if c.net == nil {
		var d net.Dialer
		if c.net, err = d.DialContext(ctx, "tcp", c.address); err != nil {
			c.net = nil
			return 0, nil, err
		}
		c.in = bufio.NewReaderSize(c.net, 4<<10)
		opened := c.net
		c.unhook = context.AfterFunc(ctx, func() { opened.SetDeadline(time.Unix(1, 0)) })
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.net.SetDeadline(time.Now().Add(limit)); err != nil {
		return 0, nil, err
	}
	// Looked at after the deadline is set: an end before it is seen here, one after it moves the deadline.
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	c.out = append(c.out[:0], c.head...)
	c.out = strconv.AppendInt(c.out, int64(len(command)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	c.out = append(c.out, command...)
	if _, err := c.net.Write(c.out); err != nil {
		return 0, nil, err
	}
	c.sent += int64(len(c.out))
	return c.answer()
}

func (c *conn) answer() (int, []byte, error) {
	line, err := c.line()
	if err != nil {
		return 0, nil, err
	}
	// "HTTP/1.1 200 OK"
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, nil, fmt.Errorf("not an HTTP/1.1 answer: %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, fmt.Errorf("not an HTTP status: %q", line)
	}
	length, chunked, last := -1, false, false
	for {
		line, err := c.line()
		if err != nil {
			return 0, nil, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > maxBody {
				return 0, nil, fmt.Errorf("an answer of %q bytes", value)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			last = bytes.EqualFold(value, []byte("close"))
		}
	}
	switch {
	case chunked:
		if c.body, err = io.ReadAll(io.LimitReader(httputil.NewChunkedReader(c.in), maxBody)); err != nil {
			return 0, nil, err
		}
		if _, err := c.line(); err != nil { // the empty line after the last chunk
			return 0, nil, err
		}
	case length >= 0:
		c.body = append(c.body[:0], make([]byte, length)...)
		if _, err := io.ReadFull(c.in, c.body); err != nil {
			return 0, nil, err
		}
	default:
		return 0, nil, errors.New("an answer without a length")
	}
	c.got += int64(len(c.body))
	if last {
		c.close()
	}
	return status, c.body, nil
}

// line reads a line without its end. It is valid until the next read.
func (c *conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	c.got += int64(len(line))
	return bytes.TrimRight(line, "\r\n"), nil
}

func (c *conn) close() {
	if c.net != nil {
		c.unhook()
		c.net.Close()
		c.net = nil
	}
}
