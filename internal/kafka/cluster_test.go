package kafka

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// soon is a context for one step of a test: long enough for a busy machine.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func fake(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, Settings) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s, err := NewSettings(map[string]string{"bootstrap.servers": strings.Join(c.ListenAddrs(), ",")})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}
