package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers"
)

const patience = 90 * time.Second

// world is a cluster with the topics of an installation, events that a test
// records, and a dispatcher that is a function of the test.
type world struct {
	t         *testing.T
	kafka     *kafkatest.Kafka
	settings  kafka.Settings
	topics    kafka.Topics
	admin     *kafka.Admin
	producer  *kafka.Producer
	reader    *kafka.Reader
	catalogue *avro.Catalogue
	log       *slog.Logger
	file      string // of Triggers
	recorded  int

	mu    sync.Mutex        // guards what follows
	asked []string          // names of events, in the order of the calls
	names map[string]string // of events, by their ids
	react func(event *runtime.Message) Answer
}

const partitions = 4

// one is a dispatcher for all of an aggregate's type.
const one = `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata:
  name: transfers
  namespace: bank
  annotations:
    evento.io/role: dispatcher
    evento.io/start: START
    evento.io/max-backoff: PT0.1S
spec:
  broker: default
  filters:
    - prefix: {type: CheckingAccount.}
  delivery: {retry: 2, backoffDelay: PT0.1S}
  subscriber: {uri: "http://127.0.0.1:1"}
`

const name = "bank/transfers"

func trigger(start string) string { return strings.Replace(one, "START", start, 1) }

func newWorld(t *testing.T, layout kafka.Layout) *world {
	t.Helper()
	k := kafkatest.Start(t)
	w := &world{
		names: map[string]string{}, t: t, kafka: k, topics: kafka.Topics{Prefix: k.Prefix + "evento", Layout: layout}, catalogue: avro.NewCatalogue(),
		log:  slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		file: filepath.Join(t.TempDir(), "triggers.yaml"),
	}
	w.react = w.transfer
	var err error
	w.settings, err = kafka.NewSettings(map[string]string{"bootstrap.servers": strings.Join(k.Servers, ",")})
	w.must(err)
	w.admin, err = kafka.NewAdmin(w.settings, w.log)
	w.must(err)
	t.Cleanup(w.admin.Close)
	w.ensure()
	w.producer, err = kafka.NewProducer(w.settings, w.log)
	w.must(err)
	t.Cleanup(func() { _ = w.producer.Close(w.ctx()) })
	w.reader, err = kafka.NewReader(kafka.ReaderConfig{Settings: w.settings, Log: w.log})
	w.must(err)
	t.Cleanup(w.reader.Close)
	return w
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) ensure(aggregates ...string) {
	w.t.Helper()
	_, err := w.admin.EnsureTopics(w.ctx(), kafka.Ensure{Topics: w.topics, Aggregates: aggregates, Partitions: partitions, Replication: 1, MinInSync: 1})
	w.must(err)
}

// register makes the bank's schemas known.
func (w *world) register(files ...string) {
	w.t.Helper()
	for _, file := range files {
		text, err := os.ReadFile("../../examples/bank/schemas/" + file)
		w.must(err)
		a, err := avro.ParseAggregate(file, text)
		w.must(err)
		w.ensure(append(w.catalogue.Aggregates(), a.Name)...)
		types, err := w.catalogue.Check(a)
		w.must(err)
		for _, typ := range types {
			w.must(w.catalogue.Add(typ.Register(time.Unix(1000, 0))))
		}
	}
}

// gateway is a manager under way.
type gateway struct {
	*Manager
	w    *world
	stop func()
}

var addresses struct {
	sync.Mutex
	n int
}

func (w *world) start(declared string) *gateway {
	w.t.Helper()
	if declared != "" {
		w.must(os.WriteFile(w.file, []byte(declared), 0o600))
	}
	router := triggers.NewRouter(triggers.Config{Sources: []triggers.Source{&triggers.Files{Paths: []string{w.file}, Log: w.log}}, Log: w.log})
	w.must(router.Load(w.ctx()))
	addresses.Lock()
	addresses.n++
	address := fmt.Sprintf("127.0.0.1:%d", addresses.n)
	addresses.Unlock()
	m, err := New(Config{
		Installation: "test", Topics: w.topics, Partitions: partitions, Kafka: w.settings, Address: address,
		TopicID: func(topic string) string {
			id, err := w.admin.TopicID(w.ctx(), topic)
			if err != nil {
				return ""
			}
			return id.String()
		},
		Catalogue: w.catalogue, CatchUp: func(context.Context) error { return nil }, Reader: w.reader, Router: router,
		Ask: w.ask, Registerer: prometheus.NewRegistry(), Log: w.log, SessionTimeout: 30 * time.Second,
	})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	g := &gateway{Manager: m, w: w, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("manager: %v", err)
		}
	})}
	w.t.Cleanup(g.stop)
	return g
}

// started waits until a gateway has taken all partitions over.
func (g *gateway) started(topics ...string) *gateway {
	g.w.t.Helper()
	if len(topics) == 0 {
		topics = []string{g.w.topics.Events("")}
	}
	kafkatest.Wait(g.w.t, patience, func() error {
		for _, topic := range topics {
			if n := g.holds(topic); n != partitions {
				return fmt.Errorf("%d of %d partitions of %s taken over", n, partitions, topic)
			}
		}
		return nil
	})
	return g
}

// holds counts the partitions of a topic that the gateway works off.
func (g *gateway) holds(topic string) (n int) {
	for _, r := range g.list() {
		r.mu.Lock()
		s := r.session
		r.mu.Unlock()
		if s == nil {
			continue
		}
		for _, p := range s.list() {
			p.each(func(u *unit) {
				if u.topic == topic {
					n++
				}
			})
		}
	}
	return n
}

// crash ends a gateway without a last word to its partitions.
func (g *gateway) crash() {
	for _, r := range g.list() {
		r.mu.Lock()
		s := r.session
		r.mu.Unlock()
		if s == nil {
			continue
		}
		for _, p := range s.list() {
			p.mu.Lock()
			p.closing = true
			p.mu.Unlock()
			p.cancel(errStopped)
		}
		for _, p := range s.list() {
			p.mu.Lock()
			clear(p.units)
			p.mu.Unlock()
		}
	}
	g.stop()
}

func (w *world) ask(_ context.Context, t *triggers.Target, event *runtime.Message) Answer {
	w.mu.Lock()
	w.asked = append(w.asked, w.names[event.ID])
	react := w.react
	w.mu.Unlock()
	return react(event)
}

func (w *world) answer(react func(event *runtime.Message) Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.react = react
}

func (w *world) calls(id string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.asked {
		if a == id {
			n++
		}
	}
	return n
}

// transfer answers with one command, to another account each time.
func (w *world) transfer(event *runtime.Message) Answer {
	w.mu.Lock()
	n, id := len(w.asked), w.names[event.ID]
	w.mu.Unlock()
	return Answer{Commands: []*runtime.Message{command(fmt.Sprintf("savings:%s-%d", id, n))}, By: "bank/transfers image"}
}

func command(to string) *runtime.Message {
	return &runtime.Message{
		Type: "SavingsAccount.ReceiveDeposit", Subject: runtime.Entity(to), Data: []byte{1},
		Schema: "urn:evento:avro:SavingsAccount.ReceiveDeposit:0123456789abcdef", Time: time.UnixMilli(1000).UTC(),
	}
}

// record writes an event of an account and returns it with where it stands.
func (w *world) record(account, id string) (*runtime.Message, runtime.Coordinates) {
	w.t.Helper()
	return w.recordType(account, id, "CheckingAccount.DepositReceived")
}

func (w *world) recordType(account, id string, typ runtime.TypeName) (*runtime.Message, runtime.Coordinates) {
	w.t.Helper()
	w.recorded++
	key := runtime.NewCommandKey("/test", "", id)
	w.mu.Lock()
	w.names[key.EventID(1)] = id
	w.mu.Unlock()
	m := &runtime.Message{
		ID: key.EventID(1), Type: typ, Source: "/evento/test/handler", Subject: runtime.Entity(account),
		Schema: runtime.NewDataSchema(typ, "0123456789abcdef"), Time: time.UnixMilli(int64(w.recorded)).UTC(), RecordedTime: time.Now().UTC(),
		CausationID: "command-of-" + id, CorrelationID: "root-of-" + id, TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Sequence: uint64(w.recorded), Pos: 1, Count: 1, Prev: runtime.NoPrev, Data: []byte{2}, By: "bank/handler image 0123456789abcdef",
		Cause: runtime.Coordinates{Topic: w.topics.Commands(), Offset: int64(w.recorded)},
	}
	topic, partition := w.topics.Events(typ.Namespace()), kafka.Partition(account, partitions)
	offset, err := w.producer.Produce(w.ctx(), kafka.NewRecord(topic, partition, m))
	w.must(err)
	return m, runtime.Coordinates{Topic: topic, Partition: partition, Offset: offset}
}

// messages reads a topic as committed readers see it, in the order of partitions.
func (w *world) messages(topic string) []*runtime.Message {
	w.t.Helper()
	var list []*runtime.Message
	all := w.kafka.Committed(w.t, topic)
	for p := range int32(partitions) {
		for _, r := range all[p] {
			record := kafka.Record{Topic: topic, Partition: p, Offset: r.Offset, Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				record.Headers = append(record.Headers, kafka.Header{Key: h.Key, Value: h.Value})
			}
			m, err := kafka.ParseRecord(&record)
			w.must(err)
			if want := kafka.Partition(string(r.Key), partitions); want != p {
				w.t.Errorf("%s stands in partition %d, want %d", m.ID, p, want)
			}
			list = append(list, m)
		}
	}
	return list
}

// decisions reads the dispatched topic, by event.
func (w *world) decisions() map[string][]avro.Dispatched {
	w.t.Helper()
	all := map[string][]avro.Dispatched{}
	for _, m := range w.messages(w.topics.Dispatched()) {
		d, err := w.catalogue.DecodeDispatched(m.Schema, m.Data)
		w.must(err)
		all[w.name(d.Event)] = append(all[w.name(d.Event)], d)
	}
	return all
}

// commands reads the commands that were sent, by event; a repeat of the same one counts once.
func (w *world) commands() map[string][]*runtime.Message {
	w.t.Helper()
	all := map[string][]*runtime.Message{}
	seen := map[runtime.CommandKey]bool{}
	for _, m := range w.messages(w.topics.Commands()) {
		if !seen[m.Key()] {
			seen[m.Key()] = true
			all[w.name(m.CausationID)] = append(all[w.name(m.CausationID)], m)
		}
	}
	return all
}

// name is what the test called an event.
func (w *world) name(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names[id]
}

// await waits until each event has so many commands.
func (w *world) await(n int, events ...string) map[string][]*runtime.Message {
	w.t.Helper()
	var all map[string][]*runtime.Message
	kafkatest.Wait(w.t, patience, func() error {
		all = w.commands()
		for _, id := range events {
			if len(all[id]) < n {
				return fmt.Errorf("event %s has %d commands, want %d", id, len(all[id]), n)
			}
		}
		return nil
	})
	for _, id := range events {
		if len(all[id]) != n {
			w.t.Fatalf("event %s has %d commands, want %d", id, len(all[id]), n)
		}
	}
	return all
}
