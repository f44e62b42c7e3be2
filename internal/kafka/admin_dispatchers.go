package kafka

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// dispatcherPrefix begins the keys of dispatchers' records in [Topics.Schemas].
// The keys of schemas hold a ':' and these do not.
const dispatcherPrefix = "dispatcher/"

// DispatcherKey returns the key of a dispatcher's record, by its Trigger's namespace/name.
func DispatcherKey(name string) string { return dispatcherPrefix + name }

// ParseDispatcherKey says whether a record of the schemas topic is about a
// dispatcher, and about which.
func ParseDispatcherKey(key []byte) (name string, ok bool) {
	return strings.CutPrefix(string(key), dispatcherPrefix)
}

// DispatcherStart is where a dispatcher begins to read: fixed when it is created,
// and anew by each rewind. It stands in the schemas topic and never expires, as
// positions do.
type DispatcherStart struct {
	Epoch uint64 `json:"epoch"` // how often it was sent back

	// Offsets are the first ones to read, by events topic and partition. A topic
	// that is not named is read from its beginning: it was made later.
	Offsets map[string][]int64 `json:"offsets,omitempty"`

	// Decisions are offsets of the dispatched topic, by partition: no decision of
	// this epoch stands before them.
	Decisions []int64 `json:"decisions"`

	Time time.Time `json:"time"`          // when it was decided
	From time.Time `json:"from,omitzero"` // of a rewind: the time that was asked for; zero for the beginning
}

// ParseDispatcherStart reads the value of a dispatcher's record.
func ParseDispatcherStart(value []byte) (DispatcherStart, error) {
	var s DispatcherStart
	if err := json.Unmarshal(value, &s); err != nil {
		return s, fmt.Errorf("record of a dispatcher: %w", err)
	}
	for topic, offsets := range s.Offsets {
		if i := slices.IndexFunc(offsets, func(at int64) bool { return at < 0 }); i >= 0 {
			return s, fmt.Errorf("record of a dispatcher: it begins at offset %d of partition %d of %q", offsets[i], i, topic)
		}
	}
	if i := slices.IndexFunc(s.Decisions, func(at int64) bool { return at < 0 }); i >= 0 {
		return s, fmt.Errorf("record of a dispatcher: its decisions begin at offset %d of partition %d", s.Decisions[i], i)
	}
	return s, nil
}

// Of returns the first offset to read in a partition, -1 for the beginning.
func (s *DispatcherStart) Of(topic string, partition int32) int64 {
	offsets, ok := s.Offsets[topic]
	if !ok || int(partition) >= len(offsets) {
		return -1
	}
	return offsets[partition]
}

// DispatcherStarts decides where dispatchers begin, for all gateways together.
type DispatcherStarts struct {
	topics Topics
	reader *Reader
	writer *Exclusive
}

// NewDispatcherStarts makes DispatcherStarts; writer is theirs alone.
func NewDispatcherStarts(topics Topics, reader *Reader, writer *Exclusive) *DispatcherStarts {
	return &DispatcherStarts{topics: topics, reader: reader, writer: writer}
}

// Change reads the record of a dispatcher, lets decide make the next one of it,
// and writes that; no other gateway writes one in between. decide gets nil when
// there is none, and returns nil to leave it as it is; it may be called again, but not
// about a record of this call. It returns the record that is there in the end.
func (d *DispatcherStarts) Change(ctx context.Context, name string, decide func(context.Context, *DispatcherStart) (*DispatcherStart, error)) (DispatcherStart, error) {
	var last DispatcherStart
	var written []byte // by a try of which it was not known whether it took effect
	err := d.writer.Do(ctx, func(ctx context.Context) ([]Record, error) {
		var there *DispatcherStart
		var value []byte
		low, _, high, err := d.reader.Watermarks(ctx, d.topics.Schemas(), 0)
		if err != nil {
			return nil, err
		}
		err = d.reader.Scan(ctx, d.topics.Schemas(), 0, low, high, ReadCommitted, func(r Record) error {
			if string(r.Key) != DispatcherKey(name) || r.Value == nil {
				return nil
			}
			s, err := ParseDispatcherStart(r.Value)
			there, value = &s, r.Value
			return err
		})
		if err != nil {
			return nil, err
		}
		if there != nil && bytes.Equal(value, written) {
			last = *there
			return nil, nil
		}
		next, err := decide(ctx, there)
		switch {
		case err != nil:
			return nil, err
		case next == nil && there == nil:
			return nil, fmt.Errorf("dispatcher %q has no start", name)
		case next == nil:
			last = *there
			return nil, nil
		}
		last = *next
		written, err = json.Marshal(next)
		return []Record{{Topic: d.topics.Schemas(), Key: []byte(DispatcherKey(name)), Value: written}}, err
	})
	return last, err
}
