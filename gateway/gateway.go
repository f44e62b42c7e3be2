package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// Config is what a gateway is told. [Config.HTTP].Installation and Kafka are
// required.
type Config struct {
	HTTP  HTTPConfig
	Kafka kafka.Settings

	Topics      kafka.Topics
	Partitions  int32 // of a new installation; 0: what is recorded, or the default
	Replication int   // of new topics; 0: the broker's default
	MinInSync   int   // of new topics; 0: the broker's default

	Redis string // URL; "" works without snapshots

	SchemaDir string // folder of .avsc files to register at start; "" for none
	// Routes makes what says which function gets what; it is told the known command types.
	Routes func(CommandTypes) Routes

	// Dispatch makes what gives events to dispatchers, of the Routes that are in
	// use; nil: none are given any.
	Dispatch func(Routes, DispatchParts) (Dispatching, error)

	FunctionLimits FunctionLimits
	FunctionKeys   []runtime.Key // sign the calls to functions: the first one; none: they are not signed

	SessionTimeout time.Duration // of the consumer group; 6 s when zero
	Log            *slog.Logger
	Ready          func() // called once, when commands can be sent; may be nil
}

// Routes is the routing that a gateway works with.
type Routes interface {
	FunctionRouter
	TriggerLister
	// Load reads what is declared. When anything is wrong with it, nothing takes
	// effect, the former routes stay, and the error says why. It is called again
	// when the known command types change.
	Load(ctx context.Context) error
	// Run follows changes until ctx ends.
	Run(ctx context.Context) error
}

// CommandTypes tells the known command types of an aggregate.
type CommandTypes interface {
	Commands(aggregate string) []runtime.TypeName
}

// Run runs a gateway until ctx ends, drains it and returns. nil means a stop
// that was asked for.
//
// It starts in this order, each step needing the ones before: listeners (so
// that a port in use is the first error), Kafka's clients and topics, schemas,
// Triggers, the engine, the HTTP face and the dispatchers. It stops in the
// reverse one: the HTTP face lets its clients go while the engine still brings
// outcomes, then the engine gives up its partitions while dispatchers' calls come
// to their end, snapshots are flushed, the clients are closed.
func Run(ctx context.Context, c Config) (err error) {
	served := false
	defer func() {
		// A step of the start that was cut short fails in its own words.
		if !served && err != nil && ctx.Err() != nil {
			c.Log.Info("asked to end while it started", "err", err)
			err = nil
		}
	}()
	listeners, err := ListenHTTP(ctx, c.HTTP)
	if err != nil {
		return err
	}
	g := &gateway{Config: c, address: c.HTTP.AdvertiseOn(listeners), registerer: prometheus.NewRegistry()}
	defer func() {
		if !served {
			err = errors.Join(err, listeners.Close())
		}
	}()
	if err := g.openKafka(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.closeKafka()) }()

	back, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errEngineStopped)
	var background sync.WaitGroup
	defer background.Wait()
	defer stop(errEngineStopped)
	failed := make(chan error, 8)
	spawn := func(what string, run func(context.Context) error) {
		background.Go(func() {
			if err := run(back); err != nil && back.Err() == nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	if err := g.openSchemas(ctx, spawn, failed); err != nil {
		return err
	}
	if err := g.openTriggers(ctx, spawn); err != nil {
		return err
	}
	if err := g.build(); err != nil {
		return err
	}
	defer func() {
		g.functions.Close()
		if g.snapshots != nil {
			err = errors.Join(err, g.snapshots.Close())
		}
	}()
	if g.saves != nil {
		spawn("snapshots", func(ctx context.Context) error { g.saves.Run(ctx); return nil })
	}
	spawn("topics", newTopicWatch(g.verifyTopics, g.registerer, g.Log).Run)
	spawn("outcomes", func(ctx context.Context) error { g.poster.Run(ctx); return nil })

	spawn("streams", func(ctx context.Context) error { g.streams.Run(ctx); return nil })

	// The engine ends after the HTTP face, which needs its outcomes.
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	engineDone := make(chan error, 1)
	go func() { engineDone <- g.engine.Run(engineCtx) }()
	serveCtx, stopServing := context.WithCancel(ctx)
	defer stopServing()
	served = true
	httpDone := make(chan error, 1)
	go func() { httpDone <- g.http.Run(serveCtx, listeners) }()
	stopDispatching := g.runDispatching(ctx, failed)
	go g.announce(serveCtx)

	engineEnded := false
	select {
	case <-ctx.Done():
	case err = <-failed:
	case e := <-engineDone:
		engineEnded = true
		err = errors.Join(errors.New("the engine ended"), e)
	case e := <-httpDone:
		httpDone <- e
		err = errors.New("the HTTP face ended")
	}
	// Dispatchers and the engine do not need each other, and either may take its
	// time: both drain within the grace that the process has.
	dispatchingDone := make(chan error, 1)
	go func() { dispatchingDone <- stopDispatching() }()
	stopServing()
	err = errors.Join(err, <-httpDone)
	stopEngine()
	if !engineEnded {
		err = errors.Join(err, <-engineDone)
	}
	err = errors.Join(err, <-dispatchingDone)
	if g.saves != nil {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if e := g.saves.Flush(flush); e != nil {
			c.Log.Warn("snapshots not flushed; their aggregates load a few events more", "err", e)
		}
	}
	return err
}

// gateway holds the parts of one [Run].
type gateway struct {
	Config
	address    string
	registerer *prometheus.Registry

	admin        *kafka.Admin
	producer     *kafka.Producer
	reader       *kafka.Reader
	queries      *kafka.Reader // what people ask for must not hold up what the engine reads
	takeover     *kafka.Takeover
	installation kafka.Installation
	cluster      string
	ids          topicIDs

	catalogue *avro.Catalogue
	registry  *Registry
	routes    Routes

	functions *Functions
	snapshots *Snapshots
	saves     *SnapshotWriter
	poster    *OutcomePoster
	engine    *Engine
	streams   *Streams
	http      *HTTPServer

	dispatching Dispatching // nil when there is none
}

// openKafka makes the clients, and the topics or the certainty that they are right.
func (g *gateway) openKafka(ctx context.Context) (err error) {
	franz, err := g.Kafka.Franz(g.Log)
	if err != nil {
		return err
	}
	if g.admin, err = kafka.NewAdmin(g.Kafka, g.Log); err != nil {
		return err
	}
	if g.producer, err = kafka.NewProducer(g.Kafka, g.Log); err != nil {
		return err
	}
	if g.reader, err = kafka.NewReader(kafka.ReaderConfig{Settings: g.Kafka, Log: g.Log}); err != nil {
		return err
	}
	if g.queries, err = kafka.NewReader(kafka.ReaderConfig{Settings: g.Kafka, Log: g.Log}); err != nil {
		return err
	}
	start, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("kafka at %s was not reached within 1m", g.Kafka.Get("bootstrap.servers")))
	defer cancel()
	if g.cluster, err = g.admin.ClusterID(start); err != nil {
		return fmt.Errorf("kafka at %s: %w", g.Kafka.Get("bootstrap.servers"), errors.Join(err, context.Cause(start)))
	}
	if g.installation, err = g.ensureTopics(start, nil); err != nil {
		return err
	}
	if err := g.admin.CheckOffsetMetadata(start, position.MetadataSoft); err != nil {
		return err
	}
	g.ids = topicIDs{admin: g.admin, ids: map[string]string{}}
	g.takeover, err = kafka.NewTakeover(franz, g.group(), g.Topics.Commands(), g.Log)
	return err
}

func (g *gateway) ensureTopics(ctx context.Context, aggregates []string) (kafka.Installation, error) {
	return g.admin.EnsureTopics(ctx, g.topicsWanted(aggregates))
}

func (g *gateway) topicsWanted(aggregates []string) kafka.Ensure {
	return kafka.Ensure{
		Topics: g.Topics, Aggregates: aggregates, Name: g.HTTP.Installation, Partitions: g.Partitions, Replication: g.Replication, MinInSync: g.MinInSync,
	}
}

func (g *gateway) group() string { return GroupID(g.Topics) }

func (g *gateway) closeKafka() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	if g.producer != nil {
		err = g.producer.Close(ctx)
	}
	if g.takeover != nil {
		g.takeover.Close()
	}
	if g.queries != nil {
		g.queries.Close()
	}
	if g.reader != nil {
		g.reader.Close()
	}
	if g.admin != nil {
		g.admin.Close()
	}
	return err
}

// openSchemas reads the schemas topic and registers the folder's files.
func (g *gateway) openSchemas(ctx context.Context, spawn func(string, func(context.Context) error), failed chan error) error {
	g.catalogue = avro.NewCatalogue()
	ensure := func(ctx context.Context, aggregates []string) error {
		_, err := g.ensureTopics(ctx, aggregates)
		return err
	}
	changed := func() {
		// Asked for here, where it may take its time, and not when the first event is recorded.
		for _, name := range g.catalogue.Aggregates() {
			g.ids.get(g.Topics.Events(name))
		}
		// A new command type may have two handlers; Load logs it and keeps the former routes.
		_ = g.routes.Load(ctx)
	}
	franz, err := g.Kafka.Franz(g.Log)
	if err != nil {
		return err
	}
	writer := kafka.NewExclusive(franz, "evento-"+g.Topics.Schemas(), g.Log)
	g.registry = NewRegistry(g.Topics, g.catalogue, g.reader, writer, ensure, changed, g.Log)
	g.routes = g.Routes(g.registry)
	ready := make(chan struct{})
	spawn("schemas topic", func(ctx context.Context) error {
		return g.registry.Run(ctx, func() { close(ready) })
	})
	select {
	case <-ready:
	case err := <-failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if g.SchemaDir == "" {
		return nil
	}
	return g.registry.RegisterDir(ctx, g.SchemaDir)
}

func (g *gateway) openTriggers(ctx context.Context, spawn func(string, func(context.Context) error)) error {
	if err := g.routes.Load(ctx); err != nil {
		return fmt.Errorf("triggers: %w", err)
	}
	spawn("triggers", g.routes.Run)
	return nil
}

// build makes the parts around the engine; nothing runs yet.
func (g *gateway) build() (err error) {
	g.registerer.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := NewMetrics(g.registerer)
	waiters := NewWaiters(g.address, g.HTTP.Wait)
	g.poster = NewOutcomePoster(waiters, g.HTTP.InternalSecrets, metrics, g.Log)
	g.functions, err = NewFunctions(FunctionSettings{
		Router: g.routes, Schemas: g.catalogue, Caller: g.caller, Limits: g.FunctionLimits, Runs: true, Logger: g.Log,
		FoldChanged: func(aggregate string, _ int) { g.engine.Forget(aggregate) },
		Available:   func(trigger string) { g.engine.Available(trigger) },
	})
	if err != nil {
		return err
	}
	if g.Redis != "" {
		g.snapshots, err = NewSnapshots(SnapshotSettings{
			URL: g.Redis, Cluster: g.cluster, Epoch: strconv.FormatUint(g.installation.Epoch, 10), Logger: g.Log,
			TopicID: func(id runtime.AggregateID) string { return g.ids.get(g.Topics.Events(g.aggregateOf(id))) },
			Fold:    func(id runtime.AggregateID) (int, bool) { return g.functions.KnownFold(g.aggregateOf(id)) },
		})
		if err != nil {
			return err
		}
		g.saves = NewSnapshotWriter(g.snapshots.Save, g.Log)
		registerSnapshotMetrics(g.registerer, g.snapshots, g.saves)
	}
	franz, err := g.Kafka.Franz(g.Log)
	if err != nil {
		return err
	}
	commandsID := g.ids.get(g.Topics.Commands())
	if commandsID == "" {
		return fmt.Errorf("the id of topic %s cannot be told: committed positions would not be known again", g.Topics.Commands())
	}
	g.engine, err = NewEngine(EngineConfig{
		Installation: g.HTTP.Installation, Topics: g.Topics, Partitions: g.installation.Partitions,
		CommandsID: commandsID, EventsID: g.ids.get,
		Group: kafka.GroupConfig{
			Client: franz, Group: g.group(), Topic: g.Topics.Commands(), Address: g.address, SessionTimeout: g.SessionTimeout,
			RebalanceTimeout: max(30*time.Second, g.SessionTimeout), Log: g.Log,
		},
		Transacts: kafka.TransactorConfig{Client: franz, Log: g.Log},
		Takeover:  g.takeover, Producer: g.producer, Reader: g.reader, History: kafka.NewHistory(g.reader, g.Log),
		Catalogue: g.catalogue, Schemas: g.registry, Functions: g.functions, Snapshots: g.snapshots, Saves: g.saves, Poster: g.poster,
		Metrics: NewEngineMetrics(g.registerer), Log: g.Log,
	})
	if err != nil {
		return err
	}
	g.streams = NewStreams(StreamsConfig{
		Topics: g.Topics, Partitions: g.installation.Partitions, Reader: g.queries, Aggregates: g.catalogue.Aggregates, Log: g.Log,
	})
	if err := g.openDispatching(); err != nil {
		return err
	}
	g.http, err = NewHTTPServer(g.HTTP, HTTPNeeds{
		Appender: g.engine, Reader: g.engine, Schemas: CatalogueSchemas{g.catalogue}, Readiness: g.engine, Waiters: waiters,
		Metrics: metrics, Gatherer: g.registerer, Log: g.Log, Registrar: g.registry, Triggers: g.routes, Dispatching: g.dispatching, Topics: g.Topics, Partitions: g.installation.Partitions,
		Causes: NewCauses(CausesConfig{
			Topics: g.Topics, Partitions: g.installation.Partitions, Reader: g.queries,
			Known: g.known, Hash: g.catalogue.CanonicalHash, Log: g.Log,
		}),
		Streams: g.streams,
	})
	return err
}

// aggregateOf returns the type's name of an aggregate, or "".
func (g *gateway) aggregateOf(id runtime.AggregateID) string {
	name, _ := g.catalogue.ByPrefix(id.Prefix())
	return name
}

// known says whether a type of aggregate is registered.
func (g *gateway) known(aggregate string) bool {
	_, ok := g.catalogue.Aggregate(aggregate)
	return ok
}

// caller makes the client for functions behind these certificate authorities.
func (g *gateway) caller(caCerts string) (FunctionCaller, error) {
	o := runtime.ClientOptions{Source: "/evento/" + g.HTTP.Installation, Keys: g.FunctionKeys, MaxAnswer: g.FunctionLimits.answerBytes()}
	if caCerts != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM([]byte(caCerts)) {
			return nil, errors.New("no PEM certificate in it")
		}
		o.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 64}
	}
	return runtime.NewClient(o), nil
}

// announce calls Ready when this gateway has taken over its first partitions.
func (g *gateway) announce(ctx context.Context) {
	if g.engine.AwaitReady(ctx) && g.Ready != nil {
		g.Ready()
	}
}

// topicIDs remembers the ids of topics, which never change while a process runs:
// a topic that is made anew is another one, and raises an alarm: see [topicWatch].
type topicIDs struct {
	admin *kafka.Admin
	mu    sync.Mutex
	ids   map[string]string
}

// get returns a topic's id, or "" when it cannot be told now.
func (t *topicIDs) get(topic string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, ok := t.ids[topic]; ok {
		return id
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	id, err := t.admin.TopicID(ctx, topic)
	if err != nil {
		return ""
	}
	t.ids[topic] = id.String()
	return t.ids[topic]
}

// same says which topic is not the one any more that it was. The error wraps
// [kafka.ErrTopics], or tells that Kafka did not answer.
func (t *topicIDs) same(ctx context.Context) error {
	t.mu.Lock()
	known := maps.Clone(t.ids)
	t.mu.Unlock()
	var problems []error
	for _, topic := range slices.Sorted(maps.Keys(known)) {
		switch id, err := t.admin.TopicID(ctx, topic); {
		case err != nil:
			return err
		case id.String() != known[topic]:
			problems = append(problems, fmt.Errorf("topic %q was deleted and made anew (its id was %s and is %s): stop all gateways and restore it", topic, known[topic], id))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: %w", kafka.ErrTopics, errors.Join(problems...))
	}
	return nil
}
