package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/evento-oss/evento/internal/position"
)

// ConsumerConfig says what a [Consumer] reads.
type ConsumerConfig struct {
	Settings Settings
	Group    string // group id
	Topic    string
	TopicID  string // of Topic, a part of what is committed

	// Outstanding is how many records may be unfinished before reading pauses;
	// 10,000 when zero. Bytes bounds their keys and values likewise; 64 MiB when zero.
	Outstanding int
	Bytes       int

	Log *slog.Logger
}

// Consumer gives the committed records of a topic to the members of a group,
// each record at least once: the position of a partition is its lowest unfinished
// record, committed with a checksum. One that is missing, of another topic or by
// another hand (a group that was reset to the end) is the beginning. It is for work
// that does no harm when it is done twice: nothing fences an old owner.
type Consumer struct {
	cfg    ConsumerConfig
	client *ck.Consumer
	logs   sync.WaitGroup

	// Of Run's goroutine, in which rebalanced is called as well.
	told    bool // rebalanced was called since [Consumer.quiet] last looked
	member  bool // the last rebalance gave partitions, or said that there are none
	leaving bool // nothing more is read

	mu          sync.Mutex // guards what follows
	parts       map[int32]*consumed
	outstanding int
	bytes       int
	paused      bool
	assigned    bool // since paused was last made true of all partitions
}

// consumed is a partition in one assignment.
type consumed struct {
	offsets   *position.Offsets // nil before the first record
	committed int64             // what was committed last; -1 for nothing
}

// commitEvery is how often positions are committed. A crash repeats what was
// finished since.
const commitEvery = 500 * time.Millisecond

// NewConsumer makes a consumer. It joins the group in [Consumer.Run].
func NewConsumer(c ConsumerConfig) (*Consumer, error) {
	if c.Outstanding <= 0 {
		c.Outstanding = 10_000
	}
	if c.Bytes <= 0 {
		c.Bytes = 64 << 20
	}
	config, err := c.Settings.Confluent(Consumers, ck.ConfigMap{
		"group.id":                      c.Group,
		"isolation.level":               string(ReadCommitted),
		"enable.auto.commit":            false,
		"enable.auto.offset.store":      false,
		"auto.offset.reset":             "earliest",
		"check.crcs":                    true,
		"fetch.min.bytes":               1,
		"fetch.wait.max.ms":             100,
		"queued.min.messages":           10_000,
		"fetch.queue.backoff.ms":        5,
		"fetch.error.backoff.ms":        100,
		"allow.auto.create.topics":      false,
		"go.logs.channel.enable":        true,
		"coordinator.query.interval.ms": 1000,
	})
	if err != nil {
		return nil, err
	}
	client, err := ck.NewConsumer(config)
	if err != nil {
		return nil, fmt.Errorf("%w: consumer of %s: %w", ErrSettings, c.Topic, err)
	}
	x := &Consumer{cfg: c, client: client, parts: map[int32]*consumed{}}
	x.logs.Go(func() { forwardLogs(client.Logs(), c.Log) })
	return x, nil
}

// Run reads until ctx ends, waits a little for what is unfinished, commits, and
// leaves the group. do gets each record and a function to be called once when the
// record is finished, from any goroutine; records of a partition come in order. do
// must not block for long.
func (x *Consumer) Run(ctx context.Context, do func(r Record, finished func())) error {
	defer x.close()
	if err := x.client.Subscribe(x.cfg.Topic, x.rebalanced); err != nil {
		return fmt.Errorf("subscribe to %s: %w", x.cfg.Topic, err)
	}
	for next := time.Now().Add(commitEvery); ctx.Err() == nil; {
		switch e := x.client.Poll(int(pollWait.Milliseconds())).(type) {
		case *ck.Message:
			if err := e.TopicPartition.Error; err != nil {
				x.cfg.Log.Warn("kafka consumer", "group", x.cfg.Group, "err", err)
				break
			}
			do(recordOf(e), x.begin(e.TopicPartition.Partition, int64(e.TopicPartition.Offset), len(e.Key)+len(e.Value)))
		case ck.Error:
			if e.IsFatal() {
				return fmt.Errorf("consumer group %s: %w", x.cfg.Group, e)
			}
			x.cfg.Log.Warn("kafka consumer", "group", x.cfg.Group, "err", e)
		}
		if now := time.Now(); now.After(next) {
			next = now.Add(commitEvery)
			x.commit(nil)
		}
		x.pressure()
	}
	for end := time.Now().Add(consumerStop); time.Now().Before(end) && x.unfinished() > 0; {
		time.Sleep(5 * time.Millisecond)
	}
	x.leave()
	return nil
}

// consumerStop is how long one that stops waits for what is unfinished; the rest is
// done again by whoever goes on.
const consumerStop = 5 * time.Second

func (x *Consumer) unfinished() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.outstanding
}

// begin notes that a record is under way, and returns what ends it.
func (x *Consumer) begin(partition int32, offset int64, size int) func() {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.parts[partition]
	if p == nil { // of an assignment that has ended
		return func() {}
	}
	if p.offsets == nil {
		p.offsets = position.NewOffsets(position.Position{Offset: offset})
		x.cfg.Log.Info("reading a partition", "group", x.cfg.Group, "partition", partition, "offset", offset)
	}
	p.offsets.See(offset)
	x.outstanding++
	x.bytes += size
	return sync.OnceFunc(func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.outstanding--
		x.bytes -= size
		p.offsets.Finish(offset)
	})
}

// pressure pauses reading while too much is unfinished, and before leaving.
func (x *Consumer) pressure() {
	x.mu.Lock()
	paused, full := x.paused, x.outstanding >= x.cfg.Outstanding || x.bytes >= x.cfg.Bytes
	if paused {
		full = x.outstanding >= x.cfg.Outstanding/2 || x.bytes >= x.cfg.Bytes/2
	}
	full = full || x.leaving
	settled := full == paused && !x.assigned
	x.assigned = false
	x.mu.Unlock()
	if settled {
		return
	}
	assigned, err := x.client.Assignment()
	if err == nil && full {
		err = x.client.Pause(assigned)
	} else if err == nil {
		err = x.client.Resume(assigned)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.assigned = true // once more
		x.cfg.Log.Warn("kafka consumer cannot pause or resume", "group", x.cfg.Group, "err", err)
		return
	}
	x.paused = full
}

// rebalanced is called by Poll; by Close where leave could not end it before.
func (x *Consumer) rebalanced(_ *ck.Consumer, e ck.Event) error {
	_, assigns := e.(ck.AssignedPartitions)
	x.told, x.member = true, assigns
	switch e := e.(type) {
	case ck.AssignedPartitions:
		from := x.positions(e.Partitions)
		if err := x.client.Assign(from); err != nil {
			return fmt.Errorf("assign partitions of %s: %w", x.cfg.Topic, err)
		}
		x.mu.Lock()
		for _, p := range e.Partitions {
			x.parts[p.Partition] = &consumed{committed: -1}
		}
		// The library pauses those that it was told to, whoever had them
		// meanwhile, and reads those that are new here.
		x.assigned = true
		x.mu.Unlock()
	case ck.RevokedPartitions:
		if !x.client.AssignmentLost() {
			x.commit(e.Partitions)
		}
		x.mu.Lock()
		for _, p := range e.Partitions {
			delete(x.parts, p.Partition)
		}
		x.mu.Unlock()
	}
	return nil // the library unassigns by itself
}

// positionsTimeout is how long one question for committed positions may take, and
// positionsTries how often it is asked.
const (
	positionsTimeout = 5 * time.Second
	positionsTries   = 4
)

// positions are where the reading of partitions begins: at what was committed by us,
// else at the beginning. Nothing is left out because of what others have committed.
func (x *Consumer) positions(partitions []ck.TopicPartition) []ck.TopicPartition {
	from := make([]ck.TopicPartition, len(partitions))
	for i, p := range partitions {
		from[i] = ck.TopicPartition{Topic: p.Topic, Partition: p.Partition, Offset: ck.OffsetBeginning}
	}
	var committed []ck.TopicPartition
	var err error
	for try := 0; try < positionsTries; try++ {
		if committed, err = x.client.Committed(from, int(positionsTimeout.Milliseconds())); err == nil {
			break
		}
	}
	if err != nil {
		x.cfg.Log.Warn("committed positions cannot be read; partitions are read from their beginning", "group", x.cfg.Group, "err", err)
		return from
	}
	for i := range from {
		for _, c := range committed {
			if c.Partition != from[i].Partition || c.Offset < 0 {
				continue
			}
			metadata := ""
			if c.Metadata != nil {
				metadata = *c.Metadata
			}
			if _, err := position.Parse(int64(c.Offset), metadata, x.cfg.TopicID); err != nil {
				x.cfg.Log.Warn("a committed position cannot be used; the partition is read from its beginning", "group", x.cfg.Group, "partition", c.Partition, "offset", int64(c.Offset), "err", err)
				continue
			}
			from[i].Offset = c.Offset
		}
	}
	return from
}

// positionText is the metadata of a position of ours.
func (x *Consumer) positionText(offset int64) *string {
	text := position.NewOffsets(position.Position{Offset: offset}).Encode(position.Note{TopicID: x.cfg.TopicID})
	return &text
}

// commit commits the positions that have moved: of these partitions, or of all.
func (x *Consumer) commit(only []ck.TopicPartition) {
	of := func(partition int32) bool {
		for _, p := range only {
			if p.Partition == partition {
				return true
			}
		}
		return only == nil
	}
	var moved []ck.TopicPartition
	x.mu.Lock()
	for n, p := range x.parts {
		if p.offsets != nil && p.offsets.Low() > p.committed && of(n) {
			moved = append(moved, ck.TopicPartition{Topic: &x.cfg.Topic, Partition: n, Offset: ck.Offset(p.offsets.Low()), Metadata: x.positionText(p.offsets.Low())})
		}
	}
	x.mu.Unlock()
	if len(moved) == 0 {
		return
	}
	done, err := x.client.CommitOffsets(moved)
	if err != nil {
		x.cfg.Log.Warn("positions not committed; what they are about is done once more", "group", x.cfg.Group, "err", err)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, d := range done {
		if p := x.parts[d.Partition]; p != nil && d.Error == nil {
			p.committed = max(p.committed, int64(d.Offset))
		}
	}
}
