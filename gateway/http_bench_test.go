package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// httpBench is one gateway's HTTP face on real listeners, before an engine
// that the test plays.
type httpBench struct {
	t        *testing.T
	public   *httptest.Server
	internal *httptest.Server
	server   *HTTPServer
	appender *fakeAppender
	reader   *fakeReader
	waiters  *Waiters
	poster   *OutcomePoster
	registry *prometheus.Registry
}

func newHTTPBench(t *testing.T, change ...func(*HTTPConfig, *HTTPNeeds)) *httpBench {
	t.Helper()
	b := &httpBench{t: t, appender: &fakeAppender{}, reader: &fakeReader{self: true}, registry: prometheus.NewRegistry()}
	b.internal = httptest.NewUnstartedServer(nil)
	b.public = httptest.NewUnstartedServer(nil)
	config := HTTPConfig{Installation: "test"}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	need := HTTPNeeds{
		Appender: b.appender, Reader: b.reader, Schemas: fakeSchemas{}, Readiness: fakeReadiness{},
		Metrics: NewMetrics(b.registry), Gatherer: b.registry, Log: log,
	}
	for _, f := range change {
		f(&config, &need)
	}
	need.Waiters = NewWaiters(b.internal.Listener.Addr().String(), config.Wait)
	b.waiters = need.Waiters
	b.poster = NewOutcomePoster(b.waiters, config.InternalSecrets, need.Metrics, log)
	b.poster.timeout = time.Minute
	var err error
	if b.server, err = NewHTTPServer(config, need); err != nil {
		t.Fatal(err)
	}
	b.public.Config = b.server.newServer(b.server.PublicHandler())
	b.internal.Config = b.server.newServer(b.server.InternalHandler())
	b.public.Start()
	b.internal.Start()
	t.Cleanup(func() {
		b.waiters.Close()
		b.public.Close()
		b.internal.Close()
		b.server.proxy.CloseIdleConnections()
		b.poster.client.CloseIdleConnections()
	})
	return b
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

// call makes a request; headers are "Name: value".
func (b *httpBench) call(method, path, body string, headers ...string) answer {
	b.t.Helper()
	return b.callAt(b.public.URL, method, path, body, headers...)
}

func (b *httpBench) callAt(base, method, path, body string, headers ...string) answer {
	b.t.Helper()
	a, err := httpCall(b.t.Context(), base, method, path, body, headers...)
	if err != nil {
		b.t.Fatal(err)
	}
	if base == b.public.URL {
		checkContract(b.t, method, path, a)
	}
	return a
}

// testClient is of its own: a server of httptest that ends closes the idle connections
// of the default one, and with them one whose answer has just come.
var testClient = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}

func httpCall(ctx context.Context, base, method, path, body string, headers ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header[name] = append(r.Header[name], value) // as it is written, to send variants of case
	}
	resp, err := testClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(text)}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(text, &a.json); err != nil {
			return answer{}, fmt.Errorf("%s %s answered no JSON: %w: %s", method, path, err, text)
		}
	}
	return a, nil
}

const jsonType = "Content-Type: application/json"

// send posts a plain command.
func (b *httpBench) send(body string, headers ...string) answer {
	b.t.Helper()
	return b.call("POST", "/v1/commands", body, append(headers, jsonType)...)
}

const withdraw = `{"entity":"checking:6789-21","command_type":"WithdrawCash","id":"w-1","payload":{"minor":100}}`

func (a answer) wantStatus(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("answered %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// wantProblem checks the status and the type of a problem, and that its detail holds the words.
func (a answer) wantProblem(t *testing.T, kind problemKind, words ...string) answer {
	t.Helper()
	a.wantStatus(t, kind.status)
	if got := a.json["type"]; got != problemPrefix+kind.name {
		t.Fatalf("the problem is %v, want %q: %s", got, kind.name, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("a problem has the content type %q", got)
	}
	for _, w := range words {
		if !strings.Contains(a.json["detail"].(string), w) {
			t.Errorf("the detail does not say %q: %s", w, a.json["detail"])
		}
	}
	return a
}

func (a answer) wantMember(t *testing.T, name string, value any) answer {
	t.Helper()
	if got := a.json[name]; fmt.Sprint(got) != fmt.Sprint(value) {
		t.Errorf("member %q is %v, want %v: %s", name, got, value, a.body)
	}
	return a
}

// fakeAppender keeps what is written. A test may set what goes wrong, and what
// happens once a message is written.
type fakeAppender struct {
	mu       sync.Mutex
	messages []*runtime.Message
	fail     func(*runtime.Message) error
	written  func(*runtime.Message)
}

func (f *fakeAppender) Append(_ context.Context, m *runtime.Message) (runtime.Coordinates, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail(m); err != nil {
			return runtime.Coordinates{}, err
		}
	}
	f.messages = append(f.messages, m)
	if f.written != nil {
		f.written(m)
	}
	return runtime.Coordinates{Topic: "kf-evento-commands", Partition: 3, Offset: int64(len(f.messages))}, nil
}

func (f *fakeAppender) all() []*runtime.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.messages)
}

// only returns the one message that was written.
func (f *fakeAppender) only(t *testing.T) *runtime.Message {
	t.Helper()
	all := f.all()
	if len(all) != 1 {
		t.Fatalf("%d messages were written, want 1", len(all))
	}
	return all[0]
}

// fakeReader answers with what the test sets.
type fakeReader struct {
	mu       sync.Mutex
	self     bool
	owner    string
	ownerErr error
	state    shard.State
	stateErr error
	asked    uint64 // minVersion of the last State
	events   []Recorded
	more     bool
	outcomes map[runtime.CommandKey]*Outcome
	parked   []ParkedCommand
	covered  []int32
	commands map[runtime.Coordinates]*runtime.Message
	others   []string
	crowded  []runtime.AggregateID
	cached   shard.State // of Cached, recorded at testTime
	cacheErr error
}

func (f *fakeReader) Owner(context.Context, runtime.AggregateID) (string, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owner, f.self, f.ownerErr
}

func (f *fakeReader) State(_ context.Context, _ runtime.AggregateID, minVersion uint64) (shard.State, time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = minVersion
	return f.state, testTime, f.stateErr
}

func (f *fakeReader) Cached(_ context.Context, _ runtime.AggregateID, enough func(uint64, time.Time) bool) (shard.State, time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.cacheErr != nil:
		return shard.State{}, time.Time{}, f.cacheErr
	case f.cached.Data == nil || f.self:
		return shard.State{}, time.Time{}, ErrSnapshotMiss
	case !enough(f.cached.Version, testTime):
		return shard.State{}, time.Time{}, ErrBehind
	}
	return f.cached, testTime, nil
}

func (f *fakeReader) Events(_ context.Context, _ runtime.AggregateID, after uint64, limit int) ([]Recorded, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Recorded
	for _, e := range f.events {
		if e.Message.Sequence > after {
			out = append(out, e)
		}
	}
	if len(out) > limit {
		return out[:limit], true, nil
	}
	return out, f.more, nil
}

func (f *fakeReader) Outcome(_ context.Context, _ runtime.AggregateID, key runtime.CommandKey) (*Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.outcomes[key]; o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, key)
}

func (f *fakeReader) Others(context.Context) ([]string, error) { return f.others, nil }

func (f *fakeReader) Crowded() []runtime.AggregateID { return f.crowded }

func (f *fakeReader) Command(_ context.Context, at runtime.Coordinates) (*runtime.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.commands[at]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, at)
}

func (f *fakeReader) Parked(_ context.Context, filter ParkedFilter) ([]ParkedCommand, []int32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []ParkedCommand
	for _, c := range f.parked {
		if filter.matches(&c) {
			out = append(out, c)
		}
	}
	return out, f.covered, nil
}

var testTime = time.Date(2030, 1, 31, 10, 20, 30, 123e6, time.UTC)

type fakeReadiness struct{ checks map[string]error }

func (f fakeReadiness) Ready(context.Context) map[string]error { return f.checks }

// fakeSchemas knows the bank; a value "as Avro" is its JSON text.
type fakeSchemas struct{}

const testFingerprint runtime.Fingerprint = "0123456789abcdef"

var testTypes = []SchemaType{
	{Name: "CheckingAccount.WithdrawCash", Aggregate: "CheckingAccount", Kind: avro.KindCommand},
	{Name: "CheckingAccount.CashWithdrawn", Aggregate: "CheckingAccount", Kind: avro.KindEvent},
	{Name: "CheckingAccount.CheckingAccount", Aggregate: "CheckingAccount", Kind: "root"},
	{Name: "CreditAccount.ChargeCard", Aggregate: "CreditAccount", Kind: avro.KindCommand, Entity: "CreditCard"},
	{Name: "evento.RetryNow", Aggregate: "evento", Kind: avro.KindCommand},
	{Name: "evento.DropCommand", Aggregate: "evento", Kind: avro.KindCommand},
}

func (fakeSchemas) Newest(name runtime.TypeName) (SchemaType, bool) {
	for _, t := range testTypes {
		if t.Name == name {
			t.Fingerprint, t.Text = testFingerprint, `"string"`
			return t, true
		}
	}
	return SchemaType{}, false
}

func (f fakeSchemas) Version(d runtime.DataSchema) (SchemaType, bool) {
	name, fp, err := d.Parse()
	if err != nil || fp != testFingerprint {
		return SchemaType{}, false
	}
	return f.Newest(name)
}

func (f fakeSchemas) Versions(name runtime.TypeName) []SchemaType {
	t, _ := f.Newest(name)
	return []SchemaType{t}
}

func (f fakeSchemas) Types() []SchemaType { return testTypes }

func (fakeSchemas) Place(e runtime.Entity) (EntityPlace, bool) {
	switch {
	case e.Aggregate().Prefix() == "checking" && e.IsRoot():
		return EntityPlace{Aggregate: "CheckingAccount"}, true
	case e.Aggregate().Prefix() == "credit" && e.IsRoot():
		return EntityPlace{Aggregate: "CreditAccount"}, true
	case e.Aggregate().Prefix() == "credit" && e.Prefix() == "card":
		return EntityPlace{Aggregate: "CreditAccount", Type: "CreditCard"}, true
	}
	return EntityPlace{}, false
}

func (fakeSchemas) Path(e runtime.Entity) []EntityStep {
	return []EntityStep{{Field: "cards", IDField: "id"}}
}

func (fakeSchemas) Validate(_ runtime.DataSchema, data []byte) error {
	if !json.Valid(data) {
		return errors.New("not a value of the schema")
	}
	return nil
}

func (f fakeSchemas) FromJSON(name runtime.TypeName, text []byte) ([]byte, runtime.DataSchema, error) {
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, "", err
	}
	if _, ok := fields["wrong"]; ok {
		return nil, "", errors.New(`field "wrong" is unknown`)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		return nil, "", err
	}
	return out.Bytes(), runtime.NewDataSchema(name, testFingerprint), nil
}

func (fakeSchemas) ToJSON(_ runtime.DataSchema, data []byte) ([]byte, error) {
	if !json.Valid(data) {
		return nil, errors.New("not a value of the schema")
	}
	return data, nil
}

// doneOutcome is the outcome of a command with one event.
func doneOutcome(m *runtime.Message) *Outcome {
	return &Outcome{
		Command: m.ID, Source: m.Source, Entity: m.Subject, Type: m.Type, Status: OutcomeDone, Version: 7,
		Events: []Recorded{{
			Message: &runtime.Message{
				ID: m.Key().EventID(1), Type: "CheckingAccount.CashWithdrawn", Source: "/evento/test/functions/a/b", Subject: m.Subject,
				Schema: runtime.NewDataSchema("CheckingAccount.CashWithdrawn", testFingerprint), Time: testTime, RecordedTime: testTime,
				Data: []byte(`{"minor":100}`), CausationID: m.ID, CorrelationID: m.ID, Sequence: 7, By: "bank/checking image schema",
				Cause: runtime.Coordinates{Topic: "kf-evento-commands", Partition: 3, Offset: 41},
			},
			At: runtime.Coordinates{Topic: "kf-evento-events", Partition: 3, Offset: 99},
		}},
	}
}

// answerAll lets the engine, played by the poster, answer each command.
func (b *httpBench) answerAll(outcome func(*runtime.Message) *Outcome) {
	b.appender.written = func(m *runtime.Message) {
		if m.Waiter != (runtime.Waiter{}) {
			b.poster.Post(m.Waiter, outcome(m))
		}
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
