package live

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

// scan reads a partition up to its end, as a committed reader.
func (r *run) scan(ctx context.Context, topic string, n int32, do func(kafka.Record) error) error {
	s := r.ends[kafka.Place{Topic: topic, Partition: n}]
	return r.look.Scan(ctx, topic, n, s.low, s.end, r.Patience, do)
}

func place(k *kafka.Record) runtime.Coordinates {
	return runtime.Coordinates{Topic: k.Topic, Partition: k.Partition, Offset: k.Offset}
}

// partition gives one partition to the checker.
func (r *run) partition(ctx context.Context, n int32) error {
	p := r.checker.Partition(n)
	if at := r.positions[n]; at != nil {
		p.Position(*at)
	}
	if err := r.readAsides(ctx, n, p); err != nil {
		return fmt.Errorf("set-aside records: %w", err)
	}
	if err := r.readHeads(ctx, n, p); err != nil {
		return fmt.Errorf("heads: %w", err)
	}
	if err := r.readDecisions(ctx, n, p); err != nil {
		return fmt.Errorf("decisions: %w", err)
	}
	aggregates := map[runtime.AggregateID]*seen{}
	err := r.scan(ctx, r.topics.Commands(), n, func(k kafka.Record) error {
		m, err := kafka.ParseRecord(&k)
		if err != nil {
			p.Unreadable(place(&k), err)
			return nil
		}
		if r.snapshots != nil || r.State != nil {
			aggregates[m.Aggregate()] = &seen{}
		}
		p.Command(verify.Record{At: place(&k), M: m})
		return nil
	})
	if err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	if err := r.readSnapshots(ctx, p, aggregates); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	for _, topic := range r.events {
		if err := r.readEvents(ctx, topic, n, p, aggregates); err != nil {
			return fmt.Errorf("events: %w", err)
		}
	}
	if err := r.awaitRemoval(ctx, n, p); err != nil {
		return fmt.Errorf("set-aside records: %w", err)
	}
	r.askStates(ctx, n, aggregates)
	p.Close()
	return ctx.Err()
}

// readEvents gives the events of one topic. Where the end has cut a command in two,
// its rest is looked for behind it: all of its transaction stands before what ended
// it, and that has been waited for.
func (r *run) readEvents(ctx context.Context, topic string, n int32, p *verify.Partition, aggregates map[runtime.AggregateID]*seen) error {
	event := func(give func(verify.Record)) func(kafka.Record) error {
		return func(k kafka.Record) error {
			m, err := kafka.ParseRecord(&k)
			if err != nil {
				p.Unreadable(place(&k), err)
				return nil
			}
			if s := aggregates[m.Aggregate()]; s != nil && m.Sequence > 0 {
				s.version = m.Sequence
			}
			give(verify.Record{At: place(&k), M: m})
			return nil
		}
	}
	before := p.Torn()
	if err := r.scan(ctx, topic, n, event(p.Event)); err != nil {
		return err
	}
	s := r.ends[kafka.Place{Topic: topic, Partition: n}]
	if p.Torn() <= before || s.cut {
		return nil
	}
	asking, cancel := limited(ctx, "to ask for the end of "+topic)
	defer cancel()
	w, err := r.look.Watermarks(asking, topic, n)
	if err != nil {
		return err
	}
	return r.look.Scan(ctx, topic, n, s.end, max(s.end, w.Stable), r.Patience, event(p.Rest))
}

// readAsides gives the set-aside records that are live at the end.
func (r *run) readAsides(ctx context.Context, n int32, p *verify.Partition) error {
	live := map[int64]verify.Aside{}
	err := r.scan(ctx, r.topics.Parked(), n, func(k kafka.Record) error {
		offset, a, err := parseAside(&k)
		switch {
		case err != nil:
			p.Unreadable(place(&k), err)
		case a == nil:
			delete(live, offset)
		default:
			live[offset] = *a
		}
		return nil
	})
	for _, a := range live {
		p.Aside(a)
	}
	return err
}

// parseAside reads a record of the parked topic; nil for a tombstone.
func parseAside(k *kafka.Record) (offset int64, a *verify.Aside, err error) {
	if offset, err = strconv.ParseInt(string(k.Key), 10, 64); err != nil {
		return 0, nil, fmt.Errorf("its key %q is no offset", k.Key)
	}
	if k.Value == nil {
		return offset, nil, nil
	}
	aside, err := shard.ParseAside(k.Value)
	if err != nil {
		return offset, nil, err
	}
	return offset, &verify.Aside{At: place(k), Offset: offset, Entity: string(aside.Aggregate), Parked: aside.Parked()}, nil
}

// awaitRemoval waits until the set-aside records of commands that have their outcome
// are gone, which takes one transaction more, and tells of those that stay. Without a
// gateway nobody is there to remove them.
func (r *run) awaitRemoval(ctx context.Context, n int32, p *verify.Partition) error {
	settled := p.Settled()
	if len(settled) == 0 {
		return nil
	}
	if r.members == 0 {
		r.note("partition %d: the set-aside records of %d commands that have their outcome wait for a gateway to remove them", n, len(settled))
		return nil
	}
	topic := r.topics.Parked()
	s := r.ends[kafka.Place{Topic: topic, Partition: n}]
	live := map[int64]bool{}
	for _, offset := range settled {
		live[offset] = true
	}
	from := s.end
	for until := time.Now().Add(r.Patience); ; {
		asking, cancel := limited(ctx, "to ask for the end of "+topic)
		w, err := r.look.Watermarks(asking, topic, n)
		cancel()
		if err != nil {
			return err
		}
		// A tombstone, or that it is listed as parked now, settles it.
		err = r.look.Scan(ctx, topic, n, from, max(from, w.Stable), r.Patience, func(k kafka.Record) error {
			if offset, a, err := parseAside(&k); err == nil && (a == nil || a.Parked) {
				delete(live, offset)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if from = max(from, w.Stable); len(live) == 0 {
			return nil
		}
		if time.Now().After(until) {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for offset := range live {
		p.Remains(offset)
	}
	return nil
}

// readHeads gives the heads and the checkpoint as they are at the end. Those of
// another topic of the name are left out, as a takeover does.
func (r *run) readHeads(ctx context.Context, n int32, p *verify.Partition) error {
	heads := map[runtime.AggregateID]verify.Head{}
	var checkpoint gateway.HeadRecord
	var at runtime.Coordinates
	err := r.scan(ctx, r.topics.Heads(), n, func(k kafka.Record) error {
		h, err := gateway.ParseHeadRecord(k.Key, k.Value)
		switch {
		case err != nil:
			p.Unreadable(place(&k), err)
		case h.Upto != nil:
			checkpoint, at = h, place(&k)
		case h.Gone:
			delete(heads, h.Aggregate)
		default:
			heads[h.Aggregate] = verify.Head{At: place(&k), Aggregate: h.Aggregate, Topic: r.eventsOf(h.Aggregate), Version: h.Version, Offset: h.Offset, Event: h.Event, Broken: h.Broken}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for topic, last := range checkpoint.Upto {
		if last.TopicID != r.ids[topic] {
			r.note("partition %d: the checkpoint of the heads is of another topic %s than the one that is there; the next owner rebuilds them", n, topic)
			return nil
		}
	}
	for topic, last := range checkpoint.Upto {
		p.Checkpoint(verify.Checkpoint{At: at, Topic: topic, Offset: last.Offset, Event: last.Event})
	}
	for _, h := range heads {
		p.Head(h)
	}
	return nil
}

func (r *run) readDecisions(ctx context.Context, n int32, p *verify.Partition) error {
	relayed, known := r.relayed[n]
	return r.scan(ctx, r.topics.Dispatched(), n, func(k kafka.Record) error {
		m, err := kafka.ParseRecord(&k)
		if err != nil {
			p.Unreadable(place(&k), err)
			return nil
		}
		d, err := r.catalogue.DecodeDispatched(m.Schema, m.Data)
		if err != nil {
			p.Unreadable(place(&k), err)
			return nil
		}
		p.Decision(verify.Decision{Record: verify.Record{At: place(&k), M: m}, D: d}, known && k.Offset < relayed)
		return nil
	})
}

// again looks through a partition of the commands for those that stand in a wrong one, too.
func (r *run) again(ctx context.Context, n int32) error {
	return r.scan(ctx, r.topics.Commands(), n, func(k kafka.Record) error {
		if m, err := kafka.ParseRecord(&k); err == nil {
			r.checker.Found(verify.Record{At: place(&k), M: m})
		}
		return nil
	})
}
