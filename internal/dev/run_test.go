package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lockedBuffer collects what people would read.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fakeGateway is ready at once and ends when it is told to.
func fakeGateway(seen *GatewayConfig) GatewayRunner {
	return func(ctx context.Context, cfg GatewayConfig) error {
		if seen != nil {
			*seen = cfg
		}
		cfg.Ready()
		<-ctx.Done()
		return nil
	}
}

// run is one Run in the background.
type run struct {
	dir  string
	out  *lockedBuffer
	stop context.CancelFunc
	done chan error
}

// testOptions runs the functions of testdata on a free port.
func testOptions(t *testing.T) Options {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Dir: t.TempDir(), Port: ports[0], StackFile: "testdata/stack.yml", SchemaDir: "testdata", Gateway: fakeGateway(nil),
		Timing: Timing{Backoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond},
	}
}

// stackOf writes a stack.yml with one function from a folder of testdata.
func stackOf(t *testing.T, name, folder string) string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(wd, "testdata", "template"), filepath.Join(dir, "template")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "stack.yml")
	text := "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  " + name + ":\n    lang: evento-handler\n    image: x\n    handler: " + filepath.Join(wd, "testdata", folder) + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// start runs o in the background and returns when all of it runs.
func start(t *testing.T, o Options) (*run, State) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &run{dir: o.Dir, out: &lockedBuffer{}, stop: cancel, done: make(chan error, 1)}
	ready := make(chan State, 1)
	o.Out, o.Ready = r.out, func(s State) { ready <- s }
	go func() { r.done <- Run(ctx, o) }()
	t.Cleanup(cancel)
	select {
	case s := <-ready:
		return r, s
	case err := <-r.done:
		t.Fatalf("it ended before it was ready: %v\n%s", err, r.out)
	case <-time.After(5 * time.Minute):
		t.Fatalf("not ready\n%s", r.out)
	}
	panic("unreachable")
}

func (r *run) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("stopping: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("it does not stop\n%s", r.out)
	}
}

type about struct {
	PID      int    `json:"pid"`
	Child    int    `json:"child"`
	Greeting string `json:"greeting"`
	File     string `json:"file"`
	Secret   string `json:"secret"`
}

func ask(t *testing.T, url string) about {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get(url + "/about")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a about
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a
}

// eventually waits for a condition that nobody signals.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// gone says whether no process has the id any more; a dead one that its parent has not looked after counts as gone.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func itoa(n int) string {
	text, _ := json.Marshal(n)
	return string(text)
}

func TestRunStartsAndStopsEverything(t *testing.T) {
	t.Setenv("EVENTO_TEST_SECRET", "of the developer")
	var seen GatewayConfig
	o := testOptions(t)
	o.Gateway = fakeGateway(&seen)
	r, s := start(t, o)

	if len(s.Functions) != 2 || s.Functions[0].Name != "one" || s.Functions[1].Name != "two" {
		t.Fatalf("functions %+v", s.Functions)
	}
	if url, err := seen.Functions.URL("one"); err != nil || url != s.Functions[0].URL || seen.Kafka != s.Kafka || seen.RedisAddr != s.Redis {
		t.Errorf("the gateway was told %+v, what runs is %+v", seen, s)
	}
	one, two := ask(t, s.Functions[0].URL), ask(t, s.Functions[1].URL)
	if one.Greeting != "hello" || two.Greeting != "from the file" || two.File != "yes" {
		t.Errorf("environments: %+v and %+v", one, two)
	}
	if one.Secret != "" {
		t.Error("a function sees variables that the stack.yml does not give it")
	}
	if on, err := ReadState(o.Dir); err != nil || on.Gateway != s.Gateway {
		t.Errorf("state file: %+v, %v", on, err)
	}
	for _, address := range []string{s.Kafka, s.Redis} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Errorf("nothing listens on %s", address)
			continue
		}
		c.Close()
	}
	for _, word := range []string{s.Gateway, s.Kafka, s.Redis, s.Functions[0].URL, "evento send checking:54321-90"} {
		if !strings.Contains(r.out.String(), word) {
			t.Errorf("people are not told of %s", word)
		}
	}

	r.end(t)
	for _, pid := range []int{one.PID, one.Child, two.PID, two.Child} {
		eventually(t, "all processes are gone", func() bool { return gone(pid) })
	}
	for _, address := range []string{s.Kafka, s.Redis} {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			t.Errorf("something listens on %s", address)
		}
	}
	if _, err := ReadState(o.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state file is still there: %v", err)
	}

	// The next start finds the broker where it was.
	r, again := start(t, o)
	if again.Kafka != s.Kafka {
		t.Errorf("the broker is on %s, was on %s", again.Kafka, s.Kafka)
	}
	r.end(t)
}

func TestFunctionThatDiesIsRestarted(t *testing.T) {
	o := testOptions(t)
	r, s := start(t, o)
	before := ask(t, s.Functions[0].URL)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	if resp, err := client.Get(s.Functions[0].URL + "/die"); err == nil {
		resp.Body.Close()
	}
	eventually(t, "it runs again", func() bool { return strings.Contains(r.out.String(), "function one runs again") })
	after := ask(t, s.Functions[0].URL)
	if after.PID == before.PID {
		t.Error("the same process")
	}
	eventually(t, "what the dead one started is gone", func() bool { return gone(before.Child) })
	eventually(t, "the state file has the new process", func() bool {
		on, err := ReadState(o.Dir)
		return err == nil && on.Functions[0].PID == after.PID
	})
	for _, word := range []string{"function one: it ended: exit status 3", "told to die", "one.log"} {
		if !strings.Contains(r.out.String(), word) {
			t.Errorf("people are not told %q:\n%s", word, r.out)
		}
	}
	r.end(t)
}

func TestStartThatFails(t *testing.T) {
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for name, c := range map[string]struct {
		change func(*Options)
		want   []string
	}{
		"port in use": {
			func(o *Options) { o.Port = used.Addr().(*net.TCPAddr).Port },
			[]string{used.Addr().String(), "in use", "--port"},
		},
		"no stack file": {
			func(o *Options) { o.StackFile = "testdata/none.yml" }, []string{"none.yml", "--stack"},
		},
		"no schemas": {
			func(o *Options) { o.SchemaDir = "testdata/none" }, []string{"none", "--schemas"},
		},
		"function does not build": {
			func(o *Options) { o.StackFile = stackOf(t, "checking-handler", "broken") },
			[]string{`"checking-handler"`, "undefinedThing", "main.go:4"},
		},
		"tests of a function fail": {
			func(o *Options) { o.StackFile = stackOf(t, "checking-handler", "failing") },
			[]string{`"checking-handler"`, "TestItIsRight", "wrong answer"},
		},
		"no template": {
			func(o *Options) {
				o.StackFile = stackOf(t, "checking-handler", "good")
				if err := os.Remove(filepath.Join(filepath.Dir(o.StackFile), "template")); err != nil {
					t.Fatal(err)
				}
			},
			[]string{`"checking-handler"`, "template/evento-handler", "faas-cli template pull"},
		},
		"function dies at start": {
			func(o *Options) { o.StackFile = stackOf(t, "checking-handler", "dies") },
			[]string{`"checking-handler"`, "exit status 1", "no configuration found"},
		},
		"function never answers": {
			func(o *Options) {
				o.StackFile = stackOf(t, "checking-handler", "silent")
				o.Timing.Health = 300 * time.Millisecond
			},
			[]string{`"checking-handler"`, "/_/health", "300ms"},
		},
		"gateway fails": {
			func(o *Options) {
				o.Gateway = func(context.Context, GatewayConfig) error { return errors.New("no leader for partition 3") }
			},
			[]string{"gateway", "no leader for partition 3"},
		},
		"gateway never ready": {
			func(o *Options) {
				o.Gateway = func(ctx context.Context, _ GatewayConfig) error { <-ctx.Done(); return nil }
				o.Timing.Gateway = 50 * time.Millisecond
			},
			[]string{"gateway", "not ready", "gateway.log"},
		},
		"no go command": {
			func(*Options) { t.Setenv("PATH", "") }, []string{"go command", "PATH"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", os.Getenv("PATH")) // put back after the test, whatever it did
			o := testOptions(t)
			o.Out = io.Discard
			c.change(&o)
			err := Run(t.Context(), o)
			if err == nil {
				t.Fatal("no error")
			}
			for _, word := range c.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not name %q: %v", word, err)
				}
			}
			if _, err := ReadState(o.Dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the state file says that something runs: %v", err)
			}
		})
	}
}

func TestSecondInstanceIsRefused(t *testing.T) {
	o := testOptions(t)
	r, s := start(t, o)
	second := testOptions(t)
	second.Dir, second.Out = o.Dir, io.Discard
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // in case that it is not refused
	defer cancel()
	err := Run(ctx, second)
	if err == nil || !strings.Contains(err.Error(), s.Gateway) || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("the error is %v", err)
	}
	if _, err := ReadState(o.Dir); err != nil {
		t.Errorf("the first one's state file: %v", err)
	}
	r.end(t)
}

func TestStubbornFunctionIsKilled(t *testing.T) {
	o := testOptions(t)
	o.StackFile = stackOf(t, "stubborn", "stubborn")
	o.Timing.Grace = 50 * time.Millisecond
	r, s := start(t, o)
	r.end(t)
	if !gone(s.Functions[0].PID) {
		t.Error("it still runs")
	}
	if !strings.Contains(r.out.String(), "did not end within 50ms") {
		t.Errorf("people are not told:\n%s", r.out)
	}
}

func TestHardStop(t *testing.T) {
	o := testOptions(t)
	hard := make(chan struct{})
	o.Hard, o.Timing.Grace, o.Timing.Drain = hard, time.Hour, time.Hour
	o.StackFile = stackOf(t, "stubborn", "stubborn")
	release := make(chan struct{})
	defer close(release)
	o.Gateway = func(ctx context.Context, cfg GatewayConfig) error {
		cfg.Ready()
		<-release // it never drains
		return nil
	}
	r, s := start(t, o)
	r.stop()
	eventually(t, "it says that it stops", func() bool { return strings.Contains(r.out.String(), "stopping") })
	close(hard)
	select {
	case err := <-r.done:
		if err == nil {
			t.Error("a stop that waited for nobody is no clean one")
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits on")
	}
	if !gone(s.Functions[0].PID) {
		t.Error("the function still runs")
	}
}

// The gateway listens after the functions: none of them may have its port.
func TestPortsOfFunctionsAreNobodyElses(t *testing.T) {
	taken := make([]int, 0, lastPort-firstPort)
	for p := firstPort; p < lastPort; p++ {
		taken = append(taken, p) // all but the last one
	}
	for range 20 {
		found, err := freePorts(1, taken...)
		if err == nil && found[0] != lastPort {
			t.Fatalf("port %d was given a second time", found[0])
		}
	}
	if _, err := freePorts(2, append(taken, lastPort)...); err == nil {
		t.Error("ports are found where all are taken")
	}
}
