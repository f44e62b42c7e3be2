package avro

import (
	"fmt"
	"strings"
	"unicode"
)

// The rules in this file keep what gogen-avro generates from colliding. It puts
// all types of a file into one Go package, a file for each, and overwrites
// without a word what has the same name.

// goName returns what gogen-avro makes of a name.
func goName(name string) string {
	name = strings.Trim(name, "_")
	if name == "" {
		return ""
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// goFileName returns the name of the file, without ".go", of a Go identifier.
func goFileName(identifier string) string {
	letters := []rune(identifier)
	var b strings.Builder
	for i, c := range letters {
		if i > 0 && unicode.IsUpper(c) && (i+1 < len(letters) && unicode.IsLower(letters[i+1]) || unicode.IsLower(letters[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// goFieldName checks a field's name; names has those of the record before it.
func (l *linter) goFieldName(at site, names map[string]string) {
	name := at.field.text("name")
	identifier := goName(name)
	switch other, dup := names[identifier]; {
	case identifier == "":
		l.report(at, "go-name", "the name has no letter or digit, and so none in Go", "rename it")
	case dup:
		l.report(at, "go-name", fmt.Sprintf("the fields %q and %q are both %q in Go", other, name, identifier), "rename one")
	case identifier == "HintSize" || identifier == "SetUnionElem" || strings.HasPrefix(identifier, "Field_"):
		l.report(at, "go-name", fmt.Sprintf("%q is taken in generated Go code", identifier), "rename it")
	}
	names[identifier] = name
}

// goNamesUnique checks that the identifiers and files that are generated for
// the types are different.
func (l *linter) goNamesUnique() {
	identifiers, files := map[string]string{}, map[string]string{}
	claim := func(taken map[string]string, d *definition, name, owner string) {
		if other, dup := taken[name]; dup && other != owner {
			l.report(site{d: d}, "go-name", fmt.Sprintf("%s and %s are both %q in Go", other, owner, name), "rename one")
			return
		}
		taken[name] = owner
	}
	for _, d := range l.order {
		name, owner := goName(d.name), d.name
		switch name {
		case "":
			l.report(site{d: d}, "go-name", "the name has no letter or digit, and so none in Go", "rename it")
			continue
		case "Null", "Bytes":
			l.report(site{d: d}, "go-name", fmt.Sprintf("%q is taken in generated Go code", name), "rename it")
		}
		claim(identifiers, d, name, owner)
		claim(files, d, goFileName(name), owner)
		switch d.form {
		case "record":
			claim(identifiers, d, "New"+name, "the constructor of "+d.name)
			claim(identifiers, d, "Deserialize"+name, "the decoder of "+d.name)
		case "enum":
			symbols, _ := d.values["symbols"].([]any)
			for _, symbol := range symbols {
				if s, ok := symbol.(string); ok && s != "" {
					claim(identifiers, d, goName(name+strings.ToUpper(s[:1])+s[1:]), fmt.Sprintf("the symbol %s of %s", s, d.name))
				}
			}
		}
	}
	for _, d := range l.order {
		for _, f := range d.fields {
			l.goComposites(f.values["type"], func(name, owner string) {
				claim(identifiers, d, name, owner)
				claim(files, d, goFileName(name), owner)
			})
		}
	}
}

// goComposites calls claim for every array, map and union in a schema, for
// which Go types of their own are made, and returns the name of its Go type.
func (l *linter) goComposites(schema any, claim func(name, owner string)) string {
	switch s := schema.(type) {
	case string:
		if s == "boolean" {
			return "Bool"
		}
		return goName(s[strings.LastIndexByte(s, '.')+1:])
	case []any:
		if len(s) != 2 {
			return ""
		}
		inner := l.goComposites(s[1], claim)
		claim("UnionNull"+inner, "the nullable "+inner)
		return "UnionNull" + inner
	case *object:
		switch form := s.text("type"); form {
		case "array":
			inner := l.goComposites(s.values["items"], claim)
			claim("Array"+inner, "the array of "+inner)
			return "Array" + inner
		case "map":
			inner := l.goComposites(s.values["values"], claim)
			claim("Map"+inner, "the map of "+inner)
			return "Map" + inner
		case "record", "enum", "fixed":
			return goName(s.text("name"))
		}
		return l.goComposites(s.values["type"], claim)
	}
	return ""
}
