package dev

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const topic = "kf-evento-events"

func startBroker(t *testing.T, dir string, port int) *Broker {
	t.Helper()
	b, err := StartBroker(BrokerOptions{Dir: dir, Port: port, LogFile: filepath.Join(t.TempDir(), "broker.log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func kafkaClient(t *testing.T, b *Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func produce(ctx context.Context, t *testing.T, c *kgo.Client, partition int32, value string) {
	t.Helper()
	r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte("checking:1"), Value: []byte(value)}
	if err := c.ProduceSync(ctx, r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// committed returns what a committed reader sees in partition 0, up to the last stable offset.
func committed(ctx context.Context, t *testing.T, b *Broker) (values []string, stable, high int64) {
	t.Helper()
	adm := kadm.NewClient(kafkaClient(t, b))
	read := func(f func(context.Context, ...string) (kadm.ListedOffsets, error)) int64 {
		listed, err := f(ctx, topic)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := listed.Lookup(topic, 0)
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		return o.Offset
	}
	stable, high = read(adm.ListCommittedOffsets), read(adm.ListEndOffsets)
	c := kafkaClient(t, b, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(0)}}))
	for next := int64(0); next < stable; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("reading up to %d, came to %d: %v", stable, next, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
		})
	}
	return values, stable, high
}

func offsets(ctx context.Context, t *testing.T, b *Broker) kadm.OffsetResponse {
	t.Helper()
	all, err := kadm.NewClient(kafkaClient(t, b)).FetchOffsets(ctx, "group")
	if err != nil {
		t.Fatal(err)
	}
	o, _ := all.Lookup(topic, 0)
	return o
}

// fill writes a plain record, a committed, an aborted and an open transaction,
// and commits an offset with metadata in the committed one.
func fill(ctx context.Context, t *testing.T, b *Broker) {
	t.Helper()
	plain := kafkaClient(t, b)
	adm := kadm.NewClient(plain)
	never := "-1"
	if _, err := adm.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &never}, topic); err != nil {
		t.Fatal(err)
	}
	produce(ctx, t, plain, 0, "plain")

	writer := kafkaClient(t, b, kgo.TransactionalID("writer"))
	begin(t, writer)
	produce(ctx, t, writer, 0, "committed")
	commitInTransaction(ctx, t, writer, 7, "bitmap:1011")
	if err := writer.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	begin(t, writer)
	produce(ctx, t, writer, 0, "aborted")
	if err := writer.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	open := kafkaClient(t, b, kgo.TransactionalID("dead"))
	begin(t, open)
	produce(ctx, t, open, 0, "open")
}

func topicID(ctx context.Context, t *testing.T, c *kgo.Client) kadm.TopicID {
	t.Helper()
	topics, err := kadm.NewClient(c).ListTopics(ctx, topic)
	if err != nil || topics[topic].Err != nil {
		t.Fatal(err, topics[topic].Err)
	}
	return topics[topic].ID
}

func begin(t *testing.T, c *kgo.Client) {
	t.Helper()
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
}

func commitInTransaction(ctx context.Context, t *testing.T, c *kgo.Client, offset int64, metadata string) {
	t.Helper()
	id, epoch, err := c.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = "writer", "group", id, epoch, -1
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = topic, topicID(ctx, t, c) // the id from version 6 on
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset, rp.Metadata = offset, &metadata
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}

// check verifies all that fill wrote and a committed reader may see.
func check(ctx context.Context, t *testing.T, b *Broker, id kadm.TopicID) {
	t.Helper()
	if got := topicID(ctx, t, kafkaClient(t, b)); got != id {
		t.Errorf("topic id %v, was %v", got, id)
	}
	configs, err := kadm.NewClient(kafkaClient(t, b)).DescribeTopicConfigs(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	config, err := configs.On(topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range config.Configs {
		found = found || c.Key == "retention.ms" && c.MaybeValue() == "-1"
	}
	if !found {
		t.Error("the topic's retention.ms is not -1 any more")
	}
	o := offsets(ctx, t, b)
	if o.Err != nil || o.At != 7 || o.Metadata != "bitmap:1011" {
		t.Errorf("committed offset %d with metadata %q (%v), want 7 with \"bitmap:1011\"", o.At, o.Metadata, o.Err)
	}
	values, _, _ := committed(ctx, t, b)
	values = slices.DeleteFunc(values, func(v string) bool { return v == "end" })
	if len(values) != 2 || values[0] != "plain" || values[1] != "committed" {
		t.Errorf("a committed reader sees %q, want plain and committed", values)
	}
}

func TestBrokerKeepsEverythingOverRestart(t *testing.T) {
	ctx, dir := testContext(t), t.TempDir()
	first := startBroker(t, dir, 0)
	fill(ctx, t, first)
	id := topicID(ctx, t, kafkaClient(t, first))
	meta := clusterID(ctx, t, first)
	check(ctx, t, first, id)
	port := first.Port()
	first.Close()

	second := startBroker(t, dir, port)
	if second.Port() != port {
		t.Errorf("port %d, was %d", second.Port(), port)
	}
	if got := clusterID(ctx, t, second); got != meta {
		t.Errorf("cluster id %q, was %q", got, meta)
	}
	check(ctx, t, second, id)

	// The transaction that was open is still there, and can be ended as on a
	// real broker: by a new producer with its transactional id.
	if _, stable, high := committed(ctx, t, second); stable >= high {
		t.Errorf("last stable offset %d, high watermark %d: the open transaction is gone", stable, high)
	}
	if _, _, err := kafkaClient(t, second, kgo.TransactionalID("dead")).ProducerID(ctx); err != nil {
		t.Fatal(err)
	}
	if _, stable, high := committed(ctx, t, second); stable != high {
		t.Errorf("last stable offset %d, high watermark %d: the open transaction was not ended", stable, high)
	}
	check(ctx, t, second, id)

	// And it goes on: new records come after the old ones.
	writer := kafkaClient(t, second, kgo.TransactionalID("writer"))
	begin(t, writer)
	produce(ctx, t, writer, 0, "later")
	if err := writer.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if values, _, _ := committed(ctx, t, second); len(values) != 3 || values[2] != "later" {
		t.Errorf("a committed reader sees %q, want later at the end", values)
	}
}

func clusterID(ctx context.Context, t *testing.T, b *Broker) string {
	t.Helper()
	meta, err := kadm.NewClient(kafkaClient(t, b)).BrokerMetadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return meta.Cluster
}

// A copy of the files of a running broker is what a killed one leaves behind.
func TestBrokerKilled(t *testing.T) {
	ctx, dir := testContext(t), t.TempDir()
	first := startBroker(t, dir, 0)
	fill(ctx, t, first)
	id := topicID(ctx, t, kafkaClient(t, first))
	left := t.TempDir()
	if err := os.CopyFS(filepath.Join(left, "data"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	second := startBroker(t, filepath.Join(left, "data"), 0)
	// The open transaction is aborted at start, without a marker after it. A
	// reader that goes by the offsets of records needs one more to get past it.
	produce(ctx, t, kafkaClient(t, second), 0, "end")
	check(ctx, t, second, id)
	if _, stable, high := committed(ctx, t, second); stable != high {
		t.Errorf("last stable offset %d, high watermark %d: the open transaction holds readers back", stable, high)
	}
}

func TestBrokerPortInUse(t *testing.T) {
	first := startBroker(t, t.TempDir(), 0)
	second := startBroker(t, t.TempDir(), first.Port())
	if first.Port() == second.Port() || second.Port() == 0 {
		t.Errorf("ports %d and %d", first.Port(), second.Port())
	}
}

func TestBrokerDataUnreadable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "meta.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := StartBroker(BrokerOptions{Dir: dir}); err == nil {
		b.Close()
		t.Fatal("no error")
	}
}

func TestClusterIDsDiffer(t *testing.T) {
	ctx := testContext(t)
	a, b := clusterID(ctx, t, startBroker(t, t.TempDir(), 0)), clusterID(ctx, t, startBroker(t, t.TempDir(), 0))
	if a == b {
		t.Errorf("two brokers have the cluster id %q", a)
	}
}
