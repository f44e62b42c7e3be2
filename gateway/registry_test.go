package gateway

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

func (w *registryWorld) registry(t *testing.T) *Registry {
	t.Helper()
	franz, err := w.settings.Franz(w.log)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRegistry(w.topics, avro.NewCatalogue(), w.reader, kafka.NewExclusive(franz, "evento-"+w.topics.Schemas(), w.log),
		w.ensure, func() {}, w.log)
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- r.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-patience(t).Done():
		t.Fatal("the schemas topic was not read")
	}
	return r
}

const registryAccount = `[
 {"type": "record", "name": "Acc", "namespace": "Acc", "evento": {"kind": "root", "prefix": "acc"}, "doc": "An account.", "fields": [{"name": "n", "type": "long", "default": 0, "doc": "A number."}]},
 {"type": "record", "name": "Done", "namespace": "Acc", "evento": {"kind": "event"}, "doc": "It is done.", "fields": [{"name": "x", "type": "TYPE", "doc": "A field."}]}
]`

// Two gateways register, at the same time, what does not go together.
func TestRegistrationsAtOnceAreCheckedAgainstEachOther(t *testing.T) {
	t.Parallel()
	w := &registryWorld{engineWorld: newEngineWorld(t, 1)}
	gateways := []*Registry{w.registry(t), w.registry(t)}
	const rounds = 10
	name := func(round int) string { return "Acc" + string(rune('A'+round)) }
	for round := range rounds {
		errs := make([]error, 2)
		w.meeting = make(chan struct{})
		var all sync.WaitGroup
		for i, r := range gateways {
			text := strings.NewReplacer("TYPE", []string{"long", "string"}[i], "Acc", name(round), "acc", strings.ToLower(name(round))).Replace(registryAccount)
			all.Go(func() { _, errs[i] = r.Register(patience(t), []byte(text), false) })
		}
		all.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("registered by both or by none: %v, %v", errs[0], errs[1])
		}
	}
	third := w.registry(t)
	for i, r := range append(gateways, third) {
		if err := r.CatchUp(patience(t)); err != nil {
			t.Fatal(err)
		}
		for round := range rounds {
			if n := len(r.catalogue.Versions(runtime.TypeName(name(round) + ".Done"))); n != 1 {
				t.Errorf("gateway %d knows %d versions of the event of %s, want 1", i, n, name(round))
			}
		}
	}
}

// registryWorld lets two registrations pass their first check together.
type registryWorld struct {
	*engineWorld
	meeting chan struct{}
}

func (w *registryWorld) ensure(context.Context, []string) error {
	select {
	case w.meeting <- struct{}{}:
	case <-w.meeting:
	case <-time.After(time.Second): // the other one is not coming
	}
	return nil
}
