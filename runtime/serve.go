package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/evento-oss/evento/runtime/httplimit"
)

// Limits of the HTTP server that are nobody's to set.
const (
	maxHeader     = 64 << 10
	headerTimeout = 10 * time.Second
	idleTimeout   = 180 * time.Second // longer than the client keeps a connection, so that the client closes it
)

// Main serves a function until SIGTERM or SIGINT, with the configuration of the
// environment and a JSON log on standard output, and ends the process: with
// status 1 if it could not be served. It is the whole of a function's main.
func Main(f *Function) {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil)).With("function", f.name())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	config, err := ConfigFromEnvironment(os.Getenv)
	if err == nil {
		err = Serve(ctx, f, config, log)
	}
	if err != nil {
		log.Error("the function cannot be served", "err", err.Error())
		os.Exit(1)
	}
}

// ServeDispatcher is [NewDispatcher] and [Main] in one.
func ServeDispatcher(reactions ...Reaction) {
	f, err := NewDispatcher(reactions...)
	if err != nil {
		slog.New(slog.NewJSONHandler(os.Stdout, nil)).Error("the dispatcher cannot be served", "err", err.Error())
		os.Exit(1)
	}
	Main(f)
}

// Serve serves a function until ctx ends, and then stops in this order: the
// probes say 503, so that no new calls are sent here; after StopDelay nothing is
// accepted any more; calls under way have WriteTimeout to end; what is left is
// cut off. It returns nil when it was stopped and everything ended in time.
func Serve(ctx context.Context, f *Function, config Config, log *slog.Logger) error {
	config = config.withDefaults()
	listener, err := Listen(ctx, config)
	if err != nil {
		return err
	}
	return ServeOn(ctx, listener, f, config, log)
}

// Listen opens the port of a configuration.
func Listen(ctx context.Context, config Config) (net.Listener, error) {
	config = config.withDefaults()
	address := net.JoinHostPort(config.Bind, strconv.Itoa(max(config.Port, 0)))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (PORT, EVENTO_BIND): %w", address, err)
	}
	return listener, nil
}

// ServeOn is [Serve] on a listener that is already open. It closes the listener.
func ServeOn(ctx context.Context, listener net.Listener, f *Function, config Config, log *slog.Logger) error {
	config = config.withDefaults()
	server, err := NewServer(f, config, log)
	if err != nil {
		listener.Close()
		return err
	}
	limited := httplimit.Limit(listener, config.MaxConns)
	limited.GiveWay = func() bool { return server.bodies.GiveWay() || server.answers.GiveWay() }
	// Calls have a context of their own: ctx says stop, not fail.
	calls, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	h := http.Server{
		Handler:           server,
		ReadTimeout:       config.ReadTimeout,
		ReadHeaderTimeout: min(headerTimeout, config.ReadTimeout),
		WriteTimeout:      config.ReadTimeout + config.ExecTimeout + config.WriteTimeout, // of the whole; the answer alone has WriteTimeout
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return calls },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		ConnState:         limited.State,
	}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetUnencryptedHTTP2(true)

	unlock := lock(config.LockFile, log) // before the first call, so that whoever is served finds it
	defer unlock()
	served := make(chan error, 1)
	go func() { served <- h.Serve(limited) }()
	log.Info("serving", "address", listener.Addr().String(), "signed", len(config.Keys) > 0, "built", string(server.built), "image", config.Image)

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	server.Stop()
	unlock()
	if config.StopDelay > 0 {
		t := time.NewTimer(config.StopDelay)
		defer t.Stop()
		select {
		case <-t.C:
		case err := <-served:
			return fmt.Errorf("serve: %w", err)
		}
	}
	grace, cancel := context.WithTimeout(calls, config.WriteTimeout)
	defer cancel()
	if err := h.Shutdown(grace); err != nil {
		h.Close()
		return fmt.Errorf("calls were still under way after %s (write_timeout) and were cut off: %w", config.WriteTimeout, err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	log.Info("stopped")
	return nil
}

// lock writes the file that says the function is healthy, and returns what
// removes it. Nothing depends on it where the probe is HTTP, so that a
// read-only file system is no reason to stop.
func lock(path string, log *slog.Logger) (unlock func()) {
	if path == "" {
		return func() {}
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		log.Warn("the lock file cannot be written; an exec probe will not find it", "file", path, "err", err.Error())
		return func() {}
	}
	return func() { os.Remove(path) }
}
