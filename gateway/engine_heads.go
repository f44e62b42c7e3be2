package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// The heads topic, compacted, holds two kinds of records, in the aggregates'
// own partitions: one per aggregate, and one checkpoint per partition. A
// checkpoint is written in one transaction with the heads that changed, so what
// is read of the topic is as of one moment.

// checkpointKey is no aggregate id.
const checkpointKey = "#checkpoint"

// headValue is the value of an aggregate's record; its key is the aggregate id.
type headValue struct {
	Version uint64 `json:"version"`
	Offset  int64  `json:"offset"`           // of the aggregate's last record in its events topic
	Event   string `json:"event"`            // id of that record; "" while there is none
	Broken  string `json:"broken,omitempty"` // the aggregate's log contradicts itself, and how: nobody goes on with it
}

// checkpointValue says that the heads contain every record of the events
// topics up to and including these.
type checkpointValue struct {
	Events map[string]lastRecord `json:"events"` // by topic
}

// lastRecord is the last record of a partition of an events topic.
type lastRecord struct {
	TopicID string `json:"topic_id"`
	Offset  int64  `json:"offset"`
	Event   string `json:"event"`
}

func (e *Engine) headRecords(p *partition, c shard.Checkpoint) []kafka.Record {
	records := make([]kafka.Record, 0, len(c.Heads)+1)
	put := func(key string, value []byte) {
		records = append(records, kafka.Record{
			Topic: e.cfg.Topics.Heads(), Partition: p.held.Partition, Key: []byte(key), Value: value, Headers: []kafka.Header{e.identity()},
		})
	}
	for _, id := range slices.Sorted(maps.Keys(c.Heads)) {
		h, v := c.Heads[id], headValue{Broken: c.Broken[id]}
		if h.Exists() {
			v.Version, v.Offset, v.Event = h.Version, h.Offset, h.EventID()
		}
		if v == (headValue{}) {
			put(string(id), nil)
		} else {
			put(string(id), mustJSON(v))
		}
	}
	put(checkpointKey, mustJSON(checkpointValue{Events: maps.Clone(p.last)}))
	return records
}

func mustJSON(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // structs of strings and numbers
	}
	return text
}

// parseHead reads an aggregate's record: its head, if it has one, and how its log
// contradicts itself, if it does.
func parseHead(value []byte) (h shard.Head, broken string, err error) {
	var v headValue
	if err := json.Unmarshal(value, &v); err != nil {
		return shard.Head{}, "", err
	}
	if v.Event == "" && v.Broken != "" {
		return shard.Head{}, v.Broken, nil
	}
	key, pos, ok := runtime.ParseEventID(v.Event)
	if !ok || v.Offset < 0 {
		return shard.Head{}, "", fmt.Errorf("head %q names no event", value)
	}
	return shard.Head{Version: v.Version, Offset: v.Offset, Command: key, Pos: int32(pos)}, v.Broken, nil
}

// headScan builds the heads of a partition from events, in the order of their offsets.
type headScan struct {
	heads   map[runtime.AggregateID]shard.Head
	unsaved map[runtime.AggregateID]struct{} // told the aggregates of the records
	last    map[string]lastRecord
	topicID func(topic string) string
	causes  func(runtime.Coordinates) // nil, or told the cause of each record
	torn    map[runtime.AggregateID]string
	open    map[runtime.AggregateID]string // commands whose last event has not come yet: what is missing
}

func newHeadScan(t *takeover) *headScan {
	return &headScan{heads: t.heads, unsaved: t.unsaved, last: t.last, torn: t.torn, topicID: t.e.cfg.EventsID, open: map[runtime.AggregateID]string{}}
}

// add takes the next record of an events topic.
func (s *headScan) add(r *kafka.Record) error {
	m, err := kafka.ParseRecord(r)
	if err != nil {
		return err
	}
	key, pos, ok := runtime.ParseEventID(m.ID)
	if !ok {
		return fmt.Errorf("event id %q is none of evento's", m.ID)
	}
	id := m.Aggregate()
	before := s.heads[id]
	if m.Pos > 1 && (before.Command != key || int(before.Pos) != m.Pos-1) {
		s.torn[id] = fmt.Sprintf("offset %d of %s is event %d of %d of its command, and the one before is missing", r.Offset, r.Topic, m.Pos, m.Count)
	}
	if missing := s.open[id]; missing != "" && m.Pos == 1 {
		s.torn[id] = missing
	}
	delete(s.open, id)
	if m.Pos < m.Count {
		s.open[id] = fmt.Sprintf("offset %d of %s is event %d of %d of its command, and the next one is missing", r.Offset, r.Topic, m.Pos, m.Count)
	}
	version := before.Version
	if m.Sequence > 0 {
		if before.Exists() && m.Sequence != version+1 {
			s.torn[id] = fmt.Sprintf("offset %d of %s has version %d after %d", r.Offset, r.Topic, m.Sequence, version)
		}
		version = m.Sequence
	}
	s.unsaved[id] = struct{}{}
	s.heads[id] = shard.Head{Version: version, Offset: r.Offset, Command: key, Pos: int32(pos)}
	s.last[r.Topic] = lastRecord{TopicID: s.topicID(r.Topic), Offset: r.Offset, Event: m.ID}
	if s.causes != nil {
		s.causes(m.Cause)
	}
	return nil
}

// end says that no record follows: what is not whole now never will be.
func (s *headScan) end() { maps.Copy(s.torn, s.open) }
