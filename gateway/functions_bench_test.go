package gateway

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// BenchmarkCompute is a deposit through the real client and server on loopback,
// function included, with so many aggregates at work at the same time. Run is
// the number of commands that are folded in one call.
func BenchmarkCompute(b *testing.B) {
	for _, both := range []bool{true, false} {
		for _, n := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("combined=%v/aggregates=%d", both, n), func(b *testing.B) { benchmarkCompute(b, both, n, 1) })
		}
	}
	b.Run("combined=true/aggregates=1/run=128", func(b *testing.B) { benchmarkCompute(b, true, 1, 128) })
}

func benchmarkCompute(b *testing.B, both bool, aggregates, run int) {
	w := newFunctionWorld(b, func(s *FunctionSettings) { s.Caller, s.Runs = httpCaller(b), true })
	if both {
		w.combined(w.serveHTTP(b, gen.AggregateFunction(checking.Handler{}, checking.Aggregator{}).Function, runtime.Config{}))
	} else {
		w.separate(
			w.serveHTTP(b, gen.HandlerFunction(checking.Handler{}).Function, runtime.Config{}),
			w.serveHTTP(b, gen.AggregatorFunction(checking.Aggregator{}).Function, runtime.Config{}))
	}
	works := make([]shard.Work, aggregates)
	for i := range works {
		a := numbered(i)
		works[i] = shard.Work{Aggregate: a, State: w.opened(b, a)}
		for range run {
			works[i].Commands = append(works[i].Commands, w.deposit(b, a, "d", 1))
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	began := processTime(b)
	var done atomic.Int64
	var all sync.WaitGroup
	for i := range works {
		all.Go(func() {
			for done.Add(int64(run)) <= int64(b.N)+int64(run) {
				c := w.Compute(context.Background(), works[i])
				if c.Trouble != nil || len(c.Steps) != run {
					b.Errorf("%d steps: %+v", len(c.Steps), c.Trouble)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
	b.ReportMetric(float64((processTime(b)-began).Microseconds())/float64(b.N), "cpu-us/command")
}

// processTime is the time that this process has computed: on a machine with
// others at work it says more than the clock on the wall.
func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
