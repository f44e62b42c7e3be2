package triggers

import (
	"context"

	"github.com/evento-oss/evento/runtime"
)

// Source is a place that Triggers come from.
type Source interface {
	// Load returns all Triggers that the source declares now. Problems with
	// what it read come as a [*LoadError]; nothing is returned beside it.
	Load(ctx context.Context) (Loaded, error)

	// Watch calls changed whenever Load may return something else than before:
	// once as soon as it watches (so that nothing between a load and the watch
	// is missed), then after each change. It may call it in vain. It returns
	// nil when ctx ends, and an error when it cannot watch.
	Watch(ctx context.Context, changed func()) error

	// String names the source for people: its files.
	String() string
}

// Loaded is what a [Source] found.
type Loaded struct {
	Triggers []*Trigger
	Skipped  []string // what was read but is not for us, "triggers.yaml, document 3: Service bank/withdraw"
}

// Types tells the known command types, for conflicts to be found at load and
// not at the first command.
type Types interface {
	// Commands returns the full names of the aggregate's command types, none
	// when the aggregate is not known. It may be called at any time.
	Commands(aggregate string) []runtime.TypeName
}
