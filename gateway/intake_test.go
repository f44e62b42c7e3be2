package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

func TestPlainCommandIsAcceptedOnceKafkaHasIt(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	a := b.send(withdraw).wantStatus(t, 202).wantMember(t, "status", "pending").wantMember(t, "command", "w-1")
	if got, want := a.header.Get("Location"), "/v1/aggregates/checking:6789-21/commands/w-1"; got != want {
		t.Errorf("Location is %q, want %q", got, want)
	}
	m := b.appender.only(t)
	if m.ID != "w-1" || m.Type != "CheckingAccount.WithdrawCash" || m.Subject != "checking:6789-21" ||
		m.Source != "/evento/test/anonymous" || string(m.Data) != `{"minor":100}` || m.Time.IsZero() ||
		m.Schema != runtime.NewDataSchema("CheckingAccount.WithdrawCash", testFingerprint) {
		t.Errorf("written: %+v", m)
	}
	if m.Waiter != (runtime.Waiter{}) || m.Expect != nil {
		t.Errorf("nobody waits or expects, but written: %+v", m)
	}
}

func TestIDIsMadeWhenThereIsNone(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	body := `{"entity":"checking:1","command_type":"CheckingAccount.WithdrawCash","payload":{},"source":"/shop?x","time":"2030-01-31T10:20:30.1239Z"}`
	a := b.send(body).wantStatus(t, 202)
	m := b.appender.only(t)
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(m.ID) {
		t.Errorf("the id %q is no UUIDv7", m.ID)
	}
	if !m.Time.Equal(testTime) {
		t.Errorf("time is %s, want it cut to milliseconds: %s", m.Time, testTime)
	}
	if got, want := a.header.Get("Location"), "/v1/aggregates/checking:1/commands/"+m.ID+"?source=%2Fshop%3Fx"; got != want {
		t.Errorf("Location is %q, want %q", got, want)
	}
}

func TestWaitingAnswersTheOutcome(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.answerAll(doneOutcome)
	a := b.send(withdraw, "Prefer: respond-async, wait=10; foo=bar").wantStatus(t, 200).
		wantMember(t, "status", "done").wantMember(t, "version", 7).wantMember(t, "command", "w-1")
	if got := a.header.Get("Preference-Applied"); got != "wait=10" {
		t.Errorf("Preference-Applied is %q", got)
	}
	event := a.json["events"].([]any)[0].(map[string]any)
	for name, want := range map[string]string{
		"id": runtime.NewCommandKey("/evento/test/anonymous", "checking:6789-21", "w-1").EventID(1), "type": "CheckingAccount.CashWithdrawn",
		"entity": "checking:6789-21", "version": "7", "coordinates": "kf-evento-events/3/99", "time": "2030-01-31T10:20:30.123Z",
		"recorded_time": "2030-01-31T10:20:30.123Z", "cause": "w-1", "cause_coordinates": "kf-evento-commands/3/41", "correlation": "w-1",
		"payload": "map[minor:100]",
	} {
		if got := fmt.Sprint(event[name]); got != want {
			t.Errorf("the event's %s is %q, want %q", name, got, want)
		}
	}
	if n := b.waiters.Len(); n != 0 {
		t.Errorf("%d waiters are left", n)
	}
}

func TestWaitingEndsWith202AtTheDeadline(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxWait, c.ReadWait = 50*time.Millisecond, 50*time.Millisecond })
	a := b.send(withdraw, "Prefer: wait=3600").wantStatus(t, 202).wantMember(t, "status", "pending")
	if a.header.Get("Location") == "" {
		t.Error("no Location")
	}
	m := b.appender.only(t)
	if m.Waiter.Address != b.waiters.Address() || m.Waiter.Nonce == "" || m.Waiter.Deadline.IsZero() {
		t.Errorf("waiter: %+v", m.Waiter)
	}
	if b.waiters.Resolve(m.Waiter.Nonce, doneOutcome(m)) {
		t.Error("an outcome after the deadline found somebody")
	}
}

func TestWhatAnOutcomeIsForItsSender(t *testing.T) {
	t.Parallel()
	with := func(status OutcomeStatus, code string) func(*runtime.Message) *Outcome {
		return func(m *runtime.Message) *Outcome {
			return &Outcome{Command: m.ID, Source: m.Source, Entity: m.Subject, Type: m.Type, Status: status, Code: code, Reason: "because", Version: 9}
		}
	}
	for _, c := range []struct {
		status OutcomeStatus
		code   string
		want   int
		kind   problemKind
	}{
		{status: OutcomeRefused, want: 200},
		{status: OutcomeParked, want: 200},
		{status: OutcomeRejected, code: "state-too-large", want: 200},
		{status: OutcomeRejected, code: RejectVersionMismatch, kind: problemVersionMismatch},
		{status: OutcomeConflict, kind: problemConflict},
	} {
		t.Run(string(c.status)+c.code, func(t *testing.T) {
			t.Parallel()
			b := newHTTPBench(t)
			b.answerAll(with(c.status, c.code))
			a := b.send(withdraw, "Prefer: wait=10", `If-Match: "3"`)
			if c.want == 200 {
				a.wantStatus(t, 200).wantMember(t, "status", c.status).wantMember(t, "reason", "because")
				return
			}
			a.wantProblem(t, c.kind).wantMember(t, "id", "w-1")
			if a.json["outcome"] == nil {
				t.Error("the problem does not have the outcome")
			}
		})
	}
}

func TestExpectedVersion(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.send(withdraw, `If-Match: "0"`).wantStatus(t, 202)
	if m := b.appender.only(t); m.Expect == nil || *m.Expect != 0 {
		t.Errorf("expect is %v, want 0", m.Expect)
	}
	for _, tag := range []string{"*", "3", `W/"3"`, `"a"`, `""`, `"1", "2"`} {
		b.send(withdraw, "If-Match: "+tag).wantProblem(t, problemParameter).wantMember(t, "field", "If-Match")
	}
}

func TestKafkaTroubleIsToldAsItIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		kind problemKind
	}{
		{"away", fmt.Errorf("%w: no broker", ErrKafkaAway), problemKafkaAway},
		{"uncertain", fmt.Errorf("%w: timeout", ErrUncertain), problemUncertain},
		{"unknown errors are uncertain", errors.New("what is this"), problemUncertain},
		{"busy", fmt.Errorf("%w", ErrTooManyWaiting), problemTooManyWaiting},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newHTTPBench(t)
			b.appender.fail = func(*runtime.Message) error { return c.err }
			a := b.send(withdraw).wantProblem(t, c.kind).wantMember(t, "id", "w-1").wantMember(t, "source", "/evento/test/anonymous")
			if a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if a.header.Get("Location") != "" {
				t.Error("a Location for what is not accepted")
			}
			if strings.Contains(a.body, "what is this") {
				t.Error("the inner error is shown to the client")
			}
		})
	}
}

func TestAnUncertainWriteIsAnsweredByItsOutcome(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.appender.fail = func(m *runtime.Message) error {
		b.poster.Post(m.Waiter, doneOutcome(m)) // it was written after all
		return ErrUncertain
	}
	b.send(withdraw, "Prefer: wait=10").wantStatus(t, 200).wantMember(t, "status", "done")
}

func TestTooManyWaitingForOneAggregate(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.Wait = WaitLimits{PerAggregate: 1, Total: 2} })
	add := func(a runtime.AggregateID) *waiting {
		n, err := b.waiters.add(a, time.Now().Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := add("checking:6789-21")
	b.send(withdraw, "Prefer: wait=10").wantProblem(t, problemTooManyWaiting, "checking:6789-21")
	if len(b.appender.all()) != 0 {
		t.Error("it was written")
	}
	b.send(withdraw).wantStatus(t, 202) // who does not wait is not concerned
	n.done()
	// Where the gateway is full, commands are accepted, but not waited for.
	add("checking:1")
	add("checking:2")
	b.send(withdraw, "Prefer: wait=10").wantStatus(t, 202)
}

func TestPlainJSONIsRefusedStrictly(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	long := strings.Repeat("x", 129)
	for _, c := range []struct {
		body  string
		kind  problemKind
		field string
	}{
		{``, problemMalformed, ""},
		{`[]`, problemMalformed, ""},
		{`{`, problemMalformed, ""},
		{`{"entity":"checking:1"`, problemMalformed, ""},
		{withdraw + `{}`, problemMalformed, ""},
		{"{\"entity\":\"\xff\"}", problemMalformed, ""},
		{`{"entity":"checking:1","entity":"checking:2"}`, problemDuplicate, "entity"},
		{`{"Entity":"checking:1"}`, problemAttribute, "Entity"},
		{`{"entity":"checking:1","command_type":"WithdrawCash"}`, problemAttribute, "payload"},
		{`{"entity":"checking:1","payload":{}}`, problemAttribute, "command_type"},
		{`{"command_type":"WithdrawCash","payload":{}}`, problemAttribute, "entity"},
		{`{"entity":"checking:1","event_type":"CashWithdrawn","payload":{}}`, problemAttribute, "event_type"},
		{`{"entity":1,"command_type":"WithdrawCash","payload":{}}`, problemAttribute, "entity"},
		{`{"entity":null,"command_type":"WithdrawCash","payload":{}}`, problemAttribute, "entity"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{},"id":""}`, problemAttribute, "id"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{},"id":"` + long + `"}`, problemAttribute, "id"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{},"id":"a\u0000b"}`, problemAttribute, "id"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{},"id":".."}`, problemAttribute, "id"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{},"time":"today"}`, problemAttribute, "time"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{},"time":"0001-01-01T00:00:00Z"}`, problemAttribute, "time"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{},"source":"/evento/test/anonymous"}`, problemReservedSource, "source"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{},"source":"/Evento"}`, problemReservedSource, "source"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{},"source":"a\u0000b"}`, problemAttribute, "source"},
		{`{"entity":"nothing","command_type":"WithdrawCash","payload":{}}`, problemAttribute, "entity"},
		{`{"entity":"unknown:1","command_type":"WithdrawCash","payload":{}}`, problemWrongTarget, "entity"},
		{`{"entity":"checking:1","command_type":"Unheard","payload":{}}`, problemUnknownType, "command_type"},
		{`{"entity":"checking:1","command_type":"CashWithdrawn","payload":{}}`, problemWrongKind, "command_type"},
		{`{"entity":"checking:1","command_type":"CheckingAccount","payload":{}}`, problemWrongKind, "command_type"},
		{`{"entity":"checking:1","command_type":"evento.RetryNow","payload":{"offset":1}}`, problemWrongKind, "command_type"},
		{`{"entity":"checking:1","command_type":"CreditAccount.ChargeCard","payload":{}}`, problemWrongTarget, "entity"},
		{`{"entity":"credit:1","command_type":"ChargeCard","payload":{}}`, problemWrongTarget, "entity"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":{"wrong":1}}`, problemSchema, "payload"},
		{`{"entity":"checking:1","command_type":"WithdrawCash","payload":"text"}`, problemSchema, "payload"},
	} {
		a := b.send(c.body).wantProblem(t, c.kind)
		if c.field != "" {
			a.wantMember(t, "field", c.field)
		}
	}
	b.call("POST", "/v1/commands", withdraw, "Content-Type: text/plain").wantProblem(t, problemMediaType)
	b.call("POST", "/v1/commands", withdraw).wantProblem(t, problemMediaType)
	b.call("POST", "/", withdraw, jsonType).wantProblem(t, problemMediaType)
	b.call("POST", "/v1/commands?wait=10", withdraw, jsonType).wantProblem(t, problemParameter).wantMember(t, "field", "wait")
	if n := len(b.appender.all()); n != 0 {
		t.Errorf("%d refused messages were written", n)
	}
}

func TestEventsFromOutside(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.call("POST", "/v1/events", `{"entity":"checking:1","event_type":"CashWithdrawn","payload":{}}`, jsonType).wantStatus(t, 202)
	if m := b.appender.only(t); m.Type != "CheckingAccount.CashWithdrawn" {
		t.Errorf("written: %+v", m)
	}
	b.call("POST", "/v1/events", `{"entity":"checking:1","event_type":"WithdrawCash","payload":{}}`, jsonType).
		wantProblem(t, problemWrongKind, "/v1/commands").wantMember(t, "field", "event_type")
	b.call("POST", "/v1/events", withdraw, jsonType).wantProblem(t, problemAttribute, "/v1/commands")
}

func TestChildEntityIsATarget(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	a := b.send(`{"entity":"credit:77/card:7f3a","command_type":"ChargeCard","payload":{},"id":"a/b?"}`).wantStatus(t, http.StatusAccepted)
	if m := b.appender.only(t); m.Subject != "credit:77/card:7f3a" || m.Aggregate() != "credit:77" {
		t.Errorf("written: %+v", m)
	}
	// The Location can be fetched as it is.
	m := b.appender.only(t)
	b.reader.outcomes = map[runtime.CommandKey]*Outcome{m.Key(): doneOutcome(m)}
	b.call("GET", a.header.Get("Location"), "").wantStatus(t, 200).wantMember(t, "command", "a/b?")
}
