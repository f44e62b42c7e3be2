package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// stateOf is a state whose "Avro" is this JSON.
func stateOf(version uint64, name runtime.TypeName, text string) shard.State {
	return shard.State{Version: version, Schema: runtime.NewDataSchema(name, testFingerprint), Data: []byte(text)}
}

func TestAggregateAsJSON(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.reader.state = stateOf(7, "CheckingAccount.CheckingAccount", `{"balance":1}`)
	a := b.call("GET", "/v1/aggregates/checking:6789-21?min-version=5", "").wantStatus(t, 200).
		wantMember(t, "entity", "checking:6789-21").wantMember(t, "type", "CheckingAccount.CheckingAccount").
		wantMember(t, "version", 7).wantMember(t, "state", "map[balance:1]").wantMember(t, "recorded_time", "2030-01-31T10:20:30.123Z")
	if got := a.header.Get("Etag"); got != `"7"` {
		t.Errorf("ETag is %s", got)
	}
	if b.reader.asked != 5 {
		t.Errorf("the reader was asked for version %d, want 5", b.reader.asked)
	}
	for tag, status := range map[string]int{`"7"`: 304, `W/"7"`: 304, `"1", "7"`: 304, "*": 304, `"6"`: 200} {
		b.call("GET", "/v1/aggregates/checking:6789-21", "", "If-None-Match: "+tag).wantStatus(t, status)
	}
}

func TestAggregateAsAvro(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.reader.state = stateOf(7, "CreditAccount.CreditAccount", `{"cards":[]}`)
	a := b.call("GET", "/v1/aggregates/credit:77", "", "Accept: application/avro").wantStatus(t, 200)
	if a.header.Get("Content-Type") != "application/avro" || a.body != `{"cards":[]}` ||
		a.header.Get("Evento-Dataschema") != "urn:evento:avro:CreditAccount.CreditAccount:0123456789abcdef" {
		t.Errorf("answered %v %q", a.header, a.body)
	}
	for accept, avro := range map[string]bool{
		"*/*": false, "application/*": false, "text/html, application/avro;q=0.5": true, "application/json;q=0.1, application/avro": true,
		"application/avro;q=0.1, application/json": false, "application/avro;q=0.5, */*;q=0.1": true, "*/*, application/json;q=0": true,
	} {
		a := b.call("GET", "/v1/aggregates/credit:77", "", "Accept: "+accept).wantStatus(t, 200)
		if got := a.header.Get("Content-Type") == "application/avro"; got != avro {
			t.Errorf("%q is answered as %s", accept, a.header.Get("Content-Type"))
		}
	}
	b.call("GET", "/v1/aggregates/credit:77", "", "Accept: text/html").wantProblem(t, problemNotAcceptable)
	b.call("GET", "/v1/aggregates/credit:77%2Fcard:1", "", "Accept: application/avro").wantProblem(t, problemNotAcceptable)
}

func TestChildEntityIsItsPartOfTheState(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	b.reader.state = stateOf(7, "CreditAccount.CreditAccount", `{"cards":[{"id":"card:1","n":1},{"id":"2","n":2},{"id":3,"n":3}]}`)
	for _, id := range []string{"1", "2", "3"} {
		a := b.call("GET", "/v1/aggregates/credit:77%2Fcard:"+id, "").wantStatus(t, 200).
			wantMember(t, "entity", "credit:77/card:"+id).wantMember(t, "type", "CreditAccount.CreditCard").wantMember(t, "version", 7)
		if got := fmt.Sprint(a.json["state"].(map[string]any)["n"]); got != id {
			t.Errorf("card:%s is shown as that with n = %s", id, got)
		}
	}
	b.call("GET", "/v1/aggregates/credit:77%2Fcard:4", "").wantProblem(t, problemNoEntity)
	b.call("GET", "/v1/aggregates/credit:77/card:1", "").wantProblem(t, problemNoRoute, "%2F")
}

func TestWhatTheReaderSaysIsToldAsItIs(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	get := func(err error) answer {
		b.reader.mu.Lock()
		b.reader.stateErr = err
		b.reader.state = shard.State{Version: 3}
		b.reader.mu.Unlock()
		return b.call("GET", "/v1/aggregates/checking:1?min-version=9", "", "Prefer: wait=1")
	}
	get(fmt.Errorf("%w: x", ErrNotFound)).wantProblem(t, problemNoAggregate, "no state", "version 3").wantMember(t, "version", 3)
	get(fmt.Errorf("%w: x", ErrBehind)).wantProblem(t, problemBehind, "version 3", "9").wantMember(t, "version", 3)
	get(fmt.Errorf("%w: x", ErrNoOwner)).wantProblem(t, problemOwnerUnknown)
	get(fmt.Errorf("%w: x", ErrBroken)).wantProblem(t, problemBroken, "/v1/parked")
	get(fmt.Errorf("%w: x", ErrKafkaAway)).wantProblem(t, problemUnavailable)
	if a := get(errors.New("secret words")).wantProblem(t, problemInternal); strings.Contains(a.body, "secret") {
		t.Errorf("an inner error is shown: %s", a.body)
	}
	b.call("GET", "/v1/aggregates/unknown:1", "").wantProblem(t, problemNoAggregate)
	b.call("GET", "/v1/aggregates/nothing", "").wantProblem(t, problemAttribute)
	b.call("GET", "/v1/aggregates/checking:1?version=3", "").wantProblem(t, problemParameter).wantMember(t, "field", "version")
	b.call("GET", "/v1/aggregates/checking:1?min-version=a", "").wantProblem(t, problemParameter)
	b.call("GET", "/v1/aggregates/checking:1?min-version=1&min-version=2", "").wantProblem(t, problemParameter)
	a := b.call("DELETE", "/v1/aggregates/checking:1", "").wantProblem(t, problemMethod)
	if got := a.header.Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow is %q", got)
	}
	b.call("GET", "/nowhere", "").wantProblem(t, problemNoRoute)
}

func TestHistoryIsPaged(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	for v := range 5 {
		e := doneOutcome(&runtime.Message{ID: "c", Source: "/s", Subject: "checking:1"}).Events[0]
		e.Message.Sequence = uint64(v + 1)
		b.reader.events = append(b.reader.events, e)
	}
	path, seen := "/v1/aggregates/checking:1/events?limit=2", ""
	for page := path; page != ""; {
		a := b.call("GET", page, "").wantStatus(t, 200)
		for _, e := range a.json["events"].([]any) {
			seen += fmt.Sprint(e.(map[string]any)["version"])
		}
		page = ""
		if next, ok := a.json["next"]; ok {
			page = fmt.Sprintf("%s&after=%v", path, next)
		}
	}
	if seen != "12345" {
		t.Errorf("the pages show the versions %s", seen)
	}
	b.call("GET", "/v1/aggregates/checking:1/events?after=5", "").wantStatus(t, 200).wantMember(t, "events", "[]")
	b.call("GET", "/v1/aggregates/checking:1/events?limit=1001", "").wantProblem(t, problemParameter)
}

func TestAnEventWithoutASchemaHereIsShownAllTheSame(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	e := doneOutcome(&runtime.Message{ID: "c", Source: "/s", Subject: "checking:1"}).Events[0]
	e.Message.Data = []byte("\x01\x02") // "not JSON" is what the fake schemas do not know
	b.reader.events = []Recorded{e}
	a := b.call("GET", "/v1/aggregates/checking:1/events", "").wantStatus(t, 200)
	if got := a.json["events"].([]any)[0].(map[string]any)["payload_avro"]; got != "AQI=" {
		t.Errorf("payload_avro is %v", got)
	}
}

func TestCommandIsFoundByIDAndSource(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	held := func(source, id string) *Outcome {
		return &Outcome{Command: id, Source: source, Entity: "checking:1", Status: OutcomeHeld, Attempts: 8, NextTry: testTime, Reason: "down"}
	}
	b.reader.outcomes = map[runtime.CommandKey]*Outcome{
		runtime.NewCommandKey("/evento/test/anonymous", "checking:1", "a b"): held("/evento/test/anonymous", "a b"),
		runtime.NewCommandKey("/shop?x", "checking:1", "1"):                  held("/shop?x", "1"),
	}
	b.call("GET", "/v1/aggregates/checking:1/commands/a%20b", "").wantStatus(t, 200).wantMember(t, "status", "held").
		wantMember(t, "attempts", 8).wantMember(t, "next_try", "2030-01-31T10:20:30.123Z").wantMember(t, "reason", "down").wantMember(t, "events", "[]")
	b.call("GET", "/v1/aggregates/checking:1/commands/1?source="+url.QueryEscape("/shop?x"), "").wantStatus(t, 200)
	b.call("GET", "/v1/aggregates/checking:1/commands/1", "").wantProblem(t, problemNoCommand).wantMember(t, "source", "/evento/test/anonymous")
}

func TestParkedCommands(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	at := func(offset int64) runtime.Coordinates {
		return runtime.Coordinates{Topic: "kf-evento-commands", Partition: 3, Offset: offset}
	}
	b.reader.parked = []ParkedCommand{
		{At: at(41), Aggregate: "checking:1", Entity: "checking:1", Command: "c", Source: "/s", Type: "CheckingAccount.WithdrawCash", Status: OutcomeHeld, Attempts: 8, NextTry: testTime, Reason: "down", Function: "bank/checking"},
		{At: at(42), Aggregate: "checking:2", Entity: "checking:2", Command: "d", Source: "/s", Status: OutcomeParked},
	}
	a := b.call("GET", "/v1/parked?status=held&aggregate=checking:1", "").wantStatus(t, 200)
	list := a.json["parked"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["coordinates"] != "kf-evento-commands/3/41" || list[0].(map[string]any)["function"] != "bank/checking" {
		t.Errorf("listed: %s", a.body)
	}
	b.call("GET", "/v1/parked?status=lost", "").wantProblem(t, problemParameter)

	for path, want := range map[string]string{
		"/v1/parked/3/41/retry":                    `evento.RetryNow {"offset":41}`,
		"/v1/parked/kf-evento-commands/3/41/retry": `evento.RetryNow {"offset":41}`,
		"/v1/parked/3/41/drop":                     `evento.DropCommand {"offset":41,"reason":"the ATM is gone"}`,
	} {
		b := newHTTPBench(t)
		b.reader.parked = []ParkedCommand{{At: at(41), Aggregate: "checking:1", Status: OutcomeHeld}}
		body := ""
		if strings.HasSuffix(path, "drop") {
			body = `{"reason":"the ATM is gone"}`
		}
		a := b.call("POST", path, body).wantStatus(t, 202)
		m := b.appender.only(t)
		if got := string(m.Type) + " " + string(m.Data); got != want || m.Subject != "checking:1" {
			t.Errorf("%s writes %s for %s, want %s", path, got, m.Subject, want)
		}
		if !strings.HasPrefix(a.header.Get("Location"), "/v1/aggregates/checking:1/commands/") {
			t.Errorf("Location is %q", a.header.Get("Location"))
		}
	}
	b.call("POST", "/v1/parked/3/42/retry", "").wantProblem(t, problemNoParked, "reissue")
	b.call("POST", "/v1/parked/3/41/reissue", "").wantProblem(t, problemNoParked, "retry")
	b.call("POST", "/v1/parked/3/42/reissue", "").wantProblem(t, problemNoParked, "not in Kafka")
	b.call("POST", "/v1/parked/3/42/reissue", `{"a":1}`).wantProblem(t, problemAttribute)
	b.call("POST", "/v1/parked/3/43/retry", "").wantProblem(t, problemNoParked)
	b.call("POST", "/v1/parked/other/3/41/retry", "").wantProblem(t, problemNoParked)
	b.call("POST", "/v1/parked/x/41/retry", "").wantProblem(t, problemParameter)
	b.call("POST", "/v1/parked/3/41/retry", `{"a":1}`).wantProblem(t, problemAttribute)
	b.call("POST", "/v1/parked/3/41/drop", `{}`).wantProblem(t, problemAttribute).wantMember(t, "field", "reason")
	b.call("POST", "/v1/parked/3/41/drop", `{"reason":"x","why":"y"}`).wantProblem(t, problemAttribute).wantMember(t, "field", "why")
}

// realSchemas is the catalogue with the example bank.
func realSchemas(t *testing.T, files ...string) CatalogueSchemas {
	t.Helper()
	c := avro.NewCatalogue()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		a, err := avro.ParseAggregate(file, text)
		if err != nil {
			t.Fatal(err)
		}
		added, err := c.Check(a)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range added {
			if err := c.Add(n.Register(testTime)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return CatalogueSchemas{c}
}

func TestWithTheRealCatalogue(t *testing.T) {
	t.Parallel()
	schemas := realSchemas(t, "../internal/avro/testdata/CreditAccount.avsc")
	b := newHTTPBench(t, func(_ *HTTPConfig, n *HTTPNeeds) { n.Schemas = schemas })
	charge := func(entity, payload string) answer {
		return b.send(`{"entity":"` + entity + `","command_type":"ChargeCard","id":"c-1","payload":` + payload + `}`)
	}
	charge("credit:77/card:7f3a", `{"purchase_id":"p","merchant":"m","amount":{"minor":5}}`).wantStatus(t, 202)
	m := b.appender.only(t)
	if err := schemas.Validate(m.Schema, m.Data); err != nil {
		t.Error(err)
	}
	charge("credit:77", `{}`).wantProblem(t, problemWrongTarget, "CreditCard")
	charge("credit:77/card:7f3a", `{"purchase_id":"p"}`).wantProblem(t, problemSchema)
	charge("credit:77/card:7f3a", `{"purchase_id":"p","merchant":"m","amount":{"minor":5,"minor":6}}`).wantProblem(t, problemSchema)
	b.send(`{"entity":"credit:77","command_type":"evento.RetryNow","payload":{"offset":1}}`).wantProblem(t, problemWrongKind)

	card := `{"id":"card:7f3a","holder":"h","last4":"1234"}`
	data, schema, err := schemas.FromJSON("CreditAccount.CreditAccount", []byte(`{"client":"client:1","credit_limit":{"minor":1},"balance":{"minor":0},"cards":[`+card+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	b.reader.state = shard.State{Version: 2, Schema: schema, Data: data}
	a := b.call("GET", "/v1/aggregates/credit:77%2Fcard:7f3a", "").wantStatus(t, 200)
	if got := a.json["state"].(map[string]any)["last4"]; got != "1234" {
		t.Errorf("the card is shown as %s", a.body)
	}

	list := b.call("GET", "/v1/schemas", "").wantStatus(t, 200).json["types"].([]any)
	names := map[string]bool{}
	for _, item := range list {
		names[item.(map[string]any)["name"].(string)] = true
	}
	for _, want := range []string{"CreditAccount.CreditAccount", "CreditAccount.CreditCard", "CreditAccount.ChargeCard", "CreditAccount.CardDeclined", "evento.CommandParked"} {
		if !names[want] {
			t.Errorf("%s is not among the schemas", want)
		}
	}
	one := b.call("GET", "/v1/schemas/CreditAccount.ChargeCard", "").wantStatus(t, 200).wantMember(t, "kind", "command").wantMember(t, "entity", "CreditCard")
	fp := one.json["fingerprint"].(string)
	b.call("GET", "/v1/schemas/CreditAccount.ChargeCard/"+fp, "").wantStatus(t, 200)
	b.call("GET", "/v1/schemas/CreditAccount.ChargeCard/ffffffffffffffff", "").wantProblem(t, problemNoSchema)
	b.call("GET", "/v1/schemas/CreditAccount.Nothing", "").wantProblem(t, problemNoSchema)

	b.reader.parked = []ParkedCommand{{At: runtime.Coordinates{Topic: "kf-evento-commands", Partition: 1, Offset: 9}, Aggregate: "credit:77", Status: OutcomeHeld}}
	b.call("POST", "/v1/parked/1/9/drop", `{"reason":"r"}`).wantStatus(t, 202)
	drop := b.appender.all()[1]
	if r, err := schemas.DecodeDropCommand(drop.Schema, drop.Data); err != nil || r.Offset != 9 || r.Reason != "r" {
		t.Errorf("the order is %+v, %v", r, err)
	}
}
