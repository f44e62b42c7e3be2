package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

var testSecret = bytes.Repeat([]byte("s"), minInternalSecret)

func withSecret(c *HTTPConfig, _ *HTTPNeeds) { c.InternalSecrets = [][]byte{testSecret} }

// run runs the poster until the test ends.
func (b *httpBench) run() {
	ctx, stop := context.WithCancel(b.t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.poster.Run(ctx) })
	b.t.Cleanup(func() { stop(); running.Wait() })
}

// counter returns a counter's value by name and the value of its last label.
func (b *httpBench) counter(name, label string) float64 {
	b.t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		sum := 0.0
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					sum += m.GetCounter().GetValue()
				}
			}
		}
		return sum
	}
	return 0
}

func TestOutcomeReachesTheGatewayWhereItIsAwaited(t *testing.T) {
	t.Parallel()
	waits, owns := newHTTPBench(t, withSecret), newHTTPBench(t, withSecret)
	owns.run()
	// The owner answers what was written at the other gateway.
	waits.appender.written = func(m *runtime.Message) { owns.poster.Post(m.Waiter, doneOutcome(m)) }
	a := waits.send(withdraw, "Prefer: wait=10").wantStatus(t, 200).wantMember(t, "status", "done")
	event := a.json["events"].([]any)[0].(map[string]any)
	if event["coordinates"] != "kf-evento-events/3/99" || event["cause_coordinates"] != "kf-evento-commands/3/41" || event["recorded_time"] != "2030-01-31T10:20:30.123Z" {
		t.Errorf("answered %s", a.body)
	}
	eventually(t, "the outcome has come by the internal listener", func() bool {
		return waits.counter("evento_outcomes_received_total", "resolved") == 1
	})
}

func TestOutcomeKeepsEverythingOnItsWay(t *testing.T) {
	t.Parallel()
	m := &runtime.Message{ID: "c", Source: "/s", Subject: "credit:1/card:2", Type: "CreditAccount.ChargeCard"}
	o := doneOutcome(m)
	o.Status, o.Code, o.Reason, o.Attempts = OutcomeRejected, "code", "reason", 3
	got, err := toOutcomeWire("nonce", o).outcome()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, o) {
		t.Errorf("got  %+v\nwant %+v", got, o)
	}
	for _, body := range []string{``, `{`, `{"outcomes":[{"entity":"x","status":"done"}]}`, `{"outcomes":[{"entity":"a:1","status":"pending"}]}`,
		`{"outcomes":[{"entity":"a:1","status":"done","events":[{"at":"a/b"}]}]}`} {
		if _, _, err := parseOutcomeBatch([]byte(body)); err == nil {
			t.Errorf("%s is taken", body)
		}
	}
}

func TestUnsignedOutcomesAreRefused(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, withSecret)
	n, err := b.waiters.add("checking:1", time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"outcomes":[{"nonce":%q,"entity":"checking:1","status":"done"}]}`, n.waiter.Nonce)
	now := time.Now()
	signed := func(signer *internalSigner, body, host string) string {
		r := httptest.NewRequest("POST", "http://"+host+outcomePostPath, nil)
		signer.sign(r, []byte(body))
		return internalSignatureHeader + ": " + r.Header.Get(internalSignatureHeader)
	}
	us := b.internal.Listener.Addr().String()
	at := func(now time.Time) *internalSigner {
		return newInternalSigner([][]byte{testSecret}, func() time.Time { return now })
	}
	other := newInternalSigner([][]byte{bytes.Repeat([]byte("o"), 32)}, time.Now)
	for name, header := range map[string]string{
		"no signature":      jsonType,
		"malformed":         internalSignatureHeader + ": v1 1 2 3",
		"another secret":    signed(other, body, us),
		"another body":      signed(at(now), body+" ", us),
		"another gateway":   signed(at(now), body, "10.0.0.1:8091"),
		"before the window": signed(at(now.Add(-internalWindow-time.Minute)), body, us),
		"after the window":  signed(at(now.Add(internalWindow+time.Minute)), body, us),
	} {
		if a := b.callAt(b.internal.URL, "POST", outcomePostPath, body, header); a.status != 401 {
			t.Errorf("%s: answered %d", name, a.status)
		}
	}
	good := signed(at(now), body, us)
	b.callAt(b.internal.URL, "POST", outcomePostPath, body, good).wantStatus(t, 204)
	select {
	case o := <-n.outcome:
		if o.Status != OutcomeDone {
			t.Errorf("got %+v", o)
		}
	default:
		t.Error("the waiter is not answered")
	}
	b.callAt(b.internal.URL, "POST", outcomePostPath, body, good).wantProblem(t, problemUnauthenticated) // a replay
}

func TestSecretsCanBeExchanged(t *testing.T) {
	t.Parallel()
	fresh := bytes.Repeat([]byte("f"), 32)
	before := newInternalSigner([][]byte{testSecret}, time.Now)
	between := newInternalSigner([][]byte{fresh, testSecret}, time.Now)
	after := newInternalSigner([][]byte{fresh}, time.Now)
	for _, c := range []struct {
		from, to *internalSigner
		good     bool
	}{{before, between, true}, {between, after, true}, {between, between, true}, {before, after, false}, {after, before, false}} {
		r := httptest.NewRequest("POST", "http://gateway:1/x?y=z", nil)
		c.from.sign(r, []byte("body"))
		if err := c.to.verify(r, []byte("body")); (err == nil) != c.good {
			t.Errorf("verify: %v", err)
		}
	}
}

func TestNoncesAreRememberedForTheWholeWindow(t *testing.T) {
	t.Parallel()
	now := testTime
	s := newInternalSigner([][]byte{testSecret}, func() time.Time { return now })
	// A clock that is ahead, so that its times are accepted longest.
	ahead := newInternalSigner([][]byte{testSecret}, func() time.Time { return now.Add(internalWindow) })
	call := func() *http.Request {
		r := httptest.NewRequest("POST", "http://gateway:1/x", nil)
		ahead.sign(r, nil)
		if err := s.verify(r, nil); err != nil {
			t.Fatal(err)
		}
		return r
	}
	call() // begins a set of nonces, so that the next one comes near its end
	now = now.Add(internalWindow)
	r := call()
	for range 70 {
		now = now.Add(time.Second)
		call()
		if err := s.verify(r, nil); err == nil {
			t.Fatalf("the same call is taken again after %s", now.Sub(testTime)-internalWindow)
		}
	}
}

func TestOutcomesForTheSameGatewayShareAPost(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	var posts, outcomes atomic.Int64
	first, release := make(chan struct{}), make(chan struct{})
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		wires, _, err := parseOutcomeBatch(body)
		if err != nil {
			t.Error(err)
		}
		if posts.Add(1) == 1 {
			close(first)
			<-release
		}
		outcomes.Add(int64(len(wires)))
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(peer.Close)
	b.run()
	waiter := runtime.Waiter{Address: peer.Listener.Addr().String(), Nonce: "n", Deadline: time.Now().Add(time.Minute)}
	o := doneOutcome(&runtime.Message{ID: "c", Source: "/s", Subject: "checking:1"})
	b.poster.Post(waiter, o)
	<-first
	for range 99 {
		b.poster.Post(waiter, o)
	}
	eventually(t, "all outcomes are taken from the entry", func() bool { return len(b.poster.in) == 0 })
	close(release)
	eventually(t, "100 outcomes arrive", func() bool { return outcomes.Load() == 100 })
	if n := posts.Load(); n > 3 {
		t.Errorf("100 outcomes took %d posts", n)
	}
}

func TestOutcomesThatCannotBeDeliveredAreDropped(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.run()
	o := doneOutcome(&runtime.Message{ID: "c", Source: "/s", Subject: "checking:1"})
	refuses := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(refuses.Close)
	gone := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(gone.Close)
	later := time.Now().Add(time.Minute)
	for _, s := range []*httptest.Server{refuses, gone} {
		b.poster.Post(runtime.Waiter{Address: s.Listener.Addr().String(), Nonce: "n", Deadline: later}, o)
	}
	eventually(t, "both are counted as failed", func() bool { return b.counter("evento_outcomes_posted_total", "failed") == 2 })
	b.poster.Post(runtime.Waiter{Address: "10.0.0.1:1", Nonce: "n", Deadline: time.Now().Add(-time.Second)}, o)
	b.poster.Post(runtime.Waiter{}, o)
	b.poster.Post(runtime.Waiter{Address: b.waiters.Address(), Nonce: "nobody", Deadline: later}, o)
	if b.counter("evento_outcomes_posted_total", "expired") != 1 || b.counter("evento_outcomes_posted_total", "nobody") != 1 {
		t.Error("expired and nobody are not counted")
	}
}

func TestPostNeverBlocks(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t) // its poster does not run
	o := doneOutcome(&runtime.Message{ID: "c", Source: "/s", Subject: "checking:1"})
	for range outcomeQueue + 10 {
		b.poster.Post(runtime.Waiter{Address: "10.0.0.1:1", Nonce: "n", Deadline: time.Now().Add(time.Minute)}, o)
	}
	if n := b.counter("evento_outcomes_posted_total", "dropped"); n != 10 {
		t.Errorf("%v are dropped, want 10", n)
	}
}

func TestOutcomeOfAnotherAggregateIsNotGiven(t *testing.T) {
	t.Parallel()
	w := NewWaiters("127.0.0.1:1", WaitLimits{})
	n, err := w.add("checking:1", time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if w.Resolve(n.waiter.Nonce, &Outcome{Entity: "checking:2"}) {
		t.Error("an outcome of checking:2 answers a waiter for checking:1")
	}
	if !w.Resolve(n.waiter.Nonce, &Outcome{Entity: "checking:1"}) || w.Resolve(n.waiter.Nonce, &Outcome{Entity: "checking:1"}) {
		t.Error("a waiter is to be answered once")
	}
	n.done()
	n.done()
	if w.Len() != 0 || len(w.aggregate) != 0 {
		t.Error("something is left")
	}
	w.Close()
	if _, err := w.add("checking:1", time.Now()); err != errWaitersClosed {
		t.Errorf("after Close: %v", err)
	}
}

func TestReadsArePassedOnToTheOwner(t *testing.T) {
	t.Parallel()
	asked, owner := newHTTPBench(t, withSecret), newHTTPBench(t, withSecret)
	asked.reader.self, asked.reader.owner = false, owner.internal.Listener.Addr().String()
	owner.reader.state = stateOf(7, "CreditAccount.CreditAccount", `{"cards":[{"id":"1"}]}`)
	owner.reader.outcomes = map[runtime.CommandKey]*Outcome{
		runtime.NewCommandKey("/evento/test/anonymous", "credit:77", "1"): {Command: "1", Entity: "credit:77", Status: OutcomePending},
	}
	a := asked.call("GET", "/v1/aggregates/credit:77%2Fcard:1?min-version=5", "", "If-None-Match: \"6\"").wantStatus(t, 200).wantMember(t, "version", 7)
	if a.header.Get("Etag") != `"7"` || owner.reader.asked != 5 {
		t.Errorf("ETag is %s, the owner was asked for version %d", a.header.Get("Etag"), owner.reader.asked)
	}
	asked.call("GET", "/v1/aggregates/credit:77", "", `If-None-Match: "7"`).wantStatus(t, 304)
	avro := asked.call("GET", "/v1/aggregates/credit:77", "", "Accept: application/avro").wantStatus(t, 200)
	if avro.header.Get(headerDataSchema) == "" || avro.header.Get("Content-Type") != "application/avro" {
		t.Errorf("Avro is passed back with %v", avro.header)
	}
	asked.call("GET", "/v1/aggregates/credit:77/events", "").wantStatus(t, 200)
	asked.call("GET", "/v1/aggregates/credit:77/commands/1", "").wantStatus(t, 200).wantMember(t, "status", "pending")
	asked.call("GET", "/v1/aggregates/credit:77/commands/2", "").wantProblem(t, problemNoCommand)

	owner.callAt(owner.internal.URL, "GET", "/v1/aggregates/credit:77", "").wantProblem(t, problemUnauthenticated)
	owner.callAt(owner.internal.URL, "POST", "/v1/commands", withdraw, jsonType).wantProblem(t, problemNoRoute)
}

func TestReadsAreNotPassedOnTwice(t *testing.T) {
	t.Parallel()
	a, b := newHTTPBench(t), newHTTPBench(t)
	a.reader.self, a.reader.owner = false, b.internal.Listener.Addr().String()
	b.reader.self, b.reader.owner = false, a.internal.Listener.Addr().String()
	got := a.call("GET", "/v1/aggregates/checking:1", "").wantProblem(t, problemOwnerUnknown)
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	a.reader.ownerErr = fmt.Errorf("%w: rebalance", ErrNoOwner)
	a.call("GET", "/v1/aggregates/checking:1", "").wantProblem(t, problemOwnerUnknown)
	a.reader.ownerErr = nil
	b.internal.Close()
	a.call("GET", "/v1/aggregates/checking:1", "").wantProblem(t, problemOwnerUnreachable)
}

func TestAnOwnerWithAnotherSecretIsNamed(t *testing.T) {
	t.Parallel()
	asked := newHTTPBench(t, withSecret)
	owner := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.InternalSecrets = [][]byte{bytes.Repeat([]byte("x"), 32)} })
	asked.reader.self, asked.reader.owner = false, owner.internal.Listener.Addr().String()
	asked.call("GET", "/v1/aggregates/checking:1", "").wantProblem(t, problemOwnerUnreachable, settingInternalKeys)
}

func TestAnUnreadableOutcomeCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	n, err := b.waiters.add("checking:1", time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"outcomes":[{"entity":"x","status":"done"},{"nonce":%q,"entity":"checking:1","status":"done"}]}`, n.waiter.Nonce)
	b.callAt(b.internal.URL, "POST", outcomePostPath, body, jsonType).wantStatus(t, 204)
	if o := <-n.outcome; o.Status != OutcomeDone {
		t.Errorf("got %+v", o)
	}
	if b.counter("evento_outcomes_received_total", "unreadable") != 1 {
		t.Error("the other is not counted")
	}
	b.callAt(b.internal.URL, "POST", outcomePostPath, `{`, jsonType).wantProblem(t, problemMalformed)
}

func FuzzOutcomeBatch(f *testing.F) {
	f.Add([]byte(`{"outcomes":[{"nonce":"n","entity":"a:1","status":"done","events":[{"data":"AQI=","at":"t/0/1"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		wires, outcomes, err := parseOutcomeBatch(body)
		if err != nil {
			return
		}
		for i, o := range outcomes {
			if !o.Status.Final() || toOutcomeWire(wires[i].Nonce, o).Entity != wires[i].Entity {
				t.Errorf("read as %+v", o)
			}
		}
	})
}

func TestMetricsHaveUnitAndHelp(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.answerAll(doneOutcome)
	b.send(withdraw, "Prefer: wait=10").wantStatus(t, 200)
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name := f.GetName()
		if !strings.HasPrefix(name, "evento_") || len(f.GetHelp()) < 20 {
			t.Errorf("%s: name or help", name)
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "6789-21") || strings.Contains(l.GetValue(), "w-1") {
					t.Errorf("%s has an entity or a command in the label %s", name, l.GetValue())
				}
			}
		}
	}
	a := b.call("GET", "/metrics", "").wantStatus(t, 200)
	for _, want := range []string{
		`evento_http_requests_total{method="POST",route="/v1/commands",status="200"} 1`,
		`evento_intake_messages_total{kind="command",result="accepted"} 1`,
		`evento_intake_wait_seconds_count{result="outcome"} 1`,
		`evento_outcomes_posted_total{result="local"} 1`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("/metrics does not show %s", want)
		}
	}
}
