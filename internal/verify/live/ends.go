package live

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

// takeEnds takes everything up to which the topics are read, in the order that makes
// what is behind it "not yet".
func (r *run) takeEnds(ctx context.Context) error {
	committed := r.readPositions(ctx)
	for _, topics := range [][]string{{r.topics.Parked()}, {r.topics.Heads()}, r.events, {r.topics.Commands()}, {r.topics.Dispatched()}} {
		for _, topic := range topics {
			for n := range r.installation.Partitions {
				asking, cancel := limited(ctx, "to ask for the ends of "+topic)
				w, err := r.look.Watermarks(asking, topic, n)
				cancel()
				if err != nil {
					return err
				}
				r.ends[kafka.Place{Topic: topic, Partition: n}] = span{low: w.Low, end: w.High}
			}
		}
	}
	return r.judgePositions(ctx, committed)
}

// group is a consumer group with positions in a topic.
type group struct {
	name, topic string
	positions   map[int32]kafka.Position
}

// readPositions asks for all committed positions: what they say is in transactions
// that have ended, whatever is open now. Those that cannot be told are left out, with
// a note.
func (r *run) readPositions(ctx context.Context) (list []group) {
	partitions := make([]int32, r.installation.Partitions)
	for n := range partitions {
		partitions[n] = int32(n)
	}
	read := func(look *kafka.Takeover, name, topic string) {
		asking, cancel := limited(ctx, "to ask for the positions of group "+name)
		defer cancel()
		positions, err := look.CommittedOffsetsOf(asking, topic, partitions)
		if err != nil {
			r.note("the positions of group %s in %s were not told, so nothing is said of what they claim: %v", name, topic, err)
		}
		list = append(list, group{name, topic, positions})
	}
	read(r.look, gatewayGroup, r.topics.Commands())
	franz, err := r.Kafka.Franz(r.Log)
	if err != nil {
		return list
	}
	other := func(name string, topics ...string) {
		look, err := kafka.NewTakeover(franz, name, r.topics.Dispatched(), r.Log)
		if err != nil {
			r.note("the positions of group %s cannot be read: %v", name, err)
			return
		}
		defer look.Close()
		for _, topic := range topics {
			read(look, name, topic)
		}
	}
	other(r.RelayGroup(r.topics), r.topics.Dispatched())
	for _, name := range r.dispatchers {
		other(r.DispatcherGroup(r.topics, name), r.events...)
	}
	return list
}

// gatewayGroup stands for the gateways' group, whatever its name.
const gatewayGroup = "of the gateways"

// judgePositions looks at the positions themselves: whether they are Evento's, inside of
// the log, and such as the broker takes.
func (r *run) judgePositions(ctx context.Context, committed []group) error {
	r.positions, r.relayed = map[int32]*position.Position{}, map[int32]int64{}
	for _, g := range committed {
		missing := 0
		for n := range r.installation.Partitions {
			p, asked := g.positions[n]
			ends := r.ends[kafka.Place{Topic: g.topic, Partition: n}]
			at := runtime.Coordinates{Topic: g.topic, Partition: n, Offset: p.Offset}
			switch {
			case !asked:
				continue
			case !p.Found:
				if ends.end > ends.low {
					missing++
				}
				continue
			case p.Offset < ends.low || p.Offset > ends.end:
				r.violation(verify.Position, at, "the committed position of group %s is outside of the log, which goes from %d to %d", g.name, ends.low, ends.end)
				continue
			case len(p.Metadata) > position.MetadataLimit:
				r.violation(verify.Position, at, "the metadata beside the committed position of group %s has %d bytes, more than the %d that a broker takes", g.name, len(p.Metadata), position.MetadataLimit)
			}
			if g.name == r.RelayGroup(r.topics) {
				r.relayed[n] = p.Offset
				continue
			}
			parsed, err := position.Parse(p.Offset, p.Metadata, r.ids[g.topic])
			if err != nil {
				r.violation(verify.Position, at, "the committed position of group %s is not one of Evento's: %v", g.name, err)
			} else if g.name == gatewayGroup {
				r.positions[n] = &parsed
			}
		}
		if missing > 0 {
			r.note("group %s has no committed position in %d partitions of %s that have records: it is new there, or has expired", g.name, missing, g.topic)
		}
	}
	return nil
}

// awaitStable waits until no transaction is open below the ends, and cuts the ends
// where one stays open.
func (r *run) awaitStable(ctx context.Context) error {
	until := time.Now().Add(r.Patience)
	for place, s := range r.ends {
		for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
			asking, cancel := limited(ctx, "to ask for the ends of "+place.String())
			w, err := r.look.Watermarks(asking, place.Topic, place.Partition)
			cancel()
			if err != nil {
				return err
			}
			if w.Stable >= s.end {
				break
			}
			if time.Now().After(until) {
				if err := r.cut(ctx, place, w.Stable); err != nil {
					return err
				}
				break
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// cut has a partition read up to an open transaction alone, and says whose it is.
func (r *run) cut(ctx context.Context, place kafka.Place, stable int64) error {
	asking, cancel := limited(ctx, "to look for the writer of an open transaction in "+place.String())
	defer cancel()
	s := r.ends[place]
	since, err := r.look.WrittenAt(asking, place.Topic, place.Partition, stable, s.end)
	if err != nil {
		return err
	}
	writers, err := r.look.OpenWriters(asking, place.Topic, place.Partition)
	whose := fmt.Sprintf("of %q", writers)
	if err != nil || len(writers) == 0 {
		whose = fmt.Sprintf("of a writer that cannot be told (%v)", errors.Join(err, asking.Err()))
	}
	r.violation(verify.Open, runtime.Coordinates{Topic: place.Topic, Partition: place.Partition, Offset: stable},
		"a transaction %s is open since %s: readers wait at offset %d, the log goes on to %d", whose, since.UTC().Format(time.RFC3339), stable, s.end)
	r.ends[place] = span{s.low, max(s.low, stable), true}
	r.note("%s is read up to the open transaction at offset %d; what committed positions claim of the rest is not looked at", place, stable)
	switch place.Topic {
	case r.topics.Heads():
	case r.topics.Dispatched():
		r.undecided = true
	case r.topics.Commands():
		clear(r.relayed) // what was sent may stand behind it, or a stray
		clear(r.positions)
	default:
		delete(r.positions, place.Partition) // an outcome may stand behind it
	}
	return nil
}
