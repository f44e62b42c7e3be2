package main

import "testing"

func TestTriggers(t *testing.T) {
	body := `{"triggers":[{"name":"bank/checking","role":"handler,aggregator","aggregate":"CheckingAccount","subscriber":"http://checking:8080","source":"stack.yml","delivery":{"retry":"5"}},
	 {"name":"bank/statements","role":"sink","filter":"type=CashWithdrawn","subscriber":"","error":"the subscriber has no address"}]}`
	url, calls := fake(t, answerWith{status: 200, body: body})
	code, out, errs := evento(t, "", "--gateway", url, "triggers")
	if code != exitOK || errs != "" || (*calls)[0].path != "/v1/triggers" {
		t.Fatalf("code %d, %s, asked %+v", code, errs, *calls)
	}
	contains(t, "table", out,
		"TRIGGER          ROLE                AGGREGATE        FILTER",
		"bank/checking    handler,aggregator  CheckingAccount  -                   http://checking:8080  stack.yml",
		"type=CashWithdrawn", "bank/statements does not route: the subscriber has no address")
	_, out, _ = evento(t, "", "--gateway", url, "triggers", "-o", "json")
	sameJSON(t, out, body)
	url, _ = fake(t, answerWith{status: 200, body: `{"triggers":[]}`})
	_, out, _ = evento(t, "", "--gateway", url, "triggers")
	contains(t, "none", out, "--triggers", "--stack")
}

func TestReplay(t *testing.T) {
	for _, from := range []string{"earliest", "latest", "2026-11-22T10:00:00Z", "2026-11-22T10:00:00.5+02:00"} {
		url, calls := fake(t, answerWith{status: 202, body: `{"status":"accepted"}`})
		code, out, errs := evento(t, "", "--gateway", url, "replay", "bank/close-accounts", "--from", from)
		if code != exitOK || errs != "" {
			t.Fatalf("%s: code %d, %s", from, code, errs)
		}
		if c := (*calls)[1]; c.method != "POST" || c.path != "/v1/triggers/bank/close-accounts/replay" {
			t.Errorf("asked %s %s", c.method, c.path)
		}
		sameJSON(t, (*calls)[1].body, `{"from":"`+from+`"}`)
		contains(t, "output", out, "bank/close-accounts", from)
	}
	// After an answer that leaves it open the order is repeated, for the same epoch.
	url, calls := fake(t, answerWith{status: 200, body: `{"triggers":[{"name":"bank/x","dispatch":{"epoch":7}}]}`},
		answerWith{status: 503, body: `{"type":"urn:evento:problem:uncertain","title":"It is not known","status":503,"detail":"whether the order was kept"}`},
		answerWith{status: 200, body: `{"epoch":8}`})
	if code, _, errs := evento(t, "", "--gateway", url, "replay", "bank/x", "--from", "earliest"); code != exitOK || len(*calls) != 3 {
		t.Errorf("code %d, %d calls, %s", code, len(*calls), errs)
	}
	for _, c := range (*calls)[1:] {
		if c.method != "POST" || c.header.Get("If-Match") != `"7"` {
			t.Errorf("asked %s with If-Match %q", c.method, c.header.Get("If-Match"))
		}
	}
	url, _ = fake(t, answerWith{status: 202, body: `{"status":"accepted"}`})
	_, out, _ := evento(t, "", "--gateway", url, "replay", "bank/x", "--from", "latest", "-o", "json")
	sameJSON(t, out, `{"status":"accepted"}`)
	url, _ = fake(t, answerWith{status: 404, body: `{"type":"urn:evento:problem:no-such-route","title":"There is nothing at this path","status":404,"detail":"there is nothing at /v1/triggers/bank/x/replay"}`})
	code, _, errs := evento(t, "", "--gateway", url, "replay", "bank/x", "--from", "latest")
	if code != exitNotFound {
		t.Errorf("code %d", code)
	}
	contains(t, "an older gateway", errs, "may be older than this program")
}
