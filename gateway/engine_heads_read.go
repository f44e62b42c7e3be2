package gateway

import (
	"encoding/json"
	"fmt"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// GroupID is the consumer group of an installation's gateways.
func GroupID(t kafka.Topics) string { return t.Commands() + "-gateway" }

// HeadRecord is a record of the heads topic as others read it: what it says of an
// aggregate, or, where Aggregate is "", up to where all heads of its partition go.
type HeadRecord struct {
	Aggregate runtime.AggregateID
	Gone      bool // the aggregate has no head any more
	Version   uint64
	Offset    int64  // of the aggregate's last record in its events topic
	Event     string // id of that record; "" while there is none
	Broken    string // how the aggregate's log contradicts itself; "" when it does not

	Upto map[string]HeadsUpto // of a checkpoint, by events topic
}

// HeadsUpto is the last record of a partition of an events topic that heads contain.
type HeadsUpto struct {
	TopicID string
	Offset  int64
	Event   string
}

// ParseHeadRecord reads a record of the heads topic.
func ParseHeadRecord(key, value []byte) (HeadRecord, error) {
	if string(key) != checkpointKey {
		r := HeadRecord{Aggregate: runtime.AggregateID(key), Gone: value == nil}
		if r.Gone {
			return r, nil
		}
		h, broken, err := parseHead(value)
		if r.Broken = broken; h.Exists() {
			r.Version, r.Offset, r.Event = h.Version, h.Offset, h.EventID()
		}
		return r, err
	}
	var c checkpointValue
	if err := json.Unmarshal(value, &c); err != nil {
		return HeadRecord{}, fmt.Errorf("checkpoint: %w", err)
	}
	r := HeadRecord{Upto: make(map[string]HeadsUpto, len(c.Events))}
	for topic, last := range c.Events {
		r.Upto[topic] = HeadsUpto(last)
	}
	return r, nil
}
