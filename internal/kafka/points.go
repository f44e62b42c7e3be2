package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// pointConfig is for reading single records far apart. Measured with 100,000
// records of 600 bytes on the embedded broker: librdkafka's defaults take
// 9.5 ms a record and fetch a megabyte for each; a queue of one message alone
// makes it 178 ms, because a full queue is looked at again only after
// fetch.queue.backoff.ms, a second; with both as here it is 1 ms. On Apache
// Kafka beside other work on 2 cores it is 0.5 to 3 ms alone, and 64 far records
// come in 60 ms by 4 consumers, 160 ms by one; fetches of 4 to 64 kB and a
// backoff of 0 to 5 ms made no difference beyond the noise.
var pointConfig = ck.ConfigMap{
	"isolation.level":           string(ReadCommitted),
	"queued.min.messages":       1,
	"fetch.queue.backoff.ms":    1,
	"max.partition.fetch.bytes": pointFetch,
	"fetch.wait.max.ms":         10,
}

const (
	// pointFetch is what a fetch brings at most, in bytes, if the batch that
	// holds the record is not bigger: some twenty records.
	pointFetch = 16 << 10
	// pointGap is the number of offsets that are rather read over than jumped:
	// they mostly came with the same fetch.
	pointGap = 24
	// pointShare is the least number of offsets that are worth another consumer.
	pointShare = 4
)

// Points reads the records at these offsets of a partition, in any order, and
// returns those there are by rising offset. An offset that holds no committed
// record is left out: a marker's, an aborted record's, one beyond the log. Near
// offsets share a fetch; far ones are read by several consumers at a time.
//
// It waits where an offset is above the last stable one, because whether that
// record commits is not known yet, and fails with [ErrStalled] when that takes
// longer than the reader's stall time.
func (r *Reader) Points(ctx context.Context, topic string, partition int32, offsets []int64) ([]Record, error) {
	offsets = slices.Clone(offsets)
	slices.Sort(offsets)
	offsets = slices.Compact(offsets)
	first, _ := slices.BinarySearch(offsets, 0)
	offsets = offsets[first:] // no record has a negative one
	if len(offsets) == 0 {
		return nil, nil
	}
	shares := min(r.config.Consumers, (len(offsets)+pointShare-1)/pointShare)
	results := make([][]Record, shares)
	errs := make([]error, shares)
	var readers sync.WaitGroup
	for i := range shares {
		share := offsets[i*len(offsets)/shares : (i+1)*len(offsets)/shares]
		read := func() {
			errs[i] = r.points.use(ctx, func(c *cursor) (err error) {
				results[i], err = r.readPoints(ctx, c, topic, partition, share)
				return err
			})
		}
		if i == shares-1 {
			read() // here: one share needs no goroutine
		} else {
			readers.Go(read)
		}
	}
	readers.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return slices.Concat(results...), nil
}

// readPoints reads rising offsets with one cursor.
func (r *Reader) readPoints(ctx context.Context, c *cursor, topic string, partition int32, offsets []int64) ([]Record, error) {
	found := make([]Record, 0, len(offsets))
	high := int64(-1) // not asked yet
	started := false
	for len(offsets) > 0 {
		var err error
		switch {
		case !started:
			err, started = c.start(topic, partition, offsets[0]), true
		case offsets[0]-c.position > pointGap:
			err = c.jump(offsets[0])
		}
		var m *ck.Message
		if err == nil {
			m, err = c.next(ctx, offsets[0])
		}
		if errors.Is(err, ErrTruncated) {
			// The first offset is outside of the log; it is enough to go on
			// with those inside, which there must be fewer of.
			low, _, high, err2 := r.Watermarks(ctx, topic, partition)
			if err2 != nil {
				return nil, err2
			}
			from, _ := slices.BinarySearch(offsets, low)
			to, _ := slices.BinarySearch(offsets, high)
			if to-from == len(offsets) {
				return nil, err
			}
			offsets, started = offsets[from:to], false
			continue
		}
		if err != nil {
			return nil, err
		}
		for len(offsets) > 0 && offsets[0] < c.position {
			// It came, or one after it did, or the end of what is stable.
			if m != nil && int64(m.TopicPartition.Offset) == offsets[0] {
				found = append(found, recordOf(m))
			}
			offsets = offsets[1:]
		}
		if m == nil && len(offsets) > 0 && high < 0 {
			// The rest is beyond what is stable. What is beyond the log too is not there.
			if _, _, high, err = r.Watermarks(ctx, topic, partition); err != nil {
				return nil, err
			}
			to, _ := slices.BinarySearch(offsets, high)
			offsets = offsets[:to]
		}
	}
	return found, nil
}
