package httplimit

import (
	"bufio"
	"context"
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

// patience is for what must happen at some time; it costs nothing when it does.
const patience = time.Minute

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// serve serves h over a Listener of at most max connections.
func serve(t *testing.T, max int, h http.Handler) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(inner, max)
	serveOn(t, l, h)
	return l
}

func serveOn(t *testing.T, l *Listener, h http.Handler) {
	s := &http.Server{Handler: h, ConnState: l.State, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan error)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-ended
	})
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// get makes a request on a connection of its own, or one that is there.
func get(c net.Conn, path string) (string, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		return "", err
	}
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	return string(text), err
}

// closed waits for the other side's end of a connection. Each wait has its own
// patience, so that one which stays open does not speak for the next.
func closed(c net.Conn) bool {
	c.SetDeadline(time.Now().Add(patience))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestIdleConnectionsGiveWay(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}), make(chan struct{})
	l := serve(t, 3, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			inside <- struct{}{}
			<-leave
		}
		io.WriteString(w, "ok")
	}))
	// One is being served, one is between requests, one has sent half a request.
	busy, idle, half := dial(t, l), dial(t, l), dial(t, l)
	served := make(chan string)
	go func() {
		text, err := get(busy, "/long")
		served <- fmt.Sprint(text, err)
	}()
	<-inside
	if text, err := get(idle, "/"); text != "ok" {
		t.Fatal(text, err)
	}
	io.WriteString(half, "GET / HTTP/1.1\r\nX-Half: ")
	// A client has its answer before its connection counts as idle.
	eventually(t, "all are open, two without a request", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.open == 3 && l.idle.Len() == 2
	})

	// A new one takes the place of one that has no request, then of the other.
	for range 2 {
		c := dial(t, l)
		if text, err := get(c, "/"); text != "ok" {
			t.Fatal(text, err)
		}
	}
	for name, c := range map[string]net.Conn{"idle": idle, "half": half} {
		if !closed(c) {
			t.Errorf("the connection %q is still open", name)
		}
	}
	if open, gave := l.Open(); open > 3 || gave != 2 {
		t.Errorf("%d are open, %d gave way", open, gave)
	}
	close(leave)
	if got := <-served; got != "ok<nil>" {
		t.Errorf("what was being served is cut: %s", got)
	}
}

// While all connections are being served a new one waits, and is served then.
func TestBusyConnectionsDoNotGiveWay(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}, 2), make(chan struct{})
	l := serve(t, 1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside <- struct{}{}
		<-leave
		io.WriteString(w, "ok")
	}))
	var calls sync.WaitGroup
	call := func() {
		c := dial(t, l)
		calls.Go(func() {
			if text, err := get(c, "/"); text != "ok" {
				t.Error(text, err)
			}
		})
	}
	call()
	<-inside
	call()
	if open, gave := l.Open(); open != 1 || gave != 0 {
		t.Errorf("%d are open, %d gave way", open, gave)
	}
	close(leave)
	calls.Wait()
}

// Where all connections are taken by bodies that come slowly, the oldest is ended.
func TestSlowRequestsMakeRoom(t *testing.T) {
	t.Parallel()
	b := &Bodies{Max: 1 << 20, Total: 1 << 20}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(inner, 2)
	l.GiveWay = b.GiveWay
	serveOn(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := b.Read(w, r)
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body.Release()
		io.WriteString(w, "ok")
	}))
	var slow []func() int
	for i := range 2 {
		_, status := post(t, l, "Content-Length: 10", "x")
		slow = append(slow, status)
		eventually(t, "a slow one is on its way", func() bool { return b.Held() == int64(10*(i+1)) })
	}
	if text, err := get(dial(t, l), "/"); text != "ok" {
		t.Fatal(text, err)
	}
	if s := slow[0](); s != http.StatusServiceUnavailable {
		t.Errorf("the oldest one is answered %d", s)
	}
}

func TestHTTP2ConnectionsGiveWay(t *testing.T) {
	t.Parallel()
	l := serve(t, 1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	for range 3 {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(a.Body)
		a.Body.Close()
		if string(text) != "HTTP/2.0" {
			t.Errorf("answered %q", text)
		}
		t.Cleanup(client.CloseIdleConnections)
	}
}

func TestClosedListenerLetsNobodyWait(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(inner, 1)
	dial(t, l)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l.State(c, http.StateActive)
	dial(t, l)
	ended := make(chan error)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	c.Close()
	c.Close()
	if open, _ := l.Open(); open != 0 {
		t.Errorf("%d connections are open after a second close", open)
	}
}

// post sends a body that is announced, or chunked, and returns the status that it is answered with.
func post(t *testing.T, l *Listener, head, body string) (net.Conn, func() int) {
	t.Helper()
	c := dial(t, l)
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+head+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	return c, func() int {
		a, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return -1
		}
		a.Body.Close()
		return a.StatusCode
	}
}

// bodyServer answers 200 to a body that has come whole, 413 to one that is too
// large, 503 to one that was given up.
func bodyServer(t *testing.T, b *Bodies) *Listener {
	return serve(t, 100, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := b.Read(w, r)
		switch {
		case errors.Is(err, ErrTooLarge):
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		case errors.Is(err, ErrFull):
			w.WriteHeader(http.StatusServiceUnavailable)
		case err != nil:
			w.WriteHeader(http.StatusBadRequest)
		default:
			defer body.Release()
			if want := r.Header.Get("X-Bytes"); want != "" && want != fmt.Sprint(len(body.Bytes)) {
				t.Errorf("%d bytes were read, not %s", len(body.Bytes), want)
			}
		}
	}))
}

func TestBodiesAreReadWhole(t *testing.T) {
	t.Parallel()
	b := &Bodies{Max: 20_000, Total: 40_000}
	l := bodyServer(t, b)
	for _, n := range []int{0, 1, 4095, 4096, 4097, 8192, 19_999, 20_000, 20_001, 50_000} {
		want := http.StatusOK
		if n > 20_000 {
			want = http.StatusRequestEntityTooLarge
		}
		text := strings.Repeat("x", n)
		length := fmt.Sprintf("X-Bytes: %d\r\n", n)
		if _, status := post(t, l, fmt.Sprintf("%sContent-Length: %d", length, n), text); status() != want {
			t.Errorf("%d announced bytes are not answered %d", n, want)
		}
		chunk := ""
		if n > 0 {
			chunk = fmt.Sprintf("%x\r\n%s\r\n", n, text)
		}
		if _, status := post(t, l, length+"Transfer-Encoding: chunked", chunk+"0\r\n\r\n"); status() != want {
			t.Errorf("%d bytes in chunks are not answered %d", n, want)
		}
	}
	eventually(t, "all bytes are given back", func() bool { return b.Held() == 0 })
}

// What is announced and not sent takes no memory, and what is sent slowly gives way.
func TestSlowBodiesGiveWay(t *testing.T) {
	t.Parallel()
	b := &Bodies{Max: 1 << 20, Total: 1 << 20}
	l := bodyServer(t, b)
	var slow []func() int
	for range 50 {
		_, status := post(t, l, "Content-Length: 1048576", "x")
		slow = append(slow, status)
	}
	eventually(t, "50 bodies are on their way", func() bool { return b.Held() == 50*firstBytes })
	_, fat := post(t, l, "Content-Length: 1048576", strings.Repeat("x", 600<<10))
	eventually(t, "most of a body has come", func() bool { return b.Held() > 600<<10 })
	for range 20 {
		if _, status := post(t, l, "Content-Length: 102400", strings.Repeat("y", 100<<10)); status() != http.StatusOK {
			t.Fatal("a body that comes at once is not taken")
		}
	}
	// Another large one needs the place of all of them.
	if _, status := post(t, l, "Content-Length: 1048576", strings.Repeat("z", 1<<20)); status() != http.StatusOK {
		t.Fatal("a large body that comes at once is not taken")
	}
	for i, status := range append(slow, fat) {
		if s := status(); s != http.StatusServiceUnavailable {
			t.Errorf("slow body %d is answered %d", i, s)
		}
	}
	eventually(t, "all bytes are given back", func() bool { return b.Held() == 0 })
}

// What has come whole does not give way, and nothing is given up where that would not help.
func TestWholeBodiesDoNotGiveWay(t *testing.T) {
	t.Parallel()
	b := &Bodies{Max: 100_000, Total: 100_000}
	inside, leave := make(chan struct{}), make(chan struct{})
	l := serve(t, 100, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := b.Read(w, r)
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		defer body.Release()
		if len(body.Bytes) == 90_000 {
			close(inside)
			<-leave
		}
	}))
	_, whole := post(t, l, "Content-Length: 90000", strings.Repeat("x", 90_000))
	<-inside
	half, slow := post(t, l, "Content-Length: 2000", strings.Repeat("x", 1000))
	eventually(t, "a slow one is on its way", func() bool { return b.Held() == 92_000 })
	if _, status := post(t, l, "Content-Length: 50000", strings.Repeat("x", 50_000)); status() != http.StatusServiceUnavailable {
		t.Error("a body beyond the limit is taken")
	}
	io.WriteString(half, strings.Repeat("x", 1000))
	if s := slow(); s != http.StatusOK {
		t.Errorf("the slow one was given up for nothing: %d", s)
	}
	close(leave)
	if s := whole(); s != http.StatusOK {
		t.Errorf("the whole one is answered %d", s)
	}
}

// A client that does not take its answer gives way to those who do.
func TestSlowReadersGiveWay(t *testing.T) {
	t.Parallel()
	const size = 16 << 20 // more than the kernel takes
	a := &Answers{Total: 3 * size}
	body := make([]byte, size)
	l := serve(t, 100, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.Write(w, http.StatusOK, body); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	for range 3 {
		io.WriteString(dial(t, l), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	eventually(t, "nobody takes three answers", func() bool { return a.Held() == 3*size })
	for range 3 {
		if text, err := get(dial(t, l), "/"); len(text) != size {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
	}
	eventually(t, "two are still there", func() bool { return a.Held() == 2*size })
}
