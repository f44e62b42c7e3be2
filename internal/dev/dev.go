package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// GatewayConfig is what the gateway is told about the machine it runs on.
type GatewayConfig struct {
	Listen    string       // host:port of the HTTP API, loopback
	Internal  string       // host:port of the listener for other gateways and admin, loopback; port 0 means any
	Kafka     string       // bootstrap servers
	RedisAddr string       // host:port
	SchemaDir string       // folder of .avsc files to register at start
	StackFile string       // path of the stack.yml with the functions' annotations
	Functions *Addresses   // where the functions run
	DataDir   string       // folder that the gateway may keep files in
	Logger    *slog.Logger // where the gateway logs to
	Ready     func()       // to be called once, when commands can be sent
}

// GatewayRunner runs a gateway until ctx ends, drains it and returns. It
// returns nil after a stop that was asked for, else why it could not go on.
type GatewayRunner func(ctx context.Context, cfg GatewayConfig) error

// Options say what to run.
type Options struct {
	Dir       string // data directory; created when missing
	Port      int    // of the gateway's HTTP API
	StackFile string // path of stack.yml
	SchemaDir string // folder of .avsc files; empty: those in the functions' folders
	Kafka     string // bootstrap servers of a real broker; empty: the embedded one
	Redis     string // host:port of a real Redis; empty: the embedded one
	Gateway   GatewayRunner

	Program string          // how people call evento, for the lines to paste; empty: "evento"
	Out     io.Writer       // what people read
	Ready   func(State)     // called once when everything runs; may be nil
	Hard    <-chan struct{} // closed when the stop must not wait any longer; may be nil
	Timing  Timing
}

// Timing holds the waits of a run. Zero values mean the defaults.
type Timing struct {
	Health     time.Duration // for a function's first healthy answer; 20 s
	Gateway    time.Duration // for the gateway to be ready; 60 s
	Grace      time.Duration // for a function to end after SIGTERM; 10 s
	Drain      time.Duration // for the gateway to end; 30 s
	Backoff    time.Duration // before the first restart of a function; 500 ms, doubling
	MaxBackoff time.Duration // the longest wait before a restart; 15 s
	Quiet      time.Duration // how long nothing must have happened to files before they are read; 200 ms
	Poll       time.Duration // files are looked at as often in any case; 30 s
	Linger     time.Duration // for what a function that was replaced has been sent before; 1 s
}

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&t.Health, 20*time.Second)
	set(&t.Gateway, 60*time.Second)
	set(&t.Grace, 10*time.Second)
	set(&t.Drain, 30*time.Second)
	set(&t.Backoff, 500*time.Millisecond)
	set(&t.MaxBackoff, 15*time.Second)
	set(&t.Quiet, 200*time.Millisecond)
	set(&t.Poll, 30*time.Second)
	set(&t.Linger, time.Second)
	return t
}

// Run starts everything, waits until ctx ends or the gateway does, and stops
// everything. It returns nil after a stop that was asked for. Whatever it
// returns, nothing that it started still runs, save after Hard.
//
// Start: lock, port check, functions built, broker, Redis, functions, gateway,
// and then what puts changes of their files into effect.
// Stop: that first; then the gateway, because it drains through the functions and writes to
// the broker; then functions; then Redis and the broker, which wait for nobody.
func Run(ctx context.Context, o Options) (err error) {
	o.Timing = o.Timing.withDefaults()
	say := newPrinter(o.Out)
	began := time.Now()

	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("data directory %q: %w", o.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w; give another with --dir", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := makeDirs(dir); err != nil {
		return err
	}
	// One that was killed has left its own behind; nobody shall take it for ours.
	os.Remove(filepath.Join(dir, stateFile))

	// What can be wrong with little effort is found before anything is started.
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port))
	if err := portFree(listen); err != nil {
		return fmt.Errorf("the gateway's port: %w; stop that program or give another --port", err)
	}
	stackText, err := os.ReadFile(o.StackFile)
	if err != nil {
		return fmt.Errorf("stack file: %w; say where it is with --stack", err)
	}
	functions, err := ReadStack(o.StackFile)
	if err != nil {
		return err
	}
	schemas, err := findSchemas(o.SchemaDir, functions, dir)
	if err != nil {
		return err
	}
	ports := readPorts(dir)

	say.line("building %d functions of %s, with their tests", len(functions), o.StackFile)
	builder, err := NewBuilder(dir)
	if err != nil {
		return err
	}
	set := newFunctionSet(functionOptions{
		logs: filepath.Join(dir, "logs"), drill: filepath.Join(dir, DrillFile), port: o.Port, timing: o.Timing, hard: o.Hard, say: say,
	})
	addresses := &Addresses{}
	reload := newReloader(o, dir, "http://"+listen, builder, set, addresses, say, functions, string(stackText), schemas)
	reload.remember()
	programs, err := builder.BuildAll(ctx, functions, func(f Function, took time.Duration) {
		say.line("  built %s (%s)", f.Name, round(took))
	})
	if err != nil {
		return stopped(ctx, err)
	}

	state := State{PID: os.Getpid(), Dir: dir, Gateway: "http://" + listen, Started: began}

	state.Kafka = o.Kafka
	if o.Kafka == "" {
		broker, err := StartBroker(BrokerOptions{
			Dir: filepath.Join(dir, "broker"), Port: ports.Kafka, LogFile: filepath.Join(dir, "logs", "broker.log"),
		})
		if err != nil {
			return err
		}
		defer closeWithin(o.Hard, broker.Close)
		state.Kafka = broker.Addr()
		ports.Kafka = broker.Port()
		say.line("broker on %s, data in %s", broker.Addr(), filepath.Join(o.Dir, "broker"))
	}
	state.Redis = o.Redis
	if o.Redis == "" {
		redis, err := StartRedis(ports.Redis)
		if err != nil {
			return err
		}
		defer redis.Close()
		state.Redis = redis.Addr()
		ports.Redis = redis.Port()
		say.line("redis on %s, in memory", redis.Addr())
	}
	if err := ports.write(dir); err != nil {
		return err
	}

	defer set.stop()
	if err := set.startAll(ctx, functions, programs); err != nil {
		return stopped(ctx, err)
	}
	if err := addresses.change(ctx, set.urls()); err != nil {
		return err
	}

	gatewayLog, err := openLog(filepath.Join(dir, "logs", "gateway.log"))
	if err != nil {
		return err
	}
	defer gatewayLog.Close()
	gateway := startGateway(o.Gateway, GatewayConfig{
		Listen: listen, Internal: "127.0.0.1:0", Kafka: state.Kafka, RedisAddr: state.Redis,
		SchemaDir: filepath.Join(dir, "schemas"), StackFile: o.StackFile, Functions: addresses, DataDir: dir,
		Logger: slog.New(slog.NewMultiHandler(
			slog.NewJSONHandler(gatewayLog, nil), &terminalHandler{say: say, name: "gateway"})),
	})
	defer func() { err = errors.Join(err, gateway.stop(o.Timing.Drain, o.Hard, say)) }()
	say.line("gateway starting on http://%s", listen)
	if err := gateway.waitReady(ctx, o.Timing.Gateway); err != nil {
		return stopped(ctx, err)
	}

	// The file holds the functions' process ids, which change when one is restarted.
	write := func() {
		state.Functions = set.state()
		if err := state.write(dir); err != nil {
			say.line("could not write %s: %v", stateFile, err)
		}
	}
	defer os.Remove(filepath.Join(dir, stateFile))
	write()
	say.block(welcome(state, functions, o.Program, round(time.Since(began))))
	if o.Ready != nil {
		o.Ready(state)
	}
	watchCtx, stopWatch := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(watchCtx, o.Timing, reload.dirs, func() { reload.look(watchCtx) }, say)
	}()
	defer func() { stopWatch(); <-watched }()
	for {
		select {
		case <-ctx.Done():
			say.line("stopping (Ctrl-C again to stop at once)")
			return nil
		case <-set.changed:
			write()
		case <-gateway.done:
			return gateway.ended()
		}
	}
}

// stopped turns an error that only tells of a stop that was asked for into nil.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// lastWait is how long the broker may still write its data after hard is closed.
// It needs milliseconds; without them the next start must read all segments.
const lastWait = 2 * time.Second

// closeWithin runs shut, but waits for it only a little when hard is closed.
func closeWithin(hard <-chan struct{}, shut func()) {
	done := make(chan struct{})
	go func() { defer close(done); shut() }()
	select {
	case <-done:
		return
	case <-hard:
	}
	select {
	case <-done:
	case <-time.After(lastWait):
	}
}

func makeDirs(dir string) error {
	// Programs of former runs are of no use: their names change with their contents.
	if err := os.RemoveAll(filepath.Join(dir, "bin")); err != nil {
		return fmt.Errorf("data directory: %w; give another with --dir", err)
	}
	for _, sub := range []string{"bin", "logs"} {
		// Only the owner reads it: logs and events may hold anything.
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("data directory: %w; give another with --dir", err)
		}
	}
	return nil
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
