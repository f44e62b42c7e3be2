package main

import (
	"strings"
	"testing"
)

// What a gateway says (its words are those of real answers), and what to type next.
func TestErrorsSayWhatToTypeNext(t *testing.T) {
	problem := func(kind, detail string) string {
		return `{"type":"urn:evento:problem:` + kind + `","title":"It is refused","status":422,"detail":"` + detail + `"}`
	}
	send := []string{"send", "checking:1", "WithdrawCash", "destination=atm:1"}
	for name, c := range map[string]struct {
		args   []string
		status int
		body   string
		words  []string
	}{
		"unknown entity type": {
			[]string{"get", "cheking:1"}, 404, problem("aggregate-not-found", `\"cheking:1\": no registered entity type has these prefixes`),
			[]string{"no registered entity type", "evento schema list"},
		},
		"unknown entity type, sending": {
			send, 422, problem("wrong-target", `entity \"cheking:1\": no registered entity type has these prefixes`), []string{"evento schema list", "evento schema register"},
		},
		"unknown type": {send, 422, problem("unknown-type", `not registered`), []string{"evento schema list"}},
		"missing field": {
			send, 422, problem("schema-mismatch", "payload does not match CheckingAccount.WithdrawCash: CheckingAccount.WithdrawCash: amount.minor: the field is missing and has no default"),
			[]string{"evento send checking:1 WithdrawCash ... amount.minor=<text>", "amount.minor:=<number", "evento schema show WithdrawCash"},
		},
		"wrong kind of field": {
			send, 422, problem("schema-mismatch", "destination: found a number where a string is expected"), []string{"name:=value", "evento schema show WithdrawCash"},
		},
		"event instead of command": {send, 422, problem("wrong-kind", "an event"), []string{"--event", "evento schema show WithdrawCash"}},
		"another version":          {send, 412, problem("version-mismatch", "it is at 3"), []string{"evento get", "--expect"}},
		"nothing there":            {[]string{"cause", "a/0/1"}, 404, problem("message-not-found", "a/0/1"), []string{"evento events <entity> -o json"}},
		"not parked":               {[]string{"parked", "retry", "a/0/1"}, 404, problem("parked-not-found", "none"), []string{"evento parked list"}},
		"type not there":           {[]string{"schema", "show", "A.B"}, 404, problem("schema-not-found", "none"), []string{"evento schema list"}},
		"no right":                 {send, 403, problem("forbidden", "lacks the right"), []string{"EVENTO_TOKEN"}},
	} {
		url, _ := fake(t, answerWith{status: c.status, body: c.body})
		code, _, errs := evento(t, "", append([]string{"--gateway", url}, c.args...)...)
		if code == exitOK {
			t.Errorf("%s: code 0", name)
		}
		contains(t, name, errs, c.words...)
		if n := strings.Count(errs, "evento schema list"); n > 1 {
			t.Errorf("%s: says the same %d times:\n%s", name, n, errs)
		}
	}
	// A gateway that does not run: TestGatewayAway.
}

func TestSchemaShow(t *testing.T) {
	types := answerWith{status: 200, body: `{"types":[{"name":"A.Open","kind":"command"},{"name":"B.Open","kind":"command"},{"name":"A.Close","kind":"command"}]}`}
	one := answerWith{status: 200, body: `{"name":"A.Close","aggregate":"A","kind":"command","fingerprint":"0123456789abcdef","versions":["0123456789abcdef"],
	 "schema":{"type":"record","name":"Close","doc":"Ends it.","fields":[{"name":"why","type":["null","string"],"default":null,"doc":"for people"},{"name":"n","type":{"type":"long"}}]}}`}
	url, calls := fake(t, types, one)
	code, out, errs := evento(t, "", "--gateway", url, "schema", "show", "Close")
	if code != exitOK || errs != "" || (*calls)[1].path != "/v1/schemas/A.Close" {
		t.Fatalf("code %d, %s, asked %+v", code, errs, *calls)
	}
	contains(t, "output", out, "A.Close  command of A  0123456789abcdef (1 versions)", "Ends it.", `why    ["null","string"]  null     for people`, `n      {"type":"long"}    -        -`)
	code, _, errs = evento(t, "", "--gateway", url, "schema", "show", "A.Close", "-o", "json")
	if code != exitOK {
		t.Errorf("code %d, %s", code, errs)
	}
	url, _ = fake(t, types)
	code, _, errs = evento(t, "", "--gateway", url, "schema", "show", "Open")
	if code != exitUsage {
		t.Errorf("code %d", code)
	}
	contains(t, "two", errs, "A.Open, B.Open")
	code, _, errs = evento(t, "", "--gateway", url, "schema", "show", "Nothing")
	if code != exitNotFound {
		t.Errorf("code %d", code)
	}
	contains(t, "none", errs, "evento schema list")
}
