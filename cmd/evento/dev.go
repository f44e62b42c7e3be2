package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/internal/dev"
)

func devCommand(gateway dev.GatewayRunner) *cobra.Command {
	o := dev.Options{Gateway: gateway}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine",
		Long: `Runs everything on this machine, for development: a broker that speaks Kafka's
protocol and keeps its data on disk, a Redis in memory, the functions of a
stack.yml as processes of their own, and the gateway. All of it listens on the
loopback interface only. Ctrl-C stops it; the next start continues with the same
data.

The functions are built with the go command: the handler folder of each is a Go
program. Their logs are in the data directory.`,
		Example: `  evento dev
  evento dev --stack my/stack.yml --schemas my/schemas --dir my/.evento
  evento dev --kafka 127.0.0.1:9092 --redis 127.0.0.1:6379    # with real ones`,
		Args: exactly("no further words", 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Port < 1 || o.Port > 65535 {
				return usagef("--port %d is not from 1 to 65535", o.Port)
			}
			o.Out = cmd.OutOrStdout()
			o.Program = os.Args[0]
			o.Hard = hardStop(cmd.Context())
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
	flags.StringVar(&o.SchemaDir, "schemas", "examples/bank/schemas", "folder of the .avsc files to register")
	flags.StringVar(&o.Kafka, "kafka", "", "use this Kafka (host:port,...) instead of the embedded one")
	flags.StringVar(&o.Redis, "redis", "", "use this Redis (host:port) instead of the embedded one")
	return cmd
}
