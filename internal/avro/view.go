package avro

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/evento-oss/evento/runtime"
)

// AggregateView is what the newest versions say about one aggregate. It and
// what it points to must not be changed.
type AggregateView struct {
	Name     string
	Prefix   string // of the root; "" while the root is not known
	Root     *Type  // nil while the root is not known
	Entities []*Type
	Commands []*Type
	Events   []*Type
	Failures []*Type

	types   map[string]*Type // by the name without namespace
	parents map[runtime.TypeName][]runtime.TypeName
}

// Type returns a type by its name without namespace ("WithdrawCash").
func (a *AggregateView) Type(name string) (*Type, bool) {
	t, ok := a.types[name]
	return t, ok
}

// Parents returns the types whose instances contain an entity of this type:
// the root, entities, or both.
func (a *AggregateView) Parents(entity runtime.TypeName) []runtime.TypeName { return a.parents[entity] }

func newView(f *family) *AggregateView {
	a := &AggregateView{Name: f.name, types: map[string]*Type{}, parents: map[runtime.TypeName][]runtime.TypeName{}}
	for _, v := range f.newest {
		t := v.Type
		a.types[t.Name.Name()] = t
		switch t.Kind {
		case KindRoot:
			a.Root, a.Prefix = t, t.Prefix
		case KindEntity:
			a.Entities = append(a.Entities, t)
		case KindCommand:
			a.Commands = append(a.Commands, t)
		case KindEvent:
			a.Events = append(a.Events, t)
		case KindFailure:
			a.Failures = append(a.Failures, t)
		}
	}
	for _, list := range [][]*Type{a.Entities, a.Commands, a.Events, a.Failures} {
		slices.SortFunc(list, func(x, y *Type) int { return cmp.Compare(x.Name, y.Name) })
	}
	if a.Root != nil {
		containment(a.Root.shape, a.parents)
	}
	return a
}

// containment notes for each entity inside s which root or entity holds it.
func containment(s *shape, parents map[runtime.TypeName][]runtime.TypeName) {
	done := map[*shape]bool{}
	var open func(owner *shape)
	var inside func(owner, s *shape, seen map[*shape]bool)
	inside = func(owner, s *shape, seen map[*shape]bool) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		if s.kind == KindEntity {
			name, parent := runtime.TypeName(s.name), runtime.TypeName(owner.name)
			if !slices.Contains(parents[name], parent) {
				parents[name] = append(parents[name], parent)
			}
			open(s)
			return
		}
		inside(owner, s.elem, seen)
		for _, f := range s.fields {
			inside(owner, f.shape, seen)
		}
	}
	open = func(owner *shape) {
		if done[owner] {
			return
		}
		done[owner] = true
		seen := map[*shape]bool{}
		for _, f := range owner.fields {
			inside(owner, f.shape, seen)
		}
	}
	open(s)
}

// Aggregate returns what is known of an aggregate, by its name.
func (c *Catalogue) Aggregate(name string) (*AggregateView, bool) {
	f := c.family(name)
	if f == nil {
		return nil, false
	}
	return f.view, true
}

// ByPrefix returns the aggregate whose root has this prefix ("checking" -> "CheckingAccount").
func (c *Catalogue) ByPrefix(prefix string) (aggregate string, ok bool) {
	name, ok := c.now.Load().prefixes[prefix]
	if !ok {
		return "", false
	}
	f := c.family(name.Namespace())
	if f.view.Prefix != prefix {
		return "", false // an entity's
	}
	return f.name, true
}

// AggregateOf returns the aggregate that an entity belongs to. The error wraps [ErrSubject].
func (c *Catalogue) AggregateOf(e runtime.Entity) (*AggregateView, error) {
	prefix := e.Aggregate().Prefix()
	name, ok := c.ByPrefix(prefix)
	if !ok {
		return nil, fmt.Errorf("%w: no aggregate has the prefix %q of %q", ErrSubject, prefix, string(e))
	}
	return c.family(name).view, nil
}

// EntityType returns the type of the entity that a reference names, by its
// path: "credit:77" is a CreditAccount, "credit:77/card:7f3a" a CreditCard in
// it. Whether it exists is another question. The error wraps [ErrSubject] and
// says which segment does not fit.
func (c *Catalogue) EntityType(e runtime.Entity) (*Type, error) {
	a, err := c.AggregateOf(e)
	if err != nil {
		return nil, err
	}
	at := a.Root
	_, rest, more := strings.Cut(string(e), "/")
	for more {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		prefix, _, _ := strings.Cut(segment, ":")
		k := slices.IndexFunc(a.Entities, func(t *Type) bool {
			return t.Prefix == prefix && slices.Contains(a.parents[t.Name], at.Name)
		})
		if k < 0 {
			return nil, fmt.Errorf("%w: %s holds no entity with the prefix %q of %q", ErrSubject, at.Name, prefix, string(e))
		}
		at = a.Entities[k]
	}
	return at, nil
}

// Resolve finds the newest version of a type by its full name, or, without a
// namespace, in the aggregate that the entity belongs to. The error wraps
// [ErrUnknownType] or [ErrSubject].
func (c *Catalogue) Resolve(name string, e runtime.Entity) (*Type, error) {
	if strings.Contains(name, ".") {
		v, err := c.newest(runtime.TypeName(name))
		if err != nil {
			return nil, err
		}
		return v.Type, nil
	}
	a, err := c.AggregateOf(e)
	if err != nil {
		return nil, err
	}
	if t, ok := a.types[name]; ok {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %s has no type %q", ErrUnknownType, a.Name, name)
}

// CheckSubject checks that a command or event of type t can be about the entity: that it is
// of the aggregate, and the root or an entity of the type's target. Records of the
// platform's own types may be about any entity. The error wraps [ErrSubject].
func (c *Catalogue) CheckSubject(t *Type, e runtime.Entity) error {
	if _, err := runtime.ParseEntity(string(e)); err != nil {
		return fmt.Errorf("%w: %w", ErrSubject, err)
	}
	at, err := c.EntityType(e)
	if err != nil {
		return err
	}
	if t.Aggregate == platformNamespace {
		return nil
	}
	switch t.Kind {
	case KindCommand, KindEvent, KindFailure:
	default:
		return fmt.Errorf("%w: %s is of kind %s and is not about an entity", ErrSubject, t.Name, t.Kind)
	}
	want := t.entityOrRoot()
	if want == "" {
		want = runtime.TypeName(t.Aggregate + "." + t.Aggregate)
	}
	if at.Name != want {
		return fmt.Errorf("%w: %s is about a %s, and %q is a %s", ErrSubject, t.Name, want, string(e), at.Name)
	}
	return nil
}

// AllowedEvents returns the names of the types that may be the outcome of a
// command: its emits, then its fails. Nil if it is no known command.
func (c *Catalogue) AllowedEvents(command runtime.TypeName) []runtime.TypeName {
	t, ok := c.Type(command)
	if !ok || t.Kind != KindCommand {
		return nil
	}
	return slices.Concat(t.Emits, t.Fails)
}

// CheckOutcome checks that an event may be part of the outcome of a command: that its type is one
// of the command's emits or fails, and its subject an entity of the command's own aggregate that
// fits the type. The error says what the function did wrong.
func (c *Catalogue) CheckOutcome(command *runtime.Message, event runtime.TypeName, subject runtime.Entity) error {
	t, err := c.newest(command.Type)
	if err != nil {
		return err
	}
	if !t.Allows(event) {
		return fmt.Errorf("%s is not among the emits and fails of %s: %v", event, command.Type, c.AllowedEvents(command.Type))
	}
	if subject.Aggregate() != command.Aggregate() {
		return fmt.Errorf("%w: the event %s is about %q, the command %s about %q", ErrSubject, event, string(subject), command.Type, string(command.Subject))
	}
	v, err := c.newest(event)
	if err != nil {
		return err
	}
	return c.CheckSubject(v.Type, subject)
}
