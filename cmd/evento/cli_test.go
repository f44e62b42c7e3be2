package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call is what a fake gateway was asked.
type call struct {
	method, path, body string
	header             http.Header
}

// answerWith is what it answers.
type answerWith struct {
	status int
	header map[string]string
	body   string
}

// fake is a gateway with prepared answers, in order; the last is given again and again.
func fake(t *testing.T, answers ...answerWith) (url string, calls *[]call) {
	t.Helper()
	calls = &[]call{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		a := answers[min(len(*calls), len(answers)-1)]
		*calls = append(*calls, call{r.Method, r.URL.EscapedPath() + strings.TrimSuffix("?"+r.URL.RawQuery, "?"), string(body), r.Header})
		for k, v := range a.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(a.status)
		io.WriteString(w, a.body)
	}))
	t.Cleanup(s.Close)
	return s.URL, calls
}

func evento(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// contains reports each word that is missing.
func contains(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: %q is missing in:\n%s", what, w, text)
		}
	}
}

// sameJSON compares JSON texts as values.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(g) != fmt.Sprint(w) {
		t.Errorf("got %s, want %s", got, want)
	}
}

const done = `{"command":"d-1","status":"done","version":2,"entity":"checking:1","type":"CheckingAccount.ReceiveDeposit","source":"me",
 "events":[{"id":"00-1","type":"CheckingAccount.DepositReceived","entity":"checking:1","version":2,"time":"2030-01-02T03:04:05.678Z","payload":{"amount":{"minor":9007199254740993}}}]}`

func TestSend(t *testing.T) {
	url, calls := fake(t, answerWith{status: 200, body: done})
	code, out, errs := evento(t, "", "--gateway", url, "send", "checking:1", "ReceiveDeposit",
		"transaction_id=123", "amount.minor:=9007199254740993", "amount.currency=USD", "--id", "d-1", "--source", "urn:me", "--expect", "1", "--wait", "1500ms")
	if code != exitOK || errs != "" {
		t.Fatalf("code %d, %s", code, errs)
	}
	c := (*calls)[0]
	if c.method != "POST" || c.path != "/v1/commands" || c.header.Get("Prefer") != "wait=2" || c.header.Get("If-Match") != `"1"` || c.header.Get("Content-Type") != "application/json" {
		t.Errorf("asked %+v", c)
	}
	sameJSON(t, c.body, `{"entity":"checking:1","command_type":"ReceiveDeposit","id":"d-1","source":"urn:me",
		"payload":{"transaction_id":"123","amount":{"minor":9007199254740993,"currency":"USD"}}}`)
	contains(t, "body", c.body, `"minor":9007199254740993`) // not through a float
	contains(t, "output", out, "done, version 2", "CheckingAccount.DepositReceived", `{"amount":{"minor":9007199254740993}}`)

	code, out, _ = evento(t, "", "--gateway", url, "send", "checking:1", "ReceiveDeposit", "-d", `{"a":1}`, "-o", "json")
	if code != exitOK {
		t.Errorf("code %d", code)
	}
	sameJSON(t, out, done)
	var sent struct{ ID string }
	if err := json.Unmarshal([]byte((*calls)[1].body), &sent); err != nil || len(sent.ID) < 20 {
		t.Errorf("without --id the id is %q (%v)", sent.ID, err)
	}
}

func TestSendPayloadFromFileAndStdin(t *testing.T) {
	url, calls := fake(t, answerWith{status: 200, body: done})
	file := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(file, []byte(`{"from":"file"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	evento(t, "", "--gateway", url, "send", "checking:1", "X", "-d", "@"+file, "--id", "1")
	evento(t, `{"from":"stdin"}`, "--gateway", url, "send", "checking:1", "X", "-d", "-", "--id", "1")
	evento(t, "", "--gateway", url, "send", "checking:1", "DepositReceived", "--event", "--id", "1")
	sameJSON(t, (*calls)[0].body, `{"entity":"checking:1","command_type":"X","id":"1","payload":{"from":"file"}}`)
	sameJSON(t, (*calls)[1].body, `{"entity":"checking:1","command_type":"X","id":"1","payload":{"from":"stdin"}}`)
	sameJSON(t, (*calls)[2].body, `{"entity":"checking:1","event_type":"DepositReceived","id":"1","payload":{}}`)
	if (*calls)[2].path != "/v1/events" {
		t.Errorf("an event went to %s", (*calls)[2].path)
	}
}

func TestSendWholeCommands(t *testing.T) {
	url, calls := fake(t, answerWith{status: 200, body: done}, answerWith{status: 200, body: done}, answerWith{status: 422, body: `{"title":"The type is not registered","detail":"no Foo"}`})
	two := `{"entity":"savings:1","command_type":"A","payload":{}}
	{"entity":"savings:2","command_type":"B","payload":{}}`
	if code, _, errs := evento(t, two, "--gateway", url, "send", "-f", "-"); code != exitOK {
		t.Errorf("code %d, %s", code, errs)
	}
	if len(*calls) != 2 || !strings.Contains((*calls)[1].body, "savings:2") {
		t.Errorf("asked %+v", *calls)
	}
	code, _, errs := evento(t, two, "--gateway", url, "send", "-f", "-")
	if code != exitRefused || len(*calls) != 3 {
		t.Errorf("code %d after %d calls: it goes on after a refusal", code, len(*calls))
	}
	contains(t, "error", errs, "command 1 of -", "no Foo")
}

func TestSendWithoutOutcome(t *testing.T) {
	accepted := answerWith{status: 202, header: map[string]string{"Location": "/v1/aggregates/checking:1/commands/d-1?source=urn%3Ame"},
		body: `{"command":"d-1","status":"pending","entity":"checking:1","events":[]}`}
	url, calls := fake(t, accepted)
	code, out, errs := evento(t, "", "--gateway", url, "send", "checking:1", "X", "--no-wait")
	if code != exitOK || errs != "" {
		t.Errorf("--no-wait: code %d, %s", code, errs)
	}
	if (*calls)[0].header.Get("Prefer") != "" {
		t.Error("--no-wait asks to wait")
	}
	contains(t, "output", out, "accepted", "evento get checking:1 --command d-1 --source urn:me")
	code, _, errs = evento(t, "", "--gateway", url, "send", "checking:1", "X")
	if code != exitPending {
		t.Errorf("code %d, want %d", code, exitPending)
	}
	contains(t, "error", errs, "no outcome within 10s")
	url, _ = fake(t, answerWith{status: 202, header: map[string]string{"Location": "/l"}})
	if _, out, _ = evento(t, "", "--gateway", url, "send", "checking:1", "X", "--no-wait", "-o", "json"); out == "" {
		t.Error("no JSON")
	}
}

func TestExitCodesOfOutcomes(t *testing.T) {
	for status, want := range map[string]int{
		"done": exitOK, "refused": exitOK, "held": exitPending, "retrying": exitPending, "parked": exitRefused, "rejected": exitRefused,
	} {
		url, _ := fake(t, answerWith{status: 200, body: `{"status":"` + status + `","reason":"because","attempts":3,"events":[]}`})
		code, out, errs := evento(t, "", "--gateway", url, "send", "checking:1", "X")
		if code != want || errs != "" {
			t.Errorf("%s: code %d, want %d; %s", status, code, want, errs)
		}
		contains(t, status, out, status, "3 attempts", "because")
	}
}

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		answer answerWith
		code   int
		words  []string
	}{
		"refused": {
			answerWith{status: 422, body: `{"type":"urn:evento:problem:schema-mismatch","title":"The data does not match its schema","status":422,"detail":"amount.minor is missing","field":"payload.amount.minor"}`},
			exitRefused, []string{"evento: The data does not match its schema (422)", "amount.minor is missing", "field: payload.amount.minor"},
		},
		"list of problems": {
			answerWith{status: 422, body: `{"title":"The schema file breaks a rule","detail":"2 problems","problems":["first","second"],"outcome":{"secret":1}}`},
			exitRefused, []string{"problems:\n    - first\n    - second"},
		},
		"kafka away": {
			answerWith{status: 503, header: map[string]string{"Retry-After": "2"}, body: `{"title":"Kafka is away","id":"c-9"}`},
			exitAway, []string{"Kafka is away", "try again in 2 s with --id c-9"},
		},
		"not authenticated": {answerWith{status: 401, body: `{"title":"A valid bearer token is needed"}`}, exitRefused, []string{"EVENTO_TOKEN"}},
		"not found":         {answerWith{status: 404, body: `{"title":"There is no such aggregate"}`}, exitNotFound, []string{"no such aggregate"}},
		"not a problem":     {answerWith{status: 500, body: "<html>oops"}, exitAway, []string{"Internal Server Error (500)", "<html>oops"}},
		"redirect":          {answerWith{status: 302, header: map[string]string{"Location": "http://192.0.2.1/"}}, exitRefused, []string{"302"}},
		"no JSON":           {answerWith{status: 200, body: "hello"}, exitFailed, []string{"not what this version of evento understands", "hello"}},
	} {
		url, _ := fake(t, c.answer)
		code, out, errs := evento(t, "", "--gateway", url, "send", "checking:1", "X")
		if code != c.code || out != "" {
			t.Errorf("%s: code %d, want %d; output %q", name, code, c.code, out)
		}
		contains(t, name, errs, c.words...)
		if strings.Contains(errs, "secret") {
			t.Errorf("%s: shows the whole outcome:\n%s", name, errs)
		}
	}
}

func TestGatewayAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	code, _, errs := evento(t, "", "--gateway", "http://"+address, "send", "checking:1", "X")
	if code != exitAway {
		t.Errorf("code %d", code)
	}
	contains(t, "error", errs, "nothing listens", address, "evento dev", "--gateway")
	if strings.Contains(errs, "may have been accepted") {
		t.Errorf("it was certainly not sent:\n%s", errs)
	}

	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer s.Close()
	code, _, errs = evento(t, "", "--gateway", s.URL, "send", "checking:1", "X", "--id", "c-7")
	if code != exitAway {
		t.Errorf("code %d", code)
	}
	contains(t, "error", errs, "may have been accepted", "--id c-7")
}

func TestUsage(t *testing.T) {
	for line, words := range map[string]string{
		"nonsense":                              `there is no command "nonsense"`,
		"send":                                  "give the entity and the type",
		"send checking X":                       "type:id",
		"send checking:1 X field":               `"field" is no field`,
		"send checking:1 X a:=b":                `write a=b`,
		"send checking:1 X a=1 a=2":             "given twice",
		"send checking:1 X a=1 a.b=2":           "already has a value",
		"send checking:1 X .a=1":                "empty",
		"send checking:1 X -d {":                "--data is no JSON",
		"send checking:1 X -d {} a=1":           "not both",
		"send checking:1 X --expect old":        "--expect",
		"send checking:1 X --wait -1s":          "negative",
		"send checking:1 X --wait 1s --no-wait": "wait",
		"send -f x y":                           "whole commands",
		"send checking:1 X -o yaml":             "yaml",
		"send checking:1 X --gateway localhost": "http://127.0.0.1:8090",
		"send checking:1 X --gateway http://evento.example --token s": "https://evento.example",
		"send checking:1 X --wrong":                                   "--wrong",
		"get":                                                         "give the entity",
		"get x":                                                       "type:id",
		"events":                                                      "evento events --follow",
		"events checking:1 --from earliest":                           "belong to --follow",
		"events --follow a:1 b:1":                                     "one entity at most",
		"events --follow --limit 3":                                   "--from earliest",
		"events --follow --from noon":                                 "neither latest nor earliest",
		"events --follow checking":                                    "type:id",
		"events checking:1 --limit -1":                                "--limit",
		"cause":                                                       "evento cause checking:54321-90 deposit-2",
		"cause checking:1":                                            "evento cause checking:1 deposit-2",
		"cause a/b/c":                                                 "not a number",
		"cause a/1/2 --source x":                                      "--source",
		"cause x y":                                                   "type:id",
		"triggers x":                                                  "no further words",
		"replay":                                                      "evento triggers",
		"replay x --from latest":                                      "evento triggers",
		"replay a/b/c --from latest":                                  "namespace/name",
		"replay a/b":                                                  "--from earliest",
		"replay a/b --from yesterday":                                 "neither earliest nor latest nor a time",
		"schema show":                                                 "evento schema show WithdrawCash",
		"parked nonsense":                                             "nonsense",
		"parked drop a/1/2":                                           "--reason",
		"parked retry 12":                                             "topic/partition/offset",
		"schema check":                                                ".avsc",
		"schema check none.avsc":                                      "none.avsc",
		"bench nonsense":                                              "uniform hot wide alone",
		"bench -c 0":                                                  "-c 0",
		"bench --real":                                                "scripts/with-real",
		"bench --pid x":                                               "name=pid",
		"dev --kafka 127.0.0.1:9092":                                  "--kafka-property bootstrap.servers=127.0.0.1:9092",
		"dev --kafka-property nothing":                                "name=value",
		"dev --kafka-property acks=all":                               "bootstrap.servers",
		"dev --port 0":                                                "--port",
	} {
		t.Setenv("EVENTO_TEST_KAFKA", "")
		code, _, errs := evento(t, "", strings.Fields(line)...)
		if code != exitUsage {
			t.Errorf("%s: code %d, want %d", line, code, exitUsage)
		}
		contains(t, line, errs, words, "--help")
	}
}

func TestHelpOfEverything(t *testing.T) {
	for _, line := range []string{"", "send", "get", "events", "cause", "triggers", "replay", "schema show", "parked", "parked list", "parked retry", "parked drop", "schema", "schema list", "schema check", "schema register", "bench", "dev"} {
		code, out, errs := evento(t, "", append(strings.Fields(line), "--help")...)
		if code != exitOK || errs != "" {
			t.Errorf("%s: code %d, %s", line, code, errs)
		}
		contains(t, line+" --help", out, "evento "+line, "Usage:")
		if line != "" {
			contains(t, line+" --help", out, "Examples:")
		}
	}
}

func TestToken(t *testing.T) {
	url, calls := fake(t, answerWith{status: 200, body: done})
	t.Setenv("EVENTO_TOKEN", "from the environment")
	evento(t, "", "--gateway", url, "send", "checking:1", "X")
	evento(t, "", "--gateway", url, "--token", "from the flag", "send", "checking:1", "X")
	t.Setenv("EVENTO_GATEWAY", url)
	evento(t, "", "send", "checking:1", "X")
	if len(*calls) != 3 {
		t.Fatalf("%d calls", len(*calls))
	}
	for i, want := range []string{"Bearer from the environment", "Bearer from the flag", "Bearer from the environment"} {
		if got := (*calls)[i].header.Get("Authorization"); got != want {
			t.Errorf("Authorization %q, want %q", got, want)
		}
	}
}

func TestAStateTooSmallToBeKeptIsNoLimitForOffers(t *testing.T) {
	code, _, stderr := evento(t, "", "gateway", "--offer-states", "100")
	if code == 0 {
		t.Error("it is taken")
	}
	contains(t, "the error", stderr, "--offer-states is 100", "4096")
}
