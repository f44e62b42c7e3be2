package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/bench"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// poisonMark is in the id of every aggregate that can be poisoned.
const poisonMark = "poisoned-"

// poisonKinds are the ways in which a function may treat one aggregate badly.
var poisonKinds = []string{"fails", "parks", "hangs", "stuck", "garbage", "dies", "huge", "heavy"}

// BenchmarkPoisonedAggregate measures what one poisoned aggregate costs the
// others: 16 clients send commands to 1,000 good aggregates and wait for the
// outcomes, while some 100 commands a second go to one more aggregate, which the
// function treats like the others ("without") or badly ("with"). The two take turns
// in one run, so that what else this machine does hits both. The ratios are the
// medians of the turns.
//
//	go test ./gateway -run xxx -bench PoisonedAggregate -benchtime 5x
func BenchmarkPoisonedAggregate(b *testing.B) {
	for _, kind := range poisonKinds {
		b.Run(kind, func(b *testing.B) { benchmarkPoison(b, kind) })
	}
}

// poisonedBank is the bank's checking account; while it is poisoned, it does badly
// what concerns one aggregate.
type poisonedBank struct {
	checking.Handler
	kind     string
	poisoned *atomic.Bool
	next     http.Handler
}

func (p *poisonedBank) ReceiveDeposit(ctx runtime.HandlerContext, account *gen.CheckingAccount, c *gen.ReceiveDeposit) ([]gen.Event, error) {
	if p.poisoned.Load() && strings.Contains(string(ctx.Aggregate()), poisonMark) {
		switch p.kind {
		case "fails", "parks":
			return nil, errors.New("this one never works")
		case "hangs":
			<-ctx.Done()
			return nil, ctx.Err()
		case "stuck":
			for end := time.Now().Add(30 * time.Second); p.poisoned.Load() && time.Now().Before(end); {
				<-time.After(10 * time.Millisecond)
			}
			return nil, errors.New("too late")
		case "huge":
			c.Source = strings.Repeat("x", 4<<20)
		}
	}
	return p.Handler.ReceiveDeposit(ctx, account, c)
}

// ServeHTTP spoils whole requests.
func (p *poisonedBank) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.kind != "garbage" && p.kind != "dies" || !p.poisoned.Load() {
		p.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || !bytes.Contains(body, []byte(poisonMark)) {
		r.Body = io.NopCloser(bytes.NewReader(body))
		p.next.ServeHTTP(w, r)
		return
	}
	if p.kind == "dies" {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprint(w, "this is no answer")
}

func benchmarkPoison(b *testing.B, kind string) {
	bank := &poisonedBank{kind: kind, poisoned: new(atomic.Bool)}
	world := newFunctionWorld(b, nil)
	server, err := runtime.NewServer(gen.AggregateFunction(bank, checking.Aggregator{}).Function, runtime.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	bank.next = server
	function := httptest.NewServer(bank)
	b.Cleanup(function.Close)
	world.combined(function.URL)
	world.router.mu.Lock()
	world.router.handler.Timeout = 500 * time.Millisecond
	world.router.handler.Policy = shard.Policy{Attempts: 2, Delay: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond}
	if kind == "parks" {
		world.router.handler.Policy.Attempts, world.router.handler.Policy.Park = 1, true
	}
	world.router.mu.Unlock()
	base := runGatewayFor(b, kafka.Single, world)

	const turn = 2 * time.Second
	run := 0
	measure := func(d time.Duration) bench.Latency {
		run++
		r, err := bench.Run(b.Context(), bench.Config{
			Gateway: base, Workload: bench.Workload{Name: kind, Aggregates: 1000}, Clients: 16, Duration: d, Warmup: 500 * time.Millisecond,
			Run: strconv.Itoa(run),
		})
		if err != nil {
			b.Fatal(err)
		}
		for what, n := range r.Errors {
			b.Errorf("%d times %s", n, what)
		}
		return r.Latency
	}
	other := startOther(b, base, kind == "heavy")
	measure(2 * turn) // warms up
	var p50, p99 [2][]float64
	for b.Loop() {
		for with := range 2 {
			other.begin(with == 1)
			bank.poisoned.Store(with == 1)
			l := measure(turn)
			other.end()
			bank.poisoned.Store(false)
			p50[with], p99[with] = append(p50[with], l.P50), append(p99[with], l.P99)
		}
	}
	b.ReportMetric(median(p50[0]), "p50-ms")
	b.ReportMetric(median(p50[1]), "p50-ms-with")
	b.ReportMetric(median(p99[0]), "p99-ms")
	b.ReportMetric(median(p99[1]), "p99-ms-with")
	b.ReportMetric(median(ratios(p50)), "p50-ratio")
	b.ReportMetric(median(ratios(p99)), "p99-ratio")
	b.ReportMetric(0, "ns/op")
	b.Logf("p50 %v %v, p99 %v %v", p50[0], p50[1], p99[0], p99[1])
}

func ratios(of [2][]float64) (list []float64) {
	for i := range of[0] {
		list = append(list, of[1][i]/of[0][i])
	}
	return list
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// otherClient sends commands to one aggregate at a time, some 100 a second, without
// waiting for their outcomes.
type otherClient struct {
	b     *testing.B
	base  string
	heavy bool // the aggregate has a state of 3 MiB when it is poisoned
	n     int
	over  chan struct{}
	done  sync.WaitGroup
}

func startOther(b *testing.B, base string, heavy bool) *otherClient {
	return &otherClient{b: b, base: base, heavy: heavy}
}

func (o *otherClient) send(id, body string) {
	a, err := httpCall(patience(o.b), o.base, "POST", "/v1/commands", body, jsonType)
	if err != nil || a.status != 202 && a.status != 429 {
		o.b.Errorf("%s: %d %s %v", id, a.status, a.body, err)
	}
}

func (o *otherClient) begin(poisoned bool) {
	o.n++
	entity := "checking:" + poisonMark + strconv.Itoa(o.n)
	o.send("open", fmt.Sprintf(`{"entity":%q,"command_type":"OpenCheckingAccount","id":"open","payload":{"client":"client:1"}}`, entity))
	pace, large := 10*time.Millisecond, "bench"
	if o.heavy {
		pace = 200 * time.Millisecond
	}
	if o.heavy && poisoned {
		large = strings.Repeat("x", 800<<10)
	}
	o.over = make(chan struct{})
	o.done.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for i := 0; ; i++ {
			source := "bench"
			if i%6 == 0 {
				source = large // the state remembers the last 20
			}
			o.send("deposit", fmt.Sprintf(`{"entity":%q,"command_type":"ReceiveDeposit","id":"d-%d","payload":{"transaction_id":"d-%d","source":%q,"amount":{"minor":1,"currency":"USD"}}}`, entity, i, i, source))
			select {
			case <-tick.C:
			case <-o.over:
				return
			}
		}
	})
}

func (o *otherClient) end() {
	close(o.over)
	o.done.Wait()
}
