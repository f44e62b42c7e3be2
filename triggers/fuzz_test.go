package triggers

import (
	"errors"
	"os"
	"testing"

	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/evento-oss/evento/runtime"
)

// FuzzFiles: no file of Triggers takes the process down; what is refused has
// problems, and what is taken can be routed.
func FuzzFiles(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		seeds(f, pattern)
	}
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("a: &a {x: y}\n<<: *a\n---\n? [1]\n: {}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		documents, list := readDocuments("fuzz.yaml", text)
		loaded, more := parseDocuments(documents, nil)
		if list = append(list, more...); len(documents) == 0 && len(list) == 0 {
			t.Error("nothing there, and no problem")
		}
		ask(t, loaded.Triggers)
	})
}

// FuzzStack: the same for a stack.yml.
func FuzzStack(f *testing.F) {
	for _, pattern := range []string{"testdata/stack-good/*.yml", "testdata/stack-bad/*.yml"} {
		seeds(f, pattern)
	}
	s := &Stack{Path: "fuzz.yml", Environ: func(name string) (string, bool) { return name, true }, Log: quietLog()}
	f.Fuzz(func(t *testing.T, text []byte) {
		loaded, err := s.parse(text)
		var list *LoadError
		if err != nil && (!errors.As(err, &list) || len(list.Problems) == 0) {
			t.Errorf("refused without a problem: %v", err)
		}
		ask(t, loaded.Triggers)
	})
}

// FuzzExpression: a cesql expression that is taken can be evaluated, and says
// of a type what it says of every message of the type.
func FuzzExpression(f *testing.F) {
	for _, text := range []string{"type LIKE 'A.%' AND EXISTS sequence", "type = = 1", "subject", "INT(sequence) / 0 = 1", "type IN ('a', \"b\")", "LEFT(id, -1) = 'é'", "NOT TRUE XOR -1 < 2 $"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64 {
			return // the library's parser is slow
		}
		p := &problems{}
		checkExpressions([]eventingv1.SubscriptionsAPIFilter{{CESQL: text}}, "", p)
		spec := &eventingv1.TriggerSpec{Filters: []eventingv1.SubscriptionsAPIFilter{{CESQL: text}}}
		if len(p.list) > 0 || eventingv1.ValidateCESQLExpression(knativeContext(), text) != nil {
			return
		}
		m := newMatcher(newFilter(spec, p))
		if len(p.list) > 0 {
			return
		}
		for _, message := range []*runtime.Message{{Type: "A.B"}, sampleMessage()} {
			whole := m.filter.pass(m.ctx, newView(message))
			if v := m.byType(message.Type); v == passes && !whole || v == fails && whole {
				t.Errorf("%q: the type says %v, the message %v", text, v, whole)
			}
		}
	})
}

func seeds(f *testing.F, pattern string) {
	for _, file := range fixtures(f, pattern) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
}

// ask asks a snapshot of the Triggers about some messages.
func ask(t *testing.T, triggers []*Trigger) {
	s, err := newSnapshot(triggers, nil, nil)
	if err != nil {
		return
	}
	for _, e := range s.all {
		for _, name := range append(e.match.filter.namedTypes(), "A.B", e.target.Aggregate+".B") {
			m := &runtime.Message{ID: "1", Type: runtime.TypeName(name), Source: "/s", Subject: "a:1"}
			target, err := s.handler(m)
			if (target == nil) == (err == nil) {
				t.Errorf("%s: %v and %v", name, target, err)
			}
			if e.Matches(m) && e.target.Has(Sink) {
				r := s.routes.get(m.Type, s.route)
				if len(r.sinks.matching(m)) == 0 {
					t.Errorf("%s matches %s and is not given it", e.target.Name, name)
				}
			}
		}
		if e.target.URL == "" {
			t.Errorf("%s has no URL", e.target.Name)
		}
	}
}
