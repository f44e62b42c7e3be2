package eventotest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/evento-oss/evento/runtime"
)

// differ says how two lists of events differ; empty: they do not.
func (s *Scenario[S, C, E]) differ(want, got []*runtime.Message) string {
	return differ(s.kit.f, want, got)
}

func differ(f *runtime.Function, want, got []*runtime.Message) string {
	var b strings.Builder
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			fmt.Fprintf(&b, "  %d: missing\n%s", i+1, listed("-", f, want[i]))
		case i >= len(want):
			fmt.Fprintf(&b, "  %d: not expected\n%s", i+1, listed("+", f, got[i]))
		case want[i].Type != got[i].Type:
			fmt.Fprintf(&b, "  %d: another type\n%s%s", i+1, listed("-", f, want[i]), listed("+", f, got[i]))
		default:
			if d := differValues(values(f, want[i], want[i]), values(f, got[i], want[i])); d != "" {
				fmt.Fprintf(&b, "  %d: %s\n%s", i+1, want[i].Type, d)
			}
		}
	}
	return b.String()
}

func (s *Scenario[S, C, E]) differState(wantSchema runtime.DataSchema, want []byte, gotSchema runtime.DataSchema, got []byte) string {
	if wantSchema == "" || gotSchema == "" {
		switch {
		case wantSchema == gotSchema:
			return ""
		case wantSchema == "":
			return "    - no state\n    + a state\n"
		}
		return "    - a state\n    + no state\n"
	}
	return differValues(
		values(s.kit.f, &runtime.Message{Schema: wantSchema, Data: want}, &runtime.Message{}),
		values(s.kit.f, &runtime.Message{Schema: gotSchema, Data: got}, &runtime.Message{}))
}

// differValues lists the paths at which two flat values differ.
func differValues(want, got map[string]string) string {
	var b strings.Builder
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		w, inWant := want[path]
		g, inGot := got[path]
		if w == g && inWant == inGot {
			continue
		}
		if inWant {
			fmt.Fprintf(&b, "    - %s: %s\n", path, w)
		}
		if inGot {
			fmt.Fprintf(&b, "    + %s: %s\n", path, g)
		}
	}
	return b.String()
}

// values flattens a message to one text a path. The subject and the time are in
// it where expected says them.
func values(f *runtime.Function, m, expected *runtime.Message) map[string]string {
	out := make(map[string]string)
	if expected.Subject != "" {
		out["(entity)"] = string(m.Subject)
	}
	if !expected.Time.IsZero() {
		out["(time)"] = m.Time.String()
	}
	r, err := f.Record(m.Schema, m.Data)
	if err != nil {
		out["(data)"] = err.Error()
		return out
	}
	text, err := json.Marshal(r)
	if err != nil {
		out["(data)"] = err.Error()
		return out
	}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		out["(data)"] = err.Error()
		return out
	}
	flatten("", v, out)
	return out
}

func flatten(path string, v any, out map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			out[path] = "{}"
		}
		for k, e := range v {
			flatten(strings.TrimPrefix(path+"."+k, "."), e, out)
		}
	case []any:
		if len(v) == 0 {
			out[path] = "[]"
		}
		for i, e := range v {
			flatten(path+"["+strconv.Itoa(i)+"]", e, out)
		}
	case string:
		out[path] = strconv.Quote(v)
	default:
		out[path] = fmt.Sprint(v)
	}
}

// listed writes an event out.
func listed(sign string, f *runtime.Function, m *runtime.Message) string {
	v := values(f, m, m)
	var b strings.Builder
	fmt.Fprintf(&b, "    %s %s\n", sign, m.Type)
	for _, path := range slices.Sorted(maps.Keys(v)) {
		fmt.Fprintf(&b, "    %s   %s: %s\n", sign, path, v[path])
	}
	return b.String()
}

func names(messages []*runtime.Message) string {
	var out []string
	for _, m := range messages {
		out = append(out, string(m.Type))
	}
	return strings.Join(out, ", ")
}

func indented(trace string) string {
	if trace == "" {
		return ""
	}
	return "\n    " + strings.ReplaceAll(trace, "\n", "\n    ")
}

func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
