package gateway

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/leaktest"
	"github.com/evento-oss/evento/runtime"
)

func TestSettingsAreCheckedAtOnce(t *testing.T) {
	t.Parallel()
	auth, err := ParseAuthTokens(strings.NewReader(tokenFile))
	if err != nil {
		t.Fatal(err)
	}
	good := HTTPConfig{Installation: "bank"}
	if err := good.Check(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	cluster := HTTPConfig{Installation: "bank", Listen: "0.0.0.0:8090", Internal: ":8091", Advertise: "10.0.0.7:8091", Auth: auth, InternalSecrets: [][]byte{testSecret}}
	if err := cluster.Check(); err != nil {
		t.Errorf("a cluster's settings are refused: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*HTTPConfig)
		words  []string
	}{
		"open to all":            {func(c *HTTPConfig) { c.Auth = nil }, []string{settingListen, settingAuth, "0.0.0.0:8090"}},
		"a name is not loopback": {func(c *HTTPConfig) { c.Auth, c.Listen = nil, "gateway:8090" }, []string{settingListen, settingAuth}},
		"unsigned":               {func(c *HTTPConfig) { c.InternalSecrets = nil }, []string{settingInternal, settingInternalKeys}},
		"short secret":           {func(c *HTTPConfig) { c.InternalSecrets = [][]byte{[]byte("short")} }, []string{settingInternalKeys, "32"}},
		"nobody finds it":        {func(c *HTTPConfig) { c.Advertise = "" }, []string{settingAdvertise}},
		"no address":             {func(c *HTTPConfig) { c.Listen = "8090" }, []string{settingListen, "host:port"}},
		"no installation":        {func(c *HTTPConfig) { c.Installation = "" }, []string{settingInstallation}},
		"bad installation":       {func(c *HTTPConfig) { c.Installation = "a/b" }, []string{settingInstallation}},
		"all at once": {func(c *HTTPConfig) { c.Installation, c.MaxBody, c.MaxWait = "", 1, -1 },
			[]string{settingInstallation, settingMaxBody, settingMaxWait}},
	} {
		bad := cluster
		c.change(&bad)
		err := bad.Check()
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, w := range c.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: the error does not name %q: %v", name, w, err)
			}
		}
		if _, err := ListenHTTP(t.Context(), bad); err == nil {
			t.Errorf("%s: it listens", name)
		}
	}
}

func TestReadinessTellsTheTruth(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(_ *HTTPConfig, n *HTTPNeeds) {
		n.Readiness = fakeReadiness{map[string]error{"kafka": errors.New("no broker answers"), "partitions": nil}}
	})
	a := b.call("GET", "/readyz", "").wantStatus(t, 503).wantMember(t, "status", "not ready")
	if got := a.json["checks"].(map[string]any); got["kafka"] != "no broker answers" || got["partitions"] != "ok" {
		t.Errorf("checks: %v", got)
	}
	b.call("GET", "/healthz", "").wantStatus(t, 200)
	newHTTPBench(t).call("GET", "/readyz", "").wantStatus(t, 200).wantMember(t, "status", "ready")
}

// TestStopping runs the whole face on real listeners and stops it while a
// client waits.
func TestStopping(t *testing.T) {
	defer leaktest.None(t, goleak.IgnoreCurrent())
	registry := prometheus.NewRegistry()
	config := HTTPConfig{Installation: "test", Listen: "127.0.0.1:0", Internal: "127.0.0.1:0"}
	listeners, err := ListenHTTP(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	appender := &fakeAppender{}
	waiters := NewWaiters(config.AdvertiseOn(listeners), config.Wait)
	metrics := NewMetrics(registry)
	poster := NewOutcomePoster(waiters, nil, metrics, log)
	server, err := NewHTTPServer(config, HTTPNeeds{
		Appender: appender, Reader: &fakeReader{self: true}, Schemas: fakeSchemas{}, Readiness: fakeReadiness{},
		Waiters: waiters, Metrics: metrics, Gatherer: registry, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	appender.written = func(*runtime.Message) { stop() } // the client waits by now
	var running sync.WaitGroup
	running.Go(func() { poster.Run(ctx) })
	running.Go(func() {
		if err := server.Run(ctx, listeners); err != nil {
			t.Error(err)
		}
	})
	begin := time.Now()
	a, err := httpCall(t.Context(), "http://"+listeners.Public.Addr().String(), "POST", "/v1/commands", withdraw, jsonType, "Prefer: wait=60", "Connection: close")
	if err != nil {
		t.Fatal(err)
	}
	a.wantStatus(t, 202).wantMember(t, "status", "pending")
	if a.header.Get("Location") == "" {
		t.Error("no Location")
	}
	if d := time.Since(begin); d > 45*time.Second {
		t.Errorf("the client was let go after %s", d)
	}
	running.Wait()
}

func TestAPanicFailsOneRequestOnly(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.appender.written = func(m *runtime.Message) {
		if m.ID == "w-1" {
			panic("boom")
		}
	}
	if a := b.send(withdraw).wantProblem(t, problemInternal); strings.Contains(a.body, "boom") {
		t.Errorf("the panic is shown: %s", a.body)
	}
	b.send(strings.Replace(withdraw, "w-1", "w-2", 1)).wantStatus(t, 202)
}

type fakeRegistrar struct{ err error }

func (f fakeRegistrar) Register(_ context.Context, _ []byte, _ bool) ([]SchemaType, error) {
	return testTypes[:1], f.err
}

type fakeTriggers struct{}

func (fakeTriggers) Triggers(context.Context) ([]TriggerInfo, error) {
	return []TriggerInfo{{Name: "bank/checking", Role: "handler", Aggregate: "CheckingAccount", Subscriber: "http://checking"}}, nil
}

func TestSchemasAreRegistered(t *testing.T) {
	t.Parallel()
	with := func(err error) *httpBench {
		return newHTTPBench(t, func(_ *HTTPConfig, n *HTTPNeeds) { n.Registrar, n.Triggers = fakeRegistrar{err}, fakeTriggers{} })
	}
	b := with(nil)
	a := b.call("POST", "/v1/schemas", `[]`, jsonType).wantStatus(t, 201)
	if got := a.json["new"].([]any)[0].(map[string]any)["name"]; got != "CheckingAccount.WithdrawCash" {
		t.Errorf("answered %s", a.body)
	}
	b.call("POST", "/v1/schemas?dry-run=true", `[]`, jsonType).wantStatus(t, 200)
	b.call("POST", "/v1/schemas?dry-run=maybe", `[]`, jsonType).wantProblem(t, problemParameter)
	b.call("POST", "/v1/schemas", `[]`, "Content-Type: text/plain").wantProblem(t, problemMediaType)
	if a := b.call("GET", "/v1/triggers", "").wantStatus(t, 200); !strings.Contains(a.body, `"bank/checking"`) {
		t.Errorf("answered %s", a.body)
	}
	lint := &avro.LintError{Problems: []avro.Problem{{Line: 3, Type: "A.B", Field: "c", Rule: "money-float", What: "a double", Do: "use long"}}}
	a = with(lint).call("POST", "/v1/schemas", `[]`, jsonType).wantProblem(t, problemSchemaRefused, "money-float", "A.B")
	if got := a.json["problems"].([]any)[0].(map[string]any); got["rule"] != "money-float" || got["line"] != 3.0 || got["do"] != "use long" {
		t.Errorf("problems: %v", got)
	}
	with(&avro.CompatError{Problems: lint.Problems}).call("POST", "/v1/schemas", `[]`, jsonType).wantProblem(t, problemSchemaRefused)
	with(ErrKafkaAway).call("POST", "/v1/schemas", `[]`, jsonType).wantProblem(t, problemUnavailable)
	without := newHTTPBench(t)
	without.call("POST", "/v1/schemas", `[]`, jsonType).wantProblem(t, problemUnavailable)
	without.call("GET", "/v1/triggers", "").wantProblem(t, problemUnavailable)
}
