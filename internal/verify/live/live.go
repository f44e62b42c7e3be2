// Package live holds a running installation against the invariants of package
// verify. It reads the topics, and Redis and a gateway where they are given, and
// writes nothing anywhere.
//
// The installation goes on meanwhile. So the ends up to which the topics are read
// are taken first, in the order that package verify asks for: committed positions,
// set-aside records, heads, events, commands, decisions. What lies behind them is not
// looked at, and a command that is under way is none that is missing. A transaction
// that is open at an end is waited for; when it stays open, that is told, the topic is
// read up to it, and what would follow from the rest is left out, and said so.
package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

// Config says what is looked at. Kafka, Prefix, the groups and Log are needed.
type Config struct {
	Kafka  kafka.Settings
	Prefix string // of the topics' names

	DispatcherGroup func(t kafka.Topics, dispatcher string) string // consumer group of a dispatcher
	RelayGroup      func(t kafka.Topics) string

	// Redis is the URL of the snapshots; "" leaves them out.
	Redis string
	// State asks a gateway for an aggregate's newest state; nil leaves that out. It is
	// asked about at most States aggregates; 0 means 1000.
	State  func(context.Context, runtime.AggregateID) (State, error)
	States int

	// Patience is how long is waited for what is soon over: an open transaction, the
	// removal of a set-aside record. 0 means 30 s.
	Patience time.Duration
	Most     int // violations that are kept; see [verify.Options]

	Log      *slog.Logger
	Progress func(text string) // nil: nobody is told
}

// State is what a gateway answers about an aggregate.
type State struct {
	Version uint64
	Schema  runtime.DataSchema
	Data    []byte // bare Avro value; nil for an aggregate that has versions and no state
}

// Result is what was found, and what could not be looked at.
type Result struct {
	verify.Report
	Partitions int32
	Asked      int      // aggregates that the gateway was asked about
	Notes      []string // for people: what was left out, and why
}

// callLimit is the longest that one question to Kafka may take.
const callLimit = time.Minute

// Run looks at an installation once. An error says that it could not be looked at;
// what is wrong with it is in the result.
func Run(ctx context.Context, c Config) (Result, error) {
	c.Patience = cmp.Or(c.Patience, 30*time.Second)
	c.States = cmp.Or(c.States, 1000)
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	r := &run{Config: c, catalogue: avro.NewCatalogue(), ids: map[string]string{}, ends: map[kafka.Place]span{}}
	defer r.close()
	if err := r.open(ctx); err != nil {
		return Result{}, err
	}
	if err := r.takeEnds(ctx); err != nil {
		return Result{}, err
	}
	if err := r.awaitStable(ctx); err != nil {
		return Result{}, err
	}
	checker := verify.New(verify.Options{
		Partitions: r.installation.Partitions, Place: kafka.Partition, End: r.end, Undecided: r.undecided, Most: c.Most,
	})
	r.checker = checker
	for _, v := range r.found {
		checker.Add(v)
	}
	for n := range r.installation.Partitions {
		if err := r.partition(ctx, n); err != nil {
			return Result{}, fmt.Errorf("partition %d: %w", n, err)
		}
		read := checker.Read()
		c.Progress(fmt.Sprintf("partition %d of %d: %d commands, %d events so far, %d violations", n+1, r.installation.Partitions, read.Commands, read.Events, checker.Violations()))
	}
	for _, n := range checker.Strays() {
		if err := r.again(ctx, n); err != nil {
			return Result{}, fmt.Errorf("partition %d: %w", n, err)
		}
	}
	return Result{Report: checker.Finish(), Partitions: r.installation.Partitions, Asked: r.asked, Notes: r.notes}, nil
}

// run is one call of Run.
type run struct {
	Config
	topics       kafka.Topics
	installation kafka.Installation
	catalogue    *avro.Catalogue
	admin        *kafka.Admin
	look         *kafka.Takeover // of the gateways' group
	cluster      string
	ids          map[string]string // of topics
	events       []string          // topics
	dispatchers  []string          // names
	snapshots    *gateway.Snapshots
	checker      *verify.Checker

	members   int // of the gateways' group
	positions map[int32]*position.Position
	relayed   map[int32]int64 // decisions below have been sent
	ends      map[kafka.Place]span
	undecided bool               // some decisions are behind an open transaction
	found     []verify.Violation // before the checker was there
	notes     []string
	asked     int
}

// span is the part of a partition that is read.
type span struct {
	low, end int64
	cut      bool // end is where an open transaction begins
}

func (r *run) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *run) violation(i verify.Invariant, at runtime.Coordinates, format string, args ...any) {
	r.found = append(r.found, verify.Violation{Invariant: i, At: at, Text: fmt.Sprintf(format, args...)})
}

// end is where a partition is read up to. Of one that is no part of the installation
// there is nothing more to come.
func (r *run) end(topic string, partition int32) int64 {
	if s, ok := r.ends[kafka.Place{Topic: topic, Partition: partition}]; ok {
		return s.end
	}
	return math.MaxInt64
}

func (r *run) close() {
	if r.snapshots != nil {
		r.snapshots.Close()
	}
	if r.look != nil {
		r.look.Close()
	}
	if r.admin != nil {
		r.admin.Close()
	}
}

// limited bounds a question to Kafka.
func limited(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, callLimit, fmt.Errorf("%s took more than %v", what, callLimit))
}

// open finds out what installation there is.
func (r *run) open(ctx context.Context) (err error) {
	franz, err := r.Kafka.Franz(r.Log)
	if err != nil {
		return err
	}
	if r.admin, err = kafka.NewAdmin(r.Kafka, r.Log); err != nil {
		return err
	}
	asking, cancel := limited(ctx, "to reach kafka at "+r.Kafka.Get("bootstrap.servers"))
	defer cancel()
	if r.cluster, err = r.admin.ClusterID(asking); err != nil {
		return fmt.Errorf("kafka at %s: %w", r.Kafka.Get("bootstrap.servers"), errors.Join(err, context.Cause(asking)))
	}
	r.topics = kafka.Topics{Prefix: r.Prefix}
	if err := r.topics.Check(); err != nil {
		return err
	}
	found := false
	if _, err := r.admin.TopicID(asking, r.topics.Schemas()); err == nil {
		if r.installation, found, err = r.admin.Installation(asking, r.topics); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("there is no installation with the prefix %q: %q has no record of one", r.Prefix, r.topics.Schemas())
	}
	r.topics.Layout = r.installation.Layout
	if r.look, err = kafka.NewTakeover(franz, gateway.GroupID(r.topics), r.topics.Commands(), r.Log); err != nil {
		return err
	}
	if err := r.readSchemas(asking); err != nil {
		return fmt.Errorf("schemas: %w", err)
	}
	if _, err := r.admin.VerifyTopics(asking, kafka.Ensure{Topics: r.topics, Aggregates: r.catalogue.Aggregates()}); errors.Is(err, kafka.ErrTopics) {
		r.violation(verify.Settings, runtime.Coordinates{}, "%v", err)
	} else if err != nil {
		return err
	}
	if r.members, err = r.look.Members(asking); err != nil {
		return err
	}
	r.events = append(r.events, r.topics.Events(""))
	if r.topics.Layout == kafka.PerAggregate {
		r.events = nil
		for _, name := range r.catalogue.Aggregates() {
			r.events = append(r.events, r.topics.Events(name))
		}
	}
	for _, topic := range append([]string{r.topics.Commands(), r.topics.Parked(), r.topics.Heads(), r.topics.Dispatched()}, r.events...) {
		id, err := r.admin.TopicID(asking, topic)
		if err != nil {
			return err
		}
		r.ids[topic] = id.String()
	}
	return r.openSnapshots()
}

// readSchemas reads the registered types and the dispatchers there are.
func (r *run) readSchemas(ctx context.Context) error {
	topic := r.topics.Schemas()
	ends, err := r.look.Watermarks(ctx, topic, 0)
	if err != nil {
		return err
	}
	dispatchers := map[string]bool{}
	err = r.look.Scan(ctx, topic, 0, ends.Low, ends.High, r.Patience, func(k kafka.Record) error {
		if name, ok := kafka.ParseDispatcherKey(k.Key); ok {
			dispatchers[name] = k.Value != nil
			return nil
		}
		if string(k.Key) == kafka.InstallationKey || k.Value == nil {
			return nil
		}
		registered, err := avro.DecodeRegistered(string(k.Key), k.Value)
		if err == nil {
			err = r.catalogue.Add(registered)
		}
		if err != nil {
			r.note("the schema at %s/0/%d cannot be used by this program, which may be older than the gateways: %v", topic, k.Offset, err)
		}
		return nil
	})
	for name, there := range dispatchers {
		if there {
			r.dispatchers = append(r.dispatchers, name)
		}
	}
	slices.Sort(r.dispatchers)
	return err
}

func (r *run) openSnapshots() (err error) {
	if r.Redis == "" {
		return nil
	}
	r.snapshots, err = gateway.NewSnapshots(gateway.SnapshotSettings{
		URL: r.Redis, Cluster: r.cluster, Epoch: strconv.FormatUint(r.installation.Epoch, 10), Timeout: 5 * time.Second,
		TopicID: func(id runtime.AggregateID) string { return r.ids[r.eventsOf(id)] },
		Fold:    func(runtime.AggregateID) (int, bool) { return 0, false },
		Logger:  slog.New(slog.DiscardHandler), // what it says is counted
	})
	return err
}

// eventsOf is the topic of an aggregate's events.
func (r *run) eventsOf(id runtime.AggregateID) string {
	name, _ := r.catalogue.ByPrefix(id.Prefix())
	return r.topics.Events(name)
}
