package triggers

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/evento-oss/evento/runtime"
)

// snapshot is all that is routed at one time. It never changes; what it
// remembers about types is filled as they come.
type snapshot struct {
	all         []*entry            // by name
	handlers    map[string][]*entry // by aggregate
	aggregators map[string]*entry
	dispatchers []*entry
	sinks       []*entry
	routes      typeCache[*route]
	skipped     []string
}

// entry is a Trigger and its final Target.
type entry struct {
	*Trigger
	target *Target
}

// route is what a type alone decides; entries that must look further are kept to be asked.
type route struct {
	handler     *Target // when err is nil and maybe is empty
	err         error
	handlers    []*entry // take the type for sure
	maybe       []*entry // handlers to be asked
	dispatchers list
	sinks       list
}

// list holds Targets in the order of their names.
type list struct {
	sure  []*Target // the answer when maybe is empty
	maybe []*entry  // all that may match, the sure ones among them; nil when the type decides
}

// newSnapshot joins Triggers, and refuses those that contradict each other with a [*LoadError].
func newSnapshot(triggers []*Trigger, skipped []string, types Types) (*snapshot, error) {
	s := &snapshot{handlers: map[string][]*entry{}, aggregators: map[string]*entry{}, skipped: skipped}
	triggers = slices.Clone(triggers)
	slices.SortStableFunc(triggers, func(a, b *Trigger) int { return cmp.Compare(a.Target.Name, b.Target.Name) })
	var list []Problem
	conflict := func(t *Trigger, field, rule, fix string) {
		p := t.at
		p.Field, p.Rule, p.Fix = field, rule, fix
		list = append(list, p)
	}
	for i, t := range triggers {
		target := t.Target
		e := &entry{Trigger: t, target: &target}
		if i > 0 && triggers[i-1].Target.Name == target.Name {
			conflict(t, "metadata.name", fmt.Sprintf("another Trigger has this name: %s", triggers[i-1].Target.From), "rename one of them")
			continue
		}
		s.all = append(s.all, e)
		if target.Has(Handler) {
			s.handlers[target.Aggregate] = append(s.handlers[target.Aggregate], e)
		}
		if target.Has(Aggregator) {
			if other := s.aggregators[target.Aggregate]; other != nil {
				conflict(t, "metadata.annotations["+AnnotationAggregate+"]",
					fmt.Sprintf("two aggregators for %s: this one and %s (%s)", target.Aggregate, other.target.Name, other.target.From), "remove one of them")
				continue
			}
			s.aggregators[target.Aggregate] = e
		}
		if target.Has(Dispatcher) {
			s.dispatchers = append(s.dispatchers, e)
		}
		if target.Has(Sink) {
			s.sinks = append(s.sinks, e)
		}
	}
	for _, aggregate := range slices.Sorted(maps.Keys(s.handlers)) {
		s.checkHandlers(aggregate, types, conflict)
	}
	if len(list) > 0 {
		return nil, &LoadError{Problems: list}
	}
	s.combine()
	return s, nil
}

// checkHandlers refuses two handlers that both take a command type, as far as
// their filters tell without a command.
func (s *snapshot) checkHandlers(aggregate string, types Types, conflict func(t *Trigger, field, rule, fix string)) {
	handlers := s.handlers[aggregate]
	if len(handlers) < 2 {
		return
	}
	var known []runtime.TypeName
	if types != nil {
		known = slices.Clone(types.Commands(aggregate))
	}
	for _, e := range handlers {
		for _, name := range e.match.filter.namedTypes() {
			if t := runtime.TypeName(name); t.Namespace() == aggregate {
				known = append(known, t)
			}
		}
	}
	slices.Sort(known)
	for i, a := range handlers {
		for _, b := range handlers[i+1:] {
			const fix = "give each a filter on type that the other has not, or remove one"
			if a.match.filter.passesAll(aggregate) && b.match.filter.passesAll(aggregate) {
				conflict(b.Trigger, "spec.filters", fmt.Sprintf("two handlers for every command of %s: this one and %s (%s)", aggregate, a.target.Name, a.target.From), fix)
				continue
			}
			for _, t := range known {
				if a.match.byType(t) == passes && b.match.byType(t) == passes {
					conflict(b.Trigger, "spec.filters", fmt.Sprintf("two handlers for command type %s: this one and %s (%s)", t, a.target.Name, a.target.From), fix)
					break
				}
			}
		}
	}
}

// combine finds functions that are handler and aggregator of one aggregate.
func (s *snapshot) combine() {
	for aggregate, aggregator := range s.aggregators {
		for _, handler := range s.handlers[aggregate] {
			if handler.target.URL == aggregator.target.URL && handler.target.CACerts == aggregator.target.CACerts {
				handler.target.Combined = true
				aggregator.target.Combined = true
			}
		}
	}
}

// handler finds the one that takes a command.
func (s *snapshot) handler(m *runtime.Message) (*Target, error) {
	r := s.routes.get(m.Type, s.route)
	if len(r.maybe) == 0 {
		return r.handler, r.err
	}
	matching := slices.Clone(r.handlers)
	view := &lazyView{message: m}
	for _, e := range r.maybe {
		if e.match.matches(view) {
			matching = append(matching, e)
		}
	}
	return s.choose(m.Type, matching)
}

// route computes what the type decides.
func (s *snapshot) route(t runtime.TypeName) *route {
	r := &route{}
	for _, e := range s.handlers[t.Namespace()] {
		switch e.match.byType(t) {
		case unsure:
			r.maybe = append(r.maybe, e)
		case passes:
			r.handlers = append(r.handlers, e)
		}
	}
	r.handler, r.err = s.choose(t, r.handlers)
	r.dispatchers = newList(s.dispatchers, t)
	r.sinks = newList(s.sinks, t)
	return r
}

// choose wants exactly one.
func (s *snapshot) choose(t runtime.TypeName, matching []*entry) (*Target, error) {
	switch len(matching) {
	case 1:
		return matching[0].target, nil
	case 0:
		return nil, fmt.Errorf("%w: %s", ErrNoTrigger, s.whyNoHandler(t))
	}
	names := make([]string, len(matching))
	for i, e := range matching {
		names[i] = e.target.Name + " (" + e.target.From + ")"
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%w: %s passes the filters of %s; give each a filter that the others have not", ErrTwoHandlers, t, strings.Join(names, " and "))
}

func (s *snapshot) whyNoHandler(t runtime.TypeName) string {
	aggregate := t.Namespace()
	handlers := s.handlers[aggregate]
	if len(handlers) == 0 {
		return fmt.Sprintf("nothing handles %s; add a Trigger with %s: handler and %s: %s", t, AnnotationRole, AnnotationAggregate, aggregate)
	}
	names := make([]string, len(handlers))
	for i, e := range handlers {
		names[i] = e.target.Name
	}
	return fmt.Sprintf("nothing handles %s; the filters of %s do not let it pass", t, strings.Join(names, ", "))
}

func (s *snapshot) aggregator(aggregate string) (*Target, error) {
	if e := s.aggregators[aggregate]; e != nil {
		return e.target, nil
	}
	return nil, fmt.Errorf("%w: nothing folds the events of %s; add one with %s: aggregator and %s: %s", ErrNoTrigger, aggregate, AnnotationRole, AnnotationAggregate, aggregate)
}

func newList(entries []*entry, t runtime.TypeName) list {
	var l list
	open := false
	for _, e := range entries {
		switch e.match.byType(t) {
		case unsure:
			open = true
			l.maybe = append(l.maybe, e)
		case passes:
			l.maybe = append(l.maybe, e)
			l.sure = append(l.sure, e.target)
		}
	}
	if !open {
		l.maybe = nil
	}
	return l
}

// matching returns the Targets that take m, in the order of their names.
func (l *list) matching(m *runtime.Message) []*Target {
	if l.maybe == nil {
		return l.sure
	}
	var targets []*Target
	view := &lazyView{message: m}
	for _, e := range l.maybe {
		if e.match.matches(view) {
			targets = append(targets, e.target)
		}
	}
	return targets
}

// same says whether both route alike, for all that a user can see.
func (s *snapshot) same(o *snapshot) bool {
	return slices.Equal(s.skipped, o.skipped) && slices.EqualFunc(s.all, o.all, func(a, b *entry) bool {
		return a.spec == b.spec && reflect.DeepEqual(a.target, b.target)
	})
}
