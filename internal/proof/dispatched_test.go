package proof

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/evento-oss/evento/examples/bank/holdings"
	"github.com/evento-oss/evento/examples/bank/interest"
	"github.com/evento-oss/evento/examples/bank/transfers"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers"
)

// dispatchers are the bank's dispatchers in this process, to be asked again, by
// the names of their Triggers.
var dispatchers = map[string]*runtime.Function{
	triggers.StackNamespace + "/transfers": dispatcherOf(transfers.Reactions()),
	triggers.StackNamespace + "/holdings":  dispatcherOf(holdings.Reactions()),
	triggers.StackNamespace + "/interest":  dispatcherOf(interest.Reactions()),
}

func dispatcherOf(reactions []runtime.Reaction) *runtime.Function {
	f, err := runtime.NewDispatcher(reactions...)
	if err != nil {
		panic(err) // the bank's own tests find that first
	}
	return f
}

// reaction is what a dispatcher answers to an event; nothing when it has no code for it.
func reaction(dispatcher string, event *runtime.Message) ([]*runtime.Message, error) {
	if event.Platform() {
		return nil, nil
	}
	said := dispatchers[dispatcher].Invoke(context.Background(), runtime.Invocation{ID: "1", Kind: runtime.KindDispatch, Messages: []*runtime.Message{event}}, nil)
	switch {
	case said.Failure != nil && said.Failure.Code == runtime.FailureUnknownType:
		return nil, nil
	case said.Failure != nil:
		return nil, fmt.Errorf("%s of %s: %s", dispatcher, event.ID, said.Failure.Message)
	}
	return said.Steps[0].Events, nil
}

// decision is a record of the dispatched topic.
type decision = verify.Decision

// decisions reads the dispatched topic.
func (w *world) decisions(t testing.TB) []decision {
	t.Helper()
	catalogue := avro.NewCatalogue()
	var list []decision
	for _, r := range w.read(t, w.topics.Dispatched()) {
		d, err := catalogue.DecodeDispatched(r.M.Schema, r.M.Data)
		if err != nil {
			t.Fatalf("decision at %s: %v", r.At, err)
		}
		list = append(list, decision{Record: r, D: d})
	}
	return list
}

// calm says whether the dispatchers are through with all there is, as far as the
// gateways know. Their gauges are some seconds old.
func (w *world) calm() error {
	for _, name := range []string{"evento_dispatch_lag", "evento_dispatch_parked", "evento_relay_commands"} {
		for _, g := range w.gateways {
			if n, err := g.metric(name); err != nil || n != 0 {
				return fmt.Errorf("%s: %s is %v: %v", g.name, name, n, err)
			}
		}
	}
	return nil
}

// owed says which event still has no effect that it must have.
func (e evidence) owed() error {
	decided := map[[2]string]bool{}
	there := map[runtime.CommandKey]bool{}
	for _, r := range e.Commands {
		there[r.M.Key()] = true
	}
	for _, d := range e.Decisions {
		if d.D.Status != avro.DispatchDecided {
			continue
		}
		decided[[2]string{d.D.Dispatcher, d.D.Event}] = true
		for i := range d.D.Commands {
			if !there[d.CommandKey(i)] {
				return fmt.Errorf("command %d of the decision at %s is not sent", i, d.At)
			}
		}
	}
	for _, r := range e.Events {
		for _, name := range e.Dispatchers {
			if want, err := reaction(name, r.M); err != nil || len(want) > 0 && !decided[[2]string{name, r.M.ID}] {
				return fmt.Errorf("%s has not decided about the %s at %s: %v", name, r.M.Type, r.At, err)
			}
		}
	}
	return nil
}

// dispatcherNames are those of a world's dispatchers.
func (w *world) dispatcherNames() []string {
	if !w.circle {
		return nil
	}
	return slices.Sorted(maps.Keys(dispatchers))
}

// repeated counts the commands of dispatchers that stand in the topic more than
// once: a gateway ended between the relay and its position.
func (e evidence) repeated() (n int) {
	seen := map[runtime.CommandKey]bool{}
	for _, r := range e.Commands {
		if r.M.CausationID == "" {
			continue
		}
		if seen[r.M.Key()] {
			n++
		}
		seen[r.M.Key()] = true
	}
	return n
}
