package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// process runs one function and restarts it when it dies.
type process struct {
	function Function
	bin      string
	port     int
	url      string
	logFile  string
	drill    string // file with which a tour makes functions fail
	timing   Timing
	hard     <-chan struct{} // closed when nothing may be waited for any longer; may be nil
	say      *printer
	changed  func() // called when pid has changed, from the process's goroutine

	cancel context.CancelFunc // ends run
	done   chan struct{}      // closed when run has returned

	pid atomic.Int64 // 0 while it does not run
}

// stop ends the function and waits for it. A second call does nothing.
func (p *process) stop() {
	p.cancel()
	<-p.done
}

// errDied is why a run of a process ended by itself.
type errDied struct {
	how string // "exit status 1"
	log string // the last lines of its log
}

func (e *errDied) Error() string {
	if e.log == "" {
		return "it ended: " + e.how + ", and wrote nothing to its log"
	}
	return "it ended: " + e.how + "; its last words:\n" + e.log
}

// run starts the function and keeps it running until ctx ends; then it ends it
// and returns nil. healthy is called at its first healthy answer. When it does
// not get so far, run returns why; after that a death is reported, and the
// function started again after a growing wait.
func (p *process) run(ctx context.Context, healthy func()) error {
	wait := p.timing.Backoff
	for first := true; ; first = false {
		began := time.Now()
		err := p.once(ctx, func() {
			if first {
				healthy()
			} else {
				p.say.line("function %s runs again", p.function.Name)
			}
		})
		if ctx.Err() != nil {
			return nil
		}
		if first && p.neverHealthy(err) {
			return fmt.Errorf("function %q: %w", p.function.Name, err)
		}
		// A function that ran for long and died is no worse than one that died for the first time.
		if time.Since(began) > 2*p.timing.MaxBackoff {
			wait = p.timing.Backoff
		}
		p.say.line("function %s: %v", p.function.Name, err)
		p.say.line("  starting it again in %s; log: %s", wait, p.logFile)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, p.timing.MaxBackoff)
	}
}

// errNotStarted marks an end before the first healthy answer.
type errNotStarted struct{ err error }

func (e *errNotStarted) Error() string { return "it did not start: " + e.err.Error() }
func (e *errNotStarted) Unwrap() error { return e.err }

func (p *process) neverHealthy(err error) bool {
	var not *errNotStarted
	return errors.As(err, &not)
}

// once runs the function's program one time, to its end.
func (p *process) once(ctx context.Context, healthy func()) error {
	log, err := openLog(p.logFile)
	if err != nil {
		return &errNotStarted{err}
	}
	defer log.Close()
	end, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return &errNotStarted{err}
	}

	cmd := exec.Command(p.bin)
	cmd.Dir = p.function.Dir
	cmd.Env = p.environment()
	cmd.Stdout, cmd.Stderr = log, log
	ownGroup(cmd)
	dieWithParent(cmd)

	started := make(chan error, 1)
	exited := make(chan error, 1)
	go func() {
		// Its thread is its parent in the kernel's eyes: see dieWithParent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return &errNotStarted{err}
	}
	pid := cmd.Process.Pid
	p.pid.Store(int64(pid))
	p.changed()
	defer func() {
		// Whatever the program has started ends with it.
		killGroup(pid)
		p.pid.Store(0)
		p.changed()
	}()

	isHealthy := false
	healthCtx, cancelHealth := context.WithTimeout(ctx, p.timing.Health)
	defer cancelHealth()
	answered := make(chan error, 1)
	go func() { answered <- waitHealthy(healthCtx, p.url) }()
	for {
		select {
		case err := <-exited:
			cancelHealth()
			died := &errDied{how: howItEnded(err), log: lastLines(p.logFile, end)}
			if !isHealthy {
				return &errNotStarted{died}
			}
			return died
		case err := <-answered:
			if err != nil && ctx.Err() == nil {
				p.end(pid, exited)
				return &errNotStarted{fmt.Errorf("no healthy answer from %s within %s (%w); log: %s", p.url+healthPath, p.timing.Health, err, p.logFile)}
			}
			if err == nil {
				isHealthy = true
				healthy()
			}
			answered = nil // a closed case from here on
		case <-ctx.Done():
			p.end(pid, exited)
			return nil
		}
	}
}

// end asks the function to end and waits, at most the grace time; then it kills it.
func (p *process) end(pid int, exited <-chan error) {
	endGroup(pid)
	grace := time.NewTimer(p.timing.Grace)
	defer grace.Stop()
	select {
	case <-exited:
		return
	case <-grace.C:
		p.say.line("function %s did not end within %s and is killed", p.function.Name, p.timing.Grace)
	case <-p.hard:
	}
	killGroup(pid)
	<-exited
}

// passedOn are the variables of ours that a function gets. The rest stays here:
// what a function needs stands in the stack.yml, as on a cluster.
var passedOn = []string{"PATH", "HOME", "TMPDIR", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"}

func (p *process) environment() []string {
	var env []string
	for _, name := range passedOn {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	for name, v := range p.function.Environment {
		env = append(env, name+"="+v)
	}
	slices.Sort(env)
	return append(env,
		"OPENFAAS_NAME="+p.function.Name,
		fmt.Sprintf("PORT=%d", p.port),
		"EVENTO_BIND=127.0.0.1",
		"EVENTO_DRILL="+p.drill)
}

const healthPath = "/_/health"

// waitHealthy asks until the function answers that it is healthy. The error is
// that of the last question.
func waitHealthy(ctx context.Context, url string) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	wait := 10 * time.Millisecond
	last := errors.New("not asked yet")
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+healthPath, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		switch {
		case err == nil && resp.StatusCode == http.StatusOK:
			resp.Body.Close()
			return nil
		case err == nil:
			resp.Body.Close()
			last = fmt.Errorf("it answered %s", resp.Status)
		case ctx.Err() == nil:
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(wait):
		}
		wait = min(2*wait, 200*time.Millisecond)
	}
}

func howItEnded(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// lastLines returns the last few lines that were written to the log after offset from.
func lastLines(name string, from int64) string {
	const most = 2 << 10
	file, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size()-from > most {
		from = info.Size() - most
	}
	text, err := io.ReadAll(io.NewSectionReader(file, from, most))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) > 8 {
		lines = lines[len(lines)-8:]
	}
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return "    " + strings.Join(lines, "\n    ")
}
