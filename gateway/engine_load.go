package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// loadPage is how many records of a history are in memory while a snapshot is rebuilt.
const loadPage = 1000

// load brings an aggregate's snapshot up to its head: from Redis if what is
// there fits the log, else from its own records.
func (e *Engine) load(p *partition, o shard.Load) (shard.Snapshot, *shard.Trouble) {
	ctx, cancel := context.WithTimeoutCause(p.ctx, 2*time.Minute, errors.New("loading took more than 2m"))
	defer cancel()
	if view, err := e.cfg.Catalogue.AggregateOf(o.Aggregate.Root()); err == nil {
		// Which states are of use is asked before one is loaded. Where the aggregator
		// is away, a snapshot of any is taken, and dropped when it turns out to be of another.
		ask, done := context.WithTimeoutCause(ctx, 2*time.Second, errors.New("describing the aggregator took more than 2s"))
		if _, err := e.cfg.Functions.Fold(ask, view.Name); err != nil {
			e.cfg.Log.Debug("state version not known", "aggregate", view.Name, "err", err)
		}
		done()
	}
	crash.At(crash.LoadBegin)
	if e.cfg.Snapshots != nil {
		s, err := e.cfg.Snapshots.Load(ctx, o.Aggregate)
		crash.At(crash.LoadRedis)
		if err == nil {
			if s.Head == o.Head {
				e.cfg.Metrics.loads.WithLabelValues("snapshot").Inc()
				return s, nil
			}
			if s.Head.Offset < o.Head.Offset {
				if s, trouble := e.replay(ctx, p, o, s); trouble == nil {
					e.cfg.Metrics.loads.WithLabelValues("snapshot and events").Inc()
					e.offer(s)
					return s, nil
				}
			}
			// Ahead of the log, or of another one: not of use.
		}
	}
	s, trouble := e.replay(ctx, p, o, shard.Snapshot{Aggregate: o.Aggregate})
	if trouble == nil {
		e.cfg.Metrics.loads.WithLabelValues("events").Inc()
		e.offer(s)
	}
	return s, trouble
}

// broken says whether an error tells that the log contradicts itself, which
// does not pass.
func broken(err error) bool { return errors.Is(err, kafka.ErrHistory) || errors.Is(err, errChain) }

// offer gives the cache a snapshot that was rebuilt: the next one to load the
// aggregate need not do it again. The shard goes on changing its own.
func (e *Engine) offer(s shard.Snapshot) {
	if e.cfg.Saves == nil {
		return
	}
	s.Links, s.Seen = slices.Clone(s.Links), s.Seen.Clone()
	e.cfg.Saves.Put(s)
}

var errChain = errors.New("the records do not continue the snapshot")

// replay applies the records after a snapshot, up to the head.
func (e *Engine) replay(ctx context.Context, p *partition, o shard.Load, s shard.Snapshot) (shard.Snapshot, *shard.Trouble) {
	crash.At(crash.LoadLog)
	s.Seen = s.Seen.Clone()
	var trouble *shard.Trouble
	var page []kafka.Entry
	apply := func() error {
		var events []*runtime.Message
		for _, r := range page {
			if err := follow(&s, r); err != nil {
				return err
			}
			if r.Sequence > 0 {
				events = append(events, r.Message)
			}
		}
		page = page[:0]
		if len(events) == 0 {
			return nil
		}
		if s.State, trouble = e.cfg.Functions.Replay(ctx, o.Aggregate, s.State, events); trouble != nil {
			return errors.New(trouble.Reason)
		}
		return nil
	}
	after, fromStart := kafka.Mark{}, !s.Head.Exists()
	if s.Head.Exists() {
		after = kafka.Mark{Version: s.Head.Version, Offset: s.Head.Offset + 1}
	}
	err := e.cfg.History.Each(ctx, e.chain(o.Aggregate, p.held.Partition, o.Topic, o.Head), after, func(r kafka.Entry) error {
		if page = append(page, r); len(page) < loadPage {
			return nil
		}
		return apply()
	})
	if err == nil {
		err = apply()
		crash.At(crash.LoadApplied)
	}
	switch {
	case trouble != nil:
		return s, trouble
	case broken(err) && fromStart:
		// Only this aggregate waits, and somebody has to look at it; it is tried
		// again, in case it was the reading that went wrong.
		e.cfg.Metrics.corrupt.Inc()
		e.cfg.Log.Error("the log of an aggregate contradicts itself", "entity", string(o.Aggregate), "partition", p.held.Partition, "err", err)
		return s, &shard.Trouble{Kind: shard.Unavailable, Reason: "its history is broken: " + err.Error(), Wait: 30 * time.Second, Broken: true}
	case err != nil:
		return s, &shard.Trouble{Kind: shard.Unavailable, Reason: "its history cannot be read: " + err.Error(), Wait: time.Second}
	}
	return s, nil
}

// follow takes a record into all of a snapshot but its state.
func follow(s *shard.Snapshot, r kafka.Entry) error {
	m := r.Message
	key, pos, ok := runtime.ParseEventID(m.ID)
	if !ok {
		return fmt.Errorf("event id %q is none of evento's", m.ID)
	}
	if m.Sequence > 0 {
		if m.Sequence != s.Head.Version+1 {
			return fmt.Errorf("%w: version %d after %d", errChain, m.Sequence, s.Head.Version)
		}
		s.Head.Version = m.Sequence
	}
	if m.Skip != nil {
		s.Links = nil
	}
	s.Links = append(s.Links, r.At.Offset)
	s.Head.Offset, s.Head.Command, s.Head.Pos = r.At.Offset, key, int32(pos)
	s.Recorded = m.RecordedTime
	if m.Pos == 1 {
		s.Seen.Add(shard.SeenEntry{Hash: shard.SeenHash(key), Offset: r.At.Offset})
	}
	return nil
}

func (e *Engine) chain(id runtime.AggregateID, partition int32, topic string, head shard.Head) kafka.Chain {
	return kafka.Chain{Topic: topic, Partition: partition, Aggregate: id, Head: head.Offset, HeadID: head.EventID(), Version: head.Version}
}

// confirm looks for the outcome of a command in the history.
func (e *Engine) confirm(p *partition, o shard.Confirm) shard.Confirmation {
	ctx, cancel := context.WithTimeoutCause(p.ctx, 30*time.Second, errors.New("looking for an earlier outcome took more than 30s"))
	defer cancel()
	c := e.chain(o.Command.Message.Aggregate(), p.held.Partition, o.Command.Topic, o.Head)
	crash.At(crash.ConfirmBegin)
	records, err := e.find(ctx, c, o.Command.Key, o.Offsets)
	crash.At(crash.ConfirmFound)
	if err != nil {
		return shard.Confirmation{Trouble: &shard.Trouble{Kind: shard.Unavailable, Reason: "its history cannot be read: " + err.Error(), Wait: time.Second}}
	}
	if len(records) == 0 {
		return shard.Confirmation{}
	}
	same, err := e.same(ctx, o.Command, records[0].Message)
	if err != nil {
		return shard.Confirmation{Trouble: &shard.Trouble{Kind: shard.Unavailable, Reason: err.Error(), Wait: time.Second}}
	}
	return shard.Confirmation{Found: true, Same: same, Outcome: e.recordedOutcome(records)}
}

// find returns the records of a command's outcome, none when the offsets, which
// share a hash with it, are all of others.
func (e *Engine) find(ctx context.Context, c kafka.Chain, key runtime.CommandKey, offsets []int64) ([]kafka.Entry, error) {
	for i, hint := range offsets {
		if i+1 < len(offsets) {
			// Of several with the same hash, each is looked at before the history is read.
			records, err := e.cfg.Reader.Points(ctx, c.Topic, c.Partition, []int64{hint})
			if err != nil {
				return nil, err
			}
			if len(records) != 1 || !strings.HasPrefix(string(records[0].Header(kafka.HeaderName("id"))), key.String()) {
				continue
			}
		}
		records, err := e.cfg.History.Find(ctx, c, key, hint)
		if errors.Is(err, kafka.ErrNoCommand) {
			return nil, nil
		}
		return records, err
	}
	return nil, nil
}

// same says whether a command is the one that an event is the outcome of.
// Hashes decide, unless they are of different schemas: then the first command
// itself is read, and both are compared in the newer one.
func (e *Engine) same(ctx context.Context, c *shard.Command, event *runtime.Message) (bool, error) {
	if c.Hash == event.Hash {
		return true, nil
	}
	if avro.ComparableHashes(c.Hash, event.Hash) {
		return false, nil
	}
	records, err := e.cfg.Reader.Points(ctx, event.Cause.Topic, event.Cause.Partition, []int64{event.Cause.Offset})
	if err != nil {
		return false, fmt.Errorf("the command at %s cannot be read: %w", event.Cause, err)
	}
	if len(records) != 1 {
		return false, nil
	}
	first, err := kafka.ParseRecord(&records[0])
	if err != nil || first.Key() != c.Key || first.Type != c.Message.Type || first.Subject != c.Message.Subject {
		return false, nil
	}
	return e.cfg.Catalogue.SameValue(first.Schema, first.Data, c.Message.Schema, c.Message.Data)
}

// recordedOutcome is the outcome that records of one command say.
func (e *Engine) recordedOutcome(records []kafka.Entry) shard.Outcome {
	o := shard.Outcome{Status: shard.Refused}
	for _, r := range records {
		m := r.Message
		o.Records = append(o.Records, shard.Recorded{Message: m, At: r.At})
		if m.Sequence > 0 {
			o.Version = m.Sequence
		}
		switch m.Type {
		case runtime.TypeCommandParked:
			o.Status = shard.ParkedS
			if v, err := e.cfg.Catalogue.DecodeCommandParked(m.Schema, m.Data); err == nil {
				o.Reason, o.Attempts = v.Reason, int(v.Attempts)
			}
		case runtime.TypeCommandRejected:
			o.Status = shard.Rejected
			if v, err := e.cfg.Catalogue.DecodeCommandRejected(m.Schema, m.Data); err == nil {
				o.Reason = v.Code + ": " + v.Reason
			}
		case runtime.TypePublishRejected:
			o.Status = shard.Rejected
			if v, err := e.cfg.Catalogue.DecodePublishRejected(m.Schema, m.Data); err == nil {
				o.Reason = v.Code + ": " + v.Reason
			}
		default:
			if !e.failure(m.Type) {
				o.Status = shard.Done
			}
		}
	}
	return o
}

func (e *Engine) failure(t runtime.TypeName) bool {
	typ, ok := e.cfg.Catalogue.Type(t)
	return ok && typ.Kind == avro.KindFailure
}

// encodePlatform writes the content of a platform record.
func encodePlatform(publish bool, p *shard.Parked, r *shard.Reject) (runtime.TypeName, runtime.DataSchema, []byte) {
	switch {
	case p != nil:
		schema, data := avro.CommandParked{Reason: p.Reason, Attempts: int32(p.Attempts), Function: p.Function}.Encode()
		return runtime.TypeCommandParked, schema, data
	case publish:
		schema, data := avro.PublishRejected{Code: r.Code, Reason: r.Reason}.Encode()
		return runtime.TypePublishRejected, schema, data
	default:
		schema, data := avro.CommandRejected{Code: r.Code, Reason: r.Reason}.Encode()
		return runtime.TypeCommandRejected, schema, data
	}
}
