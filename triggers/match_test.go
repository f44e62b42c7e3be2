package triggers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"go.uber.org/zap"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/eventfilter"
	"knative.dev/eventing/pkg/eventfilter/attributes"
	"knative.dev/eventing/pkg/eventfilter/subscriptionsapi"

	"github.com/evento-oss/evento/runtime"
)

// TestMatchesAsKnative holds random filters and messages against Knative's own
// evaluation of the same filters, and what the filters promise about
// themselves (type alone decides, all of a namespace pass) against that.
func TestMatchesAsKnative(t *testing.T) {
	for seed := range uint64(1500) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
		spec := g.spec()
		p := &problems{}
		ours := newMatcher(newFilter(spec, p))
		if len(p.list) > 0 {
			t.Fatalf("seed %d: %v", seed, &LoadError{p.list})
		}
		for range 4 {
			m := g.message()
			// A fresh one each time, and no Cleanup: Knative's all and any reorder
			// themselves in the background, and a Cleanup meanwhile panics.
			want := knativeFilter(spec).Filter(context.Background(), knativeEvent(m)) != eventfilter.FailFilter
			for range 2 { // the second time from memory
				if got := ours.matches(&lazyView{message: m}); got != want {
					t.Fatalf("seed %d: %v, Knative says %v\nfilter %+v\nfilters %+v\nmessage %+v", seed, got, want, spec.Filter, spec.Filters, m)
				}
			}
			if ours.filter.passesAll(m.Type.Namespace()) && !want {
				t.Fatalf("seed %d: passesAll(%s), but %s does not\nfilters %+v", seed, m.Type.Namespace(), m.Type, spec.Filters)
			}
		}
	}
}

func knativeFilter(spec *eventingv1.TriggerSpec) eventfilter.Filter {
	if len(spec.Filters) > 0 {
		return subscriptionsapi.CreateSubscriptionsAPIFilters(zap.NewNop(), spec.Filters)
	}
	return attributes.NewAttributesFilter(spec.Filter.Attributes)
}

// knativeEvent makes the event with the SDK's setters, not as newView does.
func knativeEvent(m *runtime.Message) cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetID(m.ID)
	e.SetType(string(m.Type))
	e.SetSource(m.Source)
	e.SetSubject(string(m.Subject))
	e.SetTime(m.Time)
	e.SetDataSchema(string(m.Schema))
	e.SetDataContentType("application/avro")
	e.SetExtension("partitionkey", strings.Split(string(m.Subject), "/")[0])
	if m.Sequence > 0 {
		e.SetExtension("sequence", fmt.Sprintf("%020d", m.Sequence))
		e.SetExtension("eventopos", fmt.Sprintf("%d/%d", m.Pos, m.Count))
		e.SetExtension("recordedtime", m.RecordedTime.Format(time.RFC3339Nano))
		e.SetExtension("eventoby", m.By)
		e.SetExtension("eventohash", m.Hash)
		e.SetExtension("eventocause", m.Cause.String())
	}
	if m.Expect != nil {
		e.SetExtension("eventoexpect", fmt.Sprint(*m.Expect))
	}
	if m.CausationID != "" {
		e.SetExtension("causationid", m.CausationID)
		e.SetExtension("correlationid", m.CorrelationID)
	}
	if m.TraceParent != "" {
		e.SetExtension("traceparent", m.TraceParent)
	}
	return e
}

// generator makes filters and messages that often have something to do with each other.
type generator struct{ *rand.Rand }

func pick[T any](g *generator, values ...T) T { return values[g.IntN(len(values))] }

func (g *generator) typeName() string {
	return pick(g, "A.", "B.", "A.Sub.", "evento.") + pick(g, "Opened", "Closed", "Open", "CashWithdrawn")
}

func (g *generator) message() *runtime.Message {
	m := &runtime.Message{
		ID: pick(g, "1", "abc"), Type: runtime.TypeName(g.typeName()), Source: pick(g, "/evento/x", "https://bank.example/app?a=b", "teller:7"),
		Subject: runtime.Entity(pick(g, "a:1", "a:1/card:7f", "b:2")), Schema: "urn:evento:avro:A.Opened:00112233445566ff",
		Time: time.UnixMilli(pick(g, int64(0), 1_700_000_000_123)).UTC(),
	}
	if g.IntN(2) == 0 {
		m.Sequence, m.Pos, m.Count = uint64(g.IntN(12)+1), 1, g.IntN(3)+1
		m.RecordedTime = m.Time.Add(time.Second)
		m.By, m.Hash, m.Cause = "f image schema", "00ff", runtime.Coordinates{Topic: "kf-evento-commands", Partition: 3, Offset: 9}
	} else if g.IntN(2) == 0 {
		m.Expect = new(uint64)
	}
	if g.IntN(2) == 0 {
		m.CausationID, m.CorrelationID = "c1", "root"
	}
	if g.IntN(2) == 0 {
		m.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	}
	return m
}

func (g *generator) spec() *eventingv1.TriggerSpec {
	if g.IntN(4) == 0 {
		spec := &eventingv1.TriggerSpec{Filter: &eventingv1.TriggerFilter{Attributes: map[string]string{}}}
		for range g.IntN(3) {
			name, value := g.condition()
			spec.Filter.Attributes[name] = pick(g, value, "")
		}
		return spec
	}
	spec := &eventingv1.TriggerSpec{Filter: &eventingv1.TriggerFilter{}}
	for range g.IntN(4) {
		spec.Filters = append(spec.Filters, g.filter(3))
	}
	if len(spec.Filters) > 0 && g.IntN(4) == 0 { // it is replaced, whatever it says
		spec.Filter.Attributes = map[string]string{"type": "never"}
	}
	return spec
}

func (g *generator) condition() (name, value string) {
	if g.IntN(2) == 0 {
		return "type", g.typeName()
	}
	name = pick(g, "id", "source", "subject", "time", "dataschema", "datacontenttype", "specversion", "partitionkey", "sequence",
		"causationid", "correlationid", "traceparent", "recordedtime", "eventopos", "eventoby", "eventohash", "eventocause", "eventoexpect", "other")
	m := g.message()
	e := knativeEvent(m)
	found, _ := attributes.LookupAttribute(e, name)
	if text, ok := found.(string); ok && text != "" {
		return name, text
	}
	return name, "x"
}

func (g *generator) filter(depth int) eventingv1.SubscriptionsAPIFilter {
	conditions := func(cut func(string) string) map[string]string {
		c := map[string]string{}
		for range 1 + g.IntN(2) {
			name, value := g.condition()
			c[name] = cut(value)
		}
		return c
	}
	some := func() (list []eventingv1.SubscriptionsAPIFilter) {
		for range 1 + g.IntN(3) {
			list = append(list, g.filter(depth-1))
		}
		return list
	}
	n := 7
	if depth == 0 {
		n = 4
	}
	switch g.IntN(n) {
	case 0:
		return eventingv1.SubscriptionsAPIFilter{Exact: conditions(func(s string) string { return s })}
	case 1:
		return eventingv1.SubscriptionsAPIFilter{Prefix: conditions(func(s string) string { return s[:1+g.IntN(len(s))] })}
	case 2:
		return eventingv1.SubscriptionsAPIFilter{Suffix: conditions(func(s string) string { return s[g.IntN(len(s)):] })}
	case 3:
		return eventingv1.SubscriptionsAPIFilter{CESQL: pick(g,
			"type LIKE 'A.%'", "TYPE = 'A.Opened'", "EXISTS sequence", "EXISTS causationid AND type LIKE '%Open'", "sequence = '00000000000000000003'",
			"INT(sequence) > 3", "other = 'x'", "type IN ('A.Open', 'B.Open')", "NOT (source = '/evento/x')", "UPPER(type) = 'A.OPENED'",
			"LEFT(partitionkey, 1) = 'a'", "TRUE", "1 = 2", "SUBSTRING(type, 1, 1) = 'B' OR subject = 'b:2'", "INT(type) = 3", "eventopos LIKE '1/_'")}
	case 4:
		return eventingv1.SubscriptionsAPIFilter{All: some()}
	case 5:
		return eventingv1.SubscriptionsAPIFilter{Any: some()}
	}
	f := g.filter(depth - 1)
	return eventingv1.SubscriptionsAPIFilter{Not: &f}
}

// triggerFor compiles one Trigger of a test.
func triggerFor(t testing.TB, name string, annotations map[string]string, uri, filters string) *Trigger {
	t.Helper()
	text := "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: " + name + "\n  annotations: {x: y1"
	for k, v := range annotations {
		text += fmt.Sprintf(", %s: %q", k, v)
	}
	text += "}\nspec: {broker: default, subscriber: {uri: \"" + uri + "\"}, filters: " + filters + "}\n"
	documents, list := readDocuments("test.yaml", []byte(text))
	loaded, more := parseDocuments(documents, nil)
	if list = append(list, more...); len(list) > 0 {
		t.Fatal(&LoadError{list})
	}
	return loaded.Triggers[0]
}

func role(r Role, aggregate string) map[string]string {
	a := map[string]string{AnnotationRole: string(r)}
	if aggregate != "" {
		a[AnnotationAggregate] = aggregate
	}
	return a
}

// fixed is a [Source] of given Triggers.
type fixed []*Trigger

func (f fixed) Load(context.Context) (Loaded, error)      { return Loaded{Triggers: f}, nil }
func (f fixed) Watch(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }
func (f fixed) String() string                            { return "fixed" }
func (f fixed) router(t testing.TB, types Types) *Router {
	t.Helper()
	r := NewRouter(Config{Sources: []Source{f}, Types: types, Log: quietLog()})
	if err := r.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	return r
}

func names(targets []*Target) string {
	var list []string
	for _, target := range targets {
		list = append(list, target.Name)
	}
	return strings.Join(list, " ")
}

func TestRoutes(t *testing.T) {
	r := fixed{
		triggerFor(t, "a-withdraw", role(Handler, "A"), "http://one", "[{exact: {type: A.Withdraw}}]"),
		triggerFor(t, "a-tellers", role(Handler, "A"), "http://two", "[{suffix: {type: Deposit}}, {prefix: {source: teller}}]"),
		triggerFor(t, "a-apps", role(Handler, "A"), "http://three", "[{suffix: {type: Deposit}}, {suffix: {source: app}}]"),
		triggerFor(t, "a-big", role(Handler, "A"), "http://four", "[{exact: {type: A.BigDeposit}}]"),
		triggerFor(t, "a-fold", role(Aggregator, "A"), "http://two", "[]"),
		triggerFor(t, "all", role(Sink, ""), "http://sink", "[]"),
		triggerFor(t, "late", role(Sink, ""), "http://sink", "[{cesql: 'EXISTS sequence'}]"),
		triggerFor(t, "closed", role(Sink, ""), "http://sink", "[{suffix: {type: Closed}}]"),
		triggerFor(t, "saga", role(Dispatcher, ""), "http://saga", "[{exact: {type: A.Closed}}]"),
	}.router(t, nil)

	handler := func(typ, source string) string {
		target, err := r.Handler(&runtime.Message{Type: runtime.TypeName(typ), Source: source})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s %v", target.Name, target.Combined)
	}
	for _, c := range []struct{ typ, source, want string }{
		{"A.Withdraw", "teller", "default/a-withdraw false"},
		{"A.Deposit", "teller:1", "default/a-tellers true"},
		{"A.Deposit", "an app", "default/a-apps false"},
		{"A.Deposit", "nobody", "no Trigger: nothing handles A.Deposit; the filters of default/a-apps, default/a-big, default/a-tellers, default/a-withdraw do not let it pass"},
		{"A.Deposit", "teller app", "two handlers for one command type: A.Deposit passes the filters of default/a-apps (test.yaml, document 1) and default/a-tellers (test.yaml, document 1); give each a filter that the others have not"},
		{"A.BigDeposit", "nobody", "default/a-big false"},
		{"A.BigDeposit", "teller:1", "two handlers for one command type: A.BigDeposit passes the filters of default/a-big (test.yaml, document 1) and default/a-tellers (test.yaml, document 1); give each a filter that the others have not"},
		{"A.Sub.Withdraw", "teller", "no Trigger: nothing handles A.Sub.Withdraw; add a Trigger with evento.io/role: handler and evento.io/aggregate: A.Sub"},
		{"Withdraw", "teller", "no Trigger: nothing handles Withdraw; add a Trigger with evento.io/role: handler and evento.io/aggregate: "},
	} {
		for range 2 {
			if got := handler(c.typ, c.source); got != c.want {
				t.Errorf("%s from %s:\n got %s\nwant %s", c.typ, c.source, got, c.want)
			}
		}
	}
	if _, err := r.Handler(&runtime.Message{Type: "A.Deposit", Source: "teller app"}); !errors.Is(err, ErrTwoHandlers) {
		t.Errorf("not ErrTwoHandlers: %v", err)
	}
	if target, err := r.Aggregator("A"); err != nil || target.Name != "default/a-fold" || !target.Combined {
		t.Errorf("%+v %v", target, err)
	}
	const want = "no Trigger: nothing folds the events of B; add one with evento.io/role: aggregator and evento.io/aggregate: B"
	if _, err := r.Aggregator("B"); !errors.Is(err, ErrNoTrigger) || err.Error() != want {
		t.Error(err)
	}
	for _, c := range []struct {
		m     runtime.Message
		sinks string
		sagas string
	}{
		{runtime.Message{Type: "A.Closed", Sequence: 1}, "default/all default/closed default/late", "default/saga"},
		{runtime.Message{Type: "A.Closed"}, "default/all default/closed", "default/saga"},
		{runtime.Message{Type: "evento.CommandParked"}, "default/all", ""},
	} {
		if got := names(r.Sinks(&c.m)); got != c.sinks {
			t.Errorf("sinks of %s: %s, want %s", c.m.Type, got, c.sinks)
		}
		if got := names(r.Dispatchers(&c.m)); got != c.sagas {
			t.Errorf("dispatchers of %s: %s, want %s", c.m.Type, got, c.sagas)
		}
	}
}

// TestCombined: one call can do both only where it is the same function, trusted alike.
func TestCombined(t *testing.T) {
	for _, c := range []struct {
		url, certs string
		want       bool
	}{{"http://f", "", true}, {"http://g", "", false}, {"http://f", "certs", false}} {
		h, a := triggerFor(t, "h", role(Handler, "A"), "http://f", "[]"), triggerFor(t, "a", role(Aggregator, "A"), c.url, "[]")
		a.Target.CACerts = c.certs
		r := fixed{h, a}.router(t, nil)
		handler, err := r.Handler(&runtime.Message{Type: "A.Do"})
		if err != nil {
			t.Fatal(err)
		}
		aggregator, err := r.Aggregator("A")
		if err != nil {
			t.Fatal(err)
		}
		if handler.Combined != c.want || aggregator.Combined != c.want {
			t.Errorf("%+v: %v %v", c, handler.Combined, aggregator.Combined)
		}
	}
}

// TestNewTypeConflicts: a command type that becomes known later is checked by the next load.
func TestNewTypeConflicts(t *testing.T) {
	types := knownTypes{}
	r := fixed{
		triggerFor(t, "one", role(Handler, "A"), "http://one", "[{prefix: {type: A.Wi}}]"),
		triggerFor(t, "two", role(Handler, "A"), "http://two", "[{suffix: {type: draw}}]"),
	}.router(t, types)
	types["A"] = []runtime.TypeName{"A.Deposit", "A.Withdraw"}
	const want = "test.yaml:1: document 1: Trigger default/two: spec.filters: two handlers for command type A.Withdraw: this one and default/one (test.yaml, document 1); give each a filter on type that the other has not, or remove one"
	if err := r.Load(t.Context()); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err := r.Handler(&runtime.Message{Type: "A.Withdraw"}); !errors.Is(err, ErrTwoHandlers) {
		t.Errorf("neither may be chosen: %v", err)
	}
}

// TestPanicIsNoMatch: Knative's filter panics on an expression whose value is no
// boolean; should one get past the checks at load, it does not match.
func TestPanicIsNoMatch(t *testing.T) {
	leaf, err := subscriptionsapi.NewCESQLFilter("subject")
	if err != nil {
		t.Fatal(err)
	}
	if newMatcher(filter{op: opLeaf, leaf: leaf, attributes: []string{"subject"}}).matches(&lazyView{message: &runtime.Message{Subject: "a:1"}}) {
		t.Error("a text matches")
	}
}

// TestLongExpression: what would take the parser minutes is refused unread.
func TestLongExpression(t *testing.T) {
	p := &problems{at: Problem{File: "f"}}
	checkExpressions([]eventingv1.SubscriptionsAPIFilter{{Not: &eventingv1.SubscriptionsAPIFilter{CESQL: strings.Repeat("(", 100_000)}}}, "spec.filters", p)
	const want = "f: spec.filters[0].not.cesql: the expression has 100000 bytes, more than the limit of 2048; see the CloudEvents SQL specification"
	if got := (&LoadError{p.list}).Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestMemoryIsBounded: types beyond the limit are answered all the same.
func TestMemoryIsBounded(t *testing.T) {
	m := newMatcher(filter{})
	for i := range maxRemembered + 10 {
		if !m.matches(&lazyView{message: &runtime.Message{Type: runtime.TypeName(fmt.Sprintf("A.T%d", i))}}) {
			t.Fatal(i)
		}
	}
	if n := len(*m.types.values.Load()); n != maxRemembered {
		t.Errorf("%d types are remembered", n)
	}
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		d    Delivery
		want string
	}{
		{Delivery{Delay: time.Second, MaxDelay: 5 * time.Second}, "0s 1s 2s 4s 5s 5s"},
		{Delivery{Delay: time.Second, MaxDelay: 4 * time.Second, Linear: true}, "0s 1s 2s 3s 4s 4s"},
		{Delivery{Delay: time.Second, MaxDelay: time.Second}, "0s 1s 1s 1s 1s 1s"},
		{Delivery{}, "0s 0s 0s 0s 0s 0s"},
	} {
		var got []string
		for n := range 6 {
			got = append(got, c.d.Backoff(n).String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %v, want %s", c.d, got, c.want)
		}
	}
	for _, linear := range []bool{false, true} {
		d := Delivery{Delay: time.Hour, MaxDelay: MaxDuration, Linear: linear}
		if got := d.Backoff(1 << 40); got != MaxDuration {
			t.Errorf("overflow: %v", got)
		}
	}
}
