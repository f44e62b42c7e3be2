package dev

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

type functionOptions struct {
	logs   string
	drill  string // see DrillFile
	port   int    // of the gateway, which listens later than functions do
	timing Timing
	hard   <-chan struct{}
	say    *printer
}

// functionSet is the running functions.
type functionSet struct {
	o       functionOptions
	changed chan struct{} // has a token when what runs, or a process id, has changed
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup // the processes

	mu      sync.Mutex          // guards what follows
	running map[string]*process // what is called; one that is about to be, or was, is not in it
	ports   []int               // of all processes, also those that do not listen yet
}

// newFunctionSet returns a set in which nothing runs. It must be stopped.
func newFunctionSet(o functionOptions) *functionSet {
	// Not a child of another context: a stop ends the gateway first, which still needs the functions.
	ctx, cancel := context.WithCancel(context.Background())
	return &functionSet{o: o, changed: make(chan struct{}, 1), ctx: ctx, cancel: cancel, running: make(map[string]*process)}
}

// takePort finds a port for a process, and keeps it for that process.
func (s *functionSet) takePort() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, err := freePorts(1, slices.Concat(s.ports, []int{s.o.port})...)
	if err != nil {
		return 0, err
	}
	s.ports = append(s.ports, found[0])
	return found[0], nil
}

func (s *functionSet) leavePort(port int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports = slices.DeleteFunc(s.ports, func(p int) bool { return p == port })
}

// start starts the program of a function on a port of its own and waits until it
// is healthy. It does not belong to what is called before [functionSet.replace].
func (s *functionSet) start(ctx context.Context, f Function, program string) (*process, error) {
	port, err := s.takePort()
	if err != nil {
		return nil, err
	}
	runCtx, cancel := context.WithCancel(s.ctx)
	p := &process{
		function: f, bin: program, port: port, url: fmt.Sprintf("http://127.0.0.1:%d", port),
		logFile: filepath.Join(s.o.logs, f.Name+".log"), drill: s.o.drill, timing: s.o.timing, hard: s.o.hard, say: s.o.say,
		changed: s.tell, cancel: cancel, done: make(chan struct{}),
	}
	result := make(chan error, 2) // room for both words, so that nobody waits for us
	s.wg.Go(func() {
		defer close(p.done)
		defer s.leavePort(port)
		if err := p.run(runCtx, func() { result <- nil }); err != nil {
			result <- err
		}
	})
	select {
	case err = <-result:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// startAll starts functions at the same time and takes them in. It returns when
// all are healthy, or have failed.
func (s *functionSet) startAll(ctx context.Context, functions []Function, programs map[string]string) error {
	var wg sync.WaitGroup
	failed := make([]error, len(functions))
	for i, f := range functions {
		wg.Go(func() {
			began := time.Now()
			p, err := s.start(ctx, f, programs[f.Name])
			if err != nil {
				failed[i] = err
				return
			}
			s.replace(f.Name, p)
			s.o.say.line("function %s on %s (%s)", f.Name, p.url, round(time.Since(began)))
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// replace says which process a function's calls go to from now on; nil for
// none. It returns the former one, which goes on until it is stopped.
func (s *functionSet) replace(name string, p *process) (former *process) {
	s.mu.Lock()
	former = s.running[name]
	if p == nil {
		delete(s.running, name)
	} else {
		s.running[name] = p
	}
	s.mu.Unlock()
	s.tell()
	return former
}

// get returns the process that a function's calls go to; nil for none.
func (s *functionSet) get(name string) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[name]
}

func (s *functionSet) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// urls returns where the functions' calls go.
func (s *functionSet) urls() map[string]string {
	urls := make(map[string]string)
	for _, f := range s.state() {
		urls[f.Name] = f.URL
	}
	return urls
}

// state returns what runs where, by name.
func (s *functionSet) state() []FunctionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []FunctionState
	for _, p := range s.running {
		all = append(all, FunctionState{Name: p.function.Name, URL: p.url, PID: int(p.pid.Load())})
	}
	slices.SortFunc(all, func(a, b FunctionState) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// stop ends all functions, at the same time, and returns when none is left.
func (s *functionSet) stop() {
	s.cancel()
	s.wg.Wait()
	if len(s.state()) > 0 {
		s.o.say.line("functions stopped")
	}
}
