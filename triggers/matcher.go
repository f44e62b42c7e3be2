package triggers

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"sync/atomic"

	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/evento-oss/evento/runtime"
)

// maxRemembered bounds how many types a [typeCache] holds. Types are
// registered before they are accepted, so only a very large installation, or
// one that replays other people's topics, comes near; it pays with time, not memory.
const maxRemembered = 4096

// typeCache remembers a value for each type. Reading takes no lock.
type typeCache[V any] struct {
	mu     sync.Mutex // one writer at a time
	values atomic.Pointer[map[runtime.TypeName]V]
}

// get returns the value for t, computing it when it is new. compute may be called more than once.
func (c *typeCache[V]) get(t runtime.TypeName, compute func(runtime.TypeName) V) V {
	if values := c.values.Load(); values != nil {
		if v, ok := (*values)[t]; ok {
			return v
		}
	}
	v := compute(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[runtime.TypeName]V{}
	if values := c.values.Load(); values != nil {
		if len(*values) >= maxRemembered {
			return v
		}
		next = maps.Clone(*values)
	}
	next[t] = v
	c.values.Store(&next)
	return v
}

// matcher evaluates one Trigger's filter.
type matcher struct {
	ctx      context.Context // holds the silent logger that Knative's filters look for
	filter   filter
	typeOnly bool
	byType   typeCache[bool] // used when typeOnly
}

func newMatcher(f filter) *matcher {
	return &matcher{ctx: knativeContext(), filter: f, typeOnly: f.typeOnly()}
}

func (m *matcher) matches(msg *runtime.Message) bool {
	if m.typeOnly {
		return m.byType.get(msg.Type, m.matchesType)
	}
	return m.filter.pass(m.ctx, newView(msg))
}

// matchesType answers for any message of the type; only for typeOnly.
func (m *matcher) matchesType(t runtime.TypeName) bool {
	return m.filter.pass(m.ctx, newTypeView(t))
}

// describe writes all that a Trigger says, to be compared with what it said before.
func describe(object *eventingv1.Trigger, delivery *eventingduckv1.DeliverySpec) string {
	text, err := json.Marshal([]any{object.Annotations, object.Spec, delivery})
	if err != nil { // types that came from JSON
		return err.Error()
	}
	return string(text)
}
