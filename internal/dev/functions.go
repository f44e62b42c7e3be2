package dev

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

type functionOptions struct {
	bin    func(Function) string
	logs   string
	drill  string // see DrillFile
	timing Timing
	hard   <-chan struct{}
	say    *printer
}

// functionSet is the running functions.
type functionSet struct {
	processes []*process
	changed   chan struct{} // has a token when a process id has changed
	cancel    context.CancelFunc
	wg        sync.WaitGroup
}

// startFunctions starts all functions and waits until each is healthy, or until
// one has failed. The set is never nil and must be stopped also after an error.
func startFunctions(ctx context.Context, functions []Function, o functionOptions) (*functionSet, error) {
	// Not a child of ctx: a stop ends the gateway first, which still needs them.
	runCtx, cancel := context.WithCancel(context.Background())
	set := &functionSet{changed: make(chan struct{}, 1), cancel: cancel}
	ports, err := freePorts(len(functions))
	if err != nil {
		return set, err
	}
	for i, f := range functions {
		set.processes = append(set.processes, &process{
			function: f, bin: o.bin(f), port: ports[i], url: fmt.Sprintf("http://127.0.0.1:%d", ports[i]),
			logFile: filepath.Join(o.logs, f.Name+".log"), drill: o.drill, timing: o.timing, hard: o.hard, say: o.say,
			changed: func() {
				select {
				case set.changed <- struct{}{}:
				default:
				}
			},
		})
	}
	results := make(chan error, 2*len(functions)) // room for both words of each, so that nobody waits for us
	for _, p := range set.processes {
		set.wg.Go(func() {
			began := time.Now()
			err := p.run(runCtx, func() {
				o.say.line("function %s on %s (%s)", p.function.Name, p.url, round(time.Since(began)))
				results <- nil
			})
			if err != nil {
				results <- err
			}
		})
	}
	var failed []error
	for range set.processes {
		select {
		case err := <-results:
			failed = append(failed, err)
		case <-ctx.Done():
			return set, ctx.Err()
		}
	}
	return set, errors.Join(failed...)
}

// state returns what runs where.
func (s *functionSet) state() []FunctionState {
	var all []FunctionState
	for _, p := range s.processes {
		all = append(all, FunctionState{Name: p.function.Name, URL: p.url, PID: int(p.pid.Load())})
	}
	return all
}

// stop ends all functions, at the same time, and returns when none is left.
func (s *functionSet) stop(say *printer) {
	s.cancel()
	s.wg.Wait()
	if len(s.processes) > 0 {
		say.line("functions stopped")
	}
}
