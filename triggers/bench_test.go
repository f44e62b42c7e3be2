package triggers

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// BenchmarkHandler: what a command costs on its way to its handler, with 100
// aggregates of two handlers each.
func BenchmarkHandler(b *testing.B) {
	for _, c := range []struct{ name, filters string }{
		{"type", "[{prefix: {type: A%d.%s}}]"},
		{"cesql on type", `[{cesql: "type LIKE 'A%d.%s%%'"}]`},
		{"source", "[{prefix: {type: A%d.%s}}, {not: {exact: {source: /nobody}}}]"},
		{"cesql on source", `[{cesql: "type LIKE 'A%d.%s%%' AND source <> '/nobody'"}]`},
	} {
		b.Run(c.name, func(b *testing.B) {
			var triggers fixed
			var messages []*runtime.Message
			for i := range 100 {
				for _, half := range []string{"Open", "Close"} {
					a := fmt.Sprintf("A%d", i)
					triggers = append(triggers, triggerFor(b, fmt.Sprintf("t%d-%s", i, map[string]string{"Open": "o", "Close": "c"}[half]), role(Handler, a), "http://f", fmt.Sprintf(c.filters, i, half)))
					messages = append(messages, &runtime.Message{
						ID: "1", Type: runtime.TypeName(a + "." + half), Source: "/clients/teller", Subject: "a:1", Schema: "urn:evento:avro:A.B:0011223344556677",
					})
				}
			}
			for i, t := range triggers {
				t.Target.Name = fmt.Sprintf("default/t%d", i)
			}
			r := triggers.router(b, nil)
			b.ReportAllocs()
			var n atomic.Uint64
			b.RunParallel(func(pb *testing.PB) {
				i := int(n.Add(37))
				for pb.Next() {
					i++
					if _, err := r.Handler(messages[i%len(messages)]); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkSinks: an event's way to those that take it, type by type.
func BenchmarkSinks(b *testing.B) {
	var triggers fixed
	for i := range 20 {
		triggers = append(triggers, triggerFor(b, fmt.Sprintf("s%d", i), role(Sink, ""), "http://f", fmt.Sprintf("[{any: [{exact: {type: A.E%d}}, {exact: {type: A.All}}]}]", i)))
	}
	r := triggers.router(b, nil)
	m := &runtime.Message{Type: "A.E7"}
	b.ReportAllocs()
	for b.Loop() {
		if got := r.Sinks(m); len(got) != 1 {
			b.Fatal(got)
		}
	}
}
