package triggers

import (
	"context"
	"fmt"
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

	attributes []string // of leaf: what it looks at; unknown ones are "*"
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

// typeOnly says whether the type alone decides.
func (f *filter) typeOnly() bool {
	for _, a := range f.attributes {
		if a != "type" {
			return false
		}
	}
	for i := range f.parts {
		if !f.parts[i].typeOnly() {
			return false
		}
	}
	return true
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
		f := newLeaf(spec.Exact, subscriptionsapi.NewExactFilter, field+".exact", p)
		if name, ok := spec.Exact["type"]; ok {
			f.types = []string{name}
		}
		return f
	case len(spec.Prefix) > 0:
		f := newLeaf(spec.Prefix, subscriptionsapi.NewPrefixFilter, field+".prefix", p)
		if len(spec.Prefix) == 1 {
			f.prefix = spec.Prefix["type"]
		}
		return f
	case len(spec.Suffix) > 0:
		return newLeaf(spec.Suffix, subscriptionsapi.NewSuffixFilter, field+".suffix", p)
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

func newLeaf(conditions map[string]string, make func(map[string]string) (eventfilter.Filter, error), field string, p *problems) filter {
	f := filter{op: opLeaf}
	for name, value := range conditions {
		if value == "" {
			p.add(field+"["+name+"]", "the value is empty, and Knative ignores such a filter", "write the value, or remove the filter")
		}
		f.attributes = append(f.attributes, name)
	}
	leaf, err := make(conditions)
	if err != nil {
		return filter{} // an empty value, reported above
	}
	f.leaf = leaf
	return f
}
