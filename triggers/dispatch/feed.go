package dispatch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers"
	"github.com/evento-oss/evento/triggers/dispatch/track"
)

// maxBacklog is how many events of a partition are in memory before its reading pauses.
const maxBacklog = 10_000

// maxMemory is how many bytes the events of a partition may take, those that are
// parked or set aside included, before its reading pauses: a function that is away
// or fails for days holds up itself, and not the gateway.
const maxMemory = 32 << 20

// poll reads events and feeds them to their tracks.
func (s *session) poll() error {
	for {
		fetched, err := s.group.Poll(s.ctx)
		for _, f := range fetched {
			s.feed(f)
		}
		if err == nil {
			continue
		}
		if errors.Is(err, kafka.ErrClosed) || s.ctx.Err() != nil {
			return nil
		}
		if !s.readAgain(err) {
			s.m.cfg.Log.Error("events cannot be read", "dispatcher", s.name, "err", err)
			if !sleep(s.ctx, time.Second) {
				return nil
			}
		}
	}
}

// readAgain has partitions that could not be read, and are paused for that, read
// on after a while. It returns false when the error is about more than those.
func (s *session) readAgain(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all := true
		for _, err := range joined.Unwrap() {
			all = s.readAgain(err) && all
		}
		return all
	}
	var failed *kafka.PartitionError
	if !errors.As(err, &failed) {
		return false
	}
	s.m.cfg.Log.Error("events of a partition cannot be read; trying again", "dispatcher", s.name, "err", failed)
	s.work.Go(func() {
		if sleep(s.ctx, time.Second) && !s.fullOf(failed.Held, failed.Topic) {
			if err := s.group.ResumeTopic(failed.Held, failed.Topic); err != nil && !errors.Is(err, kafka.ErrStaleTerm) {
				s.m.cfg.Log.Warn("could not resume a partition", "dispatcher", s.name, "err", err)
			}
		}
	})
	return true
}

// fullOf says whether reading stands still because too much is in memory; then it
// goes on when that gets less.
func (s *session) fullOf(held kafka.Held, topic string) bool {
	p := s.part(held)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.units[topic]
	return u != nil && u.paused
}

func (s *session) feed(f kafka.Fetched) {
	p := s.part(f.Held)
	if p == nil || len(f.Records) == 0 {
		return
	}
	p.mu.Lock()
	u := p.units[f.Records[0].Topic]
	p.mu.Unlock()
	if u == nil {
		return
	}
	events, ok := s.events(f.Records)
	if !ok {
		s.giveUp()
		return
	}
	s.with(u, func(_ time.Time, t *track.Track) {
		for i, e := range events {
			if e == nil {
				t.Skip(f.Records[i].Offset)
			} else {
				t.Record(f.Records[i].Offset, e)
			}
		}
		s.pressure(u)
	})
}

// events reads records, by one set of Triggers. It returns false when the
// dispatcher is not declared (any more), or the session has ended for that: then
// no filter says what it is not given, and nothing counts as finished.
func (s *session) events(records []kafka.Record) ([]*runtime.Message, bool) {
	events := make([]*runtime.Message, len(records))
	for {
		targets, set := s.m.cfg.Router.All()
		if s.undeclared.Err() != nil || find(targets, s.name) == nil {
			return nil, false
		}
		for i := range records {
			events[i] = s.event(&records[i])
		}
		if _, now := s.m.cfg.Router.All(); now == set {
			return events, true
		}
	}
}

// event reads a record; nil for one that the dispatcher is not given. The
// platform's own records are not: no function has code for them.
func (s *session) event(r *kafka.Record) *runtime.Message {
	if r.Control {
		return nil
	}
	m, err := kafka.ParseRecord(r)
	if err != nil {
		s.m.cfg.Log.Error("record of an events topic is no event of evento; it is left out", "dispatcher", s.name, "err", err)
		return nil
	}
	if m.Platform() {
		return nil
	}
	for _, t := range s.m.cfg.Router.Dispatchers(m) {
		if t.Name == s.name {
			return m
		}
	}
	return nil
}

// pressure pauses the reading of a partition that has too much in memory. The
// part's lock is held.
func (s *session) pressure(u *unit) {
	n, memory := u.track.Backlog(), u.track.Memory()
	var err error
	switch {
	case !u.paused && (n > maxBacklog || memory > maxMemory):
		if memory > maxMemory {
			s.m.cfg.Log.Error("dispatcher gets no more events of a partition: too many wait for its function or are parked; it goes on when they are tried with success", "dispatcher", s.name, "topic", u.topic, "partition", u.part.held.Partition, "waiting", n, "bytes", memory)
		}
		err = s.group.PauseTopic(u.part.held, u.topic)
		u.paused = true
	case u.paused && n < maxBacklog/2 && memory < maxMemory*9/10:
		err = s.group.ResumeTopic(u.part.held, u.topic)
		u.paused = false
	}
	if err != nil && !errors.Is(err, kafka.ErrStaleTerm) {
		s.m.cfg.Log.Warn("could not pause or resume a partition", "dispatcher", s.name, "err", err)
	}
}

// ask asks the dispatcher about one event.
func (s *session) ask(u *unit, a track.Ask) {
	answer := s.answer(u, a)
	if u.part.ctx.Err() != nil {
		return
	}
	s.with(u, func(now time.Time, t *track.Track) { t.Answered(now, a.Token, answer) })
}

func (s *session) answer(u *unit, a track.Ask) track.Answer {
	t := s.m.cfg.target(s.name)
	if t == nil {
		return track.Answer{Trouble: &track.Trouble{Wait: time.Second, Reason: "the dispatcher is not declared any more"}}
	}
	began := time.Now()
	answer := s.m.cfg.Ask(u.part.ctx, t, a.Message)
	if answer.Trouble == nil && len(answer.Commands) > 0 {
		d := track.Record{Status: avro.DispatchDecided, Offset: a.Offset, Event: a.Message, Commands: answer.Commands, By: answer.By}
		if err := s.sendable(u, &d); err != nil {
			answer.Trouble = &Trouble{Failed: true, Reason: fmt.Sprintf("wrong answer: %v", err)}
		}
	}
	s.m.metrics.asked(s.name, answer, time.Since(began))
	if answer.Trouble == nil {
		return track.Answer{Commands: answer.Commands, By: answer.By}
	}
	trouble := &track.Trouble{Failed: answer.Trouble.Failed, Wait: answer.Trouble.Wait, Reason: answer.Trouble.Reason}
	if trouble.Failed {
		failures := int(a.Attempts) + 1
		trouble.Last = failures > t.Delivery.Retry
		delay := t.Delivery.Backoff(failures)
		trouble.Wait = delay/2 + rand.N(delay/2+1)
		s.m.cfg.Log.Warn("dispatcher failed", "dispatcher", s.name, "entity", string(a.Message.Subject), "event", a.Message.ID, "attempt", failures, "parked", trouble.Last, "err", trouble.Reason)
	}
	return track.Answer{Trouble: trouble}
}

// target is the Trigger as it is declared now; nil when it is not.
func (c *Config) target(name string) *triggers.Target {
	targets, _ := c.Router.All()
	return find(targets, name)
}

func find(targets []*triggers.Target, name string) *triggers.Target {
	for _, t := range targets {
		if t.Name == name && t.Has(triggers.Dispatcher) {
			return t
		}
	}
	return nil
}
