package generate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/actgardner/gogen-avro/v10/generator"
)

// avroName is the form of a name in the Avro specification. gogen-avro accepts
// any text, and pastes it into Go.
var avroName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// flattenDocs writes a schema again with every "doc" on one line: gogen-avro
// puts it behind "//", so that a second line would be Go code.
func flattenDocs(text []byte) ([]byte, error) {
	return rewrite(text, func(key string, value any) any {
		if s, ok := value.(string); ok && key == "doc" {
			return strings.Join(strings.Fields(s), " ")
		}
		return value
	})
}

// rewrite copies a JSON document, keys in their order, with every value of an
// object passed through f. Duplicate keys are refused.
func rewrite(text []byte, f func(key string, value any) any) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var out bytes.Buffer
	var value func(key string) error
	value = func(key string) error {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		delim, ok := tok.(json.Delim)
		if !ok {
			b, err := json.Marshal(f(key, tok))
			out.Write(b)
			return err
		}
		out.WriteString(delim.String())
		seen := map[string]bool{}
		for i := 0; dec.More(); i++ {
			if i > 0 {
				out.WriteByte(',')
			}
			if delim == '{' {
				tok, err := dec.Token()
				if err != nil {
					return err
				}
				name, _ := tok.(string)
				if seen[name] {
					return fmt.Errorf("the key %q stands twice in one object", name)
				}
				seen[name] = true
				b, err := json.Marshal(name)
				if err != nil {
					return err
				}
				out.Write(b)
				out.WriteByte(':')
				if err := value(name); err != nil {
					return err
				}
				continue
			}
			if err := value(""); err != nil {
				return err
			}
		}
		tok, err = dec.Token()
		if err != nil {
			return err
		}
		out.WriteString(tok.(json.Delim).String())
		return nil
	}
	if err := value(""); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// visit calls f for each named type in a schema, nested ones included.
func visit(node any, f func(definition map[string]any)) {
	switch n := node.(type) {
	case []any:
		for _, e := range n {
			visit(e, f)
		}
	case map[string]any:
		switch n["type"] {
		case "record", "error":
			f(n)
			fields, _ := n["fields"].([]any)
			for _, e := range fields {
				if e, ok := e.(map[string]any); ok {
					visit(e["type"], f)
				}
			}
		case "enum", "fixed":
			f(n)
		case "array":
			visit(n["items"], f)
		case "map":
			visit(n["values"], f)
		default:
			visit(n["type"], f)
		}
	}
}

// lint says what in a type gogen-avro makes wrong Go of.
func lint(file string, index int, text []byte) (problems []error) {
	var node any
	if err := json.Unmarshal(text, &node); err != nil {
		return []error{err}
	}
	visit(node, func(d map[string]any) {
		name, _ := d["name"].(string)
		fail := func(format string, args ...any) {
			problems = append(problems, fmt.Errorf("%s: type %q: "+format, append([]any{file, name}, args...)...))
		}
		if !avroName.MatchString(name) || goName(name) == "" {
			fail("element %d: the name is not a letter or '_' followed by letters, digits or '_'", index+1)
		}
		switch d["type"] {
		case "record", "error":
			fields, _ := d["fields"].([]any)
			if len(fields) == 0 {
				fail("it has no fields; give it one, because the generated code of an empty record does not compile")
			}
			seen := map[string]string{}
			for _, e := range fields {
				e, _ := e.(map[string]any)
				fieldName, _ := e["name"].(string)
				if !avroName.MatchString(fieldName) || goName(fieldName) == "" {
					fail("field %q is not a letter or '_' followed by letters, digits or '_'", fieldName)
				}
				if other, ok := seen[goName(fieldName)]; ok {
					fail("fields %q and %q are both %q in Go; rename one", other, fieldName, goName(fieldName))
				}
				seen[goName(fieldName)] = fieldName
			}
		case "enum":
			symbols, _ := d["symbols"].([]any)
			seen := map[string]string{}
			for _, s := range symbols {
				s, _ := s.(string)
				if !avroName.MatchString(s) {
					fail("symbol %q is not a letter or '_' followed by letters, digits or '_'", s)
				}
				if other, ok := seen[goName(s)]; ok {
					fail("symbols %q and %q are both %q in Go; rename one", other, s, goName(s))
				}
				seen[goName(s)] = s
			}
		}
	})
	return problems
}

// lintNames refuses two types of one Go name: the second file would silently
// take the place of the first.
func lintNames(file string, elements []json.RawMessage) (problems []error) {
	byGo, byFile := map[string]string{}, map[string]string{}
	for _, e := range elements {
		var node any
		if json.Unmarshal(e, &node) != nil {
			continue // reported when it was parsed
		}
		visit(node, func(d map[string]any) {
			name, _ := d["name"].(string)
			n, f := goName(name), generator.ToSnake(goName(name))
			if other, ok := byGo[n]; ok {
				problems = append(problems, fmt.Errorf("%s: types %q and %q are both %q in Go; rename one", file, other, name, n))
			} else if other, ok := byFile[f]; ok {
				problems = append(problems, fmt.Errorf("%s: types %q and %q would be written to the same file %q; rename one", file, other, name, f+".go"))
			}
			byGo[n], byFile[f] = name, name
		})
	}
	return problems
}

// goName is the exported Go name that gogen-avro gives to a type, field or symbol.
func goName(name string) string { return generator.ToPublicSimpleName(name) }
