package gateway

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// DispatchParts are the parts of a gateway that who gives events to dispatchers
// works with. They are good until [Dispatching.Run] has returned.
type DispatchParts struct {
	Installation   string
	Topics         kafka.Topics
	Partitions     int32
	Kafka          kafka.Settings
	Address        string                    // host:port of the internal listener
	TopicID        func(topic string) string // "" when it cannot be told now
	Catalogue      *avro.Catalogue
	CatchUp        func(context.Context) error // see [EngineSchemas]
	Reader         *kafka.Reader
	Functions      DispatcherCaller
	SessionTimeout time.Duration
	Registerer     prometheus.Registerer
	Log            *slog.Logger
}

// DispatcherCaller asks dispatchers: [Functions.Dispatch].
type DispatcherCaller interface {
	Dispatch(ctx context.Context, t FunctionTarget, event *runtime.Message) (commands []*runtime.Message, by string, trouble *shard.Trouble)
}

// Dispatching gives committed events to dispatchers, and sends the commands that
// they decide on.
type Dispatching interface {
	// Run works until ctx ends, and returns when calls under way have ended.
	Run(ctx context.Context) error
	// Parked lists the events that dispatchers have parked, or that wait set
	// aside, in the partitions that this gateway holds for them and has taken over,
	// which are returned with them: for each dispatcher that is declared, perhaps none.
	Parked() (list []ParkedEvent, partitions map[string][]int32)
	// Status tells how far a dispatcher is; false when it does not run here.
	Status(dispatcher string) (DispatchStatus, bool)
	// Others returns the internal listeners of the other gateways that hold
	// partitions for a dispatcher.
	Others(ctx context.Context) (addresses []string, err error)
	// Retry has a dispatcher asked once more about an event that it has parked.
	// It returns false when none is parked there in this gateway's partitions.
	Retry(dispatcher string, at runtime.Coordinates) bool
	// Drop ends an event that a dispatcher has parked, without commands; that it is
	// dropped, and why, is recorded. It returns true when that is committed, false
	// when none is parked there in this gateway's partitions, or it is being asked
	// about. After an error nobody knows; a second call is safe.
	Drop(ctx context.Context, dispatcher string, at runtime.Coordinates, reason string) (bool, error)
	// Replay sends a dispatcher to the events recorded from at on; the zero time
	// is the beginning. It returns the new replay epoch when the order is kept.
	// With expect it does so only in that epoch, and the same order after the same
	// epoch is one order. Errors wrap [ErrNotFound], or [ErrEpoch] with the epoch
	// that the dispatcher is in.
	Replay(ctx context.Context, dispatcher string, at time.Time, expect *uint64) (epoch uint64, err error)
}

// ErrEpoch is returned by [Dispatching.Replay] when the dispatcher is in another
// replay epoch than the caller expects.
var ErrEpoch = errors.New("the dispatcher is in another replay epoch")

// ParkedEvent is an event without a decision of a dispatcher.
type ParkedEvent struct {
	Dispatcher string              // namespace/name of its Trigger
	At         runtime.Coordinates // of the event
	Event      string              // id
	Entity     runtime.Entity
	Type       runtime.TypeName
	Status     OutcomeStatus // parked, or retrying when it waits set aside
	Attempts   int
	Reason     string
	Since      time.Time
}

// openDispatching makes what was configured, or nothing.
func (g *gateway) openDispatching() (err error) {
	if g.Dispatch == nil {
		return nil
	}
	g.dispatching, err = g.Dispatch(g.routes, DispatchParts{
		Installation: g.HTTP.Installation, Topics: g.Topics, Partitions: g.installation.Partitions, Kafka: g.Kafka, Address: g.address,
		TopicID: g.ids.get, Catalogue: g.catalogue, CatchUp: g.registry.CatchUp, Reader: g.reader, Functions: g.functions,
		SessionTimeout: g.SessionTimeout, Registerer: g.registerer, Log: g.Log,
	})
	return err
}

// runDispatching runs it until stop is called, which waits for its end. What ends
// it before is told to failed.
func (g *gateway) runDispatching(ctx context.Context, failed chan<- error) (stop func() error) {
	if g.dispatching == nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		err := g.dispatching.Run(ctx)
		if ctx.Err() == nil {
			failed <- errors.Join(errors.New("dispatching ended"), err)
		}
		done <- err
	}()
	return func() error {
		cancel()
		return <-done
	}
}
