package kafka

import (
	"context"
	"fmt"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Tail reads the partitions of from, each from its offset on, until ctx is over:
// all of them with one consumer, whatever topics they belong to. do is called with
// each committed record, a partition's in order, and at with how far a partition
// has been read: the offset below which all was given, or never will be (see
// [Reader.FollowPositions]). Partitions that arrive by more are read too. Both are
// called from the same goroutine, which reads on when they return.
//
// The end of ctx is no error; [ErrTruncated] is one, and what librdkafka does not
// try again by itself.
func (r *Reader) Tail(ctx context.Context, from map[Place]int64, more <-chan map[Place]int64, do func(Record), at func(Place, int64)) error {
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
	assignment := func(from map[Place]int64) (list []ck.TopicPartition) {
		for p, offset := range from {
			list = append(list, ck.TopicPartition{Topic: &p.Topic, Partition: p.Partition, Offset: ck.Offset(offset)})
		}
		return list
	}
	if err := c.client.Assign(assignment(from)); err != nil {
		return fmt.Errorf("read on from %d partitions: %w", len(from), err)
	}
	for ctx.Err() == nil {
		select {
		case further := <-more:
			if err := c.client.IncrementalAssign(assignment(further)); err != nil {
				return fmt.Errorf("read on from %d further partitions: %w", len(further), err)
			}
		default:
		}
		switch e := c.client.Poll(int(pollWait.Milliseconds())).(type) {
		case *ck.Message:
			c.topic, c.partition, c.position = *e.TopicPartition.Topic, e.TopicPartition.Partition, int64(e.TopicPartition.Offset)
			if err := e.TopicPartition.Error; err != nil {
				if err := c.failed(err); err != nil {
					return err
				}
				continue
			}
			do(recordOf(e))
			at(Place{c.topic, c.partition}, c.position+1)
		case ck.PartitionEOF:
			at(Place{*e.Topic, e.Partition}, int64(e.Offset))
		case ck.Error:
			if err := c.failed(e); err != nil {
				return err
			}
		}
	}
	return nil
}
