package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers"
	"github.com/evento-oss/evento/triggers/dispatch/track"
)

// Config is what a [Manager] is made of. All fields but the last two are required.
type Config struct {
	Installation string
	Topics       kafka.Topics
	Partitions   int32
	Kafka        kafka.Settings
	Address      string // host:port of this gateway's internal listener
	TopicID      func(topic string) string

	Catalogue *avro.Catalogue
	CatchUp   func(context.Context) error // waits until all registered schemas are in the catalogue
	Reader    *kafka.Reader
	Router    *triggers.Router

	// Ask asks a dispatcher about an event.
	Ask func(ctx context.Context, t *triggers.Target, event *runtime.Message) Answer

	Registerer prometheus.Registerer
	Log        *slog.Logger

	SessionTimeout time.Duration // of the consumer groups; 6 s when zero
	MaxCalls       int           // calls of one dispatcher for one partition at the same time; 128 when zero
}

// Answer is what came of asking a dispatcher: commands, perhaps none, or trouble.
type Answer struct {
	Commands []*runtime.Message // with Type, Subject, Schema, Data and Time
	By       string             // function and image
	Trouble  *Trouble
}

// Trouble says why a dispatcher has not answered.
type Trouble struct {
	Failed bool          // it answered with an error or nonsense: this spends an attempt
	Wait   time.Duration // not failed: when to ask again
	Reason string        // for people
}

// Manager runs the dispatchers of one gateway, and its share of the relay.
type Manager struct {
	cfg     Config
	metrics *metrics
	starts  *starts
	look    *kafka.Takeover

	mu      sync.Mutex // guards runners
	runners map[string]*runner
}

// New makes a Manager; it opens nothing but a client for questions about offsets.
func New(c Config) (*Manager, error) {
	if c.MaxCalls <= 0 {
		c.MaxCalls = 128
	}
	franz, err := c.Kafka.Franz(c.Log)
	if err != nil {
		return nil, err
	}
	look, err := kafka.NewTakeover(franz, "", "", c.Log)
	if err != nil {
		return nil, err
	}
	writer := kafka.NewExclusive(franz, "evento-"+c.Topics.Dispatched(), c.Log)
	m := &Manager{cfg: c, metrics: newMetrics(c.Registerer), look: look, runners: map[string]*runner{}}
	m.starts = newStarts(&m.cfg, kafka.NewDispatcherStarts(c.Topics, c.Reader, writer), look)
	return m, nil
}

// Run delivers until ctx ends: a dispatcher that is declared begins, one that is
// declared no more stops and keeps its position. When it returns, calls under way
// have been waited for and positions are committed.
func (m *Manager) Run(ctx context.Context) error {
	defer m.look.Close()
	back, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	failed := make(chan error, 2)
	caughtUp := make(chan struct{})
	background.Go(func() {
		if err := m.starts.follow(back, func() { close(caughtUp) }); err != nil {
			failed <- fmt.Errorf("dispatchers' starts: %w", err)
		}
	})
	background.Go(func() {
		if err := m.relay(back); err != nil {
			failed <- fmt.Errorf("relay: %w", err)
		}
	})
	defer m.stopAll() // the relay goes on meanwhile
	select {
	case <-caughtUp:
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
	for {
		targets, changed := m.cfg.Router.All()
		m.reconcile(targets)
		select {
		case <-changed:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// reconcile starts and stops dispatchers.
func (m *Manager) reconcile(targets []*triggers.Target) {
	declared := map[string]bool{}
	for _, t := range targets {
		if !t.Has(triggers.Dispatcher) {
			continue
		}
		declared[t.Name] = true
		m.mu.Lock()
		if m.runners[t.Name] == nil {
			m.runners[t.Name] = startRunner(m, t)
		}
		m.mu.Unlock()
	}
	var gone []*runner
	m.mu.Lock()
	for name, r := range m.runners {
		if !declared[name] {
			gone = append(gone, r)
			delete(m.runners, name)
		}
	}
	m.mu.Unlock()
	stopRunners(gone)
}

func (m *Manager) stopAll() {
	m.mu.Lock()
	var all []*runner
	for _, r := range m.runners {
		all = append(all, r)
	}
	clear(m.runners)
	m.mu.Unlock()
	stopRunners(all)
}

func stopRunners(list []*runner) {
	var stopping sync.WaitGroup
	for _, r := range list {
		stopping.Go(r.stop)
	}
	stopping.Wait()
}

func (m *Manager) list() []*runner {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*runner, 0, len(m.runners))
	for _, r := range m.runners {
		list = append(list, r)
	}
	return list
}

// errStopped is why the work of a dispatcher ends here.
var errStopped = errors.New("the dispatcher stops here")

// Parked is an event that a dispatcher has parked, or that waits set aside.
type Parked struct {
	Dispatcher string // namespace/name
	At         runtime.Coordinates
	track.Live
}

// Parked lists what is parked or set aside in the partitions that this gateway
// holds, and which those are for each dispatcher. One that is being taken over is
// not among them.
func (m *Manager) Parked() (list []Parked, partitions map[string][]int32) {
	partitions = map[string][]int32{}
	for _, r := range m.list() {
		found, held := r.parked()
		list = append(list, found...)
		partitions[r.name] = held
	}
	return list, partitions
}

// Status is how far a dispatcher is in the partitions that this gateway holds.
type Status struct {
	Epoch      uint64
	Partitions int
	Lag        int64 // records that are not finished, as of some seconds ago
	Parked     int   // events parked or set aside
}

// Status tells how far a dispatcher is; false when it does not run here.
func (m *Manager) Status(dispatcher string) (Status, bool) {
	m.mu.Lock()
	r := m.runners[dispatcher]
	m.mu.Unlock()
	if r == nil {
		return Status{}, false
	}
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	if s == nil {
		return Status{}, false
	}
	list, _ := r.parked()
	return Status{Epoch: s.start.Epoch, Partitions: len(s.list()), Lag: s.lag.Load(), Parked: len(list)}, true
}

// Others returns the addresses of the other gateways that hold partitions for a
// dispatcher.
func (m *Manager) Others(ctx context.Context) ([]string, error) {
	var addresses []string
	for _, r := range m.list() {
		r.mu.Lock()
		s := r.session
		r.mu.Unlock()
		if s == nil {
			continue
		}
		owners, err := s.group.Owners(ctx)
		if err != nil {
			return nil, err
		}
		for _, address := range owners {
			if address != m.cfg.Address && !slices.Contains(addresses, address) {
				addresses = append(addresses, address)
			}
		}
	}
	return addresses, nil
}

// Retry has a dispatcher asked once more about an event that it has parked. It
// returns false when none is parked there in the partitions that this gateway holds.
func (m *Manager) Retry(dispatcher string, at runtime.Coordinates) bool {
	m.mu.Lock()
	r := m.runners[dispatcher]
	m.mu.Unlock()
	return r != nil && r.retry(at)
}

// Drop ends an event that a dispatcher has parked, without commands: that it is
// dropped, and why, is recorded in place of a decision, and nobody is asked about
// it again in this replay epoch. It returns true when that is committed, and false
// when none is parked there in the partitions that this gateway holds, or it is
// being asked about. After an error it may be committed or not; a second call is safe.
func (m *Manager) Drop(ctx context.Context, dispatcher string, at runtime.Coordinates, reason string) (bool, error) {
	m.mu.Lock()
	r := m.runners[dispatcher]
	m.mu.Unlock()
	if r == nil {
		return false, nil
	}
	return r.drop(ctx, at, reason)
}

// EpochError is returned by [Manager.Replay] for a dispatcher that is in another
// replay epoch than was expected.
type EpochError struct{ Have, Want uint64 }

func (e *EpochError) Error() string {
	return fmt.Sprintf("the dispatcher is in replay epoch %d, not %d", e.Have, e.Want)
}

// ErrUnknown is returned for a dispatcher that is not declared.
var ErrUnknown = errors.New("no such dispatcher")

// Replay sends a dispatcher back (or forward) to events recorded from at on; the
// zero time is the beginning. It returns the new replay epoch when the order is in
// Kafka; each gateway follows it by itself. Commands that come of it have new ids.
//
// With expect it does so only when that is the dispatcher's replay epoch; otherwise
// the error is an [EpochError]. So it can be repeated after an uncertain answer: the
// same order after the same epoch is one order.
func (m *Manager) Replay(ctx context.Context, dispatcher string, at time.Time, expect *uint64) (epoch uint64, err error) {
	if m.cfg.target(dispatcher) == nil {
		return 0, fmt.Errorf("%w: %q", ErrUnknown, dispatcher)
	}
	s, err := m.starts.rewind(ctx, dispatcher, at, expect)
	return s.Epoch, err
}
