package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// BenchmarkLargeStates computes deposits over real HTTP on loopback, on states
// of several sizes, in three ways by turns, so that what else this machine does
// hits all of them: with a function that keeps no states (sent), with one that
// keeps them (named), and with one that says so and never has one (missed).
func BenchmarkLargeStates(b *testing.B) {
	for _, both := range []bool{true, false} {
		for _, aggregates := range []int{1, 16} {
			for _, kib := range []int{1, 4, 16, 64, 256} {
				b.Run(fmt.Sprintf("combined=%v/aggregates=%d/KiB=%d", both, aggregates, kib), func(b *testing.B) {
					benchmarkLargeStates(b, both, aggregates, kib<<10)
				})
			}
		}
	}
}

func benchmarkLargeStates(b *testing.B, both bool, aggregates, size int) {
	type way struct {
		name  string
		world *offerWorld
		wire  *countedWire
		works []shard.Work
		took  time.Duration
		cpu   time.Duration
		bytes int64
		calls int
	}
	ways := []*way{{name: "sent"}, {name: "named"}, {name: "missed"}}
	for _, y := range ways {
		y.wire = newCountedWire(b)
		y.world = newOfferWorld(b, func(s *FunctionSettings) { s.Caller, s.Limits.OfferBytes = y.wire.caller, 1 })
		config := runtime.Config{StateCache: map[string]int64{"sent": 0, "named": 64 << 20, "missed": 1}[y.name]}
		if both {
			y.world.combined(y.world.serveHTTP(b, gen.AggregateFunction(checking.Handler{}, checking.Aggregator{}).Function, config))
		} else {
			y.world.separate(
				y.world.serveHTTP(b, gen.HandlerFunction(checking.Handler{}).Function, config),
				y.world.serveHTTP(b, gen.AggregatorFunction(checking.Aggregator{}).Function, config))
		}
		for i := range aggregates {
			y.works = append(y.works, y.world.large(b, numbered(i), size))
		}
	}
	turn := max(1, 8/aggregates) // commands of each aggregate: short, so that the ways share each disturbance
	for b.Loop() {
		for _, y := range ways {
			began, cpu, bytes := time.Now(), processTime(b), y.wire.bytes.Load()
			var all sync.WaitGroup
			for i := range y.works {
				all.Go(func() {
					for range turn {
						y.world.step(b, &y.works[i])
					}
				})
			}
			all.Wait()
			y.took += time.Since(began)
			y.cpu += processTime(b) - cpu
			y.bytes += y.wire.bytes.Load() - bytes
			y.calls += turn * aggregates
		}
	}
	for _, y := range ways {
		n := float64(y.calls)
		b.ReportMetric(n/y.took.Seconds(), y.name+"/s")
		b.ReportMetric(float64(y.cpu.Microseconds())/n, y.name+"-cpu-us")
		b.ReportMetric(float64(y.bytes)/1024/n, y.name+"-KiB")
	}
	b.ReportMetric(float64(ways[0].took)/float64(ways[1].took), "named/sent")
	b.ReportMetric(float64(ways[0].took)/float64(ways[2].took), "missed/sent")
}

// countedWire is the real client, with its bytes counted.
type countedWire struct {
	client *runtime.Client
	bytes  atomic.Int64 // in both directions
}

func newCountedWire(t testing.TB) *countedWire {
	w := &countedWire{}
	w.client = runtime.NewClient(runtime.ClientOptions{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return &countedConn{c, w}, err
		},
	}})
	t.Cleanup(w.client.CloseIdleConnections)
	return w
}

func (w *countedWire) caller(string) (FunctionCaller, error) { return w.client, nil }

type countedConn struct {
	net.Conn
	wire *countedWire
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.bytes.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.wire.bytes.Add(int64(n))
	return n, err
}

// offerWorld is a functionWorld whose aggregates have large states.
type offerWorld struct{ *functionWorld }

func newOfferWorld(t testing.TB, change func(*FunctionSettings)) *offerWorld {
	return &offerWorld{newFunctionWorld(t, change)}
}

// large is the work of a deposit on a state of about so many bytes, in labels
// of up to a KiB.
func (w *offerWorld) large(t testing.TB, a runtime.AggregateID, size int) shard.Work {
	t.Helper()
	state := w.opened(t, a)
	var labels []string
	for n := 0; n < size; n += 1024 {
		labels = append(labels, fmt.Sprintf(`"label %d": %q`, n, strings.Repeat("x", min(1000, size-n))))
	}
	var err error
	state.Data, state.Schema, err = w.schemas.FromJSON("CheckingAccount.CheckingAccount",
		fmt.Appendf(nil, `{"client": "client:1", "status": "OPEN", "balance": {"minor": 0}, "labels": {%s}}`, strings.Join(labels, ", ")))
	if err != nil {
		t.Fatal(err)
	}
	return shard.Work{Aggregate: a, State: state, Commands: []*runtime.Message{w.deposit(t, a, "d", 1)}}
}

// step computes a work and leaves its state for the next.
func (w *offerWorld) step(t testing.TB, work *shard.Work) {
	t.Helper()
	c := w.Compute(context.Background(), *work)
	if c.Trouble != nil || len(c.Steps) != len(work.Commands) || c.Steps[0].Rejected != nil {
		t.Errorf("%s: %+v %v", work.Aggregate, c.Steps, c.Trouble)
		return
	}
	work.State = c.Steps[len(c.Steps)-1].State
}
