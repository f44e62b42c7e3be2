package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gateway answers as a gateway does, and remembers what it was sent.
type gateway struct {
	mu       sync.Mutex // guards the rest
	ids      map[string]bool
	entities map[string]int
	problems []string
	answer   func(n int, w http.ResponseWriter) bool // true: it has answered
	n        int
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		Entity  string `json:"entity"`
		Type    string `json:"command_type"`
		ID      string `json:"id"`
		Payload map[string]any
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil || r.URL.Path != "/v1/commands" || r.Header.Get("Prefer") != "wait=10" {
		g.problems = append(g.problems, fmt.Sprint(err, r.URL, r.Header))
	}
	key := m.Entity + " " + m.ID
	if g.ids[key] {
		g.problems = append(g.problems, "twice: "+key)
	}
	g.ids[key] = true
	if m.Type == "ReceiveDeposit" {
		if g.entities[m.Entity] == 0 {
			g.problems = append(g.problems, "not opened: "+m.Entity)
		}
		g.n++
		if g.answer != nil && g.answer(g.n, w) {
			return
		}
	}
	g.entities[m.Entity]++
	fmt.Fprintf(w, `{"command":%q,"status":"done","version":%d,"events":[{"payload":{"status":"no"}}]}`, m.ID, g.entities[m.Entity])
}

func newGateway(t *testing.T, answer func(int, http.ResponseWriter) bool) (*gateway, string) {
	t.Helper()
	g := &gateway{ids: map[string]bool{}, entities: map[string]int{}, answer: answer}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return g, s.URL
}

func (g *gateway) check(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, p := range g.problems {
		if i < 5 {
			t.Error(p)
		}
	}
}

func TestRunCountsWhatItSent(t *testing.T) {
	g, url := newGateway(t, nil)
	r, err := Run(t.Context(), Config{
		Gateway: url, Workload: Workload{Name: "uniform", Aggregates: 10}, Clients: 4, Count: 500, Warmup: 20 * time.Millisecond,
		Run: "a", Processes: []Process{{Name: "self", PIDs: []int{os.Getpid()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	g.check(t)
	if r.Commands != 500 || r.Outcomes["done"] != 500 || len(r.Errors) != 0 {
		t.Errorf("commands %d, outcomes %v, errors %v", r.Commands, r.Outcomes, r.Errors)
	}
	if len(g.entities) != 10 {
		t.Errorf("%d aggregates, want 10", len(g.entities))
	}
	if r.PerSecond <= 0 || r.Latency.P50 <= 0 || r.Latency.P50 > r.Latency.P99 || r.Latency.P999 > r.Latency.Max {
		t.Errorf("%v commands/s, latency %+v", r.PerSecond, r.Latency)
	}
	if r.SentPer1000 < 250_000 || r.SentPer1000 > 600_000 || r.ReceivedPer1000 < 150_000 {
		t.Errorf("bytes per 1,000: %d sent, %d received", r.SentPer1000, r.ReceivedPer1000)
	}
	if len(r.Processes) != 2 || r.Processes[1].Name != "self" || r.Processes[1].Memory <= 0 {
		t.Errorf("processes %+v", r.Processes)
	}
}

func TestRunCountsErrorsApart(t *testing.T) {
	g, url := newGateway(t, func(n int, w http.ResponseWriter) bool {
		switch n {
		case 1:
			w.WriteHeader(http.StatusAccepted)
		case 2:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"type":"urn:evento:problem:kafka-away","status":503}`)
		case 3:
			panic(http.ErrAbortHandler)
		case 4:
			fmt.Fprint(w, `{"command":"x","status":"refused","version":1,"events":[]}`)
		case 5:
			w.(http.Flusher).Flush() // chunked
			fmt.Fprint(w, `{"command":"x","status":"done","version":1,"events":[]}`)
		default:
			return false
		}
		return true
	})
	r, err := Run(t.Context(), Config{Gateway: url, Workload: Workload{Aggregates: 1}, Clients: 1, Count: 8, Run: "b"})
	if err != nil {
		t.Fatal(err)
	}
	g.check(t)
	if r.Commands != 5 || r.Outcomes["refused"] != 1 || r.Outcomes["done"] != 4 {
		t.Errorf("commands %d, outcomes %v", r.Commands, r.Outcomes)
	}
	if r.Errors["no outcome in time (202)"] != 1 || r.Errors["kafka-away (503)"] != 1 || sum(r.Errors) != 3 {
		t.Errorf("errors %v", r.Errors)
	}
}

func TestRunForADuration(t *testing.T) {
	_, url := newGateway(t, nil)
	r, err := Run(t.Context(), Config{Gateway: url, Workload: Workload{Aggregates: 1, Clients: 1}, Clients: 99, Duration: 2 * time.Second, Run: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Clients != 1 || r.Commands == 0 || r.Seconds < 2 || r.Seconds > 60 {
		t.Errorf("%+v", r)
	}
}

func TestRunOpensAgainWhatWasNotOpened(t *testing.T) {
	var refused atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if refused.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, `{"status":"done"}`)
	}))
	defer s.Close()
	if _, err := Run(t.Context(), Config{Gateway: s.URL, Workload: Workload{Aggregates: 1}, Clients: 1, Count: 1, Run: "d"}); err != nil {
		t.Error(err)
	}
}

func TestRunFails(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := nobody.Addr().String()
	nobody.Close()
	one := Workload{Aggregates: 1}
	if _, err := Run(t.Context(), Config{Gateway: "http://" + address, Workload: one, Clients: 1, Count: 1}); !errors.Is(err, ErrAway) {
		t.Errorf("nobody there: %v", err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"detail":"no such type"}`)
	}))
	defer s.Close()
	if _, err := Run(t.Context(), Config{Gateway: s.URL, Workload: one, Clients: 1, Count: 1}); err == nil || !strings.Contains(err.Error(), "no such type") {
		t.Errorf("refused: %v", err)
	}
	for _, c := range []Config{
		{Gateway: "https://x", Workload: one, Clients: 1, Count: 1},
		{Gateway: s.URL, Workload: one, Clients: 0, Count: 1},
		{Gateway: s.URL, Clients: 1, Count: 1},
		{Gateway: s.URL, Workload: one, Clients: 1},
	} {
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

// A run that is interrupted ends at once, also while the gateway lets it wait.
func TestRunInterrupted(t *testing.T) {
	asked := make(chan struct{}, 10)
	end := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-end
	}))
	defer s.Close()
	defer close(end)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Config{Gateway: s.URL, Workload: Workload{Aggregates: 1}, Clients: 1, Count: 1})
		done <- err
	}()
	<-asked
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits on")
	}
}

func TestListenerFindsThisProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := Listener(l.Addr().String()); err != nil || pid != os.Getpid() {
		t.Errorf("process %d (%v), want %d", pid, err, os.Getpid())
	}
	address := l.Addr().String()
	l.Close()
	if _, err := Listener(address); !errors.Is(err, ErrNoListener) {
		t.Errorf("after it was closed: %v", err)
	}
}

func TestUsageGrows(t *testing.T) {
	before, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for after := before; after.cpu <= before.cpu; {
		if after, err = readUsage(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readUsage(1 << 30); err == nil {
		t.Error("a process that cannot be has used something")
	}
}

func TestWriteText(t *testing.T) {
	var b bytes.Buffer
	r := Report{
		Workload: "hot", Clients: 128, Aggregates: 1, Commands: 1000, PerSecond: 12345.6, Latency: Latency{P50: 1.5},
		Outcomes: map[string]int64{"done": 1000}, Errors: map[string]int64{"kafka-away (503)": 2},
		Processes: []ProcessReport{{Name: "gateway", CPUPer1000: 0.1234, WrittenPer1000: 5000}, {Name: "redis", WrittenPer1000: -1}},
	}
	if err := WriteText(&b, []Report{r}); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"hot", "12346", "1.50", "gateway", "0.123", "redis", "kafka-away (503) 2", "done 1000"} {
		if !strings.Contains(b.String(), word) {
			t.Errorf("%q is missing in:\n%s", word, b.String())
		}
	}
}

func BenchmarkClient(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"command":"x","status":"done","version":1,"events":[]}`)
	}))
	defer s.Close()
	if _, err := Run(b.Context(), Config{Gateway: s.URL, Workload: Workload{Aggregates: 1}, Clients: 16, Count: int64(b.N)}); err != nil {
		b.Fatal(err)
	}
}
