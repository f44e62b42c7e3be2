package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/evento-oss/evento/internal/crash"
)

var (
	// ErrNotWritten is returned, wrapped with the reason, when a record is
	// certainly not in the log.
	ErrNotWritten = errors.New("record was not written")

	// ErrInDoubt is returned, wrapped with the reason, when a record may or may
	// not be in the log, now or later: the time was up, or Kafka gave an answer
	// that does not tell. Only reading it back tells.
	ErrInDoubt = errors.New("record may or may not have been written")
)

// Producer writes records, one by one for its callers and in batches on the
// wire. A record that is acknowledged is on all in-sync replicas, once, and
// after those that were handed over before it for the same partition. It is
// safe for concurrent use by many goroutines.
//
// When librdkafka gives up for good (a fatal error, such as a lost producer id),
// the client is replaced; what was on its way is in doubt.
type Producer struct {
	settings Settings
	log      *slog.Logger

	// mu guards what follows. It is held while a record is handed over, so that
	// none gets into a client that is being closed.
	mu       sync.RWMutex
	client   *ck.Producer
	closed   bool           // no more records are taken
	ending   bool           // the client is being destroyed: it must not be touched
	drains   sync.WaitGroup // the goroutines that read the clients' events
	underway sync.WaitGroup // records on their way
	waiting  atomic.Int64   // how many they are
}

// NewProducer makes a producer. It does not wait for Kafka to be reached.
func NewProducer(settings Settings, log *slog.Logger) (*Producer, error) {
	p := &Producer{settings: settings, log: log}
	client, err := p.open()
	if err != nil {
		return nil, err
	}
	p.client = client
	return p, nil
}

// open makes a client and starts to read its events, until it is closed.
func (p *Producer) open() (*ck.Producer, error) {
	config, err := p.settings.Confluent(Producers, ck.ConfigMap{
		"acks":                         "all",
		"enable.idempotence":           true,
		"partitioner":                  "murmur2_random", // never asked: each record has its partition
		"allow.auto.create.topics":     false,
		"go.delivery.report.fields":    "none", // the offset is enough; key and value would be copied
		"go.events.channel.size":       10_000,
		"go.logs.channel.enable":       true,
		"queue.buffering.max.messages": 100_000,
		"queue.buffering.max.kbytes":   256 << 10,
	})
	if err != nil {
		return nil, err
	}
	client, err := ck.NewProducer(config)
	if err != nil {
		return nil, fmt.Errorf("%w: producer: %w", ErrSettings, err)
	}
	p.drains.Go(func() { p.drain(client) })
	p.drains.Go(func() { forwardLogs(client.Logs(), p.log) })
	return client, nil
}

// drain reads the client's events: reports of records, and errors.
func (p *Producer) drain(client *ck.Producer) {
	for event := range client.Events() {
		switch e := event.(type) {
		case *ck.Message:
			p.report(e)
		case ck.Error:
			if e.IsFatal() {
				p.replace(client, e)
			} else {
				// librdkafka goes on by itself; whoever waits sees the deadline.
				p.log.Warn("kafka producer", "err", e)
			}
		}
	}
}

// delivery is one record on its way.
type delivery struct {
	done func(offset int64, err error)
}

func (p *Producer) report(m *ck.Message) {
	d, ok := m.Opaque.(*delivery)
	if !ok {
		return
	}
	defer p.underway.Done()
	p.waiting.Add(-1)
	if err := m.TopicPartition.Error; err != nil {
		d.done(-1, p.failed(*m.TopicPartition.Topic, m.TopicPartition.Partition, err))
		return
	}
	d.done(int64(m.TopicPartition.Offset), nil)
}

// failed says what an error in the report of a record means. Only what Kafka
// refuses about the record itself is certain: it would have refused each earlier
// try too. After any other error an earlier try may have been written.
func (p *Producer) failed(topic string, partition int32, err error) error {
	sure, why := ErrInDoubt, ""
	var code ck.Error
	if errors.As(err, &code) {
		switch code.Code() {
		case ck.ErrMsgSizeTooLarge:
			sure, why = ErrNotWritten, fmt.Sprintf(" (message.max.bytes is %s; the topic may allow less)", p.settings.Get("message.max.bytes"))
		case ck.ErrInvalidRecord, ck.ErrInvalidTimestamp:
			sure = ErrNotWritten
		case ck.ErrMsgTimedOut:
			why = fmt.Sprintf(" (no acknowledgement within delivery.timeout.ms, %v)", p.settings.Duration("delivery.timeout.ms"))
		}
	}
	return fmt.Errorf("%w: to %s/%d: %w%s", sure, topic, partition, err, why)
}

// RefusesRecord says that an error of [Producer.Produce] is about the record
// itself, such as its size: it will not be taken as it is until a setting is changed.
func RefusesRecord(err error) bool {
	var code ck.Error
	if !errors.As(err, &code) {
		return false
	}
	switch code.Code() {
	case ck.ErrMsgSizeTooLarge, ck.ErrInvalidRecord, ck.ErrInvalidTimestamp:
		return true
	}
	return false
}

// replace puts a new client in the place of one that is dead, and ends the dead one.
func (p *Producer) replace(dead *ck.Producer, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != dead || p.closed {
		return
	}
	client, err := p.open()
	if err != nil {
		p.log.Error("kafka producer is dead, and cannot be replaced", "err", err, "cause", why)
		return
	}
	p.log.Error("kafka producer is replaced: librdkafka gave up", "err", why)
	p.client = client
	// Not in this goroutine: it reads the events that purging makes.
	p.drains.Go(func() {
		_ = dead.Purge(ck.PurgeInFlight | ck.PurgeQueue) // fails for wrong flags alone
		dead.Flush(int((2 * time.Second).Milliseconds()))
		dead.Close()
	})
}

// Produce writes a record and returns its offset when it is acknowledged. It
// waits for ctx or delivery.timeout.ms, whichever is over first; a record that
// is given up by ctx may still be written. The error wraps [ErrNotWritten] or
// [ErrInDoubt].
func (p *Producer) Produce(ctx context.Context, r Record) (offset int64, err error) {
	if err := ctx.Err(); err != nil {
		return -1, fmt.Errorf("%w: to %s/%d: %w", ErrNotWritten, r.Topic, r.Partition, err)
	}
	type result struct {
		offset int64
		err    error
	}
	results := make(chan result, 1)
	p.ProduceAsync(r, func(offset int64, err error) { results <- result{offset, err} })
	crash.At(crash.IntakeSent)
	select {
	case r := <-results:
		return r.offset, r.err
	case <-ctx.Done():
		return -1, fmt.Errorf("%w: to %s/%d: while waiting for the acknowledgement: %w", ErrInDoubt, r.Topic, r.Partition, context.Cause(ctx))
	}
}

// ProduceAsync hands a record over and calls done once: with its offset, or
// with an error as [Producer.Produce] returns it. done may be called before
// ProduceAsync returns, and must not block: all other reports wait for it.
func (p *Producer) ProduceAsync(r Record, done func(offset int64, err error)) {
	headers := make([]ck.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = ck.Header(h)
	}
	m := &ck.Message{
		TopicPartition: ck.TopicPartition{Topic: &r.Topic, Partition: r.Partition},
		Key:            r.Key, Value: r.Value, Headers: headers, Timestamp: r.Time,
		Opaque: &delivery{done},
	}
	if err := p.handOver(m); err != nil {
		done(-1, fmt.Errorf("%w: to %s/%d: %w", ErrNotWritten, r.Topic, r.Partition, err))
	}
}

func (p *Producer) handOver(m *ck.Message) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return errors.New("the producer is closed")
	}
	p.underway.Add(1)
	p.waiting.Add(1)
	if err := p.client.Produce(m, nil); err != nil {
		p.waiting.Add(-1)
		p.underway.Done()
		return err
	}
	return nil
}

// Waiting returns how many records are on their way.
func (p *Producer) Waiting() int { return int(p.waiting.Load()) }

// Close refuses new records, waits until those on their way are acknowledged,
// and closes the client. When ctx is over first, the rest is given up and
// reported as in doubt. A second call does nothing.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	client := p.client
	p.mu.Unlock()

	done := make(chan struct{})
	go func() {
		p.underway.Wait()
		p.mu.Lock()
		p.ending = true
		p.mu.Unlock()
		client.Close()
		p.drains.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	// Purging reports the rest, which lets the goroutine above go on. Should
	// librdkafka hang nevertheless, it is left behind.
	left := p.Waiting()
	p.mu.Lock()
	if !p.ending {
		_ = client.Purge(ck.PurgeInFlight | ck.PurgeQueue) // fails for wrong flags alone
	}
	p.mu.Unlock()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
	return fmt.Errorf("close the producer: %d records were given up: %w", left, context.Cause(ctx))
}
