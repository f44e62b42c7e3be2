package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

var tokenFile = fmt.Sprintf(`[
  {"principal": "shop", "sha256": %q, "rights": {"send": ["CheckingAccount"], "read": ["CheckingAccount"]}},
  {"principal": "broker", "sha256": %q, "source": "/broker", "sources": ["*"], "rights": {"publish": ["*"]}},
  {"principal": "operator", "sha256": %q, "rights": {"admin": ["*"]}}
]`, tokenHash("shop-token"), tokenHash("broker-token"), tokenHash("operator-token"))

func withTokens(t *testing.T) func(*HTTPConfig, *HTTPNeeds) {
	t.Helper()
	tokens, err := ParseAuthTokens(strings.NewReader(tokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *HTTPConfig, n *HTTPNeeds) { c.Auth, n.Triggers = tokens, fakeTriggers{} }
}

const (
	asShop     = "Authorization: Bearer shop-token"
	asBroker   = "Authorization: Bearer broker-token"
	asOperator = "Authorization: bearer operator-token"
)

func TestTokensAreNeeded(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, withTokens(t))
	for _, headers := range [][]string{
		nil, {"Authorization: Bearer wrong"}, {"Authorization: Basic c2hvcA=="}, {"Authorization: Bearer"}, {asShop, asOperator},
	} {
		a := b.call("GET", "/v1/schemas", "", headers...).wantProblem(t, problemUnauthenticated)
		if got := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
			t.Errorf("WWW-Authenticate is %q", got)
		}
		b.send(withdraw, headers...).wantProblem(t, problemUnauthenticated)
		b.call("GET", "/metrics", "", headers...).wantProblem(t, problemUnauthenticated)
	}
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json"} {
		b.call("GET", path, "").wantStatus(t, 200)
	}
	b.callAt(b.internal.URL, "GET", "/metrics", "").wantStatus(t, 200)
	// With authentication the host may be any.
	b.call("GET", "/v1/schemas", "", asShop, "Host: gateway.example").wantStatus(t, 200)
}

func TestRightsAreByAggregateType(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, withTokens(t))
	b.reader.state = stateOf(1, "CheckingAccount.CheckingAccount", `{}`)
	event := `{"entity":"checking:1","event_type":"CashWithdrawn","payload":{}}`
	b.send(withdraw, asShop).wantStatus(t, 202)
	b.send(`{"entity":"credit:77/card:1","command_type":"ChargeCard","payload":{}}`, asShop).wantProblem(t, problemForbidden, "CreditAccount", "send")
	b.call("POST", "/v1/events", event, jsonType, asShop).wantProblem(t, problemForbidden, "publish")
	b.call("POST", "/v1/events", event, jsonType, asBroker).wantStatus(t, 202)
	b.call("GET", "/v1/aggregates/checking:1", "", asShop).wantStatus(t, 200)
	for _, path := range []string{"/v1/aggregates/credit:1", "/v1/aggregates/credit:1/events", "/v1/aggregates/credit:1/commands/1", "/v1/aggregates/unknown:1"} {
		b.call("GET", path, "", asShop).wantProblem(t, problemForbidden, "read")
	}
	for _, path := range []string{"/v1/parked", "/v1/triggers", "/metrics"} {
		b.call("GET", path, "", asShop).wantProblem(t, problemForbidden, "admin")
		b.call("GET", path, "", asOperator).wantStatus(t, 200)
	}
	b.call("POST", "/v1/parked/1/1/retry", "", asShop).wantProblem(t, problemForbidden)
	b.call("POST", "/v1/schemas", "[]", asShop, jsonType).wantProblem(t, problemForbidden)
	b.send(withdraw, asOperator).wantProblem(t, problemForbidden) // admin is no right to send
}

func TestSourceIsThePrincipals(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, withTokens(t))
	with := func(source string) string {
		return strings.Replace(withdraw, `"id"`, `"source":"`+source+`","id"`, 1)
	}
	a := b.send(withdraw, asShop).wantStatus(t, 202)
	m := b.appender.only(t)
	if m.Source != "/clients/shop" {
		t.Errorf("the source is %q", m.Source)
	}
	b.reader.outcomes = map[runtime.CommandKey]*Outcome{m.Key(): doneOutcome(m)}
	b.call("GET", a.header.Get("Location"), "", asShop).wantStatus(t, 200)
	b.send(with("/clients/shop"), asShop).wantStatus(t, 202)
	b.send(with("/clients/shop/tills/1"), asShop).wantStatus(t, 202)
	for _, source := range []string{"/clients/shopping", "/clients", "/broker", "https://shop.example"} {
		b.send(with(source), asShop).wantProblem(t, problemSourceForbidden, "/clients/shop").wantMember(t, "field", "source")
	}
	b.send(with("/evento/test/anonymous"), asShop).wantProblem(t, problemReservedSource)
	event := `{"specversion":"1.0","id":"1","type":"CheckingAccount.CashWithdrawn","source":"https://any.example","subject":"checking:1","data":{}}`
	b.call("POST", "/", event, "Content-Type: application/cloudevents+json", asBroker).wantStatus(t, 202)
}

func TestTheOwnerIsToldThePrincipalsSource(t *testing.T) {
	t.Parallel()
	asked, owner := newHTTPBench(t, withTokens(t)), newHTTPBench(t)
	asked.reader.self, asked.reader.owner = false, owner.internal.Listener.Addr().String()
	owner.reader.outcomes = map[runtime.CommandKey]*Outcome{
		runtime.NewCommandKey("/clients/shop", "checking:1", "1"): {Command: "1", Entity: "checking:1", Status: OutcomePending},
	}
	asked.call("GET", "/v1/aggregates/checking:1/commands/1", "", asShop).wantStatus(t, 200)
}

func TestTokenFileIsChecked(t *testing.T) {
	t.Parallel()
	hash := tokenHash("x")
	for text, want := range map[string]string{
		`[]`:    "nobody",
		`{}`:    "token file",
		`[] []`: "follows",
		`[{"principal":"a","sha256":"00","rights":{}}]`:                                         "64 hex",
		`[{"principal":"","sha256":"` + hash + `","rights":{}}]`:                                "principal",
		`[{"principal":"a","sha256":"` + hash + `","rights":{"all":["*"]}}]`:                    "send, publish, read, admin",
		`[{"principal":"a","sha256":"` + hash + `","rights":{"admin":["X"]}}]`:                  "admin",
		`[{"principal":"a","sha256":"` + hash + `","source":"/evento/x"}]`:                      "/evento",
		`[{"principal":"a","sha256":"` + hash + `","token":"x"}]`:                               "token",
		`[{"principal":"a","sha256":"` + hash + `"},{"principal":"b","sha256":"` + hash + `"}]`: `"a"`,
	} {
		_, err := ParseAuthTokens(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nis answered %v, want %q", text, err, want)
		}
	}
}

type authAway struct{}

func (authAway) Authenticate(*http.Request) (*AuthPrincipal, error) {
	return nil, errors.New("the key server does not answer")
}

func TestWhenNobodyCanBeAuthenticated(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t, func(c *HTTPConfig, _ *HTTPNeeds) { c.Auth = authAway{} })
	if a := b.send(withdraw).wantProblem(t, problemUnavailable); strings.Contains(a.body, "key server") {
		t.Errorf("the inner error is shown: %s", a.body)
	}
}
