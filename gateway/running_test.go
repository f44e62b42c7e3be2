package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/internal/porttest"
	"github.com/evento-oss/evento/runtime"
)

// fixedRoutes routes everything to one function.
type fixedRoutes struct{ *fixedRouter }

func (fixedRoutes) Load(context.Context) error    { return nil }
func (fixedRoutes) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (r fixedRoutes) Triggers(context.Context) ([]TriggerInfo, error) {
	return []TriggerInfo{{Name: r.handler.Name, Role: "handler,aggregator", Aggregate: "CheckingAccount", Subscriber: r.handler.URL}}, nil
}

// runGateway runs a whole gateway with the bank's checking account, and returns its URL.
func runGateway(t *testing.T, layout kafka.Layout) string {
	t.Helper()
	world := newFunctionWorld(t, nil)
	function := gen.AggregateFunction(checking.Handler{}, checking.Aggregator{})
	world.combined(world.serveHTTP(t, function.Function, runtime.Config{}))
	return runGatewayFor(t, layout, world)
}

// runGatewayFor runs a whole gateway with the functions of a world.
func runGatewayFor(t testing.TB, layout kafka.Layout, world *functionWorld) string {
	t.Helper()
	cluster := kafkatest.Start(t)
	settings, err := kafka.NewSettings(map[string]string{"bootstrap.servers": strings.Join(cluster.Servers, ",")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	config := Config{
		HTTP:  HTTPConfig{Installation: "test", Listen: porttest.Free(t), Internal: "127.0.0.1:0", Grace: 10 * time.Second},
		Kafka: settings, Topics: kafka.Topics{Prefix: cluster.Prefix + "e", Layout: layout}, Partitions: 2, Replication: 1, MinInSync: 1,
		SchemaDir: "../examples/bank/schemas", Routes: func(CommandTypes) Routes { return fixedRoutes{world.router} }, SessionTimeout: 28 * time.Second,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), Ready: func() { close(ready) },
	}
	go func() { done <- Run(ctx, config) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the gateway ends: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("the gateway ended: %v", err)
	case <-patience(t).Done():
		t.Fatal("the gateway is not ready")
	}
	return "http://" + config.HTTP.Listen
}

// TestRunningGatewayAnswersAsDescribed runs everything for real and holds what it
// answers against openapi.json.
func TestRunningGatewayAnswersAsDescribed(t *testing.T) {
	t.Parallel()
	for _, layout := range []kafka.Layout{kafka.Single, kafka.PerAggregate} {
		t.Run(string(layout), func(t *testing.T) {
			t.Parallel()
			base := runGateway(t, layout)
			call := func(method, path, body string, headers ...string) answer {
				t.Helper()
				a, err := httpCall(patience(t), base, method, path, body, headers...)
				if err != nil {
					t.Fatal(err)
				}
				checkContract(t, method, path, a)
				return a
			}
			wait := []string{jsonType, "Prefer: wait=30"}
			opened := call("POST", "/v1/commands", `{"entity":"checking:1","command_type":"OpenCheckingAccount","id":"c-1","payload":{"client":"client:1"}}`, wait...).wantStatus(t, 200).wantMember(t, "status", "done")
			call("POST", "/v1/commands", `{"entity":"checking:1","command_type":"WithdrawCash","id":"c-2","payload":{"destination":"atm:1","amount":{"minor":1}}}`, wait...).wantStatus(t, 200).wantMember(t, "status", "refused")
			published := call("POST", "/v1/events", `{"entity":"checking:1","event_type":"DepositReceived","id":"x/1","payload":{"transaction_id":"t","source":"cash","amount":{"minor":7}}}`, wait...).wantStatus(t, 200)
			call("POST", "/v1/commands", `{"entity":"checking:1","command_type":"OpenCheckingAccount","id":"c-1","payload":{"client":"client:2"}}`, wait...).wantProblem(t, problemConflict)
			call("POST", "/v1/commands", `{"entity":"checking:1","command_type":"Nonsense","payload":{}}`, jsonType).wantProblem(t, problemUnknownType)
			call("POST", "/v1/commands", `{"entity":"checking:1","command_type":"OpenCheckingAccount","payload":{}}`, jsonType).wantProblem(t, problemSchema)
			call("POST", "/v1/commands", `{"entity":"checking:2","command_type":"OpenCheckingAccount","payload":{"client":"client:2"}}`, jsonType).wantStatus(t, 202)
			schemas, err := os.ReadFile("../examples/bank/schemas/CheckingAccount.avsc")
			if err != nil {
				t.Fatal(err)
			}
			call("POST", "/v1/schemas", string(schemas), jsonType).wantStatus(t, 200)
			for _, path := range []string{
				"/v1/aggregates/checking:1", "/v1/aggregates/checking:1/events", "/v1/aggregates/checking:1/events?limit=1", "/v1/aggregates/checking:1/commands/c-1",
				"/v1/parked", "/v1/schemas", "/v1/schemas/CheckingAccount.CheckingAccount", "/v1/triggers", "/healthz", "/readyz", "/metrics", "/openapi.json",
			} {
				call("GET", path, "").wantStatus(t, 200)
			}
			call("GET", "/v1/aggregates/checking:9", "").wantProblem(t, problemNoAggregate)
			call("GET", "/v1/parked?status=x", "").wantProblem(t, problemParameter)

			// The chain of what really happened, by coordinates and by id.
			event := func(a answer) map[string]any { return a.json["events"].([]any)[0].(map[string]any) }
			kinds := func(a answer) (kinds string) {
				for _, l := range a.wantStatus(t, 200).json["links"].([]any) {
					kinds += fmt.Sprint(l.(map[string]any)["kind"], " ")
				}
				return kinds
			}
			for path, want := range map[string]string{
				fmt.Sprint(event(opened)["coordinates"]):        "event command ",
				"checking:1/" + fmt.Sprint(event(opened)["id"]): "event command ",
				"checking:1/c-1":                            "command ",
				"checking:1/c-2":                            "command ",
				"checking:1/" + url.PathEscape("x/1"):       "publication ",
				fmt.Sprint(event(published)["coordinates"]): "event publication ",
			} {
				if got := kinds(call("GET", "/v1/causes/"+path, "")); got != want {
					t.Errorf("%s: %q, want %q", path, got, want)
				}
			}
			call("GET", "/v1/causes/checking:1/nothing", "").wantProblem(t, problemNoMessage)

			// And the stream of it.
			s := listen(t, base, "?from=earliest&entity=checking:1")
			defer s.close()
			first, _ := s.next()
			for first.data == "" {
				first, _ = s.next()
			}
			var e streamedEvent
			if err := json.Unmarshal([]byte(first.data), &e); err != nil || e.ID != event(opened)["id"] {
				t.Errorf("the first of the stream is %+v, %v", first, err)
			}
		})
	}
}

// stoppingRoutes has the gateway asked to end while it loads Triggers.
type stoppingRoutes struct {
	fixedRoutes
	stop context.CancelFunc
}

func (r stoppingRoutes) Load(ctx context.Context) error {
	r.stop()
	return context.Cause(ctx)
}

// Who is asked to end while it starts has not failed.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t)
	settings, err := kafka.NewSettings(map[string]string{"bootstrap.servers": strings.Join(cluster.Servers, ",")})
	if err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, routes Routes) error {
		return Run(ctx, Config{
			HTTP:  HTTPConfig{Installation: "test", Listen: porttest.Free(t), Internal: "127.0.0.1:0", Grace: 10 * time.Second},
			Kafka: settings, Topics: kafka.Topics{Prefix: cluster.Prefix + "e"}, Partitions: 2, Replication: 1, MinInSync: 1,
			SchemaDir: "../examples/bank/schemas", Routes: func(CommandTypes) Routes { return routes },
			Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		})
	}
	world := newFunctionWorld(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	if err := run(ctx, stoppingRoutes{fixedRoutes{world.router}, stop}); err != nil {
		t.Errorf("stopped while it started: %v", err)
	}
	wrong := errors.New("a Trigger is wrong")
	if err := run(t.Context(), failingRoutes{fixedRoutes{world.router}, wrong}); !errors.Is(err, wrong) {
		t.Errorf("failed while it started: %v", err)
	}
}

type failingRoutes struct {
	fixedRoutes
	err error
}

func (r failingRoutes) Load(context.Context) error { return r.err }
