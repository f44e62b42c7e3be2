package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGet(t *testing.T) {
	state := `{"entity":"credit:77/card:7f3a","type":"CreditAccount.Card","version":3,"state":{"limit":{"minor":5}}}`
	url, calls := fake(t, answerWith{status: 200, body: state})
	code, out, errs := evento(t, "", "--gateway", url, "get", "credit:77/card:7f3a", "--min-version", "3", "--wait", "2s")
	if code != exitOK || errs != "" {
		t.Fatalf("code %d, %s", code, errs)
	}
	if c := (*calls)[0]; c.path != "/v1/aggregates/credit:77%2Fcard:7f3a?min-version=3" || c.header.Get("Prefer") != "wait=2" {
		t.Errorf("asked %+v", c)
	}
	contains(t, "output", out, "credit:77/card:7f3a", "CreditAccount.Card", "version 3", `"minor": 5`)
	if _, out, _ = evento(t, "", "--gateway", url, "get", "credit:77", "-o", "json"); out == "" {
		t.Error("no JSON")
	}
	sameJSON(t, out, state)
}

func TestGetCommand(t *testing.T) {
	url, calls := fake(t, answerWith{status: 200, body: `{"command":"a b","status":"held","attempts":8,"next_try":"2030-01-02T03:04:05.678Z","reason":"the function answers 500","events":[]}`})
	code, out, errs := evento(t, "", "--gateway", url, "get", "checking:1", "--command", "a b/c", "--source", "urn:me")
	if code != exitOK || errs != "" {
		t.Fatalf("code %d, %s", code, errs)
	}
	if got := (*calls)[0].path; got != "/v1/aggregates/checking:1/commands/a%20b%2Fc?source=urn%3Ame" {
		t.Errorf("asked %s", got)
	}
	contains(t, "output", out, "held, after 8 attempts, next try", "the function answers 500")
}

func eventsPageOf(from, to int, next string) answerWith {
	var all []string
	for v := from; v <= to; v++ {
		all = append(all, fmt.Sprintf(`{"id":"e-%d","type":"CheckingAccount.DepositReceived","version":%d,"time":"2030-01-02T03:04:05.678Z","payload":{"n":%d}}`, v, v, v))
	}
	return answerWith{status: 200, body: `{"events":[` + strings.Join(all, ",") + `]` + next + `}`}
}

func TestEventsReadsAllPages(t *testing.T) {
	url, calls := fake(t, eventsPageOf(3, 4, `,"next":4`), eventsPageOf(5, 5, ""))
	code, out, errs := evento(t, "", "--gateway", url, "events", "checking:1", "--after", "2")
	if code != exitOK || errs != "" {
		t.Fatalf("code %d, %s", code, errs)
	}
	if len(*calls) != 2 || (*calls)[0].path != "/v1/aggregates/checking:1/events?after=2&limit=500" || (*calls)[1].path != "/v1/aggregates/checking:1/events?after=4&limit=500" {
		t.Errorf("asked %+v", *calls)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines:\n%s", len(lines), out)
	}
	contains(t, "last line", lines[2], "   5  ", "CheckingAccount.DepositReceived", `{"n":5}`)
}

func TestEventsLimitAndJSON(t *testing.T) {
	url, calls := fake(t, eventsPageOf(1, 2, `,"next":2`))
	code, out, _ := evento(t, "", "--gateway", url, "events", "checking:1", "--limit", "2", "-o", "json")
	if code != exitOK || len(*calls) != 1 {
		t.Fatalf("code %d, %d calls", code, len(*calls))
	}
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.Contains(lines[1], `"id":"e-2"`) {
		t.Errorf("output:\n%s", out)
	}
	contains(t, "asked", (*calls)[0].path, "limit=2")
	// A gateway that gives the same page again must not hold us for ever.
	url, calls = fake(t, eventsPageOf(1, 1, `,"next":1`))
	evento(t, "", "--gateway", url, "events", "checking:1", "--after", "1")
	if len(*calls) != 1 {
		t.Errorf("%d calls", len(*calls))
	}
}

func TestParked(t *testing.T) {
	list := `{"parked":[{"coordinates":"kf-evento-commands/3/1042","entity":"checking:1","command":"c","type":"CheckingAccount.WithdrawCash","status":"held","attempts":8,"reason":"panic:\nat line 1","function":"default/checking-handler"}]}`
	url, calls := fake(t, answerWith{status: 200, body: list})
	code, out, _ := evento(t, "", "--gateway", url, "parked", "list", "--status", "held", "--aggregate", "checking:1")
	if code != exitOK || (*calls)[0].path != "/v1/parked?aggregate=checking%3A1&status=held" {
		t.Errorf("code %d, asked %+v", code, *calls)
	}
	contains(t, "output", out, "held", "kf-evento-commands/3/1042", "default/checking-handler: panic: at line 1")

	url, calls = fake(t, answerWith{status: 200, body: `{"status":"done","events":[]}`})
	code, out, errs := evento(t, "", "--gateway", url, "parked", "drop", "kf-evento-commands/3/1042", "--reason", "the ATM is gone")
	if code != exitOK {
		t.Errorf("code %d, %s", code, errs)
	}
	if c := (*calls)[0]; c.method != "POST" || c.path != "/v1/parked/kf-evento-commands/3/1042/drop" || c.body != `{"reason":"the ATM is gone"}` {
		t.Errorf("asked %+v", c)
	}
	contains(t, "output", out, "dropped")
	evento(t, "", "--gateway", url, "parked", "retry", "kf-evento-commands/3/1042")
	if c := (*calls)[1]; c.path != "/v1/parked/kf-evento-commands/3/1042/retry" || c.body != "" {
		t.Errorf("asked %+v", c)
	}
	evento(t, "", "--gateway", url, "parked", "reissue", "kf-evento-commands/3/1042")
	if c := (*calls)[len(*calls)-1]; c.method != "POST" || c.path != "/v1/parked/kf-evento-commands/3/1042/reissue" || c.body != "" {
		t.Errorf("asked %+v", c)
	}

	// All pages are one list, and what is missing is said.
	url, calls = fake(t, answerWith{status: 200, body: strings.Replace(list, `]}`, `],"next":"kf-evento-commands/3/1042","incomplete":{"partitions":[2]}}`, 1)}, answerWith{status: 200, body: list})
	_, out, errs = evento(t, "", "--gateway", url, "parked", "list", "--function", "bank/f", "-o", "json")
	if len(*calls) != 2 || (*calls)[1].path != "/v1/parked?after=kf-evento-commands%2F3%2F1042&function=bank%2Ff" || strings.Count(out, "coordinates") != 2 {
		t.Errorf("asked %+v, output %s", *calls, out)
	}
	contains(t, "warning", errs, "partitions [2]")

	url, calls = fake(t, answerWith{status: 200, body: `{"released":["kf-evento-commands/3/1"],"next":"kf-evento-commands/3/1"}`},
		answerWith{status: 200, body: `{"released":[],"failed":[{"coordinates":"kf-evento-commands/3/2","problem":{"title":"Kafka is away","detail":"nothing was written"}}]}`})
	code, out, errs = evento(t, "", "--gateway", url, "parked", "retry", "--type", "WithdrawCash")
	if code != exitFailed || len(*calls) != 2 || (*calls)[1].path != "/v1/parked/retry?after=kf-evento-commands%2F3%2F1&type=WithdrawCash" {
		t.Errorf("code %d, asked %+v", code, *calls)
	}
	contains(t, "output", out, "kf-evento-commands/3/1")
	contains(t, "error", errs, "1 released, 1 not", "kf-evento-commands/3/2: Kafka is away: nothing was written")
	for _, args := range [][]string{{"retry"}, {"reissue"}, {"reissue", "kf-evento-commands/3/1", "--type", "WithdrawCash"}, {"retry", "--status", "held"}, {"show", "x"}} {
		if code, _, _ := evento(t, "", append([]string{"--gateway", url, "parked"}, args...)...); code != exitUsage {
			t.Errorf("%v: code %d", args, code)
		}
	}

	url, calls = fake(t, answerWith{status: 200, body: `{"parked":[{"coordinates":"kf-evento-commands/3/7","status":"held","attempts":8,"reason":"panic","function":"bank/f","image":"f:7","failing_since":"2026-01-31T10:20:30.123Z"}],
		"message":{"id":"c-7","type":"CheckingAccount.WithdrawCash","entity":"checking:1","cause":"e-1","cause_coordinates":"kf-evento-events/3/9","payload":{"amount":{"minor":5}}}}`})
	_, out, _ = evento(t, "", "--gateway", url, "parked", "show", "kf-evento-commands/3/7")
	if (*calls)[0].path != "/v1/parked/kf-evento-commands/3/7" {
		t.Errorf("asked %+v", *calls)
	}
	contains(t, "output", out, "held", "bank/f f:7", "panic", "c-7", "e-1 kf-evento-events/3/9", `{"amount":{"minor":5}}`)

	url, _ = fake(t, answerWith{status: 200, body: `{"parked":[]}`})
	_, out, _ = evento(t, "", "--gateway", url, "parked", "list")
	contains(t, "output", out, "none")
}

func TestSchema(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.avsc", "a.avsc", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`["`+name+`"]`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	url, calls := fake(t,
		answerWith{status: 422, body: `{"title":"The schema file breaks a rule","problems":["type X, field y: no default"]}`},
		answerWith{status: 201, body: `{"new":[{"name":"Client.Moved","fingerprint":"0123456789abcdef"}]}`})
	code, out, errs := evento(t, "", "--gateway", url, "schema", "register", dir)
	if code != exitRefused || len(*calls) != 2 {
		t.Fatalf("code %d, %d calls", code, len(*calls))
	}
	if (*calls)[0].body != `["a.avsc"]` || (*calls)[0].path != "/v1/schemas" || (*calls)[1].body != `["b.avsc"]` {
		t.Errorf("asked %+v", *calls)
	}
	contains(t, "error", errs, "a.avsc", "type X, field y: no default")
	contains(t, "output", out, "b.avsc: registered 1 new type versions", "Client.Moved 0123456789abcdef")

	url, calls = fake(t, answerWith{status: 200, body: `{"new":[]}`})
	_, out, _ = evento(t, "", "--gateway", url, "schema", "check", filepath.Join(dir, "a.avsc"))
	contains(t, "output", out, "nothing new")
	contains(t, "asked", (*calls)[0].path, "?dry-run=true")

	url, _ = fake(t, answerWith{status: 200, body: `{"types":[{"name":"Client.Moved","aggregate":"Client","kind":"event","fingerprint":"0123456789abcdef"}]}`})
	_, out, _ = evento(t, "", "--gateway", url, "schema", "list")
	contains(t, "output", out, "AGGREGATE", "Client.Moved", "0123456789abcdef")
}
