package runtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

func TestAFunctionDescribesItself(t *testing.T) {
	url := serve(t, both(), runtime.Config{Image: "shop:7"})
	d, err := newClient(t, runtime.ClientOptions{}).Describe(within(t), url)
	if err != nil {
		t.Fatal(err)
	}
	if d.Aggregate != "Basket" || !d.HasRole(runtime.RoleHandler) || !d.HasRole(runtime.RoleAggregator) || d.HasRole(runtime.RoleDispatcher) || d.StateVersion != 1 || d.Image != "shop:7" {
		t.Errorf("description %+v", d)
	}
	if len(d.Schemas) != 8 { // the root, two commands, five events; an entity travels in the root
		t.Errorf("%d schemas, want 8", len(d.Schemas))
	}
	add := d.Schemas["Basket.AddItem"]
	if want := basket.Definition().Commands[0].Codec.Text(); add != want || !strings.Contains(add.Schema, `"fields"`) {
		t.Errorf("schema %+v, want %+v", add, want)
	}
	// The hash follows what decides the bytes, and not the image.
	hash := func(f *runtime.Function) runtime.Fingerprint { d := f.Description(); return d.Hash }
	if hash(both()) != d.Hash {
		t.Error("the hash depends on the image")
	}
	if hash(basket.HandlerFunction(handler{}).Function) == d.Hash {
		t.Error("the hash does not depend on the role")
	}
	if hash(basket.AggregateFunction(handler{}, aggregator{version: 2}).Function) == d.Hash {
		t.Error("the hash does not depend on the state version")
	}
	only := basket.AggregatorFunction(aggregator{version: 3}).Function.Description()
	if _, ok := only.Schemas["Basket.AddItem"]; ok || only.StateVersion != 3 {
		t.Errorf("an aggregator describes commands, or has state version %d", only.StateVersion)
	}
}

func TestACallForAnotherDescriptionIsNotRun(t *testing.T) {
	ran := false
	f := basket.HandlerFunction(handler{before: func(runtime.HandlerContext, *basket.Basket, string) ([]basket.Event, error) {
		ran = true
		return nil, nil
	}}).Function
	url := serve(t, f, runtime.Config{})
	client := newClient(t, runtime.ClientOptions{})
	in := []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))}

	_, built, err := client.Invoke(within(t), url, "0123456789abcdef", in)
	var changed *runtime.DescriptionChanged
	if !errors.As(err, &changed) || ran {
		t.Fatalf("error %v, run: %v; want DescriptionChanged and nothing run", err, ran)
	}
	if d := f.Description(); changed.Description.Hash != d.Hash || built != d.Hash || len(changed.Description.Schemas) != len(d.Schemas) {
		t.Errorf("description %+v, want %+v", changed.Description, d)
	}
	if _, built, err = client.Invoke(within(t), url, changed.Description.Hash, in); err != nil || built != changed.Description.Hash || !ran {
		t.Errorf("with the new description: %v, %q", err, built)
	}
}

func TestCallsAreLimited(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	f := basket.HandlerFunction(handler{before: func(runtime.HandlerContext, *basket.Basket, string) ([]basket.Event, error) {
		close(entered)
		<-release
		return nil, nil
	}}).Function
	url := serve(t, f, runtime.Config{MaxInflight: 1})
	client := newClient(t, runtime.ClientOptions{})
	in := []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))}
	first := make(chan error, 1)
	go func() {
		_, _, err := client.Invoke(within(t), url, "", in)
		first <- err
	}()
	<-entered
	_, _, err := client.Invoke(within(t), url, "", in)
	var call *runtime.CallError
	if !errors.As(err, &call) || call.Kind != runtime.CallUnavailable || call.Status != http.StatusTooManyRequests || call.RetryAfter != time.Second {
		t.Errorf("second call: %#v, want 429 to be tried again in 1s", err)
	}
	if res, _ := get(t, url+"/_/ready"); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("ready while full: %d, want 429", res.StatusCode)
	}
	if res, _ := get(t, url+"/_/health"); res.StatusCode != http.StatusOK {
		t.Errorf("health while full: %d, want 200", res.StatusCode)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if res, _ := get(t, url+"/_/ready"); res.StatusCode != http.StatusOK {
		t.Errorf("ready afterwards: %d, want 200", res.StatusCode)
	}
}

func TestWhatIsNoCallIsRefused(t *testing.T) {
	url := serve(t, both(), runtime.Config{MaxBody: 1000})
	for name, c := range map[string]struct {
		media  string
		body   string
		header []string
		status int
		detail string
	}{
		"not Avro":           {runtime.ContentTypeAvro, "hello", nil, 400, "no invocations of this protocol"},
		"empty":              {runtime.ContentTypeAvro, "", nil, 400, "cut off"},
		"no items":           {runtime.ContentTypeAvro, "\x00\x00\x00", nil, 400, "from 1 to 4096"},
		"bytes behind":       {runtime.ContentTypeAvro, "\x00\x00\x00\x00", nil, 400, "1 bytes follow"},
		"2^40 items":         {runtime.ContentTypeAvro, "\x00\x00\x80\x80\x80\x80\x80\x80\x01", nil, 400, "elements, 0 bytes are left"},
		"too large":          {runtime.ContentTypeAvro, strings.Repeat("x", 1001), nil, 413, "1001 bytes, more than the limit of 1000"},
		"another media type": {"text/plain", "", nil, 415, "or application/json by hand"},
		"another version":    {runtime.ContentTypeAvro, "", []string{"ce-type", "evento.invocations.v2"}, 415, "evento.invocations.v1"},
		"JSON of nothing":    {"application/json", "{}", nil, 400, "from 1 to 4096"},
		"not JSON":           {"application/json", "hello", nil, 400, "no invocation in JSON"},
		"JSON with more":     {"application/json", "{} {}", nil, 400, "something follows"},
		"JSON unknown key":   {"application/json", `{"kinds": "handle"}`, nil, 400, "unknown field"},
		"JSON wrong kind":    {"application/json", `{"kind": "burn"}`, nil, 400, "none of handle"},
		"JSON unknown type":  {"application/json", `{"kind": "handle", "messages": [{"type": "X.Y", "data": {}}]}`, nil, 400, `no type \"X.Y\"`},
		"JSON missing field": {"application/json", `{"kind": "handle", "messages": [{"type": "Basket.AddItem", "data": {"item": "tea"}}]}`, nil, 400, "no value specified for quantity"},
	} {
		t.Run(name, func(t *testing.T) {
			res, body := post(t, url, c.media, strings.NewReader(c.body), c.header...)
			if res.StatusCode != c.status || !strings.Contains(body, c.detail) || res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %s %s, want %d with %q", res.StatusCode, res.Header.Get("Content-Type"), body, c.status, c.detail)
			}
		})
	}
	// A body whose length is not announced is limited as well.
	res, _ := post(t, url, runtime.ContentTypeAvro, struct{ *strings.Reader }{strings.NewReader(strings.Repeat("x", 5000))})
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a long chunked body: %d, want 413", res.StatusCode)
	}
	if res, body := get(t, url); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != http.MethodPost || !strings.Contains(body, "Basket") {
		t.Errorf("GET: %d %s, want 405 that says what this is", res.StatusCode, body)
	}
}

func TestJSONIsForPeopleWithCurl(t *testing.T) {
	url := serve(t, both(), runtime.Config{})
	res, body := post(t, url, "application/json", strings.NewReader(`{
		"kind": "execute", "aggregate": "basket:1",
		"state": {"lines": [{"id": "milk", "quantity": 1}], "notes": {}, "coupon": {"string": "SPRING"}},
		"messages": [{"type": "Basket.AddItem", "time": "2026-03-04T05:06:07Z", "data": {"item": "tea", "quantity": 2}}]}`))
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	var answer struct {
		Items []struct {
			Steps []struct {
				Events []struct {
					Type, Subject, Time string
					Data                map[string]any
				}
			}
			State map[string]any
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	e := answer.Items[0].Steps[0].Events[0]
	if e.Type != "Basket.ItemAdded" || e.Subject != "basket:1/line:tea" || e.Time != "2026-03-04T05:06:07Z" || e.Data["quantity"] != 2.0 {
		t.Errorf("event %+v", e)
	}
	if lines := answer.Items[0].State["lines"].([]any); len(lines) != 2 {
		t.Errorf("state %+v, want two lines", answer.Items[0].State)
	}
	// A failure of one invocation alone has a status that says so.
	res, body = post(t, url, "application/json", strings.NewReader(`{
		"kind": "handle", "aggregate": "basket:2", "messages": [{"type": "Basket.AddItem", "subject": "basket:1", "data": "AAA="}]}`))
	if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, `"code": "unknown-type"`) {
		t.Errorf("%d %s, want 422 unknown-type", res.StatusCode, body)
	}
}

func TestCallsOfOthersAreNotTrusted(t *testing.T) {
	key, other := runtime.Key("0123456789abcdef0123456789abcdef"), runtime.Key("fedcba9876543210fedcba9876543210")
	f := both()
	in := []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))}
	for name, c := range map[string]struct {
		client  runtime.ClientOptions
		keys    []runtime.Key
		own     string
		refused string
	}{
		"signed":             {client: runtime.ClientOptions{Keys: []runtime.Key{key}}, keys: []runtime.Key{key}},
		"with the older key": {client: runtime.ClientOptions{Keys: []runtime.Key{other}}, keys: []runtime.Key{key, other}},
		"no key, no check":   {client: runtime.ClientOptions{}},
		"not signed":         {client: runtime.ClientOptions{}, keys: []runtime.Key{key}, refused: "has no Evento-Signature header"},
		"another key":        {client: runtime.ClientOptions{Keys: []runtime.Key{other}}, keys: []runtime.Key{key}, refused: "the signature is wrong"},
		"for another":        {client: runtime.ClientOptions{Keys: []runtime.Key{key}}, keys: []runtime.Key{key}, own: "savings-handler", refused: "the call is signed for"},
		"too old":            {client: runtime.ClientOptions{Keys: []runtime.Key{key}, Now: func() time.Time { return time.Now().Add(-6 * time.Minute) }}, keys: []runtime.Key{key}, refused: "set both clocks"},
		"too new":            {client: runtime.ClientOptions{Keys: []runtime.Key{key}, Now: func() time.Time { return time.Now().Add(6 * time.Minute) }}, keys: []runtime.Key{key}, refused: "set both clocks"},
		"changed on the way": {client: runtime.ClientOptions{Keys: []runtime.Key{key}, Transport: tampering{}}, keys: []runtime.Key{key}, refused: "the signature is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, f, runtime.Config{Keys: c.keys, Audience: c.own})
			client := newClient(t, c.client)
			_, _, err := client.Invoke(within(t), url, "", in)
			checkTrust(t, err, c.refused)
			if name == "changed on the way" {
				return // it changes bodies
			}
			_, err = client.Describe(within(t), url)
			checkTrust(t, err, c.refused)
		})
	}
}

func checkTrust(t *testing.T, err error, refused string) {
	t.Helper()
	var call *runtime.CallError
	switch {
	case refused == "" && err != nil:
		t.Error(err)
	case refused != "" && (!errors.As(err, &call) || call.Status != http.StatusUnauthorized || call.Kind != runtime.CallUnavailable):
		t.Errorf("error %v, want 401, which spends no attempt", err)
	case refused != "" && !strings.Contains(call.Reason, refused):
		t.Errorf("reason %s, want %s", call.Reason, refused)
	}
}

// tampering changes the last byte of a request's body.
type tampering struct{}

func (tampering) RoundTrip(req *http.Request) (*http.Response, error) {
	var body bytes.Buffer
	if _, err := body.ReadFrom(req.Body); err != nil {
		return nil, err
	}
	body.Bytes()[body.Len()-1] ^= 1
	changed := req.Clone(req.Context())
	changed.Body = http.NoBody
	other, err := http.NewRequestWithContext(req.Context(), req.Method, req.URL.String(), &body)
	if err != nil {
		return nil, err
	}
	other.Header = changed.Header
	return http.DefaultTransport.RoundTrip(other)
}

// served starts ServeOn and returns the URL, what stops it, and its error.
func served(t *testing.T, f *runtime.Function, config runtime.Config) (url string, stop func(), ended chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	config.Bind, config.Port = "127.0.0.1", -1
	listener, err := runtime.Listen(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() { ended <- runtime.ServeOn(ctx, listener, f, config, quiet()) }()
	t.Cleanup(cancel)
	return "http://" + listener.Addr().String(), cancel, ended
}

func TestAStopLetsCallsEnd(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	f := basket.HandlerFunction(handler{before: func(runtime.HandlerContext, *basket.Basket, string) ([]basket.Event, error) {
		close(entered)
		<-release
		return nil, nil
	}}).Function
	lock := filepath.Join(t.TempDir(), ".lock")
	url, stop, ended := served(t, f, runtime.Config{LockFile: lock, StopDelay: 10 * time.Second}) // so long the probes can be asked
	client := newClient(t, runtime.ClientOptions{})
	call := make(chan error, 1)
	go func() {
		_, _, err := client.Invoke(within(t), url, "", []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))})
		call <- err
	}()
	<-entered
	if res, _ := get(t, url+"/_/health"); res.StatusCode != http.StatusOK {
		t.Errorf("health: %d, want 200", res.StatusCode)
	}
	if _, err := os.Stat(lock); err != nil {
		t.Errorf("no lock file while it serves: %v", err)
	}
	stop()
	until(t, "the probes say 503", func() bool {
		res, _ := get(t, url+"/_/ready")
		return res.StatusCode == http.StatusServiceUnavailable
	})
	until(t, "the lock file is gone", func() bool {
		_, err := os.Stat(lock)
		return os.IsNotExist(err)
	})
	select {
	case err := <-ended:
		t.Fatalf("it ended with a call under way: %v", err)
	default:
	}
	close(release)
	if err := <-call; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve: %v", err)
	}
	_, _, err := client.Invoke(within(t), url, "", []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))})
	var unavailable *runtime.CallError
	if !errors.As(err, &unavailable) || unavailable.Kind != runtime.CallUnavailable || unavailable.Status != 0 {
		t.Errorf("after the stop: %v, want unavailable", err)
	}
}

func TestAStopDoesNotWaitForEver(t *testing.T) {
	entered := make(chan struct{})
	f := basket.HandlerFunction(handler{before: func(ctx runtime.HandlerContext, _ *basket.Basket, _ string) ([]basket.Event, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}}).Function
	url, stop, ended := served(t, f, runtime.Config{WriteTimeout: 50 * time.Millisecond})
	client := newClient(t, runtime.ClientOptions{})
	go client.Invoke(within(t), url, "", []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))})
	<-entered
	stop()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "write_timeout") {
		t.Errorf("serve: %v, want an error that names write_timeout", err)
	}
}

func TestBothHTTPVersionsAreServed(t *testing.T) {
	url, _, _ := served(t, both(), runtime.Config{})
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(!h2)
		transport.Protocols.SetUnencryptedHTTP2(h2)
		t.Cleanup(transport.CloseIdleConnections)
		f := both()
		client := newClient(t, runtime.ClientOptions{Transport: transport})
		r, _, err := client.Invoke(within(t), url, "", []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))})
		if err != nil || r[0].Failure != nil {
			t.Errorf("h2c %v: %v %v", h2, err, r)
		}
		res, err := transport.RoundTrip(must(http.NewRequest(http.MethodGet, url+"/_/health", nil)))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if want := map[bool]int{false: 1, true: 2}[h2]; res.ProtoMajor != want {
			t.Errorf("answered in HTTP/%d, want %d", res.ProtoMajor, want)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// until waits for a condition that a call to the outside decides.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := within(t)
	for !ok() {
		if ctx.Err() != nil {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
