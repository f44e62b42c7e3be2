package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
)

// logWorld is a log that the test writes itself, record by record, and the HTTP
// face of a gateway that shows it.
type logWorld struct {
	*httpBench
	kafka      *kafkatest.Kafka
	admin      *kafka.Admin
	topics     kafka.Topics
	partitions int32
	catalogue  *avro.Catalogue
	producer   *kafka.Producer
	causes     *Causes
	streams    *Streams
	now        time.Time // of the next message; each is a second after the one before
	log        *logLines
}

// logLines keeps what was logged.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newLogWorld(t *testing.T, layout kafka.Layout, change ...func(*HTTPConfig, *HTTPNeeds)) *logWorld {
	t.Helper()
	w := &logWorld{kafka: kafkatest.Start(t), catalogue: avro.NewCatalogue(), partitions: 4, now: testTime, log: &logLines{}}
	w.topics = kafka.Topics{Prefix: w.kafka.Prefix + "e", Layout: layout}
	logger := slog.New(slog.NewTextHandler(w.log, nil))
	for _, file := range []string{"CheckingAccount", "SavingsAccount"} {
		registerSchemas(t, w.catalogue, readSchemas(t, "../examples/bank/schemas/"+file+".avsc"))
	}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	settings, err := kafka.NewSettings(map[string]string{"bootstrap.servers": strings.Join(w.kafka.Servers, ",")})
	must(err)
	w.admin, err = kafka.NewAdmin(settings, logger)
	must(err)
	t.Cleanup(w.admin.Close)
	_, err = w.admin.EnsureTopics(patience(t), kafka.Ensure{Topics: w.topics, Aggregates: w.catalogue.Aggregates(), Partitions: w.partitions, Replication: 1, MinInSync: 1})
	must(err)
	w.producer, err = kafka.NewProducer(settings, logger)
	must(err)
	t.Cleanup(func() { _ = w.producer.Close(patience(t)) })
	reader, err := kafka.NewReader(kafka.ReaderConfig{Settings: settings, Log: logger})
	must(err)
	t.Cleanup(reader.Close)
	w.causes = NewCauses(CausesConfig{
		Topics: w.topics, Partitions: w.partitions, Reader: reader, Hash: w.catalogue.CanonicalHash, Log: logger,
		Known: func(a string) bool { _, ok := w.catalogue.Aggregate(a); return ok },
	})
	w.streams = NewStreams(StreamsConfig{Topics: w.topics, Partitions: w.partitions, Reader: reader, Aggregates: w.catalogue.Aggregates, Log: logger})
	running, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { stop(); <-ended })
	w.httpBench = newHTTPBench(t, append([]func(*HTTPConfig, *HTTPNeeds){func(_ *HTTPConfig, n *HTTPNeeds) {
		n.Schemas, n.Causes, n.Streams = CatalogueSchemas{w.catalogue}, w.causes, w.streams
	}}, change...)...)
	go func() { defer close(ended); w.streams.Run(running) }()
	t.Cleanup(w.streams.Close) // before the listeners, which wait for what they answer
	return w
}

// message makes a message of the bank; aggregate is that of the type.
func (w *logWorld) message(entity runtime.Entity, id string, name runtime.TypeName, json string) *runtime.Message {
	w.t.Helper()
	data, schema, err := w.catalogue.FromJSON(name, []byte(json))
	if err != nil {
		w.t.Fatal(err)
	}
	w.now = w.now.Add(time.Second)
	return &runtime.Message{ID: id, Type: name, Source: "/clients/shop", Subject: entity, Schema: schema, Time: w.now, Data: data}
}

const (
	oneDeposit = `{"transaction_id": "1", "source": "cash", "amount": {"minor": 5}}`
	oneOpening = `{"client": "client:1"}`
)

// write appends a message and returns where it stands.
func (w *logWorld) write(topic string, m *runtime.Message) Recorded {
	w.t.Helper()
	p := kafka.Partition(string(m.Aggregate()), w.partitions)
	offset, err := w.producer.Produce(patience(w.t), kafka.NewRecord(topic, p, m))
	if err != nil {
		w.t.Fatal(err)
	}
	return Recorded{Message: m, At: runtime.Coordinates{Topic: topic, Partition: p, Offset: offset}}
}

// command writes a command; cause may be nil.
func (w *logWorld) command(m *runtime.Message, cause *Recorded) Recorded {
	w.t.Helper()
	if cause != nil {
		m.Source = "/evento/test/dispatcher"
		causedBy(m, *cause)
	}
	return w.write(w.topics.Commands(), m)
}

func causedBy(m *runtime.Message, cause Recorded) {
	m.CausationID, m.Cause, m.CorrelationID = cause.Message.ID, cause.At, cause.Message.CorrelationID
	if m.CorrelationID == "" {
		m.CorrelationID = cause.Message.ID
	}
}

// eventOf makes the event of a command, without writing it.
func (w *logWorld) eventOf(command Recorded, m *runtime.Message, version uint64) *runtime.Message {
	w.t.Helper()
	m.ID, m.Pos, m.Count, m.Prev = command.Message.Key().EventID(1), 1, 1, runtime.NoPrev
	m.Sequence, m.RecordedTime, m.By, m.Writer = version, m.Time, "bank/checking bank:1", "evento-test"
	causedBy(m, command)
	hash, err := w.catalogue.CanonicalHash(command.Message)
	if err != nil {
		w.t.Fatal(err)
	}
	m.Hash = hash
	return m
}

func (w *logWorld) event(command Recorded, m *runtime.Message, version uint64) Recorded {
	w.t.Helper()
	m = w.eventOf(command, m, version)
	name, _ := w.catalogue.ByPrefix(m.Aggregate().Prefix())
	return w.write(w.topics.Events(name), m)
}

// parked writes the platform's record that a command was given up.
func (w *logWorld) parked(command Recorded) Recorded {
	w.t.Helper()
	schema, data := avro.CommandParked{Reason: "broken", Attempts: 3, Function: "bank/checking"}.Encode()
	w.now = w.now.Add(time.Second)
	m := &runtime.Message{Type: runtime.TypeCommandParked, Source: "/evento/test/evento", Subject: command.Message.Subject, Schema: schema, Data: data, Time: w.now}
	return w.event(command, m, 0)
}

// open opens an account: a command of a client and its event.
func (w *logWorld) open(entity runtime.Entity, id string) (command, event Recorded) {
	w.t.Helper()
	command = w.command(w.message(entity, id, "CheckingAccount.OpenCheckingAccount", oneOpening), nil)
	return command, w.event(command, w.message(entity, "", "CheckingAccount.CheckingAccountOpened", oneOpening), 1)
}

// transaction appends messages to their topics in one transaction and ends it;
// where it is left open, the returned function ends it.
func (w *logWorld) transaction(topic string, messages ...*runtime.Message) (at []runtime.Coordinates, end func(kgo.TransactionEndTry)) {
	w.t.Helper()
	c, err := kgo.NewClient(append(w.kafka.Opts(), kgo.TransactionalID(w.kafka.Prefix+messages[0].ID), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	if err := c.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	for _, m := range messages {
		r := kafka.NewRecord(topic, kafka.Partition(string(m.Aggregate()), w.partitions), m)
		record := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader(h))
		}
		if err := c.ProduceSync(patience(w.t), record).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
		at = append(at, runtime.Coordinates{Topic: topic, Partition: r.Partition, Offset: record.Offset})
	}
	return at, func(how kgo.TransactionEndTry) {
		w.t.Helper()
		if err := c.EndTransaction(patience(w.t), how); err != nil {
			w.t.Fatal(err)
		}
	}
}

// fixedAuth knows principals by their token.
type fixedAuth map[string]*AuthPrincipal

func (f fixedAuth) Authenticate(r *http.Request) (*AuthPrincipal, error) {
	if p := f[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]; p != nil {
		return p, nil
	}
	return nil, ErrUnauthenticated
}
