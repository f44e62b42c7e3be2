package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

func TestBodyIsLimited(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxBody, c.MaxData = 2048, 1024 })
	body := func(n int) string {
		return `{"entity":"checking:1","command_type":"WithdrawCash","payload":{"text":"` + strings.Repeat("x", n) + `"}}`
	}
	b.send(body(500)).wantStatus(t, 202)
	b.send(body(1500)).wantProblem(t, problemTooLarge, settingMaxData, "1024").wantMember(t, "limit", 1024).wantMember(t, "setting", settingMaxData)
	b.send(body(3000)).wantProblem(t, problemTooLarge, settingMaxBody, "2048").wantMember(t, "limit", 2048)

	// Of unknown length, too.
	r, err := http.NewRequest("POST", b.public.URL+"/v1/commands", io.MultiReader(strings.NewReader(body(3000))))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a chunked body is answered %d", resp.StatusCode)
	}
	if n := b.server.bodies.buffered.used.Load(); n != 0 {
		t.Errorf("%d bytes are not given back", n)
	}
}

func TestBodiesTogetherAreLimited(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxBody, c.MaxBuffered = 2048, 2048 })
	b.server.bodies.buffered.take(2000)
	b.send(withdraw).wantProblem(t, problemOverloaded, settingMaxBuffered)
	b.server.bodies.buffered.give(2000)
	b.send(withdraw).wantStatus(t, 202)
}

func TestRequestsAtOnceAreLimited(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxInflight = 1 })
	inside, leave := make(chan struct{}), make(chan struct{})
	b.appender.written = func(*runtime.Message) { close(inside); <-leave }
	var first sync.WaitGroup
	first.Go(func() {
		if a, err := httpCall(t.Context(), b.public.URL, "POST", "/v1/commands", withdraw, jsonType); err != nil || a.status != 202 {
			t.Errorf("the first request: %d %v", a.status, err)
		}
	})
	<-inside
	a := b.call("GET", "/v1/schemas", "").wantProblem(t, problemOverloaded, settingMaxInflight)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	b.call("GET", "/healthz", "").wantStatus(t, 200) // probes are not concerned
	close(leave)
	first.Wait()
	b.call("GET", "/v1/schemas", "").wantStatus(t, 200)
}

func TestHeadersAreLimited(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxHeader = 4096 })
	b.call("GET", "/healthz", "", "X-Long: "+strings.Repeat("x", 20<<10)).wantStatus(t, http.StatusRequestHeaderFieldsTooLarge)
}

func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limitListener(inner, 1)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial()
	dial()
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		second <- c
	}()
	if slots := l.(*limitedListener).slots; len(slots) != cap(slots) {
		t.Fatalf("%d of %d places are taken by an open connection", len(slots), cap(slots))
	}
	first.Close()
	c := <-second
	first.Close() // a second close gives no second place
	if n := len(l.(*limitedListener).slots); n != 1 {
		t.Errorf("%d places are taken by one open connection", n)
	}
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
}

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.Hosts = []string{"gateway.test"} })
	b.call("GET", "/v1/schemas", "", "Host: evil.example").wantProblem(t, problemHost)
	for _, host := range []string{"localhost", "localhost:8090", "127.0.0.1", "[::1]:8090", "gateway.test:8090"} {
		b.call("GET", "/v1/schemas", "", "Host: "+host).wantStatus(t, 200)
	}
	b.call("POST", "/v1/commands", withdraw, jsonType, "Sec-Fetch-Site: cross-site").wantProblem(t, problemOrigin)
	b.call("POST", "/v1/commands", withdraw, jsonType, "Origin: http://evil.example").wantProblem(t, problemOrigin)
	if len(b.appender.all()) != 0 {
		t.Error("it was written")
	}
}
