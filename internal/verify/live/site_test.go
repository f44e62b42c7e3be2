package live

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

const (
	partitions = 2
	mirror     = "default/mirror" // a dispatcher
	source     = "/evento/test/dispatchers/" + mirror
)

// site is an installation that a raw producer writes: what a gateway would, and what
// none would.
type site struct {
	t      *testing.T
	kafka  *kafkatest.Kafka
	topics kafka.Topics
	config Config
	client *kgo.Client
	admin  *kadm.Client
	redis  *miniredis.Miniredis
	ids    map[string]string
	chains map[runtime.AggregateID][]runtime.Coordinates
	done   map[runtime.AggregateID]uint64
	last   map[runtime.AggregateID]*runtime.Message
	tick   time.Time
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{
		t: t, kafka: kafkatest.Start(t), redis: miniredis.RunT(t), ids: map[string]string{},
		chains: map[runtime.AggregateID][]runtime.Coordinates{}, done: map[runtime.AggregateID]uint64{}, last: map[runtime.AggregateID]*runtime.Message{},
		tick: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	s.topics = kafka.Topics{Prefix: s.kafka.Prefix + "evento"}
	settings, err := kafka.NewSettings(map[string]string{"bootstrap.servers": s.kafka.Servers[0]})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	admin, err := kafka.NewAdmin(settings, log)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.EnsureTopics(t.Context(), kafka.Ensure{Topics: s.topics, Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{s.topics.Commands(), s.topics.Events("")} {
		id, err := admin.TopicID(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		s.ids[topic] = id.String()
	}
	if s.client, err = kgo.NewClient(append(s.kafka.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	s.admin = kadm.NewClient(s.client)
	s.config = Config{
		Kafka: settings, Prefix: s.topics.Prefix, Redis: "redis://" + s.redis.Addr(), Patience: 3 * time.Second, Log: log,
		DispatcherGroup: func(t kafka.Topics, name string) string { return t.Dispatched() + ".default.mirror" },
		RelayGroup:      func(t kafka.Topics) string { return t.Dispatched() + "-relay" },
	}
	return s
}

// now is a moment after all others.
func (s *site) now() time.Time {
	s.tick = s.tick.Add(time.Second)
	return s.tick
}

func home(id runtime.AggregateID) int32 { return kafka.Partition(string(id), partitions) }

// other is an aggregate that lives in the other partition.
func other(id runtime.AggregateID) runtime.AggregateID {
	for i := 0; ; i++ {
		if o := runtime.AggregateID(fmt.Sprintf("acc:other-%d", i)); home(o) != home(id) {
			return o
		}
	}
}

func (s *site) produce(client *kgo.Client, topic string, partition int32, key, value []byte, headers []kafka.Header) runtime.Coordinates {
	s.t.Helper()
	r := &kgo.Record{Topic: topic, Partition: partition, Key: key, Value: value}
	for _, h := range headers {
		r.Headers = append(r.Headers, kgo.RecordHeader(h))
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	return runtime.Coordinates{Topic: topic, Partition: partition, Offset: r.Offset}
}

func (s *site) write(topic string, partition int32, m *runtime.Message) runtime.Coordinates {
	s.t.Helper()
	r := kafka.NewRecord(topic, partition, m)
	return s.produce(s.client, topic, partition, r.Key, r.Value, r.Headers)
}

// sent is a command where it stands.
type sent struct {
	at runtime.Coordinates
	m  *runtime.Message
}

func (s *site) command(id string, to runtime.AggregateID) sent {
	s.t.Helper()
	return s.commandIn(home(to), id, to)
}

func (s *site) commandIn(partition int32, id string, to runtime.AggregateID) sent {
	s.t.Helper()
	m := &runtime.Message{ID: id, Source: "/client", Type: "Acc.Do", Schema: "urn:evento:avro:Acc.Do:0123456789abcdef", Subject: runtime.Entity(to), Data: []byte{2}, Time: s.now()}
	return sent{s.write(s.topics.Commands(), partition, m), m}
}

// outcome is the next event of a command, as a gateway would write it, after change
// has seen it.
func (s *site) outcome(c sent, pos, count int, change func(*runtime.Message)) runtime.Coordinates {
	s.t.Helper()
	id := c.m.Aggregate()
	m := &runtime.Message{
		ID: c.m.Key().EventID(pos), Type: "Acc.Done", Schema: "urn:evento:avro:Acc.Done:0123456789abcdef", Source: "/evento/test/f", Subject: c.m.Subject,
		Data: []byte{4}, Time: s.now(), RecordedTime: s.tick, CausationID: c.m.ID, CorrelationID: c.m.ID, Cause: c.at, Pos: pos, Count: count,
		Sequence: s.done[id] + 1, Prev: runtime.NoPrev, Writer: "evento-ONE-0",
	}
	if c.m.CorrelationID != "" {
		m.CorrelationID = c.m.CorrelationID
	}
	if n := len(s.chains[id]); n > 0 {
		m.Prev = s.chains[id][n-1].Offset
	}
	if change != nil {
		change(m)
	}
	at := s.write(s.topics.Events(""), c.at.Partition, m)
	s.chains[id] = append(s.chains[id], at)
	s.done[id], s.last[id] = max(s.done[id], m.Sequence), m
	return at
}

// do sends commands and gives each its outcome.
func (s *site) do(to runtime.AggregateID, ids ...string) (c sent) {
	s.t.Helper()
	for _, id := range ids {
		c = s.command(id, to)
		s.outcome(c, 1, 1, nil)
	}
	return c
}

// decision is one about the last event of an aggregate: a command to another one.
func (s *site) decision(about, to runtime.AggregateID) (at runtime.Coordinates, command *runtime.Message) {
	s.t.Helper()
	event, n := s.last[about], len(s.chains[about])
	where := s.chains[about][n-1]
	m := &runtime.Message{
		ID: "d-" + event.ID, Type: runtime.TypeDispatched, Source: source, Subject: event.Subject, Time: s.now(), RecordedTime: s.tick,
		CausationID: event.ID, CorrelationID: event.CorrelationID, Cause: where,
	}
	d := avro.Dispatched{Dispatcher: mirror, Event: event.ID, At: where.String(), Status: avro.DispatchDecided, Commands: []avro.DispatchedCommand{
		{Type: "Acc.Do", Target: runtime.Entity(to), Schema: "urn:evento:avro:Acc.Do:0123456789abcdef", Data: []byte{6}, Time: s.tick},
	}}
	m.Schema, m.Data = d.Encode()
	at = s.write(s.topics.Dispatched(), home(about), m)
	return at, &runtime.Message{
		ID: m.ID + "-0", Source: source, Type: "Acc.Do", Schema: d.Commands[0].Schema, Subject: d.Commands[0].Target, Data: d.Commands[0].Data, Time: s.tick,
		CausationID: event.ID, CorrelationID: event.CorrelationID, Cause: where,
	}
}

func (s *site) relay(command *runtime.Message) sent {
	s.t.Helper()
	return sent{s.write(s.topics.Commands(), home(command.Aggregate()), command), command}
}

// commit moves the gateways' group, so that all below upTo is finished, and what is
// done above it.
func (s *site) commit(partition int32, upTo int64, done ...int64) {
	s.t.Helper()
	o := position.NewOffsets(position.Position{Offset: upTo, Done: done})
	s.commitAs(gateway.GroupID(s.topics), s.topics.Commands(), partition, upTo, o.Encode(position.Note{TopicID: s.ids[s.topics.Commands()]}))
}

func (s *site) commitAs(group, topic string, partition int32, offset int64, metadata string) {
	s.t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset, LeaderEpoch: -1, Metadata: metadata})
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	if err := s.admin.CommitAllOffsets(ctx, group, offsets); err != nil {
		s.t.Fatal(err)
	}
}

// settle commits what has an outcome of an aggregate's partition: all commands there.
func (s *site) settle(c sent) { s.commit(c.at.Partition, c.at.Offset+1) }

func (s *site) aside(command runtime.Coordinates, a *shard.Aside) runtime.Coordinates {
	s.t.Helper()
	var value []byte
	if a != nil {
		var err error
		if value, err = json.Marshal(a); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.produce(s.client, s.topics.Parked(), command.Partition, []byte(strconv.FormatInt(command.Offset, 10)), value, nil)
}

// heads writes the head of an aggregate as of now, and a checkpoint, both after
// change has seen them.
func (s *site) heads(id runtime.AggregateID, change func(head, checkpoint map[string]any)) {
	s.t.Helper()
	at := s.chains[id][len(s.chains[id])-1]
	head := map[string]any{"version": s.done[id], "offset": at.Offset, "event": s.last[id].ID}
	last := map[string]any{"topic_id": s.ids[at.Topic], "offset": at.Offset, "event": s.last[id].ID}
	if change != nil {
		change(head, last)
	}
	put := func(key string, value any) {
		text, err := json.Marshal(value)
		if err != nil {
			s.t.Fatal(err)
		}
		s.produce(s.client, s.topics.Heads(), at.Partition, []byte(key), text, nil)
	}
	put(string(id), head)
	put("#checkpoint", map[string]any{"events": map[string]any{at.Topic: last}})
}

// snapshot puts an aggregate's state into Redis, after change has seen it.
func (s *site) snapshot(id runtime.AggregateID, change func(*shard.Snapshot)) {
	s.t.Helper()
	ctx := s.t.Context()
	cluster, err := s.admin.BrokerMetadata(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := gateway.NewSnapshots(gateway.SnapshotSettings{
		URL: s.config.Redis, Cluster: cluster.Cluster, Epoch: "1", Logger: s.config.Log, Timeout: 10 * time.Second,
		TopicID: func(runtime.AggregateID) string { return s.ids[s.topics.Events("")] },
		Fold:    func(runtime.AggregateID) (int, bool) { return 0, false },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	key, pos, _ := runtime.ParseEventID(s.last[id].ID)
	snapshot := shard.Snapshot{
		Aggregate: id, State: shard.State{Version: s.done[id], Schema: "urn:evento:avro:Acc.Acc:0123456789abcdef", Data: []byte{1, 2}},
		Head: shard.Head{Version: s.done[id], Offset: s.chains[id][len(s.chains[id])-1].Offset, Command: key, Pos: int32(pos)}, Seen: &shard.Seen{},
	}
	if change != nil {
		change(&snapshot)
	}
	if err := store.Save(ctx, []shard.Snapshot{snapshot}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) run() Result {
	s.t.Helper()
	result, err := Run(s.t.Context(), s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}
