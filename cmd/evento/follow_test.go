package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen is what a command writes while it runs.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until the screen shows the words.
func (s *screen) await(t *testing.T, words string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); !strings.Contains(s.String(), words); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%q does not appear:\n%s", words, s)
		}
	}
}

// streams is a gateway that gives each connection what the test says, and then ends it or holds it.
func streams(t *testing.T, connections ...func(w http.ResponseWriter, r *http.Request)) (url string, asked func() []*http.Request) {
	t.Helper()
	var mu sync.Mutex
	var requests []*http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n := len(requests)
		requests = append(requests, r)
		mu.Unlock()
		connections[min(n, len(connections)-1)](w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []*http.Request {
		mu.Lock()
		defer mu.Unlock()
		return append([]*http.Request(nil), requests...)
	}
}

func streamedEvent(id string, n int) string {
	return fmt.Sprintf("id: %s\ndata: {\"id\":\"e-%d\",\"type\":\"A.B\",\"entity\":\"checking:1\",\"version\":%d,\"payload\":{}}\n\n", id, n, n)
}

// say answers with the text and holds the connection when hold is set.
func say(text string, hold bool) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, text)
		http.NewResponseController(w).Flush()
		if hold {
			<-r.Context().Done()
		}
	}
}

func TestFollowGoesOnByItself(t *testing.T) {
	t.Parallel()
	url, asked := streams(t,
		say(": still here\nid: 0:1\n\n"+streamedEvent("0:2", 1)+"id: 0:3\ndata: {\"id\":\"cut", false), // breaks within a message
		func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) },
		say(streamedEvent("0:3", 2)+"event: end\nid: 0:3\ndata: {\"reason\":\"stopping\",\"detail\":\"the gateway stops\"}\n\n", false),
		say(streamedEvent("0:4", 3), true),
	)
	ctx, interrupt := context.WithCancel(t.Context())
	var out, errs screen
	code := make(chan int)
	go func() {
		code <- run(ctx, []string{"--gateway", url, "events", "--follow", "checking:1", "--from", "earliest", "--type", "A.B,C"}, strings.NewReader(""), &out, &errs)
	}()
	out.await(t, "  3  A.B")
	interrupt()
	if c := <-code; c != exitOK {
		t.Errorf("Ctrl-C ends it with code %d: %s", c, &errs)
	}
	if n := strings.Count(out.String(), "\n"); n != 3 || !strings.Contains(out.String(), "checking:1  1  A.B") {
		t.Errorf("shown:\n%s", &out)
	}
	contains(t, "notes", errs.String(), "the connection broke", "503", "the gateway stops", "going on from the last event")
	var positions []string
	for _, r := range asked() {
		positions = append(positions, r.Header.Get("Last-Event-Id"))
		if q := r.URL.RawQuery; q != "entity=checking%3A1&from=earliest&type=A.B%2CC" {
			t.Errorf("asked for %s", q)
		}
	}
	if got := strings.Join(positions, " "); got != " 0:2 0:2 0:3" {
		t.Errorf("went on from %q", got)
	}
}

func TestFollowEndsWhereTryingAgainDoesNotHelp(t *testing.T) {
	t.Parallel()
	url, _ := fake(t, answerWith{status: 410, body: `{"title":"The stream cannot go on from Last-Event-ID","status":410,"detail":"begin anew"}`})
	code, _, errs := evento(t, "", "--gateway", url, "events", "-f")
	if code != exitRefused {
		t.Errorf("code %d", code)
	}
	contains(t, "error", errs, "begin anew")
	code, _, errs = evento(t, "", "--gateway", "http://127.0.0.1:1", "events", "-f")
	if code != exitAway {
		t.Errorf("code %d", code)
	}
	contains(t, "error", errs, "nothing listens", "evento dev")
}

func TestFollowAsJSON(t *testing.T) {
	t.Parallel()
	url, _ := streams(t, say(streamedEvent("0:2", 1), true))
	ctx, interrupt := context.WithCancel(t.Context())
	var out screen
	code := make(chan int)
	go func() {
		code <- run(ctx, []string{"--gateway", url, "events", "-f", "-o", "json"}, strings.NewReader(""), &out, &screen{})
	}()
	out.await(t, "\n")
	interrupt()
	<-code
	sameJSON(t, out.String(), `{"id":"e-1","type":"A.B","entity":"checking:1","version":1,"payload":{}}`)
}
