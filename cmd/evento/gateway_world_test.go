package main

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/internal/porttest"
)

// runGateway runs a gateway in this process, on addresses of its own that it puts
// into the flags, and returns when it is ready. It is stopped by stop, or with the test.
func runGateway(t *testing.T, f *gatewayFlags, log *slog.Logger) (stop func()) {
	t.Helper()
	f.listen, f.internal = porttest.Free(t), porttest.Free(t)
	config, err := f.config(log)
	if err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	config.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- gateway.Run(ctx, config) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("gateway: %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("the gateway ended: %v", err)
	case <-time.After(90 * time.Second):
		t.Fatal("not ready")
	}
	return stop
}
