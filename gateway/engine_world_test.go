package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// engineWorld is a cluster of the test's own, and the bank's functions, for
// engines one after the other or beside each other.
type engineWorld struct {
	*functionWorld
	t        *testing.T
	cluster  *kfake.Cluster
	settings kafka.Settings
	topics   kafka.Topics
	admin    *kafka.Admin
	producer *kafka.Producer
	reader   *kafka.Reader
	log      *slog.Logger
	schemas  EngineSchemas
	made     func(*Engine) // before an engine runs; may be nil
	engines  int
}

type knownSchemas struct{}

func (knownSchemas) CatchUp(context.Context) error { return nil }
func (knownSchemas) Beyond(string) bool            { return false }

// patience is a context for one step of a test: long enough for a busy machine.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newEngineWorld(t *testing.T, partitions int32) *engineWorld {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w := &engineWorld{
		functionWorld: newFunctionWorld(t, nil), t: t, cluster: cluster, schemas: knownSchemas{},
		log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	w.settings, err = kafka.NewSettings(map[string]string{"bootstrap.servers": strings.Join(cluster.ListenAddrs(), ",")})
	must(err)
	w.admin, err = kafka.NewAdmin(w.settings, w.log)
	must(err)
	t.Cleanup(w.admin.Close)
	_, err = w.admin.EnsureTopics(patience(t), kafka.Ensure{Topics: w.topics, Partitions: partitions, Replication: 1, MinInSync: 1})
	must(err)
	w.producer, err = kafka.NewProducer(w.settings, w.log)
	must(err)
	t.Cleanup(func() { _ = w.producer.Close(patience(t)) })
	w.reader, err = kafka.NewReader(kafka.ReaderConfig{Settings: w.settings, Log: w.log})
	must(err)
	t.Cleanup(w.reader.Close)
	return w
}

// runningEngine is an engine under way.
type runningEngine struct {
	*Engine
	w       *engineWorld
	metrics *prometheus.Registry
	stop    func() // leaves in peace, and waits for the end
}

func (w *engineWorld) start(partitions int32, change ...func(*EngineConfig)) *runningEngine {
	w.t.Helper()
	franz, err := w.settings.Franz(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	group := w.topics.Commands() + "-gateway"
	look, err := kafka.NewTakeover(franz, group, w.topics.Commands(), w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	ids := topicIDs{admin: w.admin, ids: map[string]string{}}
	registerer := prometheus.NewRegistry()
	w.engines++
	waiters := NewWaiters("127.0.0.1:1", WaitLimits{})
	config := EngineConfig{
		Installation: "test", Topics: w.topics, Partitions: partitions,
		CommandsID: ids.get(w.topics.Commands()), EventsID: ids.get,
		Group:     kafka.GroupConfig{Client: franz, Group: group, Topic: w.topics.Commands(), Address: fmt.Sprintf("127.0.0.1:%d", w.engines), SessionTimeout: 28 * time.Second, Log: w.log},
		Transacts: kafka.TransactorConfig{Client: franz, Log: w.log},
		Takeover:  look, Producer: w.producer, Reader: w.reader, History: kafka.NewHistory(w.reader, slog.New(slog.DiscardHandler)),
		Catalogue: w.functionWorld.schemas, Schemas: w.schemas, Functions: w.Functions,
		Poster:  NewOutcomePoster(waiters, nil, NewMetrics(registerer), w.log),
		Metrics: NewEngineMetrics(registerer), Log: w.log,
	}
	for _, f := range change {
		f(&config)
	}
	e, err := NewEngine(config)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.made != nil {
		w.made(e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	r := &runningEngine{Engine: e, w: w, metrics: registerer, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("engine: %v", err)
		}
		look.Close()
	}}
	w.t.Cleanup(r.stop)
	return r
}

// metric returns the value of a gauge or counter without labels.
func (r *runningEngine) metric(name string) float64 {
	r.w.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	r.w.t.Fatalf("no metric %s", name)
	return 0
}

// crash stops the engine without a last word to its partitions.
func (r *runningEngine) crash() {
	var held []kafka.Held
	for _, p := range r.list() {
		held = append(held, p.held)
	}
	r.lost(held)
	r.stop()
}

// send appends a command and waits for its outcome.
func (r *runningEngine) send(m *runtime.Message) *Outcome {
	r.w.t.Helper()
	ctx := patience(r.w.t)
	if _, err := r.Append(ctx, m); err != nil {
		r.w.t.Fatal(err)
	}
	return r.outcome(ctx, m)
}

func (r *runningEngine) outcome(ctx context.Context, m *runtime.Message) *Outcome {
	r.w.t.Helper()
	for {
		o, err := r.Outcome(ctx, m.Aggregate(), m.Key())
		if err == nil && o.Status.Final() {
			return o
		}
		if !sleep(ctx, 10*time.Millisecond) {
			r.w.t.Fatalf("no outcome of %s: %+v, %v", m.ID, o, err)
		}
	}
}
