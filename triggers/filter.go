package triggers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/eventfilter"
	"knative.dev/eventing/pkg/eventfilter/attributes"
	"knative.dev/eventing/pkg/eventfilter/subscriptionsapi"
)

// filter is a Trigger's condition. Each leaf is one of Knative's own filters.
// all, any and not are combined here: Knative's all and any reorder themselves
// by a goroutine while they match (a data race when many call them), and panic
// when used after Cleanup, which a reader of an older snapshot might do. Leaves
// hold nothing to clean up. That both say the same is tested against Knative.
type filter struct {
	op    filterOp
	leaf  eventfilter.Filter // of leaf
	parts []filter           // of the others; one of not

	attributes []string // of leaf: what it looks at, names of cesql functions among them
	types      []string // of leaf: the types that it names in full
	prefix     string   // of leaf: the one condition is that type begins so
}

type filterOp uint8

const (
	opAll filterOp = iota // the zero filter lets everything pass
	opAny
	opNot
	opLeaf
)

// pass evaluates the filter on an event.
func (f *filter) pass(ctx context.Context, e *cloudevents.Event) bool {
	switch f.op {
	case opAll:
		for i := range f.parts {
			if !f.parts[i].pass(ctx, e) {
				return false
			}
		}
		return true
	case opAny:
		for i := range f.parts {
			if f.parts[i].pass(ctx, e) {
				return true
			}
		}
		return false
	case opNot:
		return !f.parts[0].pass(ctx, e)
	}
	return passLeaf(ctx, f.leaf, e)
}

// passLeaf takes a panic for "does not match": Knative's cesql filter panics
// when an expression's value is no boolean.
func passLeaf(ctx context.Context, leaf eventfilter.Filter, e *cloudevents.Event) (pass bool) {
	defer func() {
		if recover() != nil {
			pass = false
		}
	}()
	return leaf.Filter(ctx, *e) != eventfilter.FailFilter
}

// verdict is what the type of an event alone says.
type verdict uint8

const (
	unsure verdict = iota
	passes
	fails
)

// byType evaluates the filter as far as the type decides. e needs to have
// nothing but its type.
func (f *filter) byType(ctx context.Context, e *cloudevents.Event) verdict {
	switch f.op {
	case opAll:
		return f.join(ctx, e, passes, fails)
	case opAny:
		return f.join(ctx, e, fails, passes)
	case opNot:
		switch f.parts[0].byType(ctx, e) {
		case passes:
			return fails
		case fails:
			return passes
		}
		return unsure
	}
	for _, a := range f.attributes {
		if a != "type" {
			return unsure
		}
	}
	if passLeaf(ctx, f.leaf, e) {
		return passes
	}
	return fails
}

// join returns enough when one part says so, all when every part says so.
func (f *filter) join(ctx context.Context, e *cloudevents.Event, all, enough verdict) verdict {
	result := all
	for i := range f.parts {
		switch f.parts[i].byType(ctx, e) {
		case enough:
			return enough
		case unsure:
			result = unsure
		}
	}
	return result
}

// passesAll says whether the filter surely lets every type of the namespace
// pass, whatever else the event holds.
func (f *filter) passesAll(namespace string) bool {
	switch f.op {
	case opAll:
		for i := range f.parts {
			if !f.parts[i].passesAll(namespace) {
				return false
			}
		}
		return true
	case opAny:
		for i := range f.parts {
			if f.parts[i].passesAll(namespace) {
				return true
			}
		}
		return false
	case opLeaf:
		return f.prefix != "" && strings.HasPrefix(namespace+".", f.prefix)
	}
	return false
}

// namedTypes lists the types that the filter names in full, as examples to try.
func (f *filter) namedTypes() []string {
	names := f.types
	for i := range f.parts {
		names = append(names[:len(names):len(names)], f.parts[i].namedTypes()...)
	}
	return names
}

// newFilter compiles a Trigger's filters, which Knative has validated. As with
// Knative, spec.filters replaces spec.filter unless it is empty.
func newFilter(spec *eventingv1.TriggerSpec, p *problems) filter {
	if len(spec.Filters) > 0 {
		return filter{op: opAll, parts: newFilters(spec.Filters, "spec.filters", p)}
	}
	if spec.Filter == nil || len(spec.Filter.Attributes) == 0 {
		return filter{}
	}
	f := filter{op: opAll}
	for name, value := range spec.Filter.Attributes {
		leaf := filter{op: opLeaf, leaf: attributes.NewAttributesFilter(map[string]string{name: value}), attributes: []string{name}}
		switch {
		case name == "type" && value == eventingv1.TriggerAnyFilter:
			continue // every event has a type
		case name == "type":
			leaf.types = []string{value}
		}
		f.parts = append(f.parts, leaf)
	}
	return f
}

func newFilters(specs []eventingv1.SubscriptionsAPIFilter, field string, p *problems) []filter {
	parts := make([]filter, 0, len(specs))
	for i := range specs {
		parts = append(parts, newDialect(&specs[i], fmt.Sprintf("%s[%d]", field, i), p))
	}
	return parts
}

// newDialect compiles one filter of spec.filters.
func newDialect(spec *eventingv1.SubscriptionsAPIFilter, field string, p *problems) filter {
	switch {
	case len(spec.Exact) > 0:
		return newLeaves(spec.Exact, subscriptionsapi.NewExactFilter, field+".exact", p, func(f *filter, name string) { f.types = []string{name} })
	case len(spec.Prefix) > 0:
		return newLeaves(spec.Prefix, subscriptionsapi.NewPrefixFilter, field+".prefix", p, func(f *filter, prefix string) { f.prefix = prefix })
	case len(spec.Suffix) > 0:
		return newLeaves(spec.Suffix, subscriptionsapi.NewSuffixFilter, field+".suffix", p, nil)
	case len(spec.All) > 0:
		return filter{op: opAll, parts: newFilters(spec.All, field+".all", p)}
	case len(spec.Any) > 0:
		return filter{op: opAny, parts: newFilters(spec.Any, field+".any", p)}
	case spec.Not != nil:
		return filter{op: opNot, parts: []filter{newDialect(spec.Not, field+".not", p)}}
	case spec.CESQL != "":
		return newExpression(spec.CESQL, field+".cesql", p)
	}
	p.add(field, "the filter is empty", "remove it, or write one of exact, prefix, suffix, all, any, not, cesql")
	return filter{}
}

// newLeaves makes a leaf of each condition, so that the one on type can be
// asked without the others; together they say what one with all conditions
// says. onType notes what a condition on type tells about types.
func newLeaves(conditions map[string]string, make func(map[string]string) (eventfilter.Filter, error), field string, p *problems, onType func(*filter, string)) filter {
	f := filter{op: opAll}
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		value := conditions[name]
		leaf, err := make(map[string]string{name: value})
		if err != nil {
			p.add(field+"["+name+"]", "the value is empty, and Knative ignores such a filter", "write the value, or remove the filter")
			continue
		}
		part := filter{op: opLeaf, leaf: leaf, attributes: []string{name}}
		if name == "type" && onType != nil {
			onType(&part, value)
		}
		f.parts = append(f.parts, part)
	}
	return f
}
