package avro

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/evento-oss/evento/runtime"
)

// Catalogue holds every registered version of every type, and encodes, decodes
// and converts their values. It is safe for concurrent use; reads take no lock.
// The platform's own types ("evento.CommandParked" and others) are in every one.
type Catalogue struct {
	now atomic.Pointer[snapshot]
	mu  sync.Mutex // guards writes to now

	scratch sync.Pool // *[]byte, for values on their way into a hash
}

// snapshot is the state of a catalogue. It is immutable, and so is all that it
// points to, except the caches of resolutions.
type snapshot struct {
	aggregates map[string]*family
	prefixes   map[string]runtime.TypeName // prefix -> root or entity type that has it
}

// family is all that is known of one aggregate.
type family struct {
	name     string
	newest   map[runtime.TypeName]*version
	versions map[runtime.DataSchema]*version
	byName   map[runtime.TypeName][]*version // oldest first
	kinds    map[string]Kind                 // of every named type, values included
	view     *AggregateView
	resolved *sync.Map // [2]*version (writer, reader) -> *resolution or error
}

// NewCatalogue returns a catalogue that has the platform's own types alone.
func NewCatalogue() *Catalogue {
	c := &Catalogue{}
	c.now.Store(&snapshot{aggregates: map[string]*family{}, prefixes: map[string]runtime.TypeName{}})
	for _, r := range Platform() {
		if err := c.Add(r); err != nil {
			panic("the platform's own schema: " + err.Error()) // a constant of this package; its test adds them
		}
	}
	return c
}

// Add makes one version known, as a record of the schemas topic gives it. It
// is idempotent. A record with the fingerprint of a known version replaces it
// when its version is higher, and is ignored otherwise. The cost depends on the
// size of the aggregate's schema, not of the catalogue.
//
// It fails when the record does not hold together, or takes a prefix that
// another type has; the record should then be logged and left out. It does not
// check compatibility: that was done when it was written ([Catalogue.Check]).
func (c *Catalogue) Add(r Registered) error {
	v, err := newVersion(r)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.now.Load()
	before := old.aggregates[v.Aggregate]
	if before != nil {
		if known := before.versions[v.DataSchema()]; known != nil && known.Version >= v.Version {
			return nil
		}
	}
	next := &snapshot{aggregates: maps.Clone(old.aggregates), prefixes: old.prefixes}
	if v.Prefix != "" {
		switch owner, taken := old.prefixes[v.Prefix]; {
		case taken && owner != v.Name:
			return fmt.Errorf("schema %s: the prefix %q belongs to %s", v.Name, v.Prefix, owner)
		case !taken:
			next.prefixes = maps.Clone(old.prefixes)
			next.prefixes[v.Prefix] = v.Name
		}
	}
	next.aggregates[v.Aggregate] = before.with(v)
	c.now.Store(next)
	return nil
}

// with returns a copy of the family that has v too. f may be nil.
func (f *family) with(v *version) *family {
	n := &family{
		name: v.Aggregate, newest: map[runtime.TypeName]*version{}, versions: map[runtime.DataSchema]*version{},
		byName: map[runtime.TypeName][]*version{}, kinds: map[string]Kind{}, resolved: &sync.Map{},
	}
	if f != nil {
		n.newest, n.versions, n.byName, n.kinds = maps.Clone(f.newest), maps.Clone(f.versions), maps.Clone(f.byName), maps.Clone(f.kinds)
		// Keys are the versions' addresses, so what is there stays right. It
		// grows by one entry for each pair that was ever in use.
		n.resolved = f.resolved
	}
	d := v.DataSchema()
	n.versions[d] = v
	// A clone: readers of the snapshot before hold the slice.
	list := slices.DeleteFunc(slices.Clone(n.byName[v.Name]), func(o *version) bool { return o.Fingerprint == v.Fingerprint })
	list = append(list, v)
	slices.SortStableFunc(list, func(a, b *version) int { return a.Version - b.Version })
	n.byName[v.Name] = list
	n.newest[v.Name] = list[len(list)-1]
	v.shape.eachNamed(map[*shape]bool{}, func(s *shape) {
		if s.kind != "" {
			n.kinds[s.name] = s.kind
		}
	})
	n.view = newView(n)
	return n
}

// eachNamed calls f for every record, enum and fixed in s.
func (s *shape) eachNamed(seen map[*shape]bool, f func(*shape)) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	if s.form == formRecord || s.form == formEnum || s.form == formFixed {
		f(s)
	}
	s.elem.eachNamed(seen, f)
	for _, field := range s.fields {
		field.shape.eachNamed(seen, f)
	}
}

func (c *Catalogue) family(namespace string) *family { return c.now.Load().aggregates[namespace] }

// version finds a version by its URN. The error wraps [ErrUnknownType] or [ErrUnknownSchema].
func (c *Catalogue) version(d runtime.DataSchema) (*version, *family, error) {
	// The full name is between the last ':' but one and the last; its namespace ends at its last '.'.
	s := string(d)
	if colon := strings.LastIndexByte(s, ':'); colon >= 0 {
		name := s[strings.LastIndexByte(s[:colon], ':')+1 : colon]
		if f := c.family(runtime.TypeName(name).Namespace()); f != nil {
			if v := f.versions[d]; v != nil {
				return v, f, nil
			}
		}
	}
	name, fp, err := d.Parse()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnknownSchema, err)
	}
	if _, ok := c.Type(name); !ok {
		return nil, nil, fmt.Errorf("%w: %q is not registered", ErrUnknownType, string(name))
	}
	return nil, nil, fmt.Errorf("%w: %q has no version with the fingerprint %s", ErrUnknownSchema, string(name), fp)
}

func (c *Catalogue) newest(name runtime.TypeName) (*version, error) {
	if f := c.family(name.Namespace()); f != nil {
		if v := f.newest[name]; v != nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%w: %q is not registered", ErrUnknownType, string(name))
}

// Type returns the newest version of a type.
func (c *Catalogue) Type(name runtime.TypeName) (*Type, bool) {
	v, err := c.newest(name)
	if err != nil {
		return nil, false
	}
	return v.Type, true
}

// Version returns the version that a dataschema names.
func (c *Catalogue) Version(d runtime.DataSchema) (*Type, bool) {
	v, _, err := c.version(d)
	if err != nil {
		return nil, false
	}
	return v.Type, true
}

// Versions returns every version of a type, oldest first. The slice is the caller's.
func (c *Catalogue) Versions(name runtime.TypeName) []*Type {
	f := c.family(name.Namespace())
	if f == nil {
		return nil
	}
	var types []*Type
	for _, v := range f.byName[name] {
		types = append(types, v.Type)
	}
	return types
}

// Aggregates returns the names of all aggregates that have a root, sorted. The
// platform's own types are not among them.
func (c *Catalogue) Aggregates() []string {
	var names []string
	for name, f := range c.now.Load().aggregates {
		if f.view.Root != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
