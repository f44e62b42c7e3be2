package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/triggers"
)

// starts knows where each dispatcher begins, as the schemas topic has it.
type starts struct {
	cfg    *Config
	change *kafka.DispatcherStarts
	look   *kafka.Takeover

	mu    sync.Mutex // guards what follows
	known map[string]kafka.DispatcherStart
	news  chan struct{} // closed and replaced when known changes
}

func newStarts(cfg *Config, change *kafka.DispatcherStarts, look *kafka.Takeover) *starts {
	return &starts{cfg: cfg, change: change, look: look, known: map[string]kafka.DispatcherStart{}, news: make(chan struct{})}
}

// follow reads the schemas topic until ctx ends.
func (s *starts) follow(ctx context.Context, caughtUp func()) error {
	return s.cfg.Reader.Follow(ctx, s.cfg.Topics.Schemas(), func(r kafka.Record) {
		name, ok := kafka.ParseDispatcherKey(r.Key)
		if !ok || r.Value == nil {
			return
		}
		start, err := kafka.ParseDispatcherStart(r.Value)
		if err != nil {
			s.cfg.Log.Error("start of a dispatcher cannot be read; the former one stays", "dispatcher", name, "offset", r.Offset, "err", err)
			return
		}
		s.learn(name, start)
	}, caughtUp)
}

func (s *starts) learn(name string, start kafka.DispatcherStart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.known[name]; ok && old.Epoch >= start.Epoch {
		return
	}
	s.known[name] = start
	close(s.news)
	s.news = make(chan struct{})
}

// get returns what is known now, and tells when that changes.
func (s *starts) get(name string) (start kafka.DispatcherStart, ok bool, news <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	start, ok = s.known[name]
	return start, ok, s.news
}

// create returns the start of a dispatcher, and fixes it first where it is new:
// for all partitions at the same time, whoever will own them.
func (s *starts) create(ctx context.Context, name string, from triggers.Start) (kafka.DispatcherStart, error) {
	if start, ok, _ := s.get(name); ok {
		return start, nil
	}
	start, err := s.change.Change(ctx, name, func(ctx context.Context, there *kafka.DispatcherStart) (*kafka.DispatcherStart, error) {
		if there != nil {
			return nil, nil
		}
		at := time.Now().Add(time.Hour) // after all that is there
		if from == triggers.StartEarliest {
			at = time.Time{}
		}
		return s.at(ctx, 0, at)
	})
	if err == nil {
		s.learn(name, start)
		s.cfg.Log.Info("dispatcher starts", "dispatcher", name, "epoch", start.Epoch, "since", start.Time, "start", string(from))
	}
	return start, err
}

// rewind fixes another start for a dispatcher, with the next replay epoch; see
// [Manager.Replay].
func (s *starts) rewind(ctx context.Context, name string, at time.Time, expect *uint64) (kafka.DispatcherStart, error) {
	start, err := s.change.Change(ctx, name, func(ctx context.Context, there *kafka.DispatcherStart) (*kafka.DispatcherStart, error) {
		epoch := uint64(0)
		if there != nil {
			epoch = there.Epoch
		}
		if expect != nil && epoch != *expect {
			if there != nil && epoch == *expect+1 && there.From.Equal(at) {
				return nil, nil // the same order, once more
			}
			return nil, &EpochError{Have: epoch, Want: *expect}
		}
		start, err := s.at(ctx, epoch+1, at)
		if err == nil {
			start.From = at.UTC()
		}
		return start, err
	})
	if err == nil {
		s.learn(name, start)
		s.cfg.Log.Info("dispatcher is sent back", "dispatcher", name, "epoch", start.Epoch, "to", at)
	}
	return start, err
}

// at is a start at the events recorded from a time on.
func (s *starts) at(ctx context.Context, epoch uint64, at time.Time) (*kafka.DispatcherStart, error) {
	if err := s.cfg.CatchUp(ctx); err != nil {
		return nil, err
	}
	start := &kafka.DispatcherStart{Epoch: epoch, Time: time.Now().UTC().Truncate(time.Millisecond)}
	ends := func(topic string, at time.Time) ([]int64, error) {
		offsets := make([]int64, s.cfg.Partitions)
		for p := range offsets {
			var err error
			if offsets[p], err = s.look.OffsetAt(ctx, topic, int32(p), at); err != nil {
				return nil, err
			}
		}
		return offsets, nil
	}
	var err error
	if start.Decisions, err = ends(s.cfg.Topics.Dispatched(), time.Now().Add(time.Hour)); err != nil || at.IsZero() {
		return start, err
	}
	start.Offsets = map[string][]int64{}
	for _, topic := range s.cfg.eventTopics() {
		if start.Offsets[topic], err = ends(topic, at); err != nil {
			return nil, err
		}
	}
	return start, nil
}

// eventTopics are the topics that hold events, as far as aggregates are known.
func (c *Config) eventTopics() []string {
	if c.Topics.Layout != kafka.PerAggregate {
		return []string{c.Topics.Events("")}
	}
	var topics []string
	for _, name := range c.Catalogue.Aggregates() {
		topics = append(topics, c.Topics.Events(name))
	}
	slices.Sort(topics)
	return topics
}
