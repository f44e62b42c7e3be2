package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// Streams carries committed events to any number of live streams.
//
// One consumer reads the ends of all events topics, as long as somebody listens,
// and gives each event to every stream that wants it: a consumer for each stream would cost
// a Kafka client with its threads, connections and buffers, a hundred times. What lies before that end
// (a stream that begins at the earliest event, or goes on where it broke off) each stream reads
// for itself with the reader's few consumers in turn, until it is so near to the end that its queue
// spans the rest. A stream that does not take its events in time is cut; its
// client goes on from its last event, so nothing is lost and nothing is
// buffered without bound.
type Streams struct {
	StreamsConfig
	wanted chan struct{} // has room for one: somebody listens
	closed chan struct{}
	once   sync.Once

	mu       sync.Mutex // guards what follows
	subs     map[*subscriber]struct{}
	position map[kafka.Place]int64 // how far the tail has read; nil while there is none
	stop     context.CancelFunc    // of the tail
}

// StreamsConfig says how [Streams] works.
type StreamsConfig struct {
	Topics     kafka.Topics
	Partitions int32
	Reader     *kafka.Reader // should not be the engine's
	Aggregates func() []string
	Log        *slog.Logger

	Queue      int           // events that a stream may be behind the tail; 0: 1,000
	QueueBytes int           // of their data; 0: 8 MiB
	Heartbeat  time.Duration // between signs of life; 0: 15 s
	WriteLimit time.Duration // that a client may take for what is written at once; 0: 10 s
}

// NewStreams makes Streams; [Streams.Run] sets them going.
func NewStreams(c StreamsConfig) *Streams {
	def(&c.Queue, 1000)
	def(&c.QueueBytes, 8<<20)
	def(&c.Heartbeat, 15*time.Second)
	def(&c.WriteLimit, 10*time.Second)
	return &Streams{
		StreamsConfig: c, wanted: make(chan struct{}, 1), closed: make(chan struct{}), subs: map[*subscriber]struct{}{},
	}
}

// Close ends all streams with a last word, and refuses further ones.
func (s *Streams) Close() { s.once.Do(func() { close(s.closed) }) }

// places returns the partitions that hold the events of a type of aggregate, or of all.
func (s *Streams) places(aggregates []string) []kafka.Place {
	if len(aggregates) == 0 {
		aggregates = s.Aggregates()
	}
	var topics []string
	for _, a := range aggregates {
		topics = append(topics, s.Topics.Events(a))
	}
	if s.Topics.Layout != kafka.PerAggregate {
		topics = []string{s.Topics.Events("")}
	}
	slices.Sort(topics)
	var places []kafka.Place
	for _, topic := range slices.Compact(topics) {
		for p := range s.Partitions {
			places = append(places, kafka.Place{Topic: topic, Partition: p})
		}
	}
	return places
}

// Run reads the tail whenever somebody listens, until ctx ends.
func (s *Streams) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wanted:
		}
		if err := s.tail(ctx); err != nil {
			s.Log.Error("the events cannot be read on; streams are cut, and their clients come again", "err", err)
			s.cutAll("failed", "the events cannot be read from Kafka at the moment")
			if !sleep(ctx, time.Second) {
				return
			}
		}
	}
}

// tail reads on as long as there are subscribers.
func (s *Streams) tail(ctx context.Context) error {
	start, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("the ends of the events topics were not told within 30s"))
	defer cancel()
	spans, err := s.Reader.Spans(start, s.places(nil))
	if err != nil {
		return errors.Join(err, context.Cause(start))
	}
	s.mu.Lock()
	s.position = make(map[kafka.Place]int64, len(spans))
	for p, span := range spans {
		s.position[p] = span.Stable
	}
	for sub := range s.subs {
		sub.begin(s.position)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.position = nil
		s.mu.Unlock()
	}()
	for {
		run, stop := context.WithCancel(ctx)
		s.mu.Lock()
		listeners := len(s.subs)
		s.stop = stop
		from := maps.Clone(s.position)
		if listeners == 0 {
			s.position = nil // who comes from now on makes a tail of its own
		}
		s.mu.Unlock()
		if listeners == 0 || ctx.Err() != nil {
			stop()
			return nil
		}
		more := make(chan map[kafka.Place]int64)
		var watching sync.WaitGroup
		watching.Go(func() { s.watchTopics(run, from, more) })
		err := s.Reader.Tail(run, from, more, s.dispatch, s.reached)
		stop()
		watching.Wait()
		if err != nil {
			return err
		}
	}
}

// watchTopics tells the tail of topics that come: in the layout per-aggregate each
// registered type of aggregate has one. They are new, so they are read from their beginning.
func (s *Streams) watchTopics(ctx context.Context, known map[kafka.Place]int64, more chan<- map[kafka.Place]int64) {
	known = maps.Clone(known)
	for sleep(ctx, time.Second) {
		further := map[kafka.Place]int64{}
		for _, p := range s.places(nil) {
			if _, ok := known[p]; !ok {
				further[p], known[p] = 0, 0
			}
		}
		if len(further) == 0 {
			continue
		}
		select {
		case more <- further:
		case <-ctx.Done():
		}
	}
}

// dispatch gives a record to all who want it.
func (s *Streams) dispatch(r kafka.Record) {
	at := runtime.Coordinates{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
	m, err := kafka.ParseRecord(&r)
	if err != nil {
		s.Log.Warn("a record of an events topic cannot be read; no stream shows it", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position[kafka.Place{Topic: r.Topic, Partition: r.Partition}] = r.Offset + 1
	if err != nil {
		return
	}
	for sub := range s.subs {
		if sub.wants(m) && !sub.push(Recorded{m, at}, s.Queue, s.QueueBytes) {
			delete(s.subs, sub)
		}
	}
}

func (s *Streams) reached(p kafka.Place, to int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position[p] = max(s.position[p], to)
}

// subscribe adds a subscriber. It is given all events from where the tail stands
// when [subscriber.begun] is closed.
func (s *Streams) subscribe(wants func(*runtime.Message) bool) *subscriber {
	sub := &subscriber{wants: wants, begun: make(chan struct{}), signal: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = struct{}{}
	if s.position != nil {
		sub.begin(s.position)
	} else {
		select {
		case s.wanted <- struct{}{}:
		default:
		}
	}
	return sub
}

func (s *Streams) unsubscribe(sub *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subs, sub)
	if len(s.subs) == 0 && s.stop != nil {
		s.stop()
	}
}

// cutAll ends the streams that listen to the tail.
func (s *Streams) cutAll(reason, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subs {
		sub.cut(reason, detail)
	}
	clear(s.subs)
}

// idlePosition moves a position on to where the tail stands, where the subscriber
// has taken all that came before: events that it does not want pass by too.
func (s *Streams) idlePosition(sub *subscriber, position streamPosition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, listens := s.subs[sub]; !listens || s.position == nil || !sub.empty() {
		return
	}
	for p, to := range s.position {
		if old, ok := position[p]; ok {
			position[p] = max(old, to)
		}
	}
}

// subscriber is one stream's place at the tail.
type subscriber struct {
	wants  func(*runtime.Message) bool
	begun  chan struct{}         // closed when from is set, or the subscriber was cut before
	from   map[kafka.Place]int64 // where the tail stood; valid after begun
	signal chan struct{}         // has room for one: there is something to take

	mu     sync.Mutex // guards what follows; after Streams.mu
	queue  []Recorded
	bytes  int
	ended  *streamEnd
	opened bool
}

// streamEnd is the last word of a stream.
type streamEnd struct {
	Reason string `json:"reason"` // slow, crowded, stopping or failed
	Detail string `json:"detail"`
}

func (b *subscriber) begin(position map[kafka.Place]int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.opened {
		b.opened, b.from = true, maps.Clone(position)
		close(b.begun)
	}
}

// push adds an event, or cuts the subscriber and returns false when it is too far behind.
func (b *subscriber) push(r Recorded, most, bytes int) bool {
	b.mu.Lock()
	full := len(b.queue) > 0 && (len(b.queue) >= most || b.bytes+len(r.Message.Data) > bytes)
	if !full {
		b.queue, b.bytes = append(b.queue, r), b.bytes+len(r.Message.Data)
	}
	b.mu.Unlock()
	if full {
		b.cut("slow", fmt.Sprintf("the client is more than %d events, or %d bytes, behind; it can go on from its last event", most, bytes))
		return false
	}
	b.wake()
	return true
}

func (b *subscriber) cut(reason, detail string) {
	b.mu.Lock()
	if b.ended == nil {
		b.ended, b.queue = &streamEnd{reason, detail}, nil
	}
	if !b.opened {
		b.opened = true
		close(b.begun)
	}
	b.mu.Unlock()
	b.wake()
}

func (b *subscriber) wake() {
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

// take returns what has come, and the end when there is one.
func (b *subscriber) take() ([]Recorded, *streamEnd) {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.queue
	b.queue, b.bytes = nil, 0
	return taken, b.ended
}

func (b *subscriber) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) == 0
}
