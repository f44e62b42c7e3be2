package avro

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// record applies the rules of a record's fields.
func (l *linter) record(d *definition) {
	if len(d.fields) == 0 {
		l.report(site{d: d}, "no-fields", "the record has no fields", "add one: generated Go code does not compile without")
		return
	}
	names := map[string]string{}
	for _, f := range d.fields {
		at := site{d, f}
		name := f.text("name")
		if !validName(name) {
			l.report(at, "name", fmt.Sprintf("%q is no field name", name), fmt.Sprintf("use letters, digits and '_', not first a digit, at most %d bytes", maxNameLength))
			continue
		}
		l.goFieldName(at, names)
		for _, key := range []string{"logicalType", "precision", "scale"} {
			if f.has(key) {
				l.report(at, "logical-type", fmt.Sprintf("%q stands beside the type, where most readers ignore it", key), `write it into the type: {"type": {"type": ..., "logicalType": ...}}`)
			}
		}
		l.schema(at, f.values["type"])
		l.fieldProperty(at)
		l.money(at)
		if union, ok := f.values["type"].([]any); ok && len(union) == 2 && union[0] == "null" {
			if v, has := f.values["default"]; !has || v != nil {
				l.report(at, "nullable-default", "a nullable field has no default null", `add "default": null, so that the field can be left out`)
			}
		}
	}
}

// schema applies the rules of the type of a field, or of a part of it.
func (l *linter) schema(at site, schema any) {
	switch s := schema.(type) {
	case nil:
		l.report(at, "type", "it has no type", "add one")
	case string:
		l.typeName(at, s)
	case []any:
		if len(s) != 2 || s[0] != "null" || s[1] == "null" {
			l.report(at, "union", `a union is only allowed as ["null", T]`, "make a nullable field for each alternative, or an enum that says which one holds")
			return
		}
		if _, nested := s[1].([]any); nested {
			l.report(at, "union", "a union stands directly in a union", `write ["null", T]`)
			return
		}
		l.schema(at, s[1])
	case *object:
		switch form := s.values["type"].(type) {
		case string:
			l.complexType(at, form, s)
		default:
			l.schema(at, form)
		}
	default:
		l.report(at, "type", fmt.Sprintf("%v is no type", s), "name a type, or define one")
	}
}

func (l *linter) complexType(at site, form string, s *object) {
	switch form {
	case "array":
		l.schema(at, s.values["items"])
	case "map":
		l.schema(at, s.values["values"])
	case "record", "enum", "fixed":
		// A definition, with rules of its own.
	case "error":
		l.report(at, "type", `the type "error" is of Avro's RPC`, `use "record"`)
	default:
		l.typeName(at, form)
		l.logicalType(at, form, s)
	}
}

// typeName checks a primitive or a reference.
func (l *linter) typeName(at site, name string) {
	if _, ok := primitives[name]; ok {
		return
	}
	if name == "null" {
		l.report(at, "null-type", "null alone holds nothing", `remove the field, or make it nullable: ["null", T]`)
		return
	}
	t := l.named(at.d, name)
	switch {
	case t != nil && t.offset > at.field.offset && t.offset > at.d.end:
		l.report(at, "define-before-use", fmt.Sprintf("%s is defined further down, in line %d", t.name, line(l.text, t.offset)), "move its definition up: some Avro libraries read the file once")
	case t != nil:
	case strings.Contains(name, "."):
		l.report(at, "unknown-type", fmt.Sprintf("%q is not of this aggregate", name), "files share no types: define it here too")
	default:
		l.report(at, "unknown-type", fmt.Sprintf("the type %q is not in the file", name), "define it, or correct the name")
	}
}

// logicalTypes lists those that are supported and what they stand on.
var logicalTypes = map[string][]string{
	"decimal":                {"bytes", "fixed"},
	"uuid":                   {"string"},
	"date":                   {"int"},
	"time-millis":            {"int"},
	"time-micros":            {"long"},
	"timestamp-millis":       {"long"},
	"timestamp-micros":       {"long"},
	"timestamp-nanos":        {"long"},
	"local-timestamp-millis": {"long"},
	"local-timestamp-micros": {"long"},
	"local-timestamp-nanos":  {"long"},
	"duration":               {"fixed"},
}

func (l *linter) logicalType(at site, form string, s *object) {
	v, ok := s.values["logicalType"]
	if !ok {
		return
	}
	name, _ := v.(string)
	forms, known := logicalTypes[name]
	switch {
	case !known:
		l.report(at, "logical-type", fmt.Sprintf("the logical type %v is not known", v), "correct it: readers ignore what they do not know")
	case !slices.Contains(forms, form):
		l.report(at, "logical-type", fmt.Sprintf("%s stands on %s, not %s", name, strings.Join(forms, " or "), form), "correct the type: readers ignore a logical type on another")
	case name == "decimal":
		precision, ok := number(s.values["precision"])
		scale, hasScale := number(s.values["scale"])
		if !ok || precision < 1 || precision > maxPrecision || s.has("scale") && (!hasScale || scale < 0 || scale > precision) {
			l.report(at, "logical-type", "the decimal's precision and scale do not fit", fmt.Sprintf("give a precision from 1 to %d, and a scale from 0 to it", maxPrecision))
		}
	case name == "duration":
		if size, _ := number(s.values["size"]); size != 12 {
			l.report(at, "logical-type", "a duration is a fixed of 12 bytes", "correct the size")
		}
	}
}

// number reads a whole number of the file.
func number(v any) (int, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return int(i), err == nil
}

// fieldProperty checks the evento property of a field.
func (l *linter) fieldProperty(at site) {
	v, ok := at.field.values["evento"]
	if !ok {
		return
	}
	p, isObject := v.(*object)
	if !isObject {
		l.report(at, "property", "the evento property is not an object", `write {"ref": ...} or {"id": true}`)
		return
	}
	for _, key := range p.keys {
		switch value := p.values[key]; key {
		case "id":
			if _, isBool := value.(bool); !isBool || at.d.kind != KindEntity {
				l.report(at, "property", `"id" marks the id field of an entity with true`, "correct or remove it")
			}
		case "ref":
			if name, _ := value.(string); !validName(name) {
				l.report(at, "ref", fmt.Sprintf("%v is no aggregate name", value), "name the aggregate that the reference is to")
			}
			if !holdsText(at.field.values["type"]) {
				l.report(at, "ref", "a reference to another aggregate is not a string", "make it a string, a nullable one or an array of them")
			}
		default:
			l.report(at, "property", fmt.Sprintf("the evento property has a key %q that is not known", key), "correct or remove it")
		}
	}
}

// holdsText says whether a schema is a string, a nullable one, or an array or map of them.
func holdsText(schema any) bool {
	switch s := schema.(type) {
	case string:
		return s == "string"
	case []any:
		return len(s) == 2 && holdsText(s[1])
	case *object:
		switch s.text("type") {
		case "array":
			return holdsText(s.values["items"])
		case "map":
			return holdsText(s.values["values"])
		}
		return holdsText(s.values["type"])
	}
	return false
}

// money refuses inexact amounts in Money and warns of them elsewhere.
func (l *linter) money(at site) {
	form := plainForm(at.field.values["type"])
	if form != "float" && form != "double" && form != "decimal" {
		return
	}
	if at.d.name == "Money" {
		l.report(at, "money", fmt.Sprintf("an amount of money is a %s", form), `use {"name": "minor", "type": "long"} and {"name": "currency", "type": "string"}: exact in every language and in JSON`)
		return
	}
	name := strings.ToLower(at.field.text("name"))
	for _, word := range []string{"amount", "balance", "price"} {
		if strings.Contains(name, word) {
			l.warnings = append(l.warnings, Problem{
				File: l.file, Line: line(l.text, at.field.offset), Type: at.d.name, Field: at.field.text("name"), Rule: "money",
				What: fmt.Sprintf("an amount is a %s", form), Do: `use a record Money {minor: long, currency: string}`,
			})
			return
		}
	}
}

// plainForm returns the primitive of a field, "decimal" for the logical type, "" for all else.
func plainForm(schema any) string {
	switch s := schema.(type) {
	case string:
		return s
	case []any:
		if len(s) == 2 {
			return plainForm(s[1])
		}
	case *object:
		if s.text("logicalType") == "decimal" {
			return "decimal"
		}
		return plainForm(s.values["type"])
	}
	return ""
}
