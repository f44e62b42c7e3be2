package avro

import (
	"fmt"
	"strings"

	"github.com/evento-oss/evento/runtime"
	twmb "github.com/twmb/avro"
)

// linter checks a schema file on its JSON, not on the parsed schema, so that
// one mistake does not hide the others.
type linter struct {
	file      string
	text      []byte
	namespace string // of the first type, and so of all
	order     []*definition
	types     map[string]*definition // by the name without namespace, inline types too
	goNames   map[string]string      // Go identifier -> what has it
	problems  []Problem
	warnings  []Problem
}

// definition is a named type of the file.
type definition struct {
	*object
	name      string // without namespace
	namespace string
	form      string // "record", "enum", "fixed"
	kind      Kind
	property  *object // evento; nil for inline types
	inline    bool
	fields    []*object
	bad       bool // it has problems
}

func (d *definition) fullName() runtime.TypeName {
	return runtime.TypeName(d.namespace + "." + d.name)
}

// site is where a problem is: a type, and perhaps a field of it.
type site struct {
	d     *definition
	field *object
}

func (l *linter) report(at site, rule, what, do string) {
	p := Problem{File: l.file, Rule: rule, What: what, Do: do}
	if at.d != nil {
		at.d.bad = true
		p.Type, p.Line = at.d.name, line(l.text, at.d.offset)
	}
	if at.field != nil {
		p.Field, p.Line = at.field.text("name"), line(l.text, at.field.offset)
	}
	l.problems = append(l.problems, p)
}

func (l *linter) run() {
	if len(l.text) > maxFile {
		l.report(site{}, "file-size", fmt.Sprintf("the file has %d bytes, more than the limit of %d", len(l.text), maxFile), "split the aggregate")
		return
	}
	v, offset, err := readSource(l.text)
	if err != nil {
		l.report(site{}, "json", err.Error(), "correct the JSON")
		l.problems[len(l.problems)-1].Line = line(l.text, offset)
		return
	}
	elements, ok := v.([]any)
	if !ok || len(elements) == 0 {
		l.report(site{}, "file-array", "the file is not a JSON array of named types", "write [ {type}, {type}, ... ]")
		return
	}
	l.repeatedKeys(v, site{})
	for i, element := range elements {
		o, ok := element.(*object)
		if !ok {
			l.report(site{}, "file-array", fmt.Sprintf("element %d of the file is not an object that defines a type", i+1), "define each type with its namespace and its evento property")
			continue
		}
		if d := l.define(o, false, l.namespace); d != nil {
			l.order = append(l.order, d)
		}
	}
	l.rules()
	l.parse()
}

// repeatedKeys reports keys that an object has twice: readers of JSON take the
// first or the last of them, as they like.
func (l *linter) repeatedKeys(v any, at site) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			l.repeatedKeys(item, at)
		}
	case *object:
		for _, key := range v.repeated {
			l.report(at, "json", fmt.Sprintf("the key %q stands twice in one object", key), "keep one")
			l.problems[len(l.problems)-1].Line = line(l.text, v.offset)
		}
		for _, key := range v.keys {
			l.repeatedKeys(v.values[key], at)
		}
	}
}

// define notes a named type. It returns nil when there is nothing to go on with.
func (l *linter) define(o *object, inline bool, namespace string) *definition {
	d := &definition{object: o, name: o.text("name"), namespace: namespace, form: o.text("type"), inline: inline}
	switch d.form {
	case "record", "enum", "fixed":
	default:
		l.report(site{d: d}, "type", fmt.Sprintf("the type %q cannot stand here", d.form), `use "record", "enum" or "fixed"`)
		return nil
	}
	at := site{d: d}
	if !validName(d.name) {
		l.report(at, "name", fmt.Sprintf("%q is no name", d.name), fmt.Sprintf("use letters, digits and '_', not first a digit, at most %d bytes, without the namespace", maxNameLength))
		return nil
	}
	if !inline || o.has("namespace") {
		l.checkNamespace(d)
	}
	if before, dup := l.types[d.name]; dup {
		l.report(at, "duplicate-type", fmt.Sprintf("the name is already defined in line %d", line(l.text, before.offset)), "give it another name, or refer to the one that is there")
		return nil
	}
	l.types[d.name] = d
	if inline {
		d.kind = KindValue
	} else {
		l.property(d)
	}
	if fields, ok := o.values["fields"].([]any); ok && d.form == "record" {
		for _, f := range fields {
			if field, ok := f.(*object); ok {
				d.fields = append(d.fields, field)
				l.inlineTypes(d, field, field.values["type"])
			} else {
				l.report(at, "field", "an element of fields is not an object", `write {"name": ..., "type": ...}`)
			}
		}
	}
	return d
}

func (l *linter) checkNamespace(d *definition) {
	at := site{d: d}
	d.namespace = d.text("namespace")
	switch {
	case d.namespace == "":
		l.report(at, "namespace", "it has no namespace", "give each type of the file the aggregate's name as namespace")
	case !validName(d.namespace):
		l.report(at, "namespace", fmt.Sprintf("the namespace %q is no aggregate name", d.namespace), "use letters, digits and '_', no dots: the aggregate's name")
	case strings.EqualFold(d.namespace, platformNamespace):
		l.report(at, "namespace", fmt.Sprintf("the namespace %q is the platform's own", d.namespace), "name the aggregate otherwise")
	case l.namespace == "":
		l.namespace = d.namespace
	case d.namespace != l.namespace:
		l.report(at, "namespace", fmt.Sprintf("the namespace is %q, that of the file's first type %q", d.namespace, l.namespace), "one file is one aggregate: move the type, or correct its namespace")
	}
}

// inlineTypes finds named types that are defined within a field.
func (l *linter) inlineTypes(d *definition, field *object, schema any) {
	switch s := schema.(type) {
	case []any:
		for _, branch := range s {
			l.inlineTypes(d, field, branch)
		}
	case *object:
		switch s.text("type") {
		case "record", "enum", "fixed":
			if inner := l.define(s, true, d.namespace); inner != nil {
				l.order = append(l.order, inner)
			}
		case "array":
			l.inlineTypes(d, field, s.values["items"])
		case "map":
			l.inlineTypes(d, field, s.values["values"])
		default:
			// {"type": {"type": ...}} is legal Avro.
			l.inlineTypes(d, field, s.values["type"])
		}
	}
}

func validName(s string) bool {
	if s == "" || len(s) > maxNameLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// keys of the evento property, and the kinds that may have them.
var propertyKeys = map[string][]Kind{
	"kind":    {KindRoot, KindEntity, KindValue, KindEvent, KindFailure, KindCommand},
	"prefix":  {KindRoot, KindEntity},
	"rebuild": {KindRoot},
	"target":  {KindCommand},
	"emits":   {KindCommand},
	"fails":   {KindCommand},
	"creates": {KindCommand},
	"entity":  {KindEvent, KindFailure},
}

// property reads the evento property of a type.
func (l *linter) property(d *definition) {
	at := site{d: d}
	p, ok := d.values["evento"].(*object)
	if !ok {
		l.report(at, "kind", "it has no evento property", `add "evento": {"kind": "root" | "entity" | "value" | "event" | "failure" | "command"}`)
		return
	}
	d.property, d.kind = p, Kind(p.text("kind"))
	switch d.kind {
	case KindRoot, KindEntity, KindEvent, KindFailure, KindCommand:
		if d.form != "record" {
			l.report(at, "kind", fmt.Sprintf("a type of kind %s is a record, and this is of type %s", d.kind, d.form), "make it a record, or a value")
		}
	case KindValue:
	default:
		l.report(at, "kind", fmt.Sprintf("the kind %q is not known", d.kind), "use root, entity, value, event, failure or command")
		return
	}
	for _, key := range p.keys {
		kinds, known := propertyKeys[key]
		if !known {
			l.report(at, "property", fmt.Sprintf("the evento property has a key %q that is not known", key), "correct or remove it")
			continue
		}
		if !containsKind(kinds, d.kind) {
			l.report(at, "property", fmt.Sprintf("a type of kind %s has no %q", d.kind, key), "remove it")
		}
	}
}

func containsKind(kinds []Kind, kind Kind) bool {
	for _, k := range kinds {
		if k == kind {
			return true
		}
	}
	return false
}

// parse gives each type to the Avro library, in the order of the file, and
// reports what it refuses, where no rule has reported the same already.
func (l *linter) parse() {
	if len(l.problems) > 0 {
		// The library stops at its first error, and that is most likely one
		// that is reported above in plainer words.
		l.parseSound()
		return
	}
	if _, err := twmb.Parse(string(l.text)); err != nil {
		l.parseSound()
		if len(l.problems) == 0 {
			l.report(site{}, "avro", err.Error(), "correct the schema")
		}
	}
}

// parseSound parses those types one by one that have no problem yet and do not
// refer to one that has.
func (l *linter) parseSound() {
	cache := &twmb.SchemaCache{}
	for _, d := range l.order {
		if d.inline || d.bad || l.refersToBad(d, map[*definition]bool{}) {
			d.bad = true
			continue
		}
		if _, err := cache.Parse(string(l.text[d.offset-1 : d.end])); err != nil {
			l.report(site{d: d}, "avro", err.Error(), "correct the schema")
		}
	}
}
