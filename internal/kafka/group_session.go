package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// PartitionError says that one partition cannot be read: its topic is gone, or
// the offset asked for is not in its log. Poll returns it once; the partition
// is paused then, and [Group.Resume] makes another try.
type PartitionError struct {
	Held
	Topic string
	Err   error
}

func (e *PartitionError) Error() string {
	return fmt.Sprintf("read %s partition %d in term %d: %v", e.Topic, e.Partition, e.Term, e.Err)
}

func (e *PartitionError) Unwrap() error { return e.Err }

// session reads what one assignment holds.
type session struct {
	topic  string         // the group's own
	also   bool           // other topics are read too
	terms  map[int32]Term // fixed
	reader *kgo.Client
	// started are the partitions that were ever told to the reader, by topic; the
	// group's mu guards it until the session is replaced.
	started map[string][]int32
	ctx     context.Context // ends with the assignment
	end     context.CancelFunc
}

func newSession(g *Group, held []Held) (*session, error) {
	// No group, no commits, no reset: this client reads what it is told to.
	opts := []kgo.Opt{
		kgo.MaxVersions(versions()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	}
	if g.cfg.Also {
		opts = append(opts, kgo.KeepControlRecords())
	}
	reader, err := newClient(slices.Concat(g.cfg.Client, opts))
	if err != nil {
		return nil, err
	}
	s := &session{topic: g.cfg.Topic, also: g.cfg.Also, terms: make(map[int32]Term, len(held)), reader: reader, started: map[string][]int32{}}
	s.ctx, s.end = context.WithCancel(context.Background())
	for _, h := range held {
		s.terms[h.Partition] = h.Term
	}
	return s, nil
}

// replace makes s the session that is read from, and ends the one before it.
func (g *Group) replace(s *session) {
	g.mu.Lock()
	old := g.session
	g.session = s
	close(g.changed)
	g.changed = make(chan struct{})
	g.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// close ends the session; nobody starts partitions in it any more. What it was
// to read is taken from the client first: a partition that was started a moment
// ago is taken up when the client has asked for its leader, and one that is
// taken up while the client closes is fetched with what Close has in its hands.
func (s *session) close() {
	s.end()
	s.reader.RemoveConsumePartitions(s.started)
	s.reader.Close()
}

// Poll waits for records and returns those of one or more partitions, in the
// order of each partition. Errors of single partitions come as [*PartitionError],
// several joined, and may come together with records of others. Poll fails with
// [ErrClosed] after Close and with the context's error when that ends.
func (g *Group) Poll(ctx context.Context) ([]Fetched, error) {
	for {
		g.mu.Lock()
		s, changed, closed := g.session, g.changed, g.closed
		g.mu.Unlock()
		switch {
		case closed && s == nil:
			return nil, ErrClosed
		case s == nil:
			if err := wait(ctx, changed, time.Hour); err != nil {
				return nil, err
			}
			continue
		}
		fetches := s.poll(ctx)
		if err := ctx.Err(); err != nil && fetches.NumRecords() == 0 {
			return nil, err
		}
		g.mu.Lock()
		if g.session != s { // read in an assignment that has ended meanwhile
			g.mu.Unlock()
			continue
		}
		fetched, err := s.stamp(fetches)
		g.mu.Unlock()
		if len(fetched) > 0 || err != nil {
			return fetched, err
		}
	}
}

func (s *session) poll(ctx context.Context) kgo.Fetches {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	return s.reader.PollFetches(ctx)
}

// stamp gives each record the term it was read in.
func (s *session) stamp(fetches kgo.Fetches) (fetched []Fetched, err error) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		h := Held{Partition: p.Partition, Term: s.terms[p.Partition]}
		if len(p.Records) > 0 {
			records := make([]Record, len(p.Records))
			for i, r := range p.Records {
				records[i] = fromClient(r)
			}
			fetched = append(fetched, Fetched{Held: h, Records: records})
		}
		// What the client says of itself, as that its context has ended, names
		// no topic.
		if p.Err != nil && (p.Topic == s.topic || s.also && p.Topic != "" && h.Term != 0) {
			// The client would ask again without a break, for ever.
			s.reader.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
			err = errors.Join(err, &PartitionError{Held: h, Topic: p.Topic, Err: p.Err})
		}
	})
	return fetched, err
}

// Start begins to read a partition at an offset. It fails with [ErrStaleTerm]
// when the partition is not held at this term. A partition is started once in
// a term; a second call does nothing.
func (g *Group) Start(h Held, offset int64) error { return g.StartTopic(h, g.cfg.Topic, offset) }

// StartTopic begins to read the partition with this number of a topic, as Start
// does of the group's own: see [GroupConfig.Also].
func (g *Group) StartTopic(h Held, topic string, offset int64) error {
	return g.reading(h, func(s *session) {
		if !slices.Contains(s.started[topic], h.Partition) {
			s.started[topic] = append(s.started[topic], h.Partition)
		}
		s.reader.AddConsumePartitions(map[string]map[int32]kgo.Offset{
			topic: {h.Partition: kgo.NewOffset().At(offset)},
		})
	})
}

// StopTopic ends what StartTopic began; StartTopic may begin it again elsewhere.
// What was fetched before may still come out of one call of Poll.
func (g *Group) StopTopic(h Held, topic string) error {
	return g.reading(h, func(s *session) {
		s.reader.RemoveConsumePartitions(map[string][]int32{topic: {h.Partition}})
	})
}

// Pause stops reading a partition for a while; what Poll has not returned yet
// is read again after [Group.Resume]. Fails like Start.
func (g *Group) Pause(h Held) error { return g.PauseTopic(h, g.cfg.Topic) }

// PauseTopic is [Group.Pause] for another topic than the group's own.
func (g *Group) PauseTopic(h Held, topic string) error {
	return g.reading(h, func(s *session) {
		s.reader.PauseFetchPartitions(map[string][]int32{topic: {h.Partition}})
	})
}

// Resume reads a paused partition on. Fails like Start.
func (g *Group) Resume(h Held) error { return g.ResumeTopic(h, g.cfg.Topic) }

// ResumeTopic is [Group.Resume] for another topic than the group's own.
func (g *Group) ResumeTopic(h Held, topic string) error {
	return g.reading(h, func(s *session) {
		s.reader.ResumeFetchPartitions(map[string][]int32{topic: {h.Partition}})
	})
}

func (g *Group) reading(h Held, do func(*session)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.session; s == nil || h.Term == 0 || s.terms[h.Partition] != h.Term {
		return fmt.Errorf("%s partition %d, term %d: %w", g.cfg.Topic, h.Partition, h.Term, ErrStaleTerm)
	}
	do(g.session)
	return nil
}

// Holds says whether a partition is still held at this term. By the time the
// caller looks at the answer it may have changed; only [Transactor] can tell
// for certain.
func (g *Group) Holds(h Held) bool { return g.fence.holds(h) }

// fromClient takes a record from the client library, without copying its bytes.
func fromClient(r *kgo.Record) Record {
	rec := Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Key: r.Key, Value: r.Value, Time: r.Timestamp, Control: r.Attrs.IsControl(),
	}
	if len(r.Headers) > 0 {
		rec.Headers = make([]Header, len(r.Headers))
		for i, h := range r.Headers {
			rec.Headers[i] = Header{Key: h.Key, Value: h.Value}
		}
	}
	return rec
}
