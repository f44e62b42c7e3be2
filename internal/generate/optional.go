package generate

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"maps"
	"slices"
	"strings"
)

// optional is a struct that gogen-avro made of a union ["null", T].
type optional struct {
	Union string // UnionNullString
	Field string // String
	Type  string // string
}

// optionals finds the unions of null and one type in gogen-avro's code: a struct
// UnionNull<Field> with the fields Null, <Field> and UnionType. Handling them by
// hand takes three names a value.
func optionals(files map[string][]byte) ([]optional, error) {
	var found []optional
	set := token.NewFileSet()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasPrefix(name, "union_null_") {
			continue
		}
		parsed, err := parser.ParseFile(set, name, files[name], parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok || len(st.Fields.List) != 3 || !strings.HasPrefix(spec.Name.Name, "UnionNull") {
				return true
			}
			var names []string
			for _, f := range st.Fields.List {
				if len(f.Names) == 1 {
					names = append(names, f.Names[0].Name)
				}
			}
			if len(names) != 3 || names[0] != "Null" || names[2] != "UnionType" {
				return true
			}
			var typ bytes.Buffer
			if err := printer.Fprint(&typ, set, st.Fields.List[1].Type); err != nil {
				return true
			}
			found = append(found, optional{Union: spec.Name.Name, Field: names[1], Type: typ.String()})
			return true
		})
	}
	return found, nil
}
