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
	ctx    context.Context // holds the silent logger that Knative's filters look for
	filter filter
	types  typeCache[verdict]
}

func newMatcher(f filter) *matcher { return &matcher{ctx: knativeContext(), filter: f} }

// byType says what the type alone decides.
func (m *matcher) byType(t runtime.TypeName) verdict {
	return m.types.get(t, func(t runtime.TypeName) verdict { return m.filter.byType(m.ctx, newTypeView(t)) })
}

func (m *matcher) matches(v *lazyView) bool {
	switch m.byType(v.message.Type) {
	case passes:
		return true
	case fails:
		return false
	}
	return m.filter.pass(m.ctx, v.event())
}

// describe writes all that a Trigger says, to be compared with what it said before.
func describe(object *eventingv1.Trigger, delivery *eventingduckv1.DeliverySpec) string {
	text, err := json.Marshal([]any{object.Annotations, object.Spec, delivery})
	if err != nil { // types that came from JSON
		return err.Error()
	}
	return string(text)
}
