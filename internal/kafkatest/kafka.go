// Package kafkatest gives tests a Kafka: the embedded one of franz-go (kfake) by
// default, or the real one that the environment names.
//
//	go test ./internal/kafka/                       # embedded
//	scripts/with-real go test ./internal/kafka/     # Apache Kafka
//
// Tests fake the broker, never the client, so the same test runs on both. The
// embedded one differs where ownership is concerned: it writes transaction
// markers at once, never answers CONCURRENT_TRANSACTIONS and has no limit on
// metadata. What a test says of fencing counts on the real one.
package kafkatest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Env names the environment variable that names a real Kafka: its bootstrap
// servers, separated by commas.
const Env = "EVENTO_TEST_KAFKA"

// Kafka is the cluster of one test. Topics and groups with its prefix are the
// test's own; on a real cluster they stay there when it ends.
type Kafka struct {
	Servers []string // bootstrap servers, host:port
	Prefix  string   // unique to the test; ends in a dash

	// Fake is the embedded cluster, with its faults and its insight; nil when
	// the cluster is real.
	Fake *kfake.Cluster

	admin *kadm.Client
}

// Start gives a test its Kafka. It is stopped when the test ends. An embedded
// one has three brokers; options are for it alone.
func Start(t testing.TB, opts ...kfake.Opt) *Kafka {
	t.Helper()
	k := &Kafka{Prefix: "t" + strings.ToLower(rand.Text()[:10]) + "-"}
	if servers := os.Getenv(Env); servers != "" {
		k.Servers = strings.Split(servers, ",")
	} else {
		// Sessions may be as short on it as with-real allows them to be.
		fake, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3), kfake.GroupMinSessionTimeout(time.Second)}, opts...)...)
		if err != nil {
			t.Fatalf("start the embedded kafka: %v", err)
		}
		t.Cleanup(fake.Close)
		k.Fake, k.Servers = fake, fake.ListenAddrs()
	}
	cl, err := kgo.NewClient(k.Opts()...)
	if err != nil {
		t.Fatalf("client for %v: %v", k.Servers, err)
	}
	t.Cleanup(cl.Close)
	k.admin = kadm.NewClient(cl)
	return k
}

// Embedded gives a test the embedded Kafka, for what only that can be made to
// do, and skips it where the environment names a real one.
func Embedded(t testing.TB, opts ...kfake.Opt) *Kafka {
	t.Helper()
	if os.Getenv(Env) != "" {
		t.Skip("needs the embedded Kafka")
	}
	return Start(t, opts...)
}

// Opts are the connection options of a client of this cluster, which hears of another
// leader as soon as the product's own clients do.
func (k *Kafka) Opts() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(k.Servers...), kgo.MetadataMinAge(250 * time.Millisecond)}
}

// Topic makes a topic, with as many replicas as the cluster is set to, and gives
// its full name: the prefix, then name. Configs are key=value.
func (k *Kafka) Topic(t testing.TB, name string, partitions int32, configs ...string) string {
	t.Helper()
	name = k.Prefix + name
	set := make(map[string]*string)
	for _, c := range configs {
		key, value, _ := strings.Cut(c, "=")
		set[key] = &value
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := k.admin.CreateTopic(ctx, partitions, -1, set, name)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
	return name
}

// Group gives a name for a consumer group of the test's own.
func (k *Kafka) Group(name string) string { return k.Prefix + name }

// Wait calls done until it says so, and fails the test with what it last said
// when that takes longer than d. It is how tests wait: for a condition, not for
// time to pass.
func Wait(t testing.TB, d time.Duration, done func() error) {
	t.Helper()
	deadline := time.Now().Add(d)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still not so after %v: %v", d, err)
		}
		<-tick.C
	}
}

// Committed reads, as a committed reader, all records of a topic that are below
// its high watermarks now, by partition.
func (k *Kafka) Committed(t testing.TB, topic string) map[int32][]*kgo.Record {
	t.Helper()
	return k.read(t, topic, kgo.ReadCommitted())
}

// Written reads all that stands below the high watermarks of a topic, aborted
// records included, by partition. No transaction is open there when it begins.
func (k *Kafka) Written(t testing.TB, topic string) map[int32][]*kgo.Record {
	t.Helper()
	return k.read(t, topic, kgo.ReadUncommitted())
}

func (k *Kafka) read(t testing.TB, topic string, level kgo.IsolationLevel) map[int32][]*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var ends kadm.ListedOffsets
	// A transaction that has just been ended may still hold the stable offset
	// back for a moment.
	Wait(t, 30*time.Second, func() error {
		var err error
		if ends, err = k.admin.ListEndOffsets(ctx, topic); err != nil {
			return err
		}
		stable, err := k.admin.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return err
		}
		for p, o := range ends[topic] {
			if s := stable[topic][p]; s.Offset < o.Offset {
				return fmt.Errorf("%s partition %d: stable offset %d, high watermark %d", topic, p, s.Offset, o.Offset)
			}
		}
		return ends.Error()
	})
	want := make(map[string]map[int32]kgo.Offset)
	got := make(map[int32][]*kgo.Record)
	left := make(map[int32]bool)
	for p, o := range ends[topic] {
		got[p] = nil
		if o.Offset > 0 {
			if want[topic] == nil {
				want[topic] = make(map[int32]kgo.Offset)
			}
			want[topic][p] = kgo.NewOffset().AtStart()
			left[p] = true
		}
	}
	if len(left) == 0 {
		return got
	}
	cl, err := kgo.NewClient(append(k.Opts(), kgo.ConsumePartitions(want),
		kgo.FetchIsolationLevel(level), kgo.KeepControlRecords())...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s: %v (%d partitions left)", topic, err, len(left))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end := ends[topic][r.Partition].Offset
			if r.Offset < end && !r.Attrs.IsControl() {
				got[r.Partition] = append(got[r.Partition], r)
			}
			// The last record below the end may be an aborted one, which is not
			// shown. The marker that aborted it is, and stands behind it.
			if r.Offset >= end-1 {
				delete(left, r.Partition)
			}
		})
	}
	return got
}
