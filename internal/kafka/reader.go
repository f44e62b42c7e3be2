package kafka

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Isolation says which records of transactions are read.
type Isolation string

const (
	// ReadCommitted gives records of committed transactions alone, up to the last stable offset.
	ReadCommitted Isolation = "read_committed"
	// ReadUncommitted gives all, also those of open and aborted transactions.
	ReadUncommitted Isolation = "read_uncommitted"
)

// adminTimeout bounds a request about topics where its context does not.
const adminTimeout = 30 * time.Second

// ToEnd as the end of a scan means the high watermark at its beginning.
const ToEnd int64 = -1

// ReaderConfig says how a [Reader] works.
type ReaderConfig struct {
	Settings Settings
	Log      *slog.Logger

	// Consumers is how many reads of one kind (stretches, single offsets) go on
	// at a time; others wait. 0 means 4. Each is a librdkafka client, with a
	// thread and a connection for each broker it has met.
	Consumers int

	// Stall is how long a read waits without getting any further. 0 means 30 s. After
	// a sixth of it there is a warning in the log.
	Stall time.Duration
}

// Reader reads partitions outside of consumer groups, with consumers that it
// keeps for the next read. It is safe for concurrent use.
type Reader struct {
	config     ReaderConfig
	admin      *ck.AdminClient
	stretches  map[Isolation]*pool
	points     *pool
	background sync.WaitGroup // logs of consumers, and consumers that are being closed

	mu      sync.Mutex         // guards lookups
	lookups map[string]*lookup // the last one of each topic
	looking sync.WaitGroup     // look-ups, which the admin client must outlive
}

// NewReader makes a reader. It does not wait for Kafka to be reached.
func NewReader(c ReaderConfig) (*Reader, error) {
	c.Consumers = cmp.Or(c.Consumers, 4)
	c.Stall = cmp.Or(c.Stall, 30*time.Second)
	r := &Reader{config: c, lookups: map[string]*lookup{}}
	config, err := c.Settings.Confluent(Admins, adminConfig)
	if err != nil {
		return nil, err
	}
	if r.admin, err = ck.NewAdminClient(config); err != nil {
		return nil, fmt.Errorf("%w: reader: %w", ErrSettings, err)
	}
	r.background.Go(func() { forwardLogs(r.admin.Logs(), c.Log) })
	r.stretches = map[Isolation]*pool{
		ReadCommitted:   newPool(r, stretchConfig(ReadCommitted)),
		ReadUncommitted: newPool(r, stretchConfig(ReadUncommitted)),
	}
	r.points = newPool(r, pointConfig)
	return r, nil
}

// Close ends the reader's clients. Reads must have ended.
func (r *Reader) Close() {
	for _, p := range []*pool{r.stretches[ReadCommitted], r.stretches[ReadUncommitted], r.points} {
		p.close()
	}
	r.looking.Wait()
	r.admin.Close()
	r.background.Wait()
}

// adminConfig is for asking brokers, which make a topic by that unless they are told not to.
var adminConfig = ck.ConfigMap{"go.logs.channel.enable": true, "allow.auto.create.topics": false}

// stretchConfig is for reading many records in a row.
func stretchConfig(isolation Isolation) ck.ConfigMap {
	return ck.ConfigMap{
		"isolation.level": string(isolation),
		// Enough to keep one reader busy; the default would hold 64 MB for each.
		"queued.min.messages":        10_000,
		"queued.max.messages.kbytes": 16 << 10,
		"fetch.queue.backoff.ms":     5,
		// A fetch at the end of the log waits so long before it tells the end.
		"fetch.wait.max.ms": 20,
	}
}

// Watermarks returns the ends of a partition's log: the first offset, the last
// stable one (the first of an open transaction, or the high watermark), and the
// high watermark, one after the last record that all in-sync replicas have.
func (r *Reader) Watermarks(ctx context.Context, topic string, partition int32) (low, stable, high int64, err error) {
	// High before stable: where both are equal, no transaction was open below it.
	if high, err = r.listOffset(ctx, topic, partition, ck.LatestOffsetSpec, ck.IsolationLevelReadUncommitted); err != nil {
		return 0, 0, 0, err
	}
	if stable, err = r.listOffset(ctx, topic, partition, ck.LatestOffsetSpec, ck.IsolationLevelReadCommitted); err != nil {
		return 0, 0, 0, err
	}
	low, err = r.listOffset(ctx, topic, partition, ck.EarliestOffsetSpec, ck.IsolationLevelReadUncommitted)
	return low, min(stable, high), high, err
}

func (r *Reader) listOffset(ctx context.Context, topic string, partition int32, spec ck.OffsetSpec, isolation ck.IsolationLevel) (int64, error) {
	at := Place{topic, partition}
	offsets, err := r.askOffsets(ctx, []Place{at}, spec, isolation)
	if err != nil {
		return 0, fmt.Errorf("watermarks of %s: %w", at, err)
	}
	return offsets[at], nil
}

// Scan reads a partition from one offset up to, and not including, another, and
// calls do with each record, in order; an end of [ToEnd] is the high watermark
// when it begins. It ends when that position is reached, whether or not the
// offsets before it are records that a reader of this isolation is given.
//
// It fails with [ErrStalled] when it gets no further for the reader's stall
// time (a committed reader waits below open transactions), with [ErrTruncated]
// when from is not in the log, with what do returns, and when ctx is over.
func (r *Reader) Scan(ctx context.Context, topic string, partition int32, from, to int64, isolation Isolation, do func(Record) error) error {
	if to == ToEnd {
		var err error
		if to, err = r.listOffset(ctx, topic, partition, ck.LatestOffsetSpec, ck.IsolationLevelReadUncommitted); err != nil {
			return err
		}
	}
	if from >= to {
		return nil
	}
	pool, ok := r.stretches[isolation]
	if !ok {
		return fmt.Errorf("isolation %q is neither %q nor %q", isolation, ReadCommitted, ReadUncommitted)
	}
	return pool.use(ctx, func(c *cursor) error {
		if err := c.start(topic, partition, from); err != nil {
			return err
		}
		for c.position < to {
			m, err := c.next(ctx, to)
			if err != nil {
				return err
			}
			if m != nil && int64(m.TopicPartition.Offset) < to {
				if err := do(recordOf(m)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// recordOf takes over what librdkafka read; the message is not used afterwards.
func recordOf(m *ck.Message) Record {
	r := Record{
		Topic: *m.TopicPartition.Topic, Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset),
		Key: m.Key, Value: m.Value, Time: m.Timestamp,
	}
	if len(m.Headers) > 0 {
		r.Headers = make([]Header, len(m.Headers))
		for i, h := range m.Headers {
			r.Headers[i] = Header(h)
		}
	}
	return r
}
