package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// binaryHeaders are a good CloudEvent in binary mode.
func binaryHeaders(more ...string) []string {
	return append([]string{
		"ce-specversion: 1.0", "ce-id: w-1", "ce-type: CheckingAccount.WithdrawCash", "ce-source: /shop",
		"ce-subject: checking:6789-21",
	}, more...)
}

const structured = `{"specversion":"1.0","id":"w-1","type":"CheckingAccount.WithdrawCash","source":"/shop","subject":"checking:6789-21"`

func TestCloudEventsInEveryForm(t *testing.T) {
	t.Parallel()
	schema := "urn:evento:avro:CheckingAccount.WithdrawCash:" + string(testFingerprint)
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, c := range []struct {
		name    string
		body    string
		headers []string
	}{
		{"binary, JSON", `{"minor": 1}`, binaryHeaders(jsonType, "Traceparent: "+trace)},
		{"binary, +json", `{"minor": 1}`, binaryHeaders("Content-Type: application/vnd.bank+json; charset=utf-8", "ce-traceparent: "+trace)},
		{"binary, Avro", `{"minor":1}`, binaryHeaders("Content-Type: application/avro", "ce-dataschema: "+schema, "ce-traceparent: "+trace, "Traceparent: broken")},
		{"binary, Avro without dataschema", `{"minor":1}`, binaryHeaders("Content-Type: application/avro", "Traceparent: "+trace)},
		{"structured, JSON", structured + `,"data":{"minor":1}}`, []string{"Content-Type: application/cloudevents+json; charset=utf-8", "Traceparent: " + trace}},
		{"structured, Avro", structured + `,"datacontenttype":"application/avro","dataschema":"` + schema + `","traceparent":"` + trace + `","data_base64":"eyJtaW5vciI6MX0="}`,
			[]string{"Content-Type: application/cloudevents+json"}},
	} {
		for _, path := range []string{"/", "/v1/commands"} {
			t.Run(c.name+path, func(t *testing.T) {
				t.Parallel()
				b := newHTTPBench(t)
				a := b.call("POST", path, c.body, c.headers...).wantStatus(t, 202)
				if got, want := a.header.Get("Location"), "/v1/aggregates/checking:6789-21/commands/w-1?source=%2Fshop"; got != want {
					t.Errorf("Location is %q, want %q", got, want)
				}
				if path == "/" && a.body != "" {
					t.Errorf("Knative takes the body for a reply: %q", a.body)
				}
				m := b.appender.only(t)
				if m.ID != "w-1" || m.Type != "CheckingAccount.WithdrawCash" || m.Source != "/shop" || m.Subject != "checking:6789-21" ||
					string(m.Data) != `{"minor":1}` || string(m.Schema) != schema || m.TraceParent != trace {
					t.Errorf("written: %+v", m)
				}
			})
		}
	}
}

func TestCloudEventsAreRefusedStrictly(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	ce := "Content-Type: application/cloudevents+json"
	without := func(name string) []string {
		var out []string
		for _, h := range binaryHeaders(jsonType) {
			if !strings.HasPrefix(h, "ce-"+name+":") {
				out = append(out, h)
			}
		}
		return out
	}
	for _, c := range []struct {
		body    string
		headers []string
		kind    problemKind
		field   string
	}{
		{`{}`, binaryHeaders(jsonType, "ce-id: w-2"), problemDuplicate, "ce-id"},
		{`{}`, binaryHeaders(jsonType, "CE-ID: w-2"), problemDuplicate, "ce-id"},
		{`{}`, binaryHeaders(jsonType, "ce-sequence: 1"), problemReserved, "ce-sequence"},
		{`{}`, binaryHeaders(jsonType, "ce-eventowaiter: a"), problemReserved, "ce-eventowaiter"},
		{`{}`, binaryHeaders(jsonType, "CE-EventoAnything: a"), problemReserved, "ce-eventoanything"},
		{`{}`, binaryHeaders(jsonType, "ce-partitionkey: a"), problemReserved, "ce-partitionkey"},
		{`{}`, binaryHeaders(jsonType, "ce-causationid: a"), problemReserved, "ce-causationid"},
		{`{}`, binaryHeaders(jsonType, "ce-recordedtime: 2030-01-01T00:00:00Z"), problemReserved, "ce-recordedtime"},
		{`{}`, binaryHeaders(jsonType, "ce-evento-waiter: a"), problemReserved, "ce-evento-waiter"},
		{`{}`, binaryHeaders(jsonType, "ce-with_line: a"), problemAttribute, "ce-with_line"},
		{`{}`, binaryHeaders(jsonType, "ce-time: today"), problemMalformed, ""},
		{`{}`, binaryHeaders(jsonType, "ce-dataschema: urn:evento:avro:CheckingAccount.CashWithdrawn:0123456789abcdef"), problemAttribute, "ce-dataschema"},
		{`{}`, binaryHeaders(jsonType, "ce-dataschema: urn:evento:avro:CheckingAccount.WithdrawCash:ffffffffffffffff"), problemUnknownType, "ce-dataschema"},
		{`{}`, binaryHeaders("Content-Type: application/avro", "ce-dataschema: http://example.com/schema"), problemAttribute, "ce-dataschema"},
		{`{`, binaryHeaders("Content-Type: application/avro"), problemSchema, "body"},
		{`{}`, binaryHeaders(), problemMediaType, "content-type"},
		{`{}`, binaryHeaders("Content-Type: text/plain"), problemMediaType, "content-type"},
		{`{}`, without("id"), problemAttribute, "ce-id"},
		{`{}`, without("subject"), problemAttribute, "ce-subject"},
		{`{}`, without("source"), problemAttribute, "ce-source"},
		{`{}`, append(without("source"), "ce-source: /evento/test/x"), problemReservedSource, "ce-source"},
		{`{}`, append(without("source"), "ce-source: /%65vento/test/x"), problemReservedSource, "ce-source"},
		{`{}`, append(without("source"), "ce-source: a%zz"), problemAttribute, "ce-source"},
		{`{}`, append(without("specversion"), "ce-specversion: 0.3"), problemAttribute, "ce-specversion"},
		{`{}`, append(without("specversion"), "ce-specversion: 2.0"), problemMalformed, ""},
		{`{}`, append(without("id"), "ce-id: "+strings.Repeat("x", 129)), problemAttribute, "ce-id"},
		{structured + `,"data":{}}`, []string{ce, "ce-id: w-1"}, problemMixed, "ce-id"},
		{structured + `,"data":{}}`, []string{ce, ce}, problemDuplicate, "content-type"},
		{structured + `,"data":{},"id":"w-2"}`, []string{ce}, problemDuplicate, "id"},
		{structured + `,"data":{},"ID":"w-2"}`, []string{ce}, problemAttribute, "ID"},
		{structured + `,"data":{},"eventohash":"a"}`, []string{ce}, problemReserved, "eventohash"},
		{structured + `,"data":{},"Sequence":"a"}`, []string{ce}, problemReserved, "Sequence"},
		{structured + `,"data":{},"data_base64":"e30="}`, []string{ce}, problemAttribute, "data_base64"},
		{structured + `,"data":{}} {}`, []string{ce}, problemMalformed, ""},
		{structured + `,"data":`, []string{ce}, problemMalformed, ""},
		{structured + `,"data":{"wrong":1}}`, []string{ce}, problemSchema, "data"},
		{`{"specversion":"1.0","data":{}}`, []string{ce}, problemAttribute, "id"},
		{structured + `,"data":{}}`, []string{"Content-Type: application/cloudevents+xml"}, problemMediaType, "content-type"},
	} {
		for _, path := range []string{"/", "/v1/commands"} {
			a := b.call("POST", path, c.body, c.headers...)
			if a.json["type"] != problemPrefix+c.kind.name {
				t.Errorf("%s with %q\nis answered %s\nwant the problem %q", c.body, c.headers, a.body, c.kind.name)
				continue
			}
			if c.field != "" {
				a.wantMember(t, "field", c.field)
			}
		}
	}
	if n := len(b.appender.all()); n != 0 {
		t.Errorf("%d refused messages were written", n)
	}
}

func TestUnknownExtensionsAreNotStored(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.call("POST", "/", `{}`, binaryHeaders(jsonType, "ce-knativearrivaltime: 2030-01-01T00:00:00Z", "Authorization: Bearer x", "Cookie: a=b")...).wantStatus(t, 202)
	if text := fmt.Sprintf("%+v", b.appender.only(t)); strings.Contains(text, "2030-01-01") || strings.Contains(text, "Bearer") {
		t.Errorf("written: %s", text)
	}
}

// batchOf makes a batch of commands with these ids, "id@entity".
func batchOf(items ...string) string {
	var out []string
	for _, i := range items {
		id, entity, _ := strings.Cut(i, "@")
		out = append(out, fmt.Sprintf(`{"specversion":"1.0","id":%q,"type":"CheckingAccount.WithdrawCash","source":"/shop","subject":%q,"data":{}}`, id, entity))
	}
	return "[" + strings.Join(out, ",") + "]"
}

const batchType = "Content-Type: application/cloudevents-batch+json"

func TestBatchIsAcceptedWhole(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	a := b.call("POST", "/v1/commands", batchOf("1@checking:1", "2@checking:2", "3@checking:1"), batchType).wantStatus(t, 202)
	if n := len(a.json["items"].([]any)); n != 3 {
		t.Errorf("%d items are answered, want 3", n)
	}
	var of1 []string
	for _, m := range b.appender.all() {
		if m.Subject == "checking:1" {
			of1 = append(of1, m.ID)
		}
	}
	if fmt.Sprint(of1) != "[1 3]" {
		t.Errorf("commands of checking:1 were written as %v, not in the order of the batch", of1)
	}
	b.call("POST", "/", batchOf("4@checking:1"), batchType).wantStatus(t, 202)
	b.call("POST", "/", "[]", batchType).wantStatus(t, 202)
}

func TestBatchWithAWrongItemWritesNothing(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	a := b.call("POST", "/", batchOf("1@checking:1", "2@unknown:2", "3@checking:3"), batchType).wantProblem(t, problemBatch)
	item := a.json["items"].([]any)[0].(map[string]any)
	if item["index"] != 1.0 || item["http_status"] != 422.0 || item["problem"].(map[string]any)["field"] != "subject" {
		t.Errorf("the wrong item is told as %v", item)
	}
	for _, body := range []string{`{}`, `[`, `[1]`, `[{}]`, `[] []`} {
		if a := b.call("POST", "/", body, batchType); a.status != 400 && a.status != 422 {
			t.Errorf("%q is answered %d", body, a.status)
		}
	}
	b.call("POST", "/", batchOf("1@checking:1"), batchType, `If-Match: "1"`).wantProblem(t, problemParameter)
	if n := len(b.appender.all()); n != 0 {
		t.Errorf("%d messages were written", n)
	}
}

func TestBatchIsNo2xxUntilKafkaHasEveryItem(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.appender.fail = func(m *runtime.Message) error {
		if m.ID == "2" {
			return fmt.Errorf("%w: no leader", ErrKafkaAway)
		}
		return nil
	}
	a := b.call("POST", "/", batchOf("1@checking:1", "2@checking:1", "3@checking:1", "4@checking:4"), batchType).wantProblem(t, problemBatchIncomplete)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	var statuses []any
	for _, item := range a.json["items"].([]any) {
		statuses = append(statuses, item.(map[string]any)["http_status"])
	}
	if fmt.Sprint(statuses) != "[202 503 503 202]" {
		t.Errorf("the items are answered %v", statuses)
	}
	for _, m := range b.appender.all() {
		if m.ID == "3" {
			t.Error("item 3 was written before item 2 of the same aggregate")
		}
	}
}

func TestBatchWaitsForEveryOutcome(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.answerAll(func(m *runtime.Message) *Outcome {
		o := doneOutcome(m)
		if m.ID == "2" {
			o.Status = OutcomeConflict
		}
		return o
	})
	a := b.call("POST", "/v1/commands", batchOf("1@checking:1", "2@checking:1"), batchType, "Prefer: wait=10").wantStatus(t, 200)
	text, _ := json.Marshal(a.json["items"])
	if !strings.Contains(string(text), `"status":"done"`) || !strings.Contains(string(text), `"http_status":409`) {
		t.Errorf("answered %s", text)
	}
}

func TestBatchIsLimited(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxBatch = 2 })
	b.call("POST", "/", batchOf("1@checking:1", "2@checking:1", "3@checking:1"), batchType).wantProblem(t, problemTooLarge, settingBatch)
}

func FuzzPlainJSON(f *testing.F) {
	for _, seed := range []string{withdraw, `{}`, `{"entity":"a:1","command_type":"","payload":{},"id":"\ud800"}`, `{"a":{"b":[`, "{\"\xff\":1}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, wants := range []intakeWants{wantCommand, wantEvent} {
			checkDraft(t, func() (*draft, error) { return parsePlain([]byte(body), wants) })
		}
	})
}

func FuzzCloudEvent(f *testing.F) {
	f.Add("application/json", "ce-id", "1", `{}`)
	f.Add("application/cloudevents+json", "x", "", structured+`,"data":{}}`)
	f.Add("application/cloudevents+json", "ce-id", "", structured+`,"data_base64":"e30="}`)
	f.Add("application/cloudevents-batch+json", "", "", batchOf("1@checking:1"))
	f.Add("application/avro", "ce-eventohash", "%e2%82", "\x00")
	f.Fuzz(func(t *testing.T, contentType, name, value, body string) {
		h := map[string][]string{
			"Ce-Specversion": {"1.0"}, "Ce-Type": {"CheckingAccount.WithdrawCash"}, "Ce-Source": {"/s"}, "Ce-Subject": {"checking:1"}, "Ce-Id": {"1"},
			"Content-Type": {contentType},
		}
		h[name] = append(h[name], value)
		checkDraft(t, func() (*draft, error) { return parseBinary(h, []byte(body), wantAny) })
		checkDraft(t, func() (*draft, error) { return parseStructured([]byte(body), wantAny, "") })
		items, err := splitJSONArray([]byte(body), 10)
		checkProblem(t, err)
		for _, i := range items {
			checkDraft(t, func() (*draft, error) { return parseStructured(i, wantAny, "") })
		}
	})
}

// checkDraft checks what must hold whatever came in: a problem that is the
// sender's, or a draft; and a message that is written is good.
func checkDraft(t *testing.T, parse func() (*draft, error)) {
	t.Helper()
	d, err := parse()
	if checkProblem(t, err); err != nil {
		return
	}
	c := classifier{schemas: fakeSchemas{}, maxData: 1 << 10, now: func() time.Time { return testTime }}
	m, err := c.classify(d, &AuthPrincipal{Source: "/evento/test/anonymous", anonymous: true})
	if checkProblem(t, err); err != nil {
		return
	}
	if badID(m.ID) != "" || m.Source != "/evento/test/anonymous" && badSource(m.Source) != "" || m.Platform() || !json.Valid(m.Data) {
		t.Errorf("written: %+v", m)
	}
	if _, err := runtime.ParseEntity(string(m.Subject)); err != nil {
		t.Error(err)
	}
}

func checkProblem(t *testing.T, err error) {
	t.Helper()
	var p *problem
	if err != nil && (!errors.As(err, &p) || p.kind.status >= 500 || p.kind.status < 400) {
		t.Errorf("hostile input is answered by %v", err)
	}
}
