package proof

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must come. It is long because the
// machine may be busy, and costs nothing when all is well.
const patience = 90 * time.Second

// groupPatience is patience where groups must come to rest after members were killed:
// the embedded broker waits a minute for one that died while it joined.
const groupPatience = 4 * time.Minute

// process is a program that a test has started. It is killed when the test ends.
type process struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of Wait; valid when exited is closed

	mu    sync.Mutex // guards what follows
	lines []string   // of stdout and stderr
	part  []byte     // of a line that has not ended
}

// start starts a program with additional variables in its environment.
func start(t testing.TB, name, program string, env []string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Dir = root
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = dieWithParent()
	if _, err := p.cmd.StdinPipe(); err != nil { // stays open for as long as we live
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // see dieWithParent
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() { p.end(t) })
	return p
}

// Write takes what the process says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.part = append(p.part, b...)
	for {
		line, rest, ok := bytes.Cut(p.part, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		p.lines = append(p.lines, string(line))
		p.part = rest
	}
}

// said returns the lines that contain all words, from the line numbered from on.
func (p *process) said(from int, words ...string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []string
next:
	for _, line := range p.lines[min(from, len(p.lines)):] {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

// awaitLine waits until the process has said a line with the words, and returns it.
func (p *process) awaitLine(t testing.TB, words ...string) string {
	t.Helper()
	return p.awaitLineFor(t, patience, words...)
}

func (p *process) awaitLineFor(t testing.TB, limit time.Duration, words ...string) string {
	t.Helper()
	var found []string
	waitFor(t, limit, func() error {
		if found = p.said(0, words...); len(found) > 0 {
			return nil
		}
		select {
		case <-p.exited:
			return fatal(fmt.Errorf("%s has ended (%v) and not said %q", p.name, p.err, words))
		default:
			return fmt.Errorf("%s has not said %q", p.name, words)
		}
	})
	return found[0]
}

// kill ends the process with no chance to do anything, and returns when it is gone.
func (p *process) kill() {
	p.cmd.Process.Kill() // gone already is as good
	<-p.exited
}

// terminate asks the process to end and returns when it has, which must be with success.
func (p *process) terminate(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.exited:
		if p.err != nil {
			t.Errorf("%s did not end well when it was asked to: %v", p.name, p.err)
		}
	case <-timer.C:
		t.Fatalf("%s did not end within %s after it was asked to", p.name, patience)
	}
}

// end ends the process at the end of a test, and tells what it has said when that matters.
func (p *process) end(t testing.TB) {
	p.kill()
	for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
		if found := p.said(0, bad); len(found) > 0 {
			t.Errorf("%s: %s", p.name, found[0])
		}
	}
	if words := p.crash(); words != "" {
		t.Errorf("%s has crashed (%v):\n%s", p.name, p.err, words)
	} else if t.Failed() && p.err != nil && p.err.Error() != "signal: killed" {
		t.Logf("%s has ended (%v), and said last:\n%s", p.name, p.err, p.last(10))
	}
	dir := *flagKeep
	if dir == "" && t.Failed() {
		dir = filepath.Join(os.TempDir(), "evento-proof-logs")
	}
	if dir == "" {
		return
	}
	dir = filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
	file := filepath.Join(dir, fmt.Sprintf("%s-%d.log", p.name, p.cmd.Process.Pid))
	p.mu.Lock()
	defer p.mu.Unlock()
	text := strings.Join(p.lines, "\n") + "\n" + string(p.part)
	if err := os.MkdirAll(dir, 0o700); err == nil {
		if err := os.WriteFile(file, []byte(text), 0o600); err == nil {
			t.Logf("%s: %d lines in %s", p.name, len(p.lines), file)
		}
	}
}

// last returns the last lines.
func (p *process) last(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines[max(0, len(p.lines)-n):], "\n")
}

// crash returns the first words of a crash of Go's, which come before the stacks of
// the goroutines: of a panic, of a signal, or of a C library that has aborted. They
// are empty when there was none.
func (p *process) crash() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	const before, after = 8, 16
	for i, line := range p.lines {
		if stack := strings.HasPrefix(line, "goroutine ") && strings.HasSuffix(line, "]:"); stack {
			return strings.Join(p.lines[max(0, i-before):min(i+after, len(p.lines))], "\n")
		}
	}
	return ""
}

// fatalError is an error that does not go away by waiting.
type fatalError struct{ error }

func fatal(err error) error { return fatalError{err} }

// wait waits until done says so, and fails the test with what it last said when
// that takes too long.
func wait(t testing.TB, done func() error) {
	t.Helper()
	waitFor(t, patience, done)
}

func waitFor(t testing.TB, limit time.Duration, done func() error) {
	t.Helper()
	if err := try(limit, done); err != nil {
		t.Fatalf("waiting (at most %v): %v", limit, err)
	}
}

// try waits until done says so, and returns what it last said when that takes too long.
func try(limit time.Duration, done func() error) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := done()
		if err == nil {
			return nil
		}
		if _, ok := err.(fatalError); ok || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}
