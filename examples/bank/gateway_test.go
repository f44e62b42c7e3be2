package bank_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/internal/porttest"
	"github.com/evento-oss/evento/runtime"
)

// patience is how long a test waits for what must come: the machine may be busy.
const patience = 2 * time.Minute

// running is a gateway on a Kafka of the test's own.
type running struct {
	t   *testing.T
	url string
}

// startGateway starts the program evento as a gateway with the functions of a
// stack.yml, which it calls at these servers, and waits until it is ready.
func startGateway(t *testing.T, schemas, stack string, functions map[string]http.Handler) *running {
	t.Helper()
	program := filepath.Join(t.TempDir(), "evento")
	build := exec.Command("go", "build", "-o", program, "../../cmd/evento")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	kafka := kafkatest.Start(t)
	listen := porttest.Free(t)
	args := []string{
		"gateway", "--kafka-property", "bootstrap.servers=" + strings.Join(kafka.Servers, ","), "--prefix", kafka.Prefix + "bank",
		"--partitions", "4", "--replication", "1", "--min-insync-replicas", "1",
		"--listen", listen, "--internal", porttest.Free(t), "--schemas", schemas, "--stack", stack,
	}
	for name, handler := range functions {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		args = append(args, "--function-url", name+"="+server.URL)
	}
	process := exec.Command(program, args...)
	var log bytes.Buffer
	process.Stderr = &log
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
		if t.Failed() {
			text := log.String()
			t.Logf("the gateway's log ends with\n%s", text[max(0, len(text)-10_000):])
		}
	})
	said := make(chan string)
	go func() {
		defer close(said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "ready on ") {
				said <- lines.Text()
			}
		}
	}()
	select {
	case _, ready := <-said:
		if !ready {
			t.Fatal("the gateway has ended")
		}
	case <-time.After(patience):
		t.Fatalf("the gateway is not ready after %s", patience)
	}
	return &running{t: t, url: "http://" + listen}
}

// functionServer serves a function in this process.
func functionServer(t *testing.T, f *runtime.Function) http.Handler {
	t.Helper()
	server, err := runtime.NewServer(f, runtime.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// replicas are instances of one function behind one address: each request goes
// to any of them, as with a Service of Kubernetes.
type replicas struct {
	mu  sync.Mutex // guards what follows
	now []*replica
}

// replica is one instance; it counts the calls that it was sent.
type replica struct {
	handler http.Handler
	calls   atomic.Int64
}

// set replaces the instances.
func (r *replicas) set(now ...*replica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = now
}

func (r *replicas) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	next := r.now[rand.IntN(len(r.now))]
	r.mu.Unlock()
	if req.Method == http.MethodPost {
		next.calls.Add(1)
	}
	next.handler.ServeHTTP(w, req)
}

// answer is what a gateway says of a command, an event, an aggregate or a history.
type answer struct {
	Status  any             // of a command: a text; of a problem: a number
	Version uint64          // of a command or an aggregate
	State   json.RawMessage // of an aggregate
	Events  []struct {
		ID, Type, Entity, Cause, Correlation string
		Version                              uint64
		Payload                              json.RawMessage
	}
	Detail string // of a problem
	Next   string // of a history: where it goes on
}

// do sends a request and returns its answer, whatever it is.
func (g *running) do(method, path, contentType string, body []byte, header ...string) (int, answer, error) {
	req, err := http.NewRequest(method, g.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Prefer", "wait=30")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Timeout: patience}
	res, err := client.Do(req)
	if err != nil {
		return 0, answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, answer{}, err
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return res.StatusCode, a, fmt.Errorf("%w: %s", err, text)
	}
	return res.StatusCode, a, nil
}

// send sends a command as plain JSON and returns its outcome, which must be there.
func (g *running) send(entity, command, payload string) answer {
	g.t.Helper()
	body := fmt.Sprintf(`{"entity": %q, "command_type": %q, "payload": %s}`, entity, command, payload)
	status, a, err := g.do("POST", "/v1/commands", "application/json", []byte(body))
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("%s to %s: %d %v %s %v", command, entity, status, a.Status, a.Detail, err)
	}
	return a
}

// history returns all events of an aggregate.
func (g *running) history(aggregate string) answer {
	g.t.Helper()
	var all answer
	for path := "/v1/aggregates/" + aggregate + "/events?limit=100"; path != ""; {
		status, page, err := g.do("GET", path, "", nil)
		if err != nil || status != http.StatusOK {
			g.t.Fatalf("events of %s: %d %s %v", aggregate, status, page.Detail, err)
		}
		all.Events = append(all.Events, page.Events...)
		path = page.Next
	}
	return all
}

// state reads the state of an entity into v.
func (g *running) state(entity string, v any) {
	g.t.Helper()
	status, a, err := g.do("GET", "/v1/aggregates/"+entity, "", nil)
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal(a.State, v)
	}
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("state of %s: %d %s %v", entity, status, a.Detail, err)
	}
}
