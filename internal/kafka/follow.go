package kafka

import (
	"context"
	"fmt"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Follow reads a topic from its beginning, all partitions, and goes on with
// what is written, until ctx is over. It calls do with each committed record, a
// partition's in order, and caughtUp once, as soon as all that was in the topic
// when it began has been given to do. Both are called from the same goroutine.
//
// Of a compacted topic it gives at least the last record of each key, and
// tombstones (with a nil Value) as long as Kafka keeps them. It fails when the topic cannot be read, and
// with [ErrStalled] when it does not catch up; the end of ctx is no error.
func (r *Reader) Follow(ctx context.Context, topic string, do func(Record), caughtUp func()) error {
	return r.FollowFrom(ctx, topic, nil, do, caughtUp)
}

// FollowFrom is [Reader.Follow] from these offsets, by partition; a partition
// that is not named is followed from its beginning.
func (r *Reader) FollowFrom(ctx context.Context, topic string, from map[int32]int64, do func(Record), caughtUp func()) error {
	return r.FollowPositions(ctx, topic, from, do, func(int32, int64) {}, caughtUp)
}

// FollowPositions is [Reader.FollowFrom], and tells how far each partition has
// been read: the offset below which all was given, or never will be. Where
// transactions end, or compaction took something away, that is more than the
// offset after the last record.
func (r *Reader) FollowPositions(ctx context.Context, topic string, from map[int32]int64, do func(Record), at func(partition int32, position int64), caughtUp func()) error {
	config := stretchConfig(ReadCommitted)
	config["fetch.wait.max.ms"] = 100 // it is mostly idle at the end of the log
	c, err := r.open(config)
	if err != nil {
		return err
	}
	defer func() {
		if err := c.client.Close(); err != nil {
			r.config.Log.Warn("close a kafka consumer", "err", err)
		}
	}()
	c.topic = topic
	f := follower{reader: r, topic: topic, cursor: c, behind: map[int32]int64{}, do: do, at: at}
	if err := f.start(ctx, from); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("follow %s: %w", topic, err)
	}
	for told := false; ctx.Err() == nil; {
		if !told && len(f.behind) == 0 {
			caughtUp()
			told = true
		}
		if err := f.step(); err != nil {
			return fmt.Errorf("follow %s: %w", topic, err)
		}
	}
	return nil
}

// follower is one call of FollowFrom.
type follower struct {
	reader *Reader
	topic  string
	cursor *cursor
	behind map[int32]int64 // by partition: the high watermark at the start, as long as it is not reached
	moved  time.Time       // when a partition last moved
	do     func(Record)
	at     func(partition int32, position int64)
}

func (f *follower) start(ctx context.Context, from map[int32]int64) error {
	partitions, err := f.reader.partitions(ctx, f.topic)
	if err != nil {
		return err
	}
	var all []ck.TopicPartition
	for p := range partitions {
		low, _, high, err := f.reader.Watermarks(ctx, f.topic, p)
		if err != nil {
			return err
		}
		begin := low
		if named, ok := from[p]; ok {
			begin = named
		}
		if begin < high {
			f.behind[p] = high
		}
		all = append(all, ck.TopicPartition{Topic: &f.topic, Partition: p, Offset: ck.Offset(begin)})
	}
	f.moved = time.Now()
	return f.cursor.client.Assign(all)
}

// step takes what librdkafka has next.
func (f *follower) step() error {
	switch e := f.cursor.client.Poll(int(pollWait.Milliseconds())).(type) {
	case *ck.Message:
		if err := e.TopicPartition.Error; err != nil {
			return f.cursor.failed(err)
		}
		f.do(recordOf(e))
		f.reached(e.TopicPartition.Partition, int64(e.TopicPartition.Offset)+1)
	case ck.PartitionEOF:
		f.reached(e.Partition, int64(e.Offset))
	case ck.Error:
		return f.cursor.failed(e)
	case nil:
		// Once it has caught up there may be nothing new for as long as it takes.
		if stall := f.reader.config.Stall; len(f.behind) > 0 && time.Since(f.moved) > stall {
			if trouble := f.cursor.trouble; trouble != nil {
				return fmt.Errorf("no progress for %v: %w", stall, trouble)
			}
			return fmt.Errorf("%w: %d partitions are not read to the end, for %v", ErrStalled, len(f.behind), stall)
		}
	}
	return nil
}

func (f *follower) reached(partition int32, position int64) {
	f.moved, f.cursor.trouble = time.Now(), nil
	f.at(partition, position)
	if high, ok := f.behind[partition]; ok && position >= high {
		delete(f.behind, partition)
	}
}

// partitions returns how many partitions a topic has.
func (r *Reader) partitions(ctx context.Context, topic string) (count int32, err error) {
	began := time.Now()
	err = r.askLeaders(ctx, []string{topic}, func() error {
		led, err := r.leaders(ctx, topic, began)
		count = int32(len(led))
		return err
	})
	return count, err
}
