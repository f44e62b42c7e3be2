package kafka

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// soon is a context for one step of a test: long enough for a busy machine.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// fake is an embedded cluster of the test's own.
func fake(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, Settings) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, settings(t, strings.Join(c.ListenAddrs(), ","))
}

func settings(t testing.TB, servers string) Settings {
	t.Helper()
	s, err := NewSettings(map[string]string{"bootstrap.servers": servers})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// logOf is one partition of a cluster, real where EVENTO_TEST_KAFKA names one,
// with what a test writes into it.
type logOf struct {
	t        testing.TB
	settings Settings
	topic    string
	plain    *kgo.Client
	cluster  *kfake.Cluster // nil when the cluster is real
}

func newLog(t testing.TB, opts ...kfake.Opt) *logOf {
	t.Helper()
	l := &logOf{t: t, topic: "t" + strings.ToLower(rand.Text()[:10])}
	if servers := os.Getenv("EVENTO_TEST_KAFKA"); servers != "" {
		l.settings = settings(t, servers)
	} else {
		l.cluster, l.settings = fake(t, opts...)
	}
	l.plain = l.client()
	if _, err := kadm.NewClient(l.plain).CreateTopic(soon(t), 1, -1, nil, l.topic); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *logOf) client(opts ...kgo.Opt) *kgo.Client {
	l.t.Helper()
	base, err := l.settings.Franz(quiet())
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := kgo.NewClient(append(append(base, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(l.topic)), opts...)...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(c.Close)
	return c
}

// write appends values outside of transactions.
func (l *logOf) write(values ...string) {
	l.t.Helper()
	for _, v := range values {
		if err := l.plain.ProduceSync(soon(l.t), kgo.StringRecord(v)).FirstErr(); err != nil {
			l.t.Fatal(err)
		}
	}
}

// transaction begins a transaction with values in it; end commits or aborts it.
func (l *logOf) transaction(values ...string) (end func(kgo.TransactionEndTry)) {
	l.t.Helper()
	c := l.client(kgo.TransactionalID(fmt.Sprintf("%s-%s", l.topic, rand.Text())))
	if err := c.BeginTransaction(); err != nil {
		l.t.Fatal(err)
	}
	for _, v := range values {
		if err := c.ProduceSync(soon(l.t), kgo.StringRecord(v)).FirstErr(); err != nil {
			l.t.Fatal(err)
		}
	}
	return func(how kgo.TransactionEndTry) {
		before := l.end()
		if err := c.EndTransaction(soon(l.t), how); err != nil {
			l.t.Error(err)
		}
		// A real broker writes the marker after it has answered.
		for ctx := soon(l.t); l.end() == before; {
			if ctx.Err() != nil {
				l.t.Fatal("the transaction's marker was not written")
			}
		}
	}
}

// end returns the high watermark.
func (l *logOf) end() int64 {
	l.t.Helper()
	ends, err := kadm.NewClient(l.plain).ListEndOffsets(soon(l.t), l.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return ends[l.topic][0].Offset
}

func (l *logOf) reader(stall time.Duration) *Reader {
	l.t.Helper()
	r, err := NewReader(ReaderConfig{Settings: l.settings, Log: quiet(), Stall: stall})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(r.Close)
	return r
}
