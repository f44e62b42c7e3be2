package dev

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/evento-oss/evento/internal/leaktest"
)

// The test program is `evento dev`, with a gateway that does nothing, when it is called as such.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "dev" {
		if err := devMain(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	leaktest.Main(m)
}

func devMain(args []string) error {
	o := Options{Out: os.Stdout, Gateway: fakeGateway(nil)}
	flags := flag.NewFlagSet("dev", flag.ContinueOnError)
	flags.StringVar(&o.Dir, "dir", "", "")
	flags.IntVar(&o.Port, "port", 0, "")
	flags.StringVar(&o.StackFile, "stack", "", "")
	flags.StringVar(&o.SchemaDir, "schemas", "", "")
	flags.Func("kafka-property", "", func(v string) error {
		o.Kafka = strings.TrimPrefix(v, "bootstrap.servers=")
		return nil
	})
	flags.StringVar(&o.Redis, "redis", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return Run(ctx, o)
}
