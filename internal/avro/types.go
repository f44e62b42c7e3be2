package avro

import (
	"slices"

	"github.com/evento-oss/evento/runtime"
)

// Kind says what a named type of an aggregate's schema is: the "kind" of its
// "evento" property.
type Kind string

// The kinds. A type of kind value is only a part of the others; a type of any
// other kind is registered and has versions of its own.
const (
	KindRoot    Kind = "root"    // the aggregate's state; exactly one, named as the aggregate
	KindEntity  Kind = "entity"  // an entity inside the aggregate
	KindValue   Kind = "value"   // a value object or enum
	KindEvent   Kind = "event"   // a fact
	KindFailure Kind = "failure" // an event that says why a command was refused
	KindCommand Kind = "command" // an intent
)

// Type is one version of a named type. It is immutable once it is in a [Catalogue].
type Type struct {
	Name      runtime.TypeName
	Aggregate string // the namespace
	Kind      Kind
	Doc       string

	Prefix string // of roots and entities: what stands before ':' in their references

	// Of commands. Target is the type of the entity that it is sent to, "" for
	// the root. Emits and Fails are full names, sorted as in the file.
	Target  runtime.TypeName
	Emits   []runtime.TypeName
	Fails   []runtime.TypeName
	Creates bool // it may start an aggregate

	// Of events and failures: the type of the entity that it belongs to, "" for the root.
	Entity runtime.TypeName

	// Rebuild, of a root: snapshots written under earlier versions are dropped
	// and rebuilt from events, so this version need not be able to read them.
	Rebuild bool

	// BackwardOnly: this version was registered although older readers cannot
	// read it ([AllowBackwardOnly]).
	BackwardOnly bool

	// Version counts the registrations of the name from 1; the highest is the
	// newest. It is 0 in what [ParseAggregate] returns.
	Version int

	Fingerprint runtime.Fingerprint
	Text        string // self-contained schema as JSON, custom properties kept

	shape *shape
}

// DataSchema returns the URN that names this version in a record's dataschema attribute.
func (t *Type) DataSchema() runtime.DataSchema {
	return runtime.NewDataSchema(t.Name, t.Fingerprint)
}

// Outcome says whether a record of this type may be the outcome of a command: an event or a failure.
func (t *Type) Outcome() bool { return t.Kind == KindEvent || t.Kind == KindFailure }

// Allows says whether a handler of this command may answer with an event of
// this type: it is one of its emits or fails.
func (t *Type) Allows(event runtime.TypeName) bool {
	return slices.Contains(t.Emits, event) || slices.Contains(t.Fails, event)
}

// entityOrRoot returns the type of the entity that commands and events of this type are about.
func (t *Type) entityOrRoot() runtime.TypeName {
	switch {
	case t.Target != "":
		return t.Target
	case t.Entity != "":
		return t.Entity
	}
	return ""
}

// Aggregate is a schema file that was read and found good.
type Aggregate struct {
	Name     string
	Prefix   string // of the root
	File     string
	Rebuild  bool      // the root says "rebuild": true
	Types    []*Type   // in the order of the file, values included
	Warnings []Problem // what is allowed, but better avoided
}

// Type returns the type with this name, full or without the namespace.
func (a *Aggregate) Type(name string) (*Type, bool) {
	for _, t := range a.Types {
		if string(t.Name) == name || t.Name.Name() == name {
			return t, true
		}
	}
	return nil, false
}
