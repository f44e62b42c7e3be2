package avro

import (
	"fmt"
	"slices"
	"strings"

	"github.com/evento-oss/evento/runtime"
)

// rules applies what is true of the file as a whole and of each type.
func (l *linter) rules() {
	if len(l.order) == 0 {
		return
	}
	root := l.root()
	prefixes := map[string]*definition{}
	for _, d := range l.order {
		at := site{d: d}
		if d.kind == KindRoot || d.kind == KindEntity {
			l.prefix(d, prefixes)
		}
		switch d.kind {
		case KindCommand:
			l.command(d)
		case KindEvent, KindFailure:
			l.reference(d, "entity", d.property, KindEntity)
		case KindEntity:
			l.identity(d)
		}
		switch d.form {
		case "record":
			l.record(d)
		case "enum":
			l.enum(d)
		case "fixed":
			size, ok := number(d.values["size"])
			if !ok || size < 1 || size > maxFixed {
				l.report(at, "fixed-size", fmt.Sprintf("the size %v is not from 1 to %d", d.values["size"], maxFixed), "choose a size in this range, or use bytes")
			}
			l.logicalType(at, "fixed", d.object)
		}
	}
	l.recursion()
	l.goNamesUnique()
	if root != nil {
		l.reachable(root)
	}
}

func (l *linter) root() *definition {
	var root *definition
	for _, d := range l.order {
		if d.kind != KindRoot {
			continue
		}
		if root != nil {
			l.report(site{d: d}, "root", fmt.Sprintf("%s is the root already", root.name), "make one of them an entity or a value")
			continue
		}
		root = d
		if d.name != l.namespace {
			l.report(site{d: d}, "root", fmt.Sprintf("the root is not named as the aggregate, %q", l.namespace), "rename it, or correct the namespace")
		}
	}
	if root == nil {
		l.report(site{}, "root", "the file has no type of kind root", fmt.Sprintf("add the record %s with the aggregate's state", l.namespace))
	}
	return root
}

func (l *linter) prefix(d *definition, taken map[string]*definition) {
	prefix := d.property.text("prefix")
	switch other, dup := taken[prefix]; {
	case !runtime.ValidPrefix(prefix) || len(prefix) > 32:
		l.report(site{d: d}, "prefix", fmt.Sprintf("the prefix %q cannot stand before ':' in a reference", prefix),
			"use at most 32 characters: a lower-case letter, then lower-case letters, digits, '-' or '_'")
	case dup:
		l.report(site{d: d}, "prefix", fmt.Sprintf("%s has the prefix %q too", other.name, prefix), "choose another")
	default:
		taken[prefix] = d
	}
	if v, ok := d.property.values["rebuild"]; ok {
		if _, isBool := v.(bool); !isBool {
			l.report(site{d: d}, "property", `"rebuild" is not true or false`, "correct it")
		}
	}
}

// named finds a type that the evento property of d names.
func (l *linter) named(d *definition, name string) *definition {
	short := strings.TrimPrefix(name, d.namespace+".")
	if strings.Contains(short, ".") {
		return nil
	}
	return l.types[short]
}

// reference checks a key that names one type of this kind, or the root.
func (l *linter) reference(d *definition, key string, property *object, kind Kind) {
	v, ok := property.values[key]
	if !ok {
		return
	}
	name, _ := v.(string)
	t := l.named(d, name)
	switch {
	case t == nil:
		l.report(site{d: d}, key, fmt.Sprintf("%q names %v, which is not in the file", key, v), "correct the name, or define the type")
	case t.kind != kind && t.kind != KindRoot:
		l.report(site{d: d}, key, fmt.Sprintf("%q names %s, which is of kind %s, not %s", key, t.name, t.kind, kind), "name an entity, or leave it out for the root")
	}
}

func (l *linter) command(d *definition) {
	l.reference(d, "target", d.property, KindEntity)
	l.references(d, "emits", KindEvent, "a command has events that tell of its success")
	l.references(d, "fails", KindFailure, "a command that is refused ends in an event too")
	creates, ok := d.property.values["creates"]
	if !ok {
		return
	}
	value, isBool := creates.(bool)
	if !isBool {
		l.report(site{d: d}, "creates", `"creates" is not true or false`, "correct it")
	}
	if t := l.named(d, d.property.text("target")); value && t != nil && t.kind != KindRoot {
		l.report(site{d: d}, "creates", "a command to an entity inside the aggregate cannot start the aggregate", "remove the target or creates")
	}
}

// references checks a list of names of types of this kind, at least one.
func (l *linter) references(d *definition, key string, kind Kind, why string) {
	at := site{d: d}
	list, ok := d.property.values[key].([]any)
	if !ok || len(list) == 0 {
		l.report(at, key, fmt.Sprintf("it has no %q: %s", key, why), fmt.Sprintf(`add "%s": [one or more types of kind %s]`, key, kind))
		return
	}
	var seen []string
	for _, v := range list {
		name, _ := v.(string)
		switch t := l.named(d, name); {
		case t == nil:
			l.report(at, key, fmt.Sprintf("%q names %v, which is not in the file", key, v), "correct the name, or define the type")
		case t.kind != kind:
			l.report(at, key, fmt.Sprintf("%q names %s, which is of kind %s, not %s", key, t.name, t.kind, kind), "move the name, or correct the kind")
		case slices.Contains(seen, t.name):
			l.report(at, key, fmt.Sprintf("%q names %s twice", key, t.name), "remove one")
		default:
			seen = append(seen, t.name)
		}
	}
}

// identity checks the id field of an entity.
func (l *linter) identity(d *definition) {
	var ids []*object
	for _, f := range d.fields {
		if p, ok := f.values["evento"].(*object); ok {
			if id, _ := p.values["id"].(bool); id {
				ids = append(ids, f)
			}
		}
	}
	switch {
	case len(ids) == 0:
		l.report(site{d: d}, "id", "the entity has no id field", `mark its field of type string with "evento": {"id": true}`)
	case len(ids) > 1:
		l.report(site{d, ids[1]}, "id", "the entity has a second id field", "mark one field only")
	case ids[0].text("type") != "string":
		l.report(site{d, ids[0]}, "id", "the id field is not of type string", "make it a string")
	}
}

func (l *linter) enum(d *definition) {
	at := site{d: d}
	symbols, _ := d.values["symbols"].([]any)
	fallback, ok := d.values["default"].(string)
	switch {
	case len(symbols) == 0:
		l.report(at, "enum-symbols", "the enum has no symbols", "list them, the default first")
	case !ok:
		l.report(at, "enum-default", "the enum has no default", `begin its symbols with one like "UNKNOWN" or "OTHER" and make it the default, for readers that do not know a later symbol`)
	case slices.ContainsFunc(symbols, func(v any) bool { s, _ := v.(string); return !validName(s) }):
		l.report(at, "enum-symbols", fmt.Sprintf("not all symbols are names: %v", symbols), fmt.Sprintf("use letters, digits and '_', not first a digit, at most %d bytes", maxNameLength))
	case symbols[0] != fallback:
		l.report(at, "enum-default", fmt.Sprintf("the default %q is not the first symbol, %v", fallback, symbols[0]), "put it first: in Go it is the zero value")
	}
}

// reachable checks that every entity is inside the root, and not in a map.
func (l *linter) reachable(root *definition) {
	seen := map[*definition]bool{}
	var visit func(d *definition)
	var walk func(d *definition, field *object, schema any, inMap bool)
	walk = func(d *definition, field *object, schema any, inMap bool) {
		switch s := schema.(type) {
		case string:
			t := l.named(d, s)
			if t == nil {
				return
			}
			if inMap && t.kind == KindEntity {
				l.report(site{d, field}, "entity-in-map", fmt.Sprintf("it holds the entity %s in a map", t.name), "use an array: the order of a map varies, and with it the bytes of a snapshot")
			}
			visit(t)
		case []any:
			for _, branch := range s {
				walk(d, field, branch, inMap)
			}
		case *object:
			switch form := s.text("type"); form {
			case "array":
				walk(d, field, s.values["items"], inMap)
			case "map":
				walk(d, field, s.values["values"], true)
			case "record", "enum", "fixed":
				walk(d, field, s.text("name"), inMap)
			default:
				walk(d, field, s.values["type"], inMap)
			}
		}
	}
	visit = func(d *definition) {
		if seen[d] {
			return
		}
		seen[d] = true
		for _, f := range d.fields {
			walk(d, f, f.values["type"], false)
		}
	}
	visit(root)
	for _, d := range l.order {
		if d.kind == KindEntity && !seen[d] {
			l.report(site{d: d}, "unreachable", fmt.Sprintf("the root %s holds no such entity", root.name), "add a field to the root, for example an array of them")
		}
	}
}

// recursion reports records that contain themselves with nothing between that could end it.
func (l *linter) recursion() {
	const open, done = 1, 2
	state := map[*definition]int{}
	var visit func(d *definition)
	visit = func(d *definition) {
		state[d] = open
		for _, f := range d.fields {
			t := l.directly(d, f.values["type"])
			if t == nil {
				continue
			}
			switch state[t] {
			case open:
				l.report(site{d, f}, "recursion", fmt.Sprintf("a %s contains a %s without end", t.name, t.name), "make the field nullable, an array or a map")
			case done:
			default:
				visit(t)
			}
		}
		state[d] = done
	}
	for _, d := range l.order {
		if state[d] == 0 {
			visit(d)
		}
	}
}

// directly returns the type of the file that a value of the schema always contains.
func (l *linter) directly(d *definition, schema any) *definition {
	switch s := schema.(type) {
	case string:
		return l.named(d, s)
	case *object:
		switch s.text("type") {
		case "array", "map":
			return nil
		case "record", "enum", "fixed":
			return l.named(d, s.text("name"))
		}
		return l.directly(d, s.values["type"])
	}
	return nil
}

// refersToBad says whether d needs a type that has problems or is not there.
func (l *linter) refersToBad(d *definition, seen map[*definition]bool) bool {
	if seen[d] {
		return false
	}
	seen[d] = true
	var walk func(schema any) bool
	walk = func(schema any) bool {
		switch s := schema.(type) {
		case string:
			if _, primitive := primitives[s]; primitive || s == "null" {
				return false
			}
			t := l.named(d, s)
			return t == nil || t.bad || l.refersToBad(t, seen)
		case []any:
			return slices.ContainsFunc(s, walk)
		case *object:
			switch s.text("type") {
			case "array":
				return walk(s.values["items"])
			case "map":
				return walk(s.values["values"])
			case "record", "enum", "fixed":
				return walk(s.text("name"))
			}
			return walk(s.values["type"])
		}
		return true
	}
	return slices.ContainsFunc(d.fields, func(f *object) bool { return walk(f.values["type"]) })
}
