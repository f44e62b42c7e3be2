package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// idleConnections is how many connections each listener gets that keep still.
const idleConnections = 10_500

// hostileMemory is by how many bytes the memory of an attacked process may grow: 256 MiB
// of bodies, as much of answers, and what their collector leaves behind.
const hostileMemory = 3 << 29

// hostileRest is how many files and goroutines more than before may be there
// afterwards, of thousands: clients of Kafka open some as they go.
const hostileRest = 200

// TestHostileClients attacks the public and the internal listener of a gateway and
// a function's, all at once. Meanwhile a client of the bank is served and
// gets right answers; memory stays bounded, and afterwards nothing is left.
func TestHostileClients(t *testing.T) {
	if len(buildFlags) > 0 {
		t.Skip("the race detector takes many times the memory that is measured here; make test-real runs this")
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Max < idleConnections+4_000 {
		t.Skipf("a process may have %d files open (RLIMIT_NOFILE), %d are needed", files.Max, idleConnections+4_000)
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, setup{session: 28 * time.Second}) // its heartbeats may be late
	g, f := w.gateways[0], w.functions["checking-handler"]
	good := newGoodClient(t, w)
	good.large(t, 4)
	good.once(t)
	good.warmUp()

	public, internal := g.url, "http://"+argument(g.args, "--internal")
	before, err := g.metric("go_goroutines")
	if err != nil {
		t.Fatal(err)
	}
	watched := []*watched{watch(t, "gateway", g.now()), watch(t, "function", f.now())}
	stop := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() { good.run(t, stop) })
	for _, p := range watched {
		serving.Go(func() { p.run(t, stop) })
	}

	history := "/v1/aggregates/checking:" + w.run + "-large/events?limit=1000"
	run := func(name string, attacks ...func()) {
		began, served := time.Now(), good.served.Load()
		var all sync.WaitGroup
		for _, attack := range attacks {
			all.Go(attack)
		}
		all.Wait()
		// Others are served while all of it stands, not only in between.
		wait(t, func() error {
			if n := good.served.Load(); n < served+3 {
				return fmt.Errorf("%s: %d commands were served since it began", name, n-served)
			}
			return nil
		})
		t.Logf("%s: %s, %d commands were served meanwhile", name, time.Since(began).Round(time.Millisecond), good.served.Load()-served)
		for _, p := range watched {
			t.Logf("%s: at most %d MiB so far", p.name, p.most.Load()>>20)
		}
	}
	type target struct{ url, path, media string }
	targets := map[string]target{
		"gateway":  {public, "/v1/commands", "application/json"},
		"internal": {internal, "/internal/v1/outcomes", "application/json"},
		"function": {f.url, "/", "application/avro"},
	}
	for name, at := range targets {
		attack := func() *attacker { return newAttacker(t, at.url, at.path, at.media) }
		idle, slow, fat, other := attack(), attack(), attack(), attack()
		n, size := idleConnections, 1<<20
		if name == "internal" {
			n = 3_000
		}
		if name != "gateway" {
			size = 16 << 20
		}
		run(name+": idle connections", func() { idle.idle(n) })
		attacks := []func(){
			func() { slow.slowHeaders(200, 10*time.Second) },
			func() { slow.slowBodies(400, size, 1) },
			func() { fat.slowBodies((400<<20)/size, size, size-1) },
			func() { other.endless(10) },
			func() { other.headers() },
			func() { other.garbage() },
			func() { other.bombs() },
		}
		switch name {
		case "gateway":
			attacks = append(attacks, func() { slow.slowReaders(200, history) }, func() { slow.slowReaders(20, "/v1/events?from=earliest") }, func() { hostileJSON(other) })
		case "function":
			attacks = append(attacks, func() { other.rapidReset(20_000) })
		}
		run(name+": all kinds of requests", attacks...)
		for _, a := range []*attacker{idle, slow, fat, other} {
			a.end()
		}
	}
	close(stop)
	serving.Wait()
	good.once(t)
	for _, p := range watched {
		p.judge(t)
	}
	wait(t, func() error {
		n, err := g.metric("go_goroutines")
		if err == nil && n > before+hostileRest {
			err = fmt.Errorf("the gateway has %v goroutines, and had %v before", n, before)
		}
		return err
	})
	t.Logf("%d commands were served, the slowest in %s", good.served.Load(), good.slowest.Round(time.Millisecond))
}

// hostileJSON sends what is JSON, or nearly, and no command.
func hostileJSON(a *attacker) {
	command := func(payload string) string {
		return `{"entity":"checking:1","command_type":"ReceiveDeposit","payload":` + payload + `}`
	}
	event := `{"specversion":"1.0","id":"x","source":"/s","type":"CheckingAccount.ReceiveDeposit","subject":"checking:1","data":{}}`
	for name, c := range map[string]struct {
		body, media string
		status      int
	}{
		"nesting":             {command(strings.Repeat("[", 400_000)), "", 400},
		"nesting that ends":   {command(strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), "", 400},
		"nesting of 9,000":    {command(`{"transaction_id":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `}`), "", 422},
		"a number beyond all": {command(`{"transaction_id":"1","source":"cash","amount":{"minor":1e999999}}`), "", 422},
		"a million digits":    {command(`{"transaction_id":"1","source":"cash","amount":{"minor":` + strings.Repeat("9", 900_000) + `}}`), "", 422},
		"a tiny fraction":     {command(`{"transaction_id":"1","source":"cash","amount":{"minor":1e-999999}}`), "", 422},
		"a key twice":         {command(`{"transaction_id":"1","transaction_id":"2","source":"cash","amount":{"minor":1}}`), "", 422},
		"an envelope's key":   {`{"entity":"checking:1","entity":"checking:2","command_type":"ReceiveDeposit","payload":{}}`, "", 400},
		"bad UTF-8":           {command("{\"transaction_id\":\"\xff\xfe\",\"source\":\"cash\",\"amount\":{\"minor\":1}}"), "", 400},
		"half a surrogate":    {command(`{"transaction_id":"\ud800","source":"cash","amount":{"minor":1}}`), "", 0},
		"many keys":           {`{` + strings.Repeat(`"a":1,`, 100_000) + `"b":1}`, "", 400},
		"many unknown keys":   {command(`{` + strings.Repeat(`"a":1,`, 100_000) + `"b":1}`), "", 422},
		"a large batch":       {"[" + strings.Repeat("1,", 100_000) + "1]", "application/cloudevents-batch+json", 413},
		"a wrong batch":       {"[" + strings.Repeat(event+",", 900) + event + "]", "application/cloudevents-batch+json", 422},
		"nothing":             {"", "", 400},
		"spaces":              {strings.Repeat(" ", 900_000), "", 400},
		"quotes":              {strings.Repeat(`"`, 900_001), "", 400},
		"a long type":         {`{"entity":"checking:1","command_type":"` + strings.Repeat("x", 900_000) + `","payload":{}}`, "", 422},
		"a long entity":       {`{"entity":"checking:` + strings.Repeat("x", 900_000) + `","command_type":"ReceiveDeposit","payload":{}}`, "", 400},
	} {
		media := c.media
		if media == "" {
			media = "application/json"
		}
		request := fmt.Sprintf("POST /v1/commands HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", a.address, media, len(c.body), c.body)
		got := a.say(request)
		if c.status == 0 && got/100 != 5 && got != 0 { // taken or refused, but answered
			continue
		}
		if got != c.status {
			a.t.Errorf("%s is answered %d, want %d", name, got, c.status)
		}
	}
}

func argument(args []string, name string) string {
	for i, a := range args {
		if a == name {
			return args[i+1]
		}
	}
	return ""
}

// goodClient uses the bank as it should be used, on one account, and knows what
// must be answered.
type goodClient struct {
	url, entity, big string
	client           *http.Client // a connection for each request
	sent             int
	served           atomic.Int64
	slowest          time.Duration
}

func newGoodClient(t *testing.T, w *world) *goodClient {
	c := &goodClient{
		url: w.gateways[0].url, entity: "checking:" + w.run + "-good", big: "checking:" + w.run + "-large",
		client: &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	for _, entity := range []string{c.entity, c.big} {
		if err := c.command(entity, "open", `"command_type":"OpenCheckingAccount","payload":{"client":"client:1"}`, 1); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *goodClient) call(method, path, body string) (map[string]any, error) {
	r, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Prefer", "wait=30")
	}
	began := time.Now()
	answer, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	text, err := readAll(answer)
	c.slowest = max(c.slowest, time.Since(began))
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil || answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %.300s: %v", method, path, answer.Status, text, err)
	}
	return doc, nil
}

// command sends one whose outcome must be done at the version.
func (c *goodClient) command(entity, id, rest string, version int) error {
	doc, err := c.call("POST", "/v1/commands", fmt.Sprintf(`{"entity":%q,"id":%q,%s}`, entity, id, rest))
	if err == nil && (doc["status"] != "done" || doc["version"] != float64(version)) {
		err = fmt.Errorf("%s of %s: %v at version %v, want done at %d", id, entity, doc["status"], doc["version"], version)
	}
	return err
}

// large gives an account n large events.
func (c *goodClient) large(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		id := fmt.Sprint("large-", i)
		if err := c.command(c.big, id, fmt.Sprintf(`"command_type":"ReceiveDeposit","payload":{"transaction_id":"%s%s","source":"cash","amount":{"minor":1}}`, id, strings.Repeat("x", 600_000)), i+2); err != nil {
			t.Fatal(err)
		}
	}
}

// warmUp has the gateway open what it keeps: connections to Kafka of those who read
// histories and streams, and to functions.
func (c *goodClient) warmUp() {
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for _, path := range []string{"/v1/events?from=earliest", "/v1/aggregates/" + c.big + "/events?limit=1000"} {
				if answer, err := c.client.Get(c.url + path); err == nil {
					_, _ = answer.Body.Read(make([]byte, 1<<10))
					answer.Body.Close()
				}
			}
		})
	}
	all.Wait()
}

// once deposits 1 and looks at the balance.
func (c *goodClient) once(t *testing.T) bool {
	c.sent++
	id := fmt.Sprint("d-", c.sent)
	err := c.command(c.entity, id, fmt.Sprintf(`"command_type":"ReceiveDeposit","payload":{"transaction_id":%q,"source":"cash","amount":{"minor":1}}`, id), c.sent+1)
	var doc map[string]any
	if err == nil {
		doc, err = c.call("GET", "/v1/aggregates/"+c.entity, "")
	}
	if err == nil {
		state, _ := doc["state"].(map[string]any)
		balance, _ := state["balance"].(map[string]any)
		if balance["minor"] != float64(c.sent) {
			err = fmt.Errorf("the balance after %d deposits of 1 is %v", c.sent, balance["minor"])
		}
	}
	if err != nil {
		t.Errorf("a good client is not served, or wrongly: %v", err)
		return false
	}
	c.served.Add(1)
	return true
}

func (c *goodClient) run(t *testing.T, stop chan struct{}) {
	for c.once(t) {
		select {
		case <-stop:
			return
		default:
		}
	}
}

// watched is a process whose memory and files are watched.
type watched struct {
	name          string
	pid           int
	memory, files int          // before
	most          atomic.Int64 // bytes of memory, at most
}

func watch(t *testing.T, name string, p *process) *watched {
	w := &watched{name: name, pid: p.cmd.Process.Pid}
	var err error
	w.memory, w.files, err = w.look()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// look returns the resident bytes and the open files of the process.
func (w *watched) look() (memory, files int, err error) {
	text, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.pid))
	var size, resident int
	_, err2 := fmt.Sscan(string(text), &size, &resident)
	dir, err3 := os.Open(filepath.Join("/proc", fmt.Sprint(w.pid), "fd"))
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil && err != io.EOF {
		return 0, 0, err
	}
	return resident * os.Getpagesize(), len(names), nil
}

// kinds counts the open files by what they are.
func (w *watched) kinds() map[string]int {
	kinds := map[string]int{}
	dir := fmt.Sprintf("/proc/%d/fd", w.pid)
	names, _ := os.ReadDir(dir)
	for _, n := range names {
		to, _ := os.Readlink(filepath.Join(dir, n.Name()))
		kind, _, _ := strings.Cut(to, ":")
		kinds[kind]++
	}
	return kinds
}

func (w *watched) run(t *testing.T, stop chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		memory, _, err := w.look()
		if err != nil {
			t.Errorf("%s: %v", w.name, err)
			return
		}
		w.most.Store(max(w.most.Load(), int64(memory)))
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

func (w *watched) judge(t *testing.T) {
	t.Logf("%s: %d MiB before, at most %d MiB", w.name, w.memory>>20, w.most.Load()>>20)
	if grown := int(w.most.Load()) - w.memory; grown > hostileMemory {
		t.Errorf("%s has grown by %d MiB, more than %d", w.name, grown>>20, hostileMemory>>20)
	}
	waitFor(t, patience, func() error {
		_, files, err := w.look()
		if err == nil && files > w.files+hostileRest {
			err = fmt.Errorf("%s has %d files open, and had %d before: %v", w.name, files, w.files, w.kinds())
		}
		return err
	})
}
