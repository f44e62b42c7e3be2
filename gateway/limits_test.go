package gateway

import (
	"context"
	"io"
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
	resp, err := testClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a chunked body is answered %d", resp.StatusCode)
	}
	if n := b.server.bodies.Held(); n != 0 {
		t.Errorf("%d bytes are not given back", n)
	}
}

func TestBodiesTogetherAreLimited(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxBody, c.MaxBuffered = 2048, 2048 })
	inside, leave := make(chan struct{}), make(chan struct{})
	b.appender.written = func(m *runtime.Message) {
		if m.ID == "large" {
			close(inside)
			<-leave
		}
	}
	var first sync.WaitGroup
	first.Go(func() {
		large := `{"entity":"checking:1","command_type":"WithdrawCash","id":"large","payload":{"text":"` + strings.Repeat("x", 1900) + `"}}`
		if a, err := httpCall(t.Context(), b.public.URL, "POST", "/v1/commands", large, jsonType); err != nil || a.status != 202 {
			t.Errorf("the first request: %d %v", a.status, err)
		}
	})
	<-inside
	b.send(withdraw).wantProblem(t, problemOverloaded, settingMaxBuffered)
	close(leave)
	first.Wait()
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

func TestPackedBodiesAreRefused(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	a := b.send(withdraw, "Content-Encoding: gzip").wantProblem(t, problemMediaType, "gzip")
	if got := a.header.Get("Accept-Encoding"); got != "identity" {
		t.Errorf("Accept-Encoding is %q", got)
	}
	b.send(withdraw, "Content-Encoding: identity").wantStatus(t, 202)
}

// Who waits for an outcome keeps nobody from sending: only what is not in Kafka
// yet counts.
func TestWaitingHoldsNoBodies(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxBody, c.MaxBuffered, c.MaxData = 2048, 2048, 2048 })
	large := `{"entity":"checking:1","command_type":"WithdrawCash","payload":{"text":"` + strings.Repeat("x", 1900) + `"}}`
	ctx, gone := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_, _ = httpCall(ctx, b.public.URL, "POST", "/v1/commands", large, jsonType, "Prefer: wait=60")
	})
	eventually(t, "the first is written", func() bool { return len(b.appender.all()) == 1 })
	eventually(t, "its bytes are given back", func() bool { return b.server.bodies.Held() == 0 })
	b.send(large).wantStatus(t, 202)
	batch := `[` + strings.Repeat(`{"specversion":"1.0","id":"x","source":"/s","type":"CheckingAccount.WithdrawCash","subject":"checking:2","data":{"text":"`+strings.Repeat("x", 600)+`"}},`, 2)
	batch = strings.Replace(batch[:len(batch)-1]+`]`, `"x"`, `"y"`, 1)
	waiting.Go(func() {
		_, _ = httpCall(ctx, b.public.URL, "POST", "/v1/commands", batch, "Content-Type: "+mediaBatch, "Prefer: wait=60")
	})
	eventually(t, "the batch is written", func() bool { return len(b.appender.all()) == 4 })
	eventually(t, "its bytes are given back", func() bool { return b.server.bodies.Held() == 0 })
	gone()
	waiting.Wait()
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
