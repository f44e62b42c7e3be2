package kafka

import (
	"context"
	"fmt"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Place is one partition of one topic.
type Place struct {
	Topic     string
	Partition int32
}

func (p Place) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Partition) }

// Span is what a committed reader finds in a partition.
type Span struct {
	Low    int64 // the first offset that is kept
	Stable int64 // the offset below which it is known of every record whether it commits
}

// Spans returns the span of each of these partitions, by two requests for all of
// them: a stream over many partitions must not begin with a hundred round trips.
func (r *Reader) Spans(ctx context.Context, places []Place) (map[Place]Span, error) {
	low, err := r.listOffsets(ctx, places, ck.EarliestOffsetSpec)
	if err != nil {
		return nil, err
	}
	stable, err := r.listOffsets(ctx, places, ck.LatestOffsetSpec)
	if err != nil {
		return nil, err
	}
	spans := make(map[Place]Span, len(places))
	for _, p := range places {
		spans[p] = Span{Low: low[p], Stable: stable[p]}
	}
	return spans, nil
}

// OffsetAt returns the offset of the first record of a partition whose timestamp
// is t or later, and the end of what is stable when there is none.
func (r *Reader) OffsetAt(ctx context.Context, p Place, t time.Time) (int64, error) {
	found, err := r.listOffsets(ctx, []Place{p}, ck.NewOffsetSpecForTimestamp(t.UnixMilli()))
	if err != nil || found[p] >= 0 {
		return found[p], err
	}
	ends, err := r.listOffsets(ctx, []Place{p}, ck.LatestOffsetSpec)
	return ends[p], err
}

// listOffsets asks as a committed reader.
func (r *Reader) listOffsets(ctx context.Context, places []Place, spec ck.OffsetSpec) (map[Place]int64, error) {
	if len(places) == 0 {
		return nil, nil
	}
	offsets, err := r.askOffsets(ctx, places, spec, ck.IsolationLevelReadCommitted)
	if err != nil {
		return nil, fmt.Errorf("offsets of %s and %d more partitions: %w", places[0], len(places)-1, err)
	}
	return offsets, nil
}
