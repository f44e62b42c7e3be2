package kafka

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// installing gives a cluster, an Admin of it, and names in it of the test's own.
func installing(t *testing.T) (*logOf, *Admin, Topics) {
	t.Helper()
	l := newLog(t)
	a, err := NewAdmin(l.settings, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return l, a, Topics{Prefix: l.topic}
}

func refuses(t *testing.T, err error, want ...string) {
	t.Helper()
	if !errors.Is(err, ErrTopics) {
		t.Errorf("got %v, want an ErrTopics", err)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %s: %v", w, err)
		}
	}
}

// A broker that takes too little beside a committed offset is named at the start.
// The embedded one does not know the setting, so it is made to.
func TestOffsetMetadataOfBrokers(t *testing.T) {
	t.Parallel()
	l, a, _ := installing(t)
	if l.cluster != nil {
		if err := a.CheckOffsetMetadata(t.Context(), 3000); err != nil {
			t.Errorf("a broker that does not tell: %v", err)
		}
		l.cluster.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
			l.cluster.KeepControl()
			describe := req.(*kmsg.DescribeConfigsRequest)
			resp := describe.ResponseKind().(*kmsg.DescribeConfigsResponse)
			for _, r := range describe.Resources {
				answer := kmsg.NewDescribeConfigsResponseResource()
				answer.ResourceType, answer.ResourceName = r.ResourceType, r.ResourceName
				config := kmsg.NewDescribeConfigsResponseResourceConfig()
				config.Name, config.Value = "offset.metadata.max.bytes", kmsg.StringPtr("4096")
				answer.Configs = append(answer.Configs, config)
				resp.Resources = append(resp.Resources, answer)
			}
			return resp, nil, true
		})
	}
	if err := a.CheckOffsetMetadata(t.Context(), 3000); err != nil {
		t.Errorf("4,096 are enough for 3,000: %v", err)
	}
	refuses(t, a.CheckOffsetMetadata(t.Context(), 5000), "broker", "offset.metadata.max.bytes is 4096", "at least 5000")
}

func TestTopicNames(t *testing.T) {
	t.Parallel()
	single, per := Topics{}, Topics{Prefix: "x", Layout: PerAggregate}
	for got, want := range map[string]string{
		single.Commands(): "kf-evento-commands", single.Events("A"): "kf-evento-events", single.Dispatched(): "kf-evento-dispatched",
		single.Parked(): "kf-evento-parked", single.Heads(): "kf-evento-heads", single.Schemas(): "kf-evento-schemas",
		per.Events("CheckingAccount"): "x-events.CheckingAccount",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, c := range []struct {
		topics    Topics
		name      string
		aggregate string
		ok        bool
	}{
		{single, "kf-evento-events", "", true}, {single, "kf-evento-events.A", "", false}, {single, "kf-evento-commands", "", false},
		{per, "x-events.A.B", "A.B", true}, {per, "x-events", "", false}, {per, "x-events.", "", false}, {per, "y-events.A", "", false},
	} {
		if aggregate, ok := c.topics.IsEvents(c.name); ok != c.ok || ok && aggregate != c.aggregate {
			t.Errorf("%q: %q, %v, want %q, %v", c.name, aggregate, ok, c.aggregate, c.ok)
		}
	}
	for _, bad := range []Topics{{Prefix: "a b"}, {Prefix: strings.Repeat("x", 200)}, {Layout: "both"}} {
		if bad.Check() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

func TestInstallOnceAndForAll(t *testing.T) {
	t.Parallel()
	_, a, topics := installing(t)
	ctx := soon(t)
	_, err := a.VerifyTopics(ctx, Ensure{Topics: topics})
	refuses(t, err, `-commands" is missing`, `-heads" is missing`)

	ensure := Ensure{Topics: topics, Partitions: 3, MinInSync: 1, MaxMessageBytes: 900_000}
	i, err := a.EnsureTopics(ctx, ensure)
	if want := (Installation{Partitions: 3, Layout: Single, Epoch: 1}); err != nil || i != want {
		t.Fatalf("installed %+v, %v, want %+v", i, err, want)
	}
	for range 2 {
		if again, err := a.EnsureTopics(ctx, Ensure{Topics: topics}); err != nil || again != i {
			t.Errorf("again: %+v, %v", again, err)
		}
	}
	_, err = a.EnsureTopics(ctx, Ensure{Topics: topics, Partitions: 4})
	refuses(t, err, "partitions is 4, but the installation recorded 3", topics.Schemas())
	other := topics
	other.Layout = PerAggregate
	_, err = a.EnsureTopics(ctx, Ensure{Topics: other})
	refuses(t, err, `layout is "per-aggregate", but the installation recorded "single"`)
	_, err = a.VerifyTopics(ctx, Ensure{Topics: topics, MinInSync: 2, MaxMessageBytes: 1_000_000, Replication: 5})
	refuses(t, err, `min.insync.replicas is "1", it must be at least 2`, `max.message.bytes is "900000", it must be at least 1000000`, "fewer than the replication 5")
	_, err = a.EnsureTopics(ctx, Ensure{Topics: topics, MinInSync: 2, Replication: 1})
	refuses(t, err, "min.insync.replicas 2 is greater than the replication 1")

	if raised, err := a.RaiseEpoch(ctx, topics); err != nil || raised.Epoch != 2 || raised.Partitions != 3 {
		t.Errorf("raised: %+v, %v", raised, err)
	}
	if again, err := a.EnsureTopics(ctx, Ensure{Topics: topics}); err != nil || again.Epoch != 2 {
		t.Errorf("after raising the epoch: %+v, %v", again, err)
	}
}

// Two installations that share a prefix would work off each other's commands.
func TestTwoInstallationsOfOnePrefixAreRefused(t *testing.T) {
	t.Parallel()
	_, a, topics := installing(t)
	ctx := soon(t)
	// What was installed before names were recorded takes the first name that comes.
	if _, err := a.EnsureTopics(ctx, Ensure{Topics: topics, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if i, err := a.EnsureTopics(ctx, Ensure{Topics: topics, Name: "east"}); err != nil || i.Name != "east" || i.Epoch != 1 || i.Partitions != 2 {
			t.Fatalf("%+v, %v", i, err)
		}
	}
	for _, ensure := range []func(context.Context, Ensure) (Installation, error){a.EnsureTopics, a.VerifyTopics} {
		_, err := ensure(ctx, Ensure{Topics: topics, Name: "west"})
		refuses(t, err, `installation is "west", but "east" is recorded`, "prefixes of their own")
	}
	if i, err := a.RaiseEpoch(ctx, topics); err != nil || i.Name != "east" {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestPerAggregateTopicsComeLater(t *testing.T) {
	t.Parallel()
	_, a, topics := installing(t)
	topics.Layout = PerAggregate
	for _, aggregates := range [][]string{nil, {"CheckingAccount"}, {"CheckingAccount", "Client"}, {"CheckingAccount", "Client", "CheckingAccount"}} {
		i, err := a.EnsureTopics(soon(t), Ensure{Topics: topics, Partitions: 2, Aggregates: aggregates})
		if err != nil || i.Layout != PerAggregate {
			t.Fatalf("with %v: %+v, %v", aggregates, i, err)
		}
		for _, name := range aggregates {
			if _, err := a.TopicID(soon(t), topics.Events(name)); err != nil {
				t.Errorf("with %v: %v", aggregates, err)
			}
		}
	}
}

func TestManyInstallAtOnce(t *testing.T) {
	t.Parallel()
	_, a, topics := installing(t)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if i, err := a.EnsureTopics(soon(t), Ensure{Topics: topics, Partitions: 2}); err != nil || i.Partitions != 2 {
				t.Errorf("%+v, %v", i, err)
			}
		})
	}
	all.Wait()
}

func TestTopicsThatLoseHistoryAreRefused(t *testing.T) {
	t.Parallel()
	l, a, topics := installing(t)
	ctx := soon(t)
	if _, err := a.EnsureTopics(ctx, Ensure{Topics: topics, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(l.plain)
	set := func(topic, setting, value string) {
		t.Helper()
		if _, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: setting, Value: &value}}, topic); err != nil {
			t.Fatal(err)
		}
	}
	set(topics.Events(""), "retention.ms", "86400000")
	set(topics.Commands(), "retention.bytes", "1000000")
	set(topics.Dispatched(), "cleanup.policy", "compact")
	set(topics.Heads(), "cleanup.policy", "compact,delete")
	want := []string{
		topics.Events("") + `": retention.ms is "86400000", it must be "-1" (infinite)`,
		topics.Commands() + `": retention.bytes is "1000000"`,
		topics.Dispatched() + `": cleanup.policy is "compact", it must be "delete"`,
		topics.Heads() + `": cleanup.policy is "compact,delete", it must be "compact"`,
	}
	// A real broker's answer may be older than the change for a moment.
	for {
		_, err := a.EnsureTopics(ctx, Ensure{Topics: topics})
		seen := 0
		for _, w := range want {
			if err != nil && strings.Contains(err.Error(), w) {
				seen++
			}
		}
		if seen == len(want) || ctx.Err() != nil {
			refuses(t, err, want...)
			break
		}
	}
	set(topics.Events(""), "retention.ms", "-1")
	set(topics.Commands(), "retention.bytes", "-1")
	set(topics.Dispatched(), "cleanup.policy", "delete")
	set(topics.Heads(), "cleanup.policy", "compact")

	// More partitions move keys.
	if _, err := admin.CreatePartitions(ctx, 1, topics.Commands()); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := a.EnsureTopics(ctx, Ensure{Topics: topics})
		if err != nil && strings.Contains(err.Error(), topics.Commands()+`" has 3 partitions, not 2`) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("more partitions are not refused: %v", err)
		}
	}

	// A topic that was there is not made anew.
	if _, err := admin.DeleteTopics(ctx, topics.Events("")); err != nil {
		t.Fatal(err)
	}
	for { // before: one that goes while it is looked at is waited for
		if _, err := a.TopicID(ctx, topics.Events("")); err != nil {
			break
		}
	}
	for {
		_, err := a.EnsureTopics(ctx, Ensure{Topics: topics})
		if err != nil && strings.Contains(err.Error(), topics.Events("")+`" is missing, but the installation`) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("a topic that is gone is not refused: %v", err)
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	l, a, _ := installing(t)
	ctx := soon(t)
	l.write("x")
	details, err := kadm.NewClient(l.plain).ListTopics(ctx, l.topic)
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.TopicID(ctx, l.topic)
	if err != nil || id != TopicID(details[l.topic].ID) {
		t.Errorf("topic id %v, %v, want %v", id, err, details[l.topic].ID)
	}
	if _, err := a.TopicID(ctx, l.topic+"-not"); err == nil {
		t.Error("a topic that does not exist has an id")
	}
	meta, err := kadm.NewClient(l.plain).BrokerMetadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if cluster, err := a.ClusterID(ctx); err != nil || cluster != meta.Cluster || cluster == "" {
		t.Errorf("cluster id %q, %v, want %q", cluster, err, meta.Cluster)
	}
}

func TestBadInstallationRecord(t *testing.T) {
	t.Parallel()
	l, a, topics := installing(t)
	ctx := soon(t)
	if _, err := a.EnsureTopics(ctx, Ensure{Topics: topics, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	if err := l.plain.ProduceSync(ctx, &kgo.Record{Topic: topics.Schemas(), Key: []byte(InstallationKey), Value: []byte(`{"partitions":0}`)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.EnsureTopics(ctx, Ensure{Topics: topics}); err == nil || !strings.Contains(err.Error(), `record "installation": partitions 0`) {
		t.Errorf("got %v", err)
	}
}

// A topic that another process has just made is not known to all brokers: one that
// does not know its settings is asked again.
func TestTopicsThatSomeBrokersDoNotKnowYet(t *testing.T) {
	t.Parallel()
	l, a, topics := installing(t)
	if l.cluster == nil {
		t.Skip("needs the embedded Kafka")
	}
	if _, err := a.EnsureTopics(soon(t), Ensure{Topics: topics, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	l.cluster.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		l.cluster.KeepControl()
		if asked.Add(1) > 3 {
			return nil, nil, false
		}
		describe := req.(*kmsg.DescribeConfigsRequest)
		resp := describe.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, r := range describe.Resources {
			answer := kmsg.NewDescribeConfigsResponseResource()
			answer.ResourceType, answer.ResourceName, answer.ErrorCode = r.ResourceType, r.ResourceName, kerr.UnknownTopicOrPartition.Code
			resp.Resources = append(resp.Resources, answer)
		}
		return resp, nil, true
	})
	if _, err := a.VerifyTopics(soon(t), Ensure{Topics: topics}); err != nil || asked.Load() != 4 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}
