package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/internal/kafkatest/proxy"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// world is a cluster, and a network in front of it.
type world struct {
	kafka *kafkatest.Kafka
	proxy *proxy.Proxy
	topic string

	mu     sync.Mutex // guards dialed
	dialed []string   // addresses that clients have connected to
}

func newWorld(t *testing.T) *world {
	t.Helper()
	k := kafkatest.Start(t)
	return &world{kafka: k, proxy: proxy.Start(t, k.Servers), topic: k.Topic(t, "in", 3)}
}

func (w *world) client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(w.proxy.Servers()...), kgo.DefaultProduceTopic(w.topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.DisableClientMetrics(), kgo.RequestTimeoutOverhead(time.Minute),
		kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			w.mu.Lock()
			w.dialed = append(w.dialed, address)
			w.mu.Unlock()
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// values lists what a committed reader sees in partition 0, past the proxy.
func (w *world) values(t testing.TB) (list []string) {
	t.Helper()
	for _, r := range w.kafka.Committed(t, w.topic)[0] {
		list = append(list, string(r.Value))
	}
	return list
}

func (w *world) expect(t testing.TB, want ...string) {
	t.Helper()
	if got := w.values(t); !slices.Equal(got, want) {
		t.Fatalf("the topic has %q, want %q", got, want)
	}
}

func produce(t testing.TB, cl *kgo.Client, value string) {
	t.Helper()
	if err := cl.ProduceSync(within(t), kgo.StringRecord(value)).FirstErr(); err != nil {
		t.Fatalf("produce %s: %v", value, err)
	}
}

func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	kafkatest.Wait(t, patience, func() error {
		if is() {
			return nil
		}
		return errors.New(what)
	})
}

// TestNothingGoesPastTheProxy does what clients do, transactions and groups with
// it, and looks where they connect to.
func TestNothingGoesPastTheProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cl := w.client(t, kgo.TransactionalID(w.kafka.Prefix+"txn"), kgo.ConsumerGroup(w.kafka.Group("g")), kgo.ConsumeTopics(w.topic))
	ctx := within(t)
	for p := range int32(3) {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		r := kgo.StringRecord(fmt.Sprint("r", p))
		r.Partition = p
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < 3; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		n += fetches.NumRecords()
	}
	resp, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ours := map[string]bool{}
	for _, b := range resp.Brokers {
		ours[fmt.Sprintf("%s:%d", b.Host, b.Port)] = true
	}
	for _, a := range w.proxy.Servers() {
		ours[a] = true
	}
	for _, a := range append(w.dialed, w.proxy.Servers()...) {
		if !ours[a] || slices.Contains(w.kafka.Servers, a) {
			t.Errorf("connected to %s; the brokers are %v, and the proxy's %v", a, w.kafka.Servers, ours)
		}
	}
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.Metadata, kmsg.FindCoordinator, kmsg.EndTxn, kmsg.JoinGroup, kmsg.DescribeCluster} {
		if w.proxy.Passed(key) == 0 {
			t.Errorf("no %s was seen", key.Name())
		}
	}
}

// TestLibrdkafka sends and reads with the other client library.
func TestLibrdkafka(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	settings, err := kafka.NewSettings(map[string]string{"bootstrap.servers": strings.Join(w.proxy.Servers(), ",")})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	producer, err := kafka.NewProducer(settings, log)
	if err != nil {
		t.Fatal(err)
	}
	const n = 50
	for i := range n {
		if _, err := producer.Produce(within(t), kafka.Record{Topic: w.topic, Partition: int32(i % 3), Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := producer.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	consumer, err := kafka.NewConsumer(kafka.ConsumerConfig{Settings: settings, Group: w.kafka.Group("g"), Topic: w.topic, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	got := 0
	err = consumer.Run(ctx, func(_ kafka.Record, finished func()) {
		finished()
		if got++; got == n {
			cancel()
		}
	})
	if err != nil || got != n || w.proxy.Passed(kmsg.Produce) == 0 || w.proxy.Passed(kmsg.Fetch) == 0 {
		t.Fatalf("%d of %d read, %v; %d produce and %d fetch requests went through", got, n, err, w.proxy.Passed(kmsg.Produce), w.proxy.Passed(kmsg.Fetch))
	}
}

// TestHeldIsDeliveredAfterTheClientHasGone is the request that nobody expects any more.
func TestHeldIsDeliveredAfterTheClientHasGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone, other := w.client(t, kgo.ClientID("gone")), w.client(t, kgo.ClientID("other"))
	produce(t, gone, "before")
	held := w.proxy.Add(proxy.Rule{Do: proxy.Hold, Keys: []kmsg.Key{kmsg.Produce}, Client: "gone"})
	done := make(chan error, 1)
	gone.Produce(within(t), kgo.StringRecord("late"), func(_ *kgo.Record, err error) { done <- err })
	await(t, "nothing is held", func() bool { return held.Held() == 1 })
	produce(t, other, "meanwhile")
	gone.Close()
	if err := <-done; err == nil {
		t.Fatal("acknowledged, though it was held")
	}
	w.expect(t, "before", "meanwhile")
	held.End()
	await(t, "it did not come", func() bool { return held.Late() == 1 && len(w.values(t)) == 3 })
	w.expect(t, "before", "meanwhile", "late")
	if held.Held() != 0 || held.Hits() != 1 {
		t.Errorf("%d held, %d taken", held.Held(), held.Hits())
	}
}

// TestHeldBlocksWhatIsBehindIt holds one of several on a connection.
func TestHeldBlocksWhatIsBehindIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cl := w.client(t)
	produce(t, cl, "0")
	held := w.proxy.Add(proxy.Rule{Do: proxy.Hold, Keys: []kmsg.Key{kmsg.Produce}, Times: 1})
	var acks sync.WaitGroup
	for i := range 3 {
		acks.Add(1)
		cl.Produce(within(t), kgo.StringRecord(fmt.Sprint(i+1)), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i+1, err)
			}
			acks.Done()
		})
		await(t, "nothing is held", func() bool { return held.Held() == 1 })
	}
	w.expect(t, "0")
	held.End()
	acks.Wait()
	w.expect(t, "0", "1", "2", "3")
	if held.Late() != 0 {
		t.Errorf("%d are said to be late, of a client that waits", held.Late())
	}
}

// TestAnswerCutOff lets the broker do what it was asked, and not say so.
func TestAnswerCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cl := w.client(t)
	produce(t, cl, "before")
	f := w.proxy.Add(proxy.Rule{Do: proxy.Reset, Direction: proxy.Answers, Keys: []kmsg.Key{kmsg.Produce}, Times: 1})
	passed := w.proxy.Passed(kmsg.Produce)
	produce(t, cl, "once") // tried again by the client, and known again by the broker
	w.expect(t, "before", "once")
	if n := w.proxy.Passed(kmsg.Produce) - passed; n != 2 || f.Hits() != 1 {
		t.Errorf("sent %d times; %d answers were lost", n, f.Hits())
	}
}

// TestRequestCutOff cuts before anything reaches the broker.
func TestRequestCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cl := w.client(t)
	produce(t, cl, "before")
	f := w.proxy.Add(proxy.Rule{Do: proxy.Reset, Keys: []kmsg.Key{kmsg.Produce}, Times: 2})
	passed := w.proxy.Passed(kmsg.Produce)
	produce(t, cl, "once")
	w.expect(t, "before", "once")
	if n := w.proxy.Passed(kmsg.Produce) - passed; n != 1 || f.Hits() != 2 {
		t.Errorf("it reached the broker %d times, and was cut off %d times", n, f.Hits())
	}
}

// TestLostIsWaitedFor leaves the client waiting on a connection that stays open.
func TestLostIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, d := range []proxy.Direction{proxy.Requests, proxy.Answers} {
		w := newWorld(t)
		cl := w.client(t, kgo.RequestTimeoutOverhead(5*time.Second), kgo.ProduceRequestTimeout(time.Second))
		produce(t, cl, "before")
		f := w.proxy.Add(proxy.Rule{Do: proxy.Lose, Direction: d, Keys: []kmsg.Key{kmsg.Produce}, Times: 1})
		passed, began := w.proxy.Passed(kmsg.Produce), time.Now()
		produce(t, cl, "once")
		want := map[proxy.Direction]int{proxy.Requests: 1, proxy.Answers: 2}[d]
		if n := w.proxy.Passed(kmsg.Produce) - passed; n != want || f.Hits() != 1 || time.Since(began) < time.Second {
			t.Errorf("direction %d: %d reached the broker, want %d; %d were lost; it took %v", d, n, want, f.Hits(), time.Since(began))
		}
		w.expect(t, "before", "once")
	}
}

// TestPartition cuts one of two clients off, in each direction, and heals it.
func TestPartition(t *testing.T) {
	t.Parallel()
	for _, d := range []proxy.Direction{proxy.Requests, proxy.Answers, proxy.BothWays} {
		w := newWorld(t)
		apart := &world{kafka: w.kafka, proxy: proxy.Start(t, w.kafka.Servers), topic: w.topic}
		cl, other := apart.client(t), w.client(t)
		produce(t, cl, "before")
		cut := apart.proxy.Cut(d)
		passed := apart.proxy.Passed(kmsg.Produce)
		done := make(chan error, 1)
		cl.Produce(within(t), kgo.StringRecord("cut"), func(_ *kgo.Record, err error) { done <- err })
		await(t, "nothing is held", func() bool { return cut.Held() > 0 })
		if d == proxy.Answers {
			await(t, "no request goes through", func() bool { return apart.proxy.Passed(kmsg.Produce) > passed })
		}
		produce(t, other, "meanwhile")
		// Who comes now is not refused, and hears nothing.
		late := apart.client(t)
		pinged := make(chan error, 1)
		before := cut.Hits()
		go func() { pinged <- late.Ping(within(t)) }()
		await(t, "the new connection is not silent", func() bool { return cut.Hits() > before })
		select {
		case err := <-done:
			t.Fatalf("direction %d: an answer in the partition: %v", d, err)
		case err := <-pinged:
			t.Fatalf("direction %d: an answer to a new client in the partition: %v", d, err)
		default:
		}
		cut.End()
		if err := errors.Join(<-done, <-pinged); err != nil {
			t.Errorf("direction %d: after the partition: %v", d, err)
		}
		produce(t, cl, "after")
		got := w.values(t)
		slices.Sort(got)
		if !slices.Equal(got, []string{"after", "before", "cut", "meanwhile"}) {
			t.Errorf("direction %d: the topic has %q", d, got)
		}
	}
}

// TestDelayAndLimit make it slow, and change nothing else.
func TestDelayAndLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cl := w.client(t, kgo.ProducerBatchCompression(kgo.NoCompression()))
	produce(t, cl, "0")
	delay := w.proxy.Add(proxy.Rule{Do: proxy.Delay, Direction: proxy.BothWays, Wait: 20 * time.Millisecond, Jitter: 20 * time.Millisecond})
	began := time.Now()
	want := []string{"0"}
	var acks sync.WaitGroup
	for i := range 30 {
		value := fmt.Sprint(i + 1)
		want = append(want, value)
		acks.Add(1)
		cl.Produce(within(t), kgo.StringRecord(value), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %s: %v", value, err)
			}
			acks.Done()
		})
	}
	acks.Wait()
	if took := time.Since(began); took < 40*time.Millisecond || delay.Hits() < 2 {
		t.Errorf("it took %v, and %d were delayed", took, delay.Hits())
	}
	delay.End()
	w.expect(t, want...)

	limit := w.proxy.Add(proxy.Rule{Do: proxy.Limit, BytesPerSecond: 20_000})
	began = time.Now()
	large := strings.Repeat("x", 10_000)
	produce(t, cl, large)
	if took := time.Since(began); took < 300*time.Millisecond || limit.Hits() == 0 {
		t.Errorf("10,000 bytes at 20,000 a second took %v", took)
	}
	limit.End()
	w.expect(t, append(want, large)...)
}

// TestWhereLooksInside takes one of two transactions' ends.
func TestWhereLooksInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	held := w.proxy.Add(proxy.Rule{Do: proxy.Hold, Keys: []kmsg.Key{kmsg.EndTxn}, Where: func(q kmsg.Request) bool {
		return q.(*kmsg.EndTxnRequest).TransactionalID == w.kafka.Prefix+"a"
	}})
	ends := map[string]chan error{"a": make(chan error, 1), "b": make(chan error, 1)}
	for _, name := range []string{"a", "b"} {
		cl := w.client(t, kgo.TransactionalID(w.kafka.Prefix+name))
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		r := kgo.StringRecord(name)
		r.Partition = map[string]int32{"a": 0, "b": 1}[name]
		if err := cl.ProduceSync(within(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		go func() { ends[name] <- cl.EndTransaction(within(t), kgo.TryCommit) }()
	}
	if err := <-ends["b"]; err != nil {
		t.Fatal(err)
	}
	await(t, "nothing is held", func() bool { return held.Held() == 1 })
	select {
	case err := <-ends["a"]:
		t.Fatalf("it ended: %v", err)
	default:
	}
	w.proxy.Mend()
	if err := <-ends["a"]; err != nil {
		t.Fatal(err)
	}
	w.expect(t, "a")
}

// TestResetsAtRandom keeps a client busy that loses its connections again and again.
func TestResetsAtRandom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cl := w.client(t)
	f := w.proxy.Add(proxy.Rule{Do: proxy.Reset, Direction: proxy.BothWays, Chance: 0.1})
	var want []string
	for i := 0; i < 40 || f.Hits() < 3; i++ {
		want = append(want, fmt.Sprint(i))
		produce(t, cl, want[i])
	}
	f.End()
	w.expect(t, want...)
}
