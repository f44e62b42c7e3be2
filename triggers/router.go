package triggers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Config is what a [Router] is made of.
type Config struct {
	Sources []Source     // read in this order; their Triggers are one set
	Types   Types        // known command types; nil for none
	Log     *slog.Logger // reloads, taken or refused
}

// Router answers what goes where. Its answers come from one immutable snapshot
// and may be asked for from any goroutine, while a reload goes on.
type Router struct {
	config Config

	current atomic.Pointer[view]

	load   sync.Mutex // one load at a time; whoever holds it may store current and status
	status atomic.Pointer[Status]
}

// view is the current snapshot, and the news that it has been replaced.
type view struct {
	*snapshot
	replaced chan struct{} // closed by the next load that changes something
}

// Status is what an operator wants to know of a [Router].
type Status struct {
	Generation uint64    // how many sets of Triggers have taken effect
	Since      time.Time // when the present one did; zero for none
	Triggers   int
	Skipped    []string // documents that were read and are not for us
	Refused    error    // why the last load took no effect; nil when it did, or found nothing new
	RefusedAt  time.Time
}

// NewRouter returns a Router without any Triggers: [Router.Load] reads them.
func NewRouter(c Config) *Router {
	r := &Router{config: c}
	empty, _ := newSnapshot(nil, nil, nil) // nothing contradicts nothing
	r.current.Store(&view{snapshot: empty, replaced: make(chan struct{})})
	r.status.Store(&Status{})
	return r
}

// Load reads all sources. When anything is wrong, nothing takes effect: the
// present Triggers stay, and the error (a [*LoadError], or that of a file) is
// kept for [Router.Status]. Call it also when the known types changed: a new
// command type may have two handlers.
func (r *Router) Load(ctx context.Context) error {
	r.load.Lock()
	defer r.load.Unlock()
	status := *r.status.Load()
	next, err := r.read(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return err // we are stopping: it says nothing about the Triggers
		}
		if old := status.Refused; old != nil && old.Error() == err.Error() {
			return err // known, and logged
		}
		status.Refused, status.RefusedAt = err, time.Now()
		r.status.Store(&status)
		r.config.Log.Error("triggers refused, the former ones stay", "err", err, "generation", status.Generation)
		return err
	}
	recovered := status.Refused != nil
	status.Refused, status.RefusedAt = nil, time.Time{}
	before := r.current.Load()
	changed := status.Generation == 0 || !next.same(before.snapshot)
	if changed {
		status.Generation++
		status.Since = time.Now()
		status.Triggers = len(next.all)
		status.Skipped = next.skipped
		r.current.Store(&view{snapshot: next, replaced: make(chan struct{})})
	}
	// Whoever hears the news finds it in the status.
	r.status.Store(&status)
	if recovered {
		r.config.Log.Info("triggers are in order again", "generation", status.Generation)
	}
	if changed {
		r.config.Log.Info("triggers loaded", "triggers", len(next.all), "skipped", len(next.skipped), "generation", status.Generation)
		close(before.replaced)
	}
	return nil
}

func (r *Router) read(ctx context.Context) (*snapshot, error) {
	var (
		all      Loaded
		problems []Problem
		others   []error
	)
	for _, source := range r.config.Sources {
		loaded, err := source.Load(ctx)
		var list *LoadError
		switch {
		case errors.As(err, &list):
			problems = append(problems, list.Problems...)
		case err != nil:
			others = append(others, err)
		}
		all.Triggers = append(all.Triggers, loaded.Triggers...)
		all.Skipped = append(all.Skipped, loaded.Skipped...)
	}
	if len(problems) > 0 {
		others = append(others, &LoadError{Problems: problems})
	}
	if len(others) > 0 {
		return nil, errors.Join(others...)
	}
	return newSnapshot(all.Triggers, all.Skipped, r.config.Types)
}

// Run reloads whenever a source says so, until ctx ends; then it returns nil.
// It returns an error when a source cannot be watched.
func (r *Router) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	kick := make(chan struct{}, 1)
	changed := func() {
		select {
		case kick <- struct{}{}:
		default: // a reload is due anyway
		}
	}
	failed := make(chan error, len(r.config.Sources))
	var watching sync.WaitGroup
	defer watching.Wait() // after stop
	defer stop()
	for _, source := range r.config.Sources {
		watching.Go(func() {
			if err := source.Watch(ctx, changed); err != nil {
				failed <- fmt.Errorf("watch %s: %w", source, err)
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-kick:
			// Load has logged what is wrong, and keeps it for the status.
			_ = r.Load(ctx)
		}
	}
}

// Handler returns the one that handles a command. The error wraps
// [ErrNoTrigger] or [ErrTwoHandlers].
func (r *Router) Handler(m *runtime.Message) (*Target, error) { return r.current.Load().handler(m) }

// Aggregator returns the one that folds the events of an aggregate, by the
// aggregate's name ("CheckingAccount"). The error wraps [ErrNoTrigger].
func (r *Router) Aggregator(aggregate string) (*Target, error) {
	return r.current.Load().aggregator(aggregate)
}

// Dispatchers returns those that an event is given to, by name. The slice may
// be shared: it must not be changed.
func (r *Router) Dispatchers(m *runtime.Message) []*Target {
	s := r.current.Load()
	return s.routes.get(m.Type, s.route).dispatchers.matching(m)
}

// Sinks returns those that an event is delivered to, by name. The slice may be
// shared: it must not be changed.
func (r *Router) Sinks(m *runtime.Message) []*Target {
	s := r.current.Load()
	return s.routes.get(m.Type, s.route).sinks.matching(m)
}

// All returns every Target, by name, and a channel that is closed when another
// set has taken effect.
func (r *Router) All() ([]*Target, <-chan struct{}) {
	s := r.current.Load()
	targets := make([]*Target, len(s.all))
	for i, e := range s.all {
		targets[i] = e.target
	}
	return targets, s.replaced
}

// Status says what is in effect, and why the last load was refused, if it was.
func (r *Router) Status() Status { return *r.status.Load() }
