package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// cursor is a consumer that reads one partition at a time. It belongs to one
// goroutine at a time.
type cursor struct {
	client *ck.Consumer
	log    *slog.Logger
	stall  time.Duration

	topic     string
	partition int32
	position  int64 // the next offset to come: all before it were given, or will never be

	moved   time.Time // when the position last changed
	trouble error     // what librdkafka last complained of, since then
	warned  bool      // of no progress, since then
}

// pollWait is how long one poll of librdkafka may take; contexts are looked at in between.
const pollWait = 100 * time.Millisecond

// stallWarning is the part of the stall time after which a read that gets no further
// is told of in the log: long before it fails, somebody waits for its answer.
const stallWarning = 6

// open makes a consumer that no group knows of.
func (r *Reader) open(overrides ck.ConfigMap) (*cursor, error) {
	all := ck.ConfigMap{
		"group.id":                 "evento-reader", // demanded by the library; no group is joined, nothing is committed
		"enable.auto.commit":       false,
		"enable.auto.offset.store": false,
		"enable.partition.eof":     true,
		"auto.offset.reset":        "error",
		"check.crcs":               true, // a flipped bit must not be served
		"fetch.min.bytes":          1,
		"allow.auto.create.topics": false,
		// A topic that is not known after so long does not exist.
		"topic.metadata.propagation.max.ms": int(propagation.Milliseconds()),
		"go.logs.channel.enable":            true,
	}
	maps.Copy(all, overrides)
	config, err := r.config.Settings.Confluent(Consumers, all)
	if err != nil {
		return nil, err
	}
	client, err := ck.NewConsumer(config)
	if err != nil {
		return nil, fmt.Errorf("%w: consumer: %w", ErrSettings, err)
	}
	r.background.Go(func() { forwardLogs(client.Logs(), r.config.Log) })
	return &cursor{client: client, log: r.config.Log, stall: r.config.Stall}, nil
}

func (c *cursor) at() string { return fmt.Sprintf("%s/%d/%d", c.topic, c.partition, c.position) }

// start begins to read at an offset.
func (c *cursor) start(topic string, partition int32, offset int64) error {
	c.topic, c.partition = topic, partition
	c.move(offset)
	if err := c.client.Assign([]ck.TopicPartition{{Topic: &c.topic, Partition: partition, Offset: ck.Offset(offset)}}); err != nil {
		return fmt.Errorf("read from %s: %w", c.at(), err)
	}
	return nil
}

// jump goes on at another offset of the partition that is being read.
func (c *cursor) jump(offset int64) error {
	c.move(offset)
	done, err := c.client.SeekPartitions([]ck.TopicPartition{{Topic: &c.topic, Partition: c.partition, Offset: ck.Offset(offset)}})
	if err == nil && len(done) == 1 {
		err = done[0].Error
	}
	if err != nil {
		return fmt.Errorf("go on at %s: %w", c.at(), err)
	}
	return nil
}

// next waits for the next record, or for the end of what there is to read for
// now, which a nil message tells (once for each end). target is only named when
// the read stalls.
func (c *cursor) next(ctx context.Context, target int64) (*ck.Message, error) {
	for {
		m, end, err := c.poll()
		if m != nil || end || err != nil {
			return m, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read at %s: %w", c.at(), context.Cause(ctx))
		}
		idle := time.Since(c.moved)
		if idle > c.stall/stallWarning && !c.warned {
			c.warned = true
			c.log.Warn("a read gets no further: a transaction is open there, or its broker is slow", "topic", c.topic, "partition", c.partition,
				"offset", c.position, "target", target, "waited", idle.Round(time.Millisecond), "limit", c.stall)
		}
		if idle > c.stall {
			if c.trouble != nil {
				return nil, fmt.Errorf("read at %s on the way to offset %d: no progress for %v: %w", c.at(), target, c.stall, c.trouble)
			}
			return nil, fmt.Errorf("%w: at %s on the way to offset %d, for %v", ErrStalled, c.at(), target, c.stall)
		}
	}
}

// poll takes what librdkafka has next: a record, an end, or nothing. It keeps
// the position, also where the end tells that markers and aborted records were
// passed.
func (c *cursor) poll() (m *ck.Message, end bool, err error) {
	switch e := c.client.Poll(int(pollWait.Milliseconds())).(type) {
	case *ck.Message:
		if err := e.TopicPartition.Error; err != nil {
			return nil, false, c.failed(err)
		}
		offset := int64(e.TopicPartition.Offset)
		if offset < c.position {
			return nil, false, nil // of before a jump
		}
		c.move(offset + 1)
		return e, false, nil
	case ck.PartitionEOF:
		if end := int64(e.Offset); end > c.position {
			c.move(end)
		}
		return nil, true, nil
	case ck.Error:
		return nil, false, c.failed(e)
	}
	return nil, false, nil
}

func (c *cursor) move(to int64) {
	c.position, c.moved = to, time.Now()
	c.trouble, c.warned = nil, false
}

// failed says whether a read can go on after an error: librdkafka tries
// whatever may pass again by itself.
func (c *cursor) failed(err error) error {
	var e ck.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("read at %s: %w", c.at(), err)
	}
	switch e.Code() {
	case ck.ErrAutoOffsetReset, ck.ErrOffsetOutOfRange:
		return fmt.Errorf("%w: %s: %w", ErrTruncated, c.at(), err)
	case ck.ErrUnknownTopic, ck.ErrUnknownTopicOrPart, ck.ErrUnknownPartition, ck.ErrTopicException, ck.ErrTopicAuthorizationFailed,
		ck.ErrAuthentication, ck.ErrSaslAuthenticationFailed, ck.ErrBadMsg, ck.ErrBadCompression, ck.ErrInvalidMsg:
		return fmt.Errorf("read at %s: %w", c.at(), err)
	}
	if e.IsFatal() {
		return fmt.Errorf("read at %s: %w", c.at(), err)
	}
	c.trouble = err
	return nil
}

// pool keeps the consumers of one kind.
type pool struct {
	reader *Reader
	config ck.ConfigMap
	free   chan struct{} // a token for each read that goes on

	mu   sync.Mutex // guards idle
	idle []*cursor
}

func newPool(r *Reader, config ck.ConfigMap) *pool {
	return &pool{reader: r, config: config, free: make(chan struct{}, r.config.Consumers)}
}

// use lends a cursor to do. One that failed is not lent again: what it still
// has to say belongs to the read that failed.
func (p *pool) use(ctx context.Context, do func(*cursor) error) error {
	if ctx.Err() != nil { // what is fetched already would be given all the same
		return fmt.Errorf("read: %w", context.Cause(ctx))
	}
	select {
	case p.free <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for one of %d consumers: %w", cap(p.free), context.Cause(ctx))
	}
	defer func() { <-p.free }()

	p.mu.Lock()
	var c *cursor
	if n := len(p.idle); n > 0 {
		c, p.idle = p.idle[n-1], p.idle[:n-1]
	}
	p.mu.Unlock()
	if c == nil {
		var err error
		if c, err = p.reader.open(p.config); err != nil {
			return err
		}
	}
	err := do(c)
	if err != nil || c.client.Unassign() != nil {
		p.discard(c)
		return err
	}
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	return nil
}

func (p *pool) discard(c *cursor) {
	p.reader.background.Go(func() {
		if err := c.client.Close(); err != nil {
			p.reader.config.Log.Warn("close a kafka consumer", "err", err)
		}
	})
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		p.discard(c)
	}
	p.idle = nil
}
