package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what to measure.
type Config struct {
	Gateway   string // URL, http
	Token     string // bearer token, or ""
	Workload  Workload
	Clients   int
	Duration  time.Duration // of the measurement; used when Count is 0
	Count     int64         // commands to measure; 0: as many as fit into Duration
	Warmup    time.Duration // before the measurement begins
	Wait      time.Duration // for an outcome, at the gateway; whole seconds
	Run       string        // part of the aggregates' ids; letters, digits and '-'
	Processes []Process     // whose cost is reported
	Progress  func(string)  // told what goes on; may be nil
}

// ErrAway is returned when the gateway cannot be reached at all.
var ErrAway = errors.New("the gateway cannot be reached")

// openers is how many clients open accounts before the measurement.
const openers = 128

// Run opens the accounts, warms up, measures and reports. It returns an error
// when the accounts cannot be opened or ctx ends; errors of single commands are
// in the report.
func Run(ctx context.Context, c Config) (Report, error) {
	gateway, err := url.Parse(c.Gateway)
	if err != nil || gateway.Scheme != "http" || gateway.Host == "" {
		return Report{}, fmt.Errorf("gateway %q: the benchmark wants an http URL with a port", c.Gateway)
	}
	if gateway.Port() == "" {
		gateway.Host += ":80"
	}
	if c.Workload.Clients > 0 {
		c.Clients = c.Workload.Clients
	}
	if c.Clients < 1 || c.Workload.Aggregates < 1 || (c.Count < 1 && c.Duration <= 0) {
		return Report{}, fmt.Errorf("a run needs clients (%d), aggregates (%d), and a duration (%s) or a count (%d)", c.Clients, c.Workload.Aggregates, c.Duration, c.Count)
	}
	if c.Wait < time.Second {
		c.Wait = 10 * time.Second
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	r := &runner{Config: c, gateway: gateway}
	if err := r.openAccounts(ctx); err != nil {
		return Report{}, err
	}
	return r.measure(ctx)
}

type runner struct {
	Config
	gateway *url.URL
}

// openAccounts opens all accounts of the run.
func (r *runner) openAccounts(ctx context.Context) error {
	n := r.Workload.Aggregates
	r.Progress(fmt.Sprintf("%s: opening %d accounts", r.Workload.Name, n))
	var (
		wg      sync.WaitGroup
		next    atomic.Int64
		mu      sync.Mutex // guards failure
		failure error
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began, shown := time.Now(), atomic.Int64{}
	for range min(openers, n) {
		wg.Go(func() {
			conn := newConn(r.gateway, r.Token, r.Wait)
			defer conn.close()
			cmds := commands{run: r.Config.Run}
			var b []byte
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				b = cmds.open(b[:0], int(i))
				if err := r.openOne(ctx, conn, b); err != nil {
					mu.Lock()
					failure = err
					mu.Unlock()
					cancel()
					return
				}
				// A line each five seconds shows that it goes on.
				if s := int64(time.Since(began) / (5 * time.Second)); s > shown.Load() && shown.Swap(s) < s {
					r.Progress(fmt.Sprintf("  %d of %d", i, n))
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if failure != nil {
		return failure
	}
	return ctx.Err()
}

// openOne opens one account. What passes by itself (the gateway full, an
// outcome that is late) is tried again for a while: the id makes that safe.
func (r *runner) openOne(ctx context.Context, conn *conn, body []byte) error {
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		status, answer, err := conn.post(ctx, body, r.Wait+answerLimit)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			last = err.Error()
			if conn.got == 0 {
				return fmt.Errorf("%w: %s: %w", ErrAway, r.Gateway, err)
			}
		case status == 200:
			if got := outcomeStatus(answer); got != "done" && got != "refused" {
				return fmt.Errorf("opening an account: its outcome is %q: %s", got, clip(answer))
			}
			return nil
		case status == 202, status == 429, status == 503:
			last = fmt.Sprintf("status %d: %s", status, clip(answer))
		default:
			return fmt.Errorf("opening an account: status %d: %s", status, clip(answer))
		}
		pause(ctx, 100*time.Millisecond)
	}
	return fmt.Errorf("opening an account: no outcome within a minute, last: %s", last)
}

// Phases of a measurement.
const (
	warming = iota
	measuring
	over
)

// client is what one client has seen. Its own goroutine alone writes it, until it ends.
type client struct {
	latency  histogram
	inTime   int64 // outcomes that came before the end of the measurement
	outcomes map[string]int64
	errors   map[string]int64
	sent     int64
	got      int64
}

func (r *runner) measure(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg      sync.WaitGroup
		phase   atomic.Int32
		left    atomic.Int64
		counted = make(chan struct{}) // closed when Count commands have been taken
		clients = make([]client, r.Clients)
	)
	left.Store(r.Count)
	take := func() bool {
		if r.Count == 0 {
			return true
		}
		n := left.Add(-1)
		if n == 0 {
			close(counted)
		}
		return n >= 0
	}
	start := func() {
		for i := range clients {
			wg.Go(func() { r.client(ctx, i, &clients[i], &phase, take) })
		}
	}
	if r.Warmup > 0 {
		r.Progress(fmt.Sprintf("%s: %d clients, warming up for %s", r.Workload.Name, r.Clients, r.Warmup))
		start()
		pause(ctx, r.Warmup)
	}

	processes := append([]Process{{Name: "client", PIDs: []int{os.Getpid()}}}, r.Processes...)
	before := make([]usage, len(processes))
	for i, p := range processes {
		before[i] = total(p.PIDs)
	}
	began := time.Now()
	phase.Store(measuring)
	if r.Warmup <= 0 {
		start()
	}
	if r.Count > 0 {
		r.Progress(fmt.Sprintf("%s: measuring %d commands", r.Workload.Name, r.Count))
		select {
		case <-counted:
		case <-ctx.Done():
		}
		// The last ones have been taken; their outcomes end the measurement.
		wg.Wait()
	} else {
		r.Progress(fmt.Sprintf("%s: measuring for %s", r.Workload.Name, r.Duration))
		pause(ctx, r.Duration)
	}
	phase.Store(over)
	elapsed := time.Since(began)
	after := make([]usage, len(processes))
	for i, p := range processes {
		after[i] = total(p.PIDs)
	}
	interrupted := ctx.Err()
	wg.Wait()
	if interrupted != nil {
		return Report{}, interrupted
	}
	return r.report(clients, processes, before, after, elapsed), nil
}

// client sends commands, one after the other, until the measurement is over.
func (r *runner) client(ctx context.Context, i int, c *client, phase *atomic.Int32, take func() bool) {
	conn := newConn(r.gateway, r.Token, r.Wait)
	defer conn.close()
	cmds := commands{
		run: r.Config.Run, client: i, aggregates: r.Workload.Aggregates,
		rand: rand.New(rand.NewPCG(uint64(i), uint64(r.Workload.Aggregates))),
	}
	c.outcomes, c.errors = make(map[string]int64), make(map[string]int64)
	var b []byte
	for ctx.Err() == nil {
		p := phase.Load()
		if p == over || p == measuring && !take() {
			return
		}
		b = cmds.next(b[:0])
		sent, got := conn.sent, conn.got
		began := time.Now()
		status, answer, err := conn.post(ctx, b, r.Wait+answerLimit)
		took := time.Since(began)
		outcome, failure := classify(status, answer, err)
		if p == measuring {
			c.sent += conn.sent - sent
			c.got += conn.got - got
			if failure != "" {
				c.errors[failure]++
			} else {
				c.latency.add(took)
				c.outcomes[outcome]++
				if r.Count > 0 || phase.Load() == measuring {
					c.inTime++
				}
			}
		}
		if failure != "" {
			// A gateway that refuses at once must not be asked in a tight loop.
			pause(ctx, 50*time.Millisecond)
		}
	}
}

// classify sorts an answer: an outcome, or what went wrong.
func classify(status int, answer []byte, err error) (outcome, failure string) {
	switch {
	case err != nil:
		return "", "connection: " + err.Error()
	case status == 200:
		if s := outcomeStatus(answer); s != "" {
			return s, ""
		}
		return "", "an answer without status"
	case status == 202:
		return "", "no outcome in time (202)"
	}
	if i := bytes.Index(answer, []byte(problemType)); i >= 0 {
		name, _, _ := bytes.Cut(answer[i+len(problemType):], []byte(`"`))
		return "", fmt.Sprintf("%s (%d)", name, status)
	}
	return "", fmt.Sprintf("status %d", status)
}

const problemType = "urn:evento:problem:"

// outcomeStatus finds the outcome's "status" in the JSON, which stands before
// all events, without decoding it all.
func outcomeStatus(answer []byte) string {
	_, rest, ok := bytes.Cut(answer, []byte(`"status":`))
	if !ok {
		return ""
	}
	rest = bytes.TrimLeft(rest, " ")
	if len(rest) == 0 || rest[0] != '"' {
		return ""
	}
	text, _, _ := bytes.Cut(rest[1:], []byte(`"`))
	return string(text)
}

func clip(b []byte) string { return string(bytes.ToValidUTF8(b[:min(len(b), 300)], nil)) }

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
