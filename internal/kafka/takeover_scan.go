package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Errors of a scan.
var (
	// ErrStalled is returned when a scan got no further for the stall deadline:
	// a transaction below its end stays open. End its writer and scan again.
	ErrStalled = errors.New("read stalled below an open transaction")

	// ErrTruncated is returned when a scan begins outside of the log.
	ErrTruncated = errors.New("offset is not in the log")
)

// Scan reads a partition's committed records from one offset up to, and not
// including, another, and calls do with each, in order. The end is a *high*
// watermark, taken after the writers below it were ended: up to the last stable
// offset a scan would look complete without being it. Control records and
// aborted ones do not count, and none of them at the end makes it hang.
//
// It fails with [ErrStalled] when it gets no further for so long, with
// [ErrTruncated] when from is outside of the log, with what do returns, and when
// the context ends. do must not keep the record's bytes beyond the call unless
// it keeps the whole batch alive gladly.
func (t *Takeover) Scan(ctx context.Context, topic string, partition int32, from, to int64, stall time.Duration, do func(Record) error) error {
	var failed error
	err := t.fetchAll(ctx, fetchRange{topic, partition, from, to, readCommitted}, stall, func(r *kgo.Record) bool {
		if !r.Attrs.IsControl() {
			failed = do(fromClient(r))
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// OpenWriters names the transactional ids whose transactions are open in a
// partition: those of the records between its last stable offset and its high
// watermark, by their [WriterHeader], without those whose transaction ends
// before the high watermark. A record without the header is an error that names
// its offset: then only the transaction timeout helps.
func (t *Takeover) OpenWriters(ctx context.Context, topic string, partition int32) ([]string, error) {
	w, err := t.Watermarks(ctx, topic, partition)
	if err != nil || w.Stable >= w.High {
		return nil, err
	}
	open := make(map[int64]string) // by producer id
	err = t.fetchAll(ctx, fetchRange{topic, partition, w.Stable, w.High, readUncommitted}, time.Minute, func(r *kgo.Record) bool {
		switch {
		case r.Attrs.IsControl():
			delete(open, r.ProducerID)
		case r.Attrs.IsTransactional():
			rec := fromClient(r)
			if id := rec.Header(WriterHeader); id != nil || open[r.ProducerID] == "" {
				open[r.ProducerID] = string(id)
			}
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("open writers: %w", err)
	}
	writers := slices.Sorted(maps.Values(open))
	writers = slices.Compact(writers)
	if len(writers) > 0 && writers[0] == "" {
		return writers[1:], fmt.Errorf("open writers of %s partition %d: a record from offset %d on has no header %s", topic, partition, w.Stable, WriterHeader)
	}
	return writers, nil
}

// fetchRange is a part of a log, up to and not including to.
type fetchRange struct {
	topic     string
	partition int32
	from, to  int64
	isolation int8
}

// fetchAll reads a range by requests of its own, not by a consumer: each answer
// says how far it went, so the end is found even where only records stand that
// a reader is not shown. do gets control records too; false stops.
func (t *Takeover) fetchAll(ctx context.Context, f fetchRange, stall time.Duration, do func(*kgo.Record) bool) error {
	progress := time.Now()
	var leader *kgo.Broker
	backoff := 5 * time.Millisecond
	for next := f.from; next < f.to; {
		got, after, err := t.fetch(ctx, f, next, &leader)
		if err != nil && !passing(err) {
			return fmt.Errorf("read %s partition %d at offset %d: %w", f.topic, f.partition, next, err)
		}
		for _, r := range got {
			if r.Offset >= f.to {
				return nil
			}
			if !do(r) {
				return nil
			}
		}
		if after > next {
			next, progress, backoff = after, time.Now(), 5*time.Millisecond
			continue
		}
		if idle := time.Since(progress); idle > stall {
			return fmt.Errorf("read %s partition %d at offset %d of %d, for %v: %w", f.topic, f.partition, next, f.to, stall, errors.Join(ErrStalled, err))
		}
		if wait(ctx, nil, backoff) != nil {
			return fmt.Errorf("read %s partition %d at offset %d of %d: %w", f.topic, f.partition, next, f.to, context.Cause(ctx))
		}
		backoff = min(2*backoff, 250*time.Millisecond)
	}
	return nil
}

// fetch asks the leader for records at an offset, and tells the offset after
// what it answered. leader is looked up when nil, and forgotten when it is not
// the leader any more.
func (t *Takeover) fetch(ctx context.Context, f fetchRange, at int64, leader **kgo.Broker) ([]*kgo.Record, int64, error) {
	if *leader == nil {
		id, err := t.leader(ctx, f.topic, f.partition)
		if err != nil {
			return nil, at, err
		}
		*leader = t.client.Broker(int(id))
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxWaitMillis = 100
	req.MinBytes = 1
	req.MaxBytes = 16 << 20
	req.IsolationLevel = f.isolation
	req.SessionEpoch = -1 // no session (KIP-227)
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = f.partition, at, 8<<20
	rp.CurrentLeaderEpoch = -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.Partitions = f.topic, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)

	answer, err := (*leader).Request(ctx, req)
	if err != nil {
		*leader = nil
		return nil, at, err
	}
	resp := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, at, err
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			part := &resp.Topics[i].Partitions[j]
			if part.Partition != f.partition {
				continue
			}
			if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
				*leader = nil
				if errors.Is(err, kerr.OffsetOutOfRange) {
					err = fmt.Errorf("%w: %w", ErrTruncated, err)
				}
				return nil, at, err
			}
			opts := kgo.ProcessFetchPartitionOpts{
				KeepControlRecords: true,
				Offset:             at,
				Topic:              f.topic,
				Partition:          f.partition,
			}
			if f.isolation == readCommitted {
				opts.IsolationLevel = kgo.ReadCommitted()
			}
			fp, next := kgo.ProcessFetchPartition(opts, part, t.unpack, nil)
			return fp.Records, next, fp.Err
		}
	}
	return nil, at, errors.New("the partition is not in the answer")
}

func (t *Takeover) leader(ctx context.Context, topic string, partition int32) (int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, t.client)
	if err != nil {
		return 0, err
	}
	for _, rt := range resp.Topics {
		if err := kerr.ErrorForCode(rt.ErrorCode); err != nil {
			return 0, err
		}
		for _, rp := range rt.Partitions {
			if rp.Partition == partition {
				// An error beside a leader concerns replicas, not us.
				if err := kerr.ErrorForCode(rp.ErrorCode); err != nil && rp.Leader < 0 {
					return 0, err
				}
				return rp.Leader, nil
			}
		}
	}
	return 0, fmt.Errorf("%s has no partition %d: %w", topic, partition, kerr.UnknownTopicOrPartition)
}
