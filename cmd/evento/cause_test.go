package main

import (
	"strings"
	"testing"
)

const (
	someLinks = `{"kind":"event","id":"e-1","type":"SavingsAccount.DepositReceived","entity":"savings:7","version":3,"coordinates":"kf-evento-events/3/9","recorded_time":"2030-01-02T03:04:05.678Z","payload":{"amount":{"minor":9007199254740993}}},
 {"kind":"command","id":"d-1","type":"SavingsAccount.ReceiveDeposit","entity":"savings:7","coordinates":"kf-evento-commands/3/8","time":"2030-01-02T03:04:05.678Z"}`
	moreLinks = `{"kind":"hidden","coordinates":"kf-evento-events/1/2"},
 {"kind":"command","id":"c-1","type":"CheckingAccount.OpenCheckingAccount","entity":"checking:1","coordinates":"kf-evento-commands/1/1"}`
)

func TestCause(t *testing.T) {
	url, calls := fake(t, answerWith{status: 200, body: `{"links":[` + someLinks + `],"next":"kf-evento-events/1/2"}`}, answerWith{status: 200, body: `{"links":[` + moreLinks + `]}`})
	code, out, errs := evento(t, "", "--gateway", url, "cause", "kf-evento-events/3/9")
	if code != exitOK || errs != "" {
		t.Fatalf("code %d, %s", code, errs)
	}
	if a, b := (*calls)[0].path, (*calls)[1].path; a != "/v1/causes/kf-evento-events/3/9" || b != "/v1/causes/kf-evento-events/1/2" {
		t.Errorf("asked %s and %s", a, b)
	}
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		text, _, _ := strings.Cut(line, "  20")
		lines = append(lines, text)
	}
	want := []string{
		"command CheckingAccount.OpenCheckingAccount  checking:1  -  kf-evento-commands/1/1  ",
		"└─ hidden: you may not read this aggregate  kf-evento-events/1/2",
		"   └─ command SavingsAccount.ReceiveDeposit  savings:7",
		"      └─ event SavingsAccount.DepositReceived  savings:7  version 3",
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	contains(t, "the payload", out, `{"amount":{"minor":9007199254740993}}`)

	url, _ = fake(t, answerWith{status: 200, body: `{"links":[` + someLinks + `],"next":"kf-evento-events/1/2"}`}, answerWith{status: 200, body: `{"links":[` + moreLinks + `]}`})
	_, out, _ = evento(t, "", "--gateway", url, "cause", "kf-evento-events/3/9", "-o", "json")
	sameJSON(t, out, `{"links":[`+someLinks+`,`+moreLinks+`]}`)
	contains(t, "json", out, "9007199254740993") // not through a float
}

func TestCauseByID(t *testing.T) {
	url, calls := fake(t, answerWith{status: 200, body: `{"links":[` + moreLinks + `]}`})
	if code, _, errs := evento(t, "", "--gateway", url, "cause", "credit:77/card:7f3a", "a b/c", "--source", "urn:me"); code != exitOK {
		t.Fatalf("code %d, %s", code, errs)
	}
	if c := (*calls)[0]; c.path != "/v1/causes/credit:77%2Fcard:7f3a/a%20b%2Fc?source=urn%3Ame" {
		t.Errorf("asked %s", c.path)
	}
}

func TestCauseThatIsMissing(t *testing.T) {
	body := `{"type":"urn:evento:problem:cause-not-found","title":"The cause of a message cannot be found","status":404,"detail":"the cause \"c-1\" is not found: all was searched","id":"c-1","links":[` + someLinks + `]}`
	url, _ := fake(t, answerWith{status: 404, body: body})
	code, out, errs := evento(t, "", "--gateway", url, "cause", "kf-evento-events/3/9")
	if code != exitNotFound {
		t.Errorf("code %d", code)
	}
	contains(t, "what was found", out, "?\n└─ command SavingsAccount.ReceiveDeposit", "   └─ event")
	contains(t, "error", errs, "all was searched")
	if strings.Contains(errs, "links") {
		t.Errorf("the links are shown twice:\n%s", errs)
	}
	url, _ = fake(t, answerWith{status: 200, body: `{"links":[` + someLinks + `],"next":"kf-evento-events/3/9"}`})
	code, _, errs = evento(t, "", "--gateway", url, "cause", "kf-evento-events/3/9")
	if code != exitFailed {
		t.Errorf("a circle: code %d", code)
	}
	contains(t, "error", errs, "circle")
}
