package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers"
	"github.com/evento-oss/evento/triggers/dispatch/track"
)

// runner is one dispatcher on this gateway.
type runner struct {
	m      *Manager
	name   string
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex // guards what follows
	session *session   // nil between two
}

// session is one membership in the dispatcher's group, in one replay epoch. A
// rewind ends it, and another one begins.
type session struct {
	*runner
	start  kafka.DispatcherStart
	group  *kafka.Group
	commit *kafka.Transactor
	look   *kafka.Takeover

	ctx    context.Context // of all work
	cancel context.CancelCauseFunc
	work   sync.WaitGroup
	wake   chan struct{} // something is ready to be committed
	lag    atomic.Int64  // as last observed

	stopping atomic.Bool // it leaves the group

	undeclared context.Context // ends when a record came and the dispatcher was not declared
	giveUp     context.CancelFunc

	mu    sync.Mutex // guards parts; never held while a part's mu is awaited
	parts map[int32]*part
}

// part is a partition number that this gateway holds for the dispatcher.
type part struct {
	held   kafka.Held
	ctx    context.Context // ends when it is given up
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards what follows, and the units' fields
	units   map[string]*unit
	closing bool
}

// unit is a partition of one events topic. Its fields are guarded by its part's mu.
type unit struct {
	part  *part
	topic string
	track *track.Track // nil while it is taken over

	open      bool // a batch is in a transaction
	paused    bool
	solo      bool          // its next batch goes alone and small: the last one aborted
	soloPause time.Duration // how long it sat out the last time
	soloNext  time.Time
}

func startRunner(m *Manager, t *triggers.Target) *runner {
	ctx, cancel := context.WithCancel(context.Background())
	r := &runner{m: m, name: t.Name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.run(ctx, t.Start)
	}()
	return r
}

// stop waits for calls under way, commits, and returns when the dispatcher has
// left its group.
func (r *runner) stop() {
	r.cancel()
	<-r.done
}

// run works until it is stopped, in one session after the other.
func (r *runner) run(ctx context.Context, from triggers.Start) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		if r.m.cfg.target(r.name) == nil { // stop is about to be called, or it comes back
			if !sleep(ctx, 100*time.Millisecond) {
				return
			}
			continue
		}
		start, err := r.m.starts.create(ctx, r.name, from)
		if err == nil {
			var s *session
			if s, err = newSession(r, start); err == nil {
				pause = 100 * time.Millisecond
				err = s.run(ctx)
			}
		}
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				r.m.cfg.Log.Warn("dispatcher did not stop well; its events are asked about again where they were not recorded", "dispatcher", r.name, "err", err)
			}
			return
		}
		if err != nil {
			r.m.cfg.Log.Error("dispatcher does not run; trying again", "dispatcher", r.name, "err", err)
			if !sleep(ctx, pause) {
				return
			}
		}
	}
}

func newSession(r *runner, start kafka.DispatcherStart) (*session, error) {
	c := &r.m.cfg
	franz, err := c.Kafka.Franz(c.Log)
	if err != nil {
		return nil, err
	}
	s := &session{runner: r, start: start, wake: make(chan struct{}, 1), parts: map[int32]*part{}}
	group := GroupID(c.Topics, r.name)
	if s.group, err = kafka.NewGroup(kafka.GroupConfig{
		Client: franz, Group: group, Topic: c.Topics.Dispatched(), Also: true, Address: c.Address,
		SessionTimeout: c.SessionTimeout, RebalanceTimeout: max(30*time.Second, c.SessionTimeout),
		OnAssigned: s.assigned, OnRevoked: s.revoked, OnLost: s.lost, Log: c.Log,
	}); err != nil {
		return nil, err
	}
	if s.commit, err = kafka.NewTransactor(kafka.TransactorConfig{Client: franz, Group: s.group, Producers: 2, Log: c.Log}); err != nil {
		return nil, err
	}
	if s.look, err = kafka.NewTakeover(franz, group, c.Topics.Dispatched(), c.Log); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.undeclared, s.giveUp = context.WithCancel(s.ctx)
	return s, nil
}

// groupName makes a part of a group's id of a Trigger's namespace/name. A
// namespace has no '.', so no two of them become the same.
func groupName(name string) string {
	out := []byte(name)
	for i, c := range out {
		if c == '/' {
			out[i] = '.'
		}
	}
	return string(out)
}

// run is a member of the group until ctx ends or the dispatcher is sent elsewhere.
func (s *session) run(ctx context.Context) (err error) {
	defer s.look.Close()
	if err := s.group.Join(); err != nil {
		return err
	}
	s.runner.mu.Lock()
	s.runner.session = s
	s.runner.mu.Unlock()
	polled := make(chan error, 1)
	s.work.Go(func() { polled <- s.poll() })
	s.work.Go(s.tick)
	s.work.Go(s.commitLoop)
	s.work.Go(s.watchLag)
wait:
	for {
		start, _, news := s.m.starts.get(s.name)
		if start.Epoch > s.start.Epoch {
			break
		}
		select {
		case <-ctx.Done():
			break wait
		case err = <-polled:
			break wait
		case <-s.undeclared.Done():
			break wait
		case <-news:
		}
	}
	s.runner.mu.Lock()
	s.runner.session = nil
	s.runner.mu.Unlock()
	s.stopping.Store(true)
	leave, done := context.WithTimeout(context.WithoutCancel(ctx), drainStopping+10*time.Second)
	defer done()
	err = errors.Join(err, s.group.Close(leave))
	s.cancel(errStopped)
	err = errors.Join(err, s.commit.Close(leave))
	s.work.Wait()
	s.m.metrics.forget(s.name)
	return err
}

func (s *session) assigned(h kafka.Held) {
	p := &part{held: h, units: map[string]*unit{}}
	p.ctx, p.cancel = context.WithCancelCause(s.ctx)
	s.mu.Lock()
	s.parts[h.Partition] = p
	s.mu.Unlock()
	s.takeTopics(p)
}

// takeTopics takes over the events topics that the part does not have yet.
func (s *session) takeTopics(p *part) {
	for _, topic := range s.m.cfg.eventTopics() {
		p.mu.Lock()
		u := p.units[topic]
		if u == nil && !p.closing {
			u = &unit{part: p, topic: topic}
			p.units[topic] = u
			s.work.Go(func() { s.takeOver(u) })
		}
		p.mu.Unlock()
	}
}

// How long a partition that is given up waits for calls under way: when it goes to
// another gateway, which waits for us, and when this one stops.
const (
	drainMoving   = 5 * time.Second
	drainStopping = 15 * time.Second
)

// revoked gives partitions up: nothing more is asked, answers under way are waited
// for a little, what is decided is recorded, and the positions are committed.
func (s *session) revoked(ctx context.Context, held []kafka.Held) {
	var parts []*part
	for _, h := range held {
		if p := s.part(h); p != nil {
			parts = append(parts, p)
			p.each(func(u *unit) { u.track.Drain() })
		}
	}
	most := drainMoving
	if s.stopping.Load() {
		most = drainStopping
	}
	drain, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for !s.idle(parts) && sleep(drain, 5*time.Millisecond) {
	}
	for _, p := range parts {
		p.mu.Lock()
		p.closing = true
		p.mu.Unlock()
	}
	for s.open(parts) && sleep(ctx, 5*time.Millisecond) {
	}
	s.commitPlain(ctx, parts)
	s.lost(held)
}

// idle says whether nothing is under way in any of the parts.
func (s *session) idle(parts []*part) bool {
	busy := false
	for _, p := range parts {
		p.each(func(u *unit) { busy = busy || u.open || u.track.Calls() > 0 || u.track.Pending() })
	}
	if busy {
		s.rouse()
	}
	return !busy
}

func (s *session) open(parts []*part) bool {
	open := false
	for _, p := range parts {
		p.each(func(u *unit) { open = open || u.open })
	}
	return open
}

// lost forgets partitions that are somebody else's, or about to be.
func (s *session) lost(held []kafka.Held) {
	for _, h := range held {
		s.mu.Lock()
		p := s.parts[h.Partition]
		if p != nil && p.held == h {
			delete(s.parts, h.Partition)
		}
		s.mu.Unlock()
		if p == nil || p.held != h {
			continue
		}
		p.cancel(errStopped)
		p.mu.Lock()
		p.closing = true
		clear(p.units)
		p.mu.Unlock()
	}
}

func (s *session) part(h kafka.Held) *part {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[h.Partition]; p != nil && p.held == h {
		return p
	}
	return nil
}

func (s *session) list() []*part {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*part, 0, len(s.parts))
	for _, p := range s.parts {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *part) int { return int(a.held.Partition - b.held.Partition) })
	return list
}

// each calls do for the units that are taken over, with the part's lock held.
func (p *part) each(do func(*unit)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.units {
		if u.track != nil {
			do(u)
		}
	}
}

// with calls do with a unit's track, and carries out what came of it.
func (s *session) with(u *unit, do func(now time.Time, t *track.Track)) {
	u.part.mu.Lock()
	t := u.track
	if t == nil || u.part.units[u.topic] != u {
		u.part.mu.Unlock()
		return
	}
	do(time.Now(), t)
	asks, pending := t.Asks(), t.Pending() && !u.open
	u.part.mu.Unlock()
	if pending {
		s.rouse()
	}
	for _, a := range asks {
		s.work.Go(func() { s.ask(u, a) })
	}
}

// rouse wakes the commit loop.
func (s *session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tick lets time pass, and finds topics of new aggregates.
func (s *session) tick() {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		for _, p := range s.list() {
			var units []*unit
			p.each(func(u *unit) { units = append(units, u) })
			for _, u := range units {
				s.with(u, func(now time.Time, t *track.Track) {
					t.Tick(now)
					s.pressure(u)
				})
			}
			if n%10 == 0 {
				s.takeTopics(p)
			}
		}
	}
}

// watchLag sets the gauges every now and then.
func (s *session) watchLag() {
	for sleep(s.ctx, lagEvery) {
		ctx, cancel := context.WithTimeout(s.ctx, lagEvery)
		s.m.metrics.observe(ctx, s)
		cancel()
	}
}

const lagEvery = 5 * time.Second

// parked lists what is parked or set aside here, and the partitions that are taken
// over, all topics of them.
func (r *runner) parked() (list []Parked, partitions []int32) {
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	if s == nil {
		return nil, nil
	}
	topics := len(s.m.cfg.eventTopics())
	for _, p := range s.list() {
		taken := 0
		p.each(func(u *unit) {
			taken++
			for _, l := range u.track.Live() {
				list = append(list, Parked{Dispatcher: r.name, At: runtime.Coordinates{Topic: u.topic, Partition: p.held.Partition, Offset: l.Offset}, Live: l})
			}
		})
		if taken >= topics {
			partitions = append(partitions, p.held.Partition)
		}
	}
	return list, partitions
}

// at calls do with the track of the partition that an event is in, if it is held here.
func (r *runner) at(c runtime.Coordinates, do func(*track.Track)) {
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	if s == nil {
		return
	}
	for _, p := range s.list() {
		if p.held.Partition != c.Partition {
			continue
		}
		p.mu.Lock()
		u := p.units[c.Topic]
		p.mu.Unlock()
		if u != nil {
			s.with(u, func(_ time.Time, t *track.Track) { do(t) })
		}
	}
}

func (r *runner) retry(at runtime.Coordinates) (taken bool) {
	r.at(at, func(t *track.Track) { taken = t.Retry(at.Offset) })
	return taken
}

// dropPatience is how long a drop may wait for its commit.
const dropPatience = 10 * time.Second

func (r *runner) drop(ctx context.Context, at runtime.Coordinates, reason string) (bool, error) {
	taken := false
	r.at(at, func(t *track.Track) { taken = t.Drop(at.Offset, reason) })
	if !taken {
		return false, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dropPatience, fmt.Errorf("it was not committed within %s", dropPatience))
	defer cancel()
	for {
		held, parked := false, false
		r.at(at, func(t *track.Track) { held, parked = true, t.Parked(at.Offset) })
		switch {
		case !held:
			return false, errors.New("the partition has moved to another gateway meanwhile")
		case !parked:
			return true, nil
		case !sleep(ctx, 10*time.Millisecond):
			return false, context.Cause(ctx)
		}
	}
}

// sleep waits, or returns false when ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
