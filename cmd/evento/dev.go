package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/internal/dev"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/triggers"
)

func devCommand() *cobra.Command {
	var o dev.Options
	var k kafkaFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine",
		Long: `Runs everything on this machine, for development: a broker that speaks Kafka's
protocol and keeps its data on disk, a Redis in memory, the functions of a
stack.yml as processes of their own, and the gateway. All of it listens on the
loopback interface only. Ctrl-C stops it; the next start continues with the same
data.

The functions are built with the go command, as their images would be: from the
template (folder template/<lang> beside the stack.yml or above it) and the
handler folder of each. When its files change, a function is built and tested
again; the new one takes over without losing a call, and if it does not build or
its tests fail, the former one goes on. Changed schemas are registered, a changed
stack.yml starts and stops functions. Logs are in the data directory.`,
		Example: `  evento dev
  evento dev --stack my/stack.yml --dir my/.evento
  evento dev --kafka kafka.properties --redis 127.0.0.1:6379    # with real ones
  evento dev --kafka-property bootstrap.servers=127.0.0.1:9092`,
		Args: exactly("no further words", 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Port < 1 || o.Port > 65535 {
				return usagef("--port %d is not from 1 to 65535", o.Port)
			}
			o.Out = cmd.OutOrStdout()
			o.Program = os.Args[0]
			o.Hard = hardStop(cmd.Context())
			var settings kafka.Settings
			if k.given() {
				var err error
				if settings, err = k.settings(); err != nil {
					return err
				}
				o.Kafka = settings.Get("bootstrap.servers")
			}
			o.Gateway = func(ctx context.Context, c dev.GatewayConfig) error { return runDevGateway(ctx, c, settings) }
			if err := dev.Run(cmd.Context(), o); err != nil {
				return fmt.Errorf("dev: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", ".evento", "data directory")
	flags.IntVar(&o.Port, "port", 8090, "port of the gateway")
	flags.StringVar(&o.StackFile, "stack", "stack.yml", "the functions")
	flags.StringVar(&o.SchemaDir, "schemas", "", "folder of the .avsc files to register (default: those in the functions' folders)")
	k.bind(cmd)
	flags.StringVar(&o.Redis, "redis", "", "use this Redis (host:port) instead of the embedded one")
	return cmd
}

// devPartitions suit one machine: each costs a takeover at start.
const devPartitions = 8

// runDevGateway runs the gateway of evento dev, in its process. Without settings
// for Kafka it is the embedded one.
func runDevGateway(ctx context.Context, c dev.GatewayConfig, settings kafka.Settings) error {
	if settings.Get("bootstrap.servers") == "" {
		var err error
		if settings, err = settings.With("bootstrap.servers", c.Kafka); err != nil {
			return err
		}
	}
	source := &devSource{triggers.Stack{
		Path: c.StackFile, Log: c.Logger,
		Function: func(_, name string) (string, error) { return c.Functions.URL(name) },
	}}
	relaxGC()
	return gateway.Run(ctx, gateway.Config{
		HTTP:  gateway.HTTPConfig{Installation: "dev", Listen: c.Listen, Internal: c.Internal, Grace: 5 * time.Second},
		Kafka: settings, Partitions: devPartitions, Replication: 1, MinInSync: 1,
		Redis: "redis://" + c.RedisAddr, SchemaDir: c.SchemaDir,
		Routes: func(types gateway.CommandTypes) gateway.Routes {
			routes := routesFrom([]triggers.Source{source}, c.Logger)(types)
			c.Functions.Follow(routes.Load)
			return routes
		},
		Dispatch: dispatchWith,
		Log:      c.Logger, Ready: c.Ready,
	})
}

// devSource is a stack.yml that is read again when evento dev says so, which is
// when the functions that it names run.
type devSource struct{ triggers.Stack }

// Watch implements [triggers.Source].
func (*devSource) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}
