package dev

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// gatewayRun is a gateway that runs in this process.
type gatewayRun struct {
	cancel context.CancelFunc
	ready  chan struct{}
	done   chan struct{}
	err    error // valid when done is closed
	listen string
}

// startGateway starts run with a context of its own: the gateway is stopped by
// stop alone, at its place in the order, not by the context of the whole.
func startGateway(run GatewayRunner, cfg GatewayConfig) *gatewayRun {
	ctx, cancel := context.WithCancel(context.Background())
	g := &gatewayRun{cancel: cancel, ready: make(chan struct{}), done: make(chan struct{}), listen: cfg.Listen}
	cfg.Ready = sync.OnceFunc(func() { close(g.ready) })
	go func() {
		defer close(g.done)
		g.err = run(ctx, cfg)
	}()
	return g
}

func (g *gatewayRun) waitReady(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-g.ready:
		return nil
	case <-g.done:
		return g.ended()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("the gateway on %s was not ready within %s; see logs/gateway.log in the data directory", g.listen, limit)
	}
}

// ended says why the gateway ended by itself. Call it after done is closed.
func (g *gatewayRun) ended() error {
	if g.err == nil {
		return errors.New("the gateway ended by itself; see logs/gateway.log in the data directory")
	}
	return fmt.Errorf("the gateway ended: %w", g.err)
}

// stop ends the gateway and waits for it, at most limit, or until hard is closed.
// It returns an error when the gateway is then still running, or when it failed
// while it drained.
func (g *gatewayRun) stop(limit time.Duration, hard <-chan struct{}, say *printer) error {
	select {
	case <-g.done: // it ended before; that has been reported
		g.cancel()
		return nil
	default:
	}
	g.cancel()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-g.done:
		if g.err != nil && !errors.Is(g.err, context.Canceled) {
			return fmt.Errorf("the gateway stopped with an error: %w", g.err)
		}
		say.line("gateway stopped")
		return nil
	case <-timer.C:
		return fmt.Errorf("the gateway did not stop within %s; what it had not finished is done after the next start", limit)
	case <-hard:
		return errors.New("stopped at once; what the gateway had not finished is done after the next start")
	}
}
