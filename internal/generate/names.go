package generate

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
)

// checkNames holds the generated code against the schema: each name is declared
// once, and each type of the schema is there as what it is. gogen-avro writes
// helpers of its own (Bytes, UnionNullMoney, ArrayMoneyWrapper), and where a
// type has such a name, one file silently takes the place of the other.
func checkNames(file string, types []typeDef, files map[string][]byte) error {
	set := token.NewFileSet()
	declared := make(map[string]string) // name -> file
	kinds := make(map[string]int)       // type name -> number of fields, or -1 when it is no struct
	fields := make(map[string]string)   // "Type.Field" -> file
	var methods []string                // "Type.Method"
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		parsed, err := parser.ParseFile(set, name, files[name], parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("%s: the generated code is no Go: %w", file, err)
		}
		declare := func(id *ast.Ident) {
			if id.Name == "_" {
				return
			}
			if other, ok := declared[id.Name]; ok {
				problems = append(problems, fmt.Errorf("%s: the name %q is declared in both %s and %s of the generated code; rename the type that causes it", file, id.Name, other, name))
			}
			declared[id.Name] = name
		}
		for _, d := range parsed.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					declare(d.Name)
				} else {
					methods = append(methods, receiver(d)+"."+d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.ValueSpec:
						for _, id := range s.Names {
							declare(id)
						}
					case *ast.TypeSpec:
						declare(s.Name)
						kinds[s.Name.Name] = -1
						if st, ok := s.Type.(*ast.StructType); ok {
							kinds[s.Name.Name] = st.Fields.NumFields()
							for _, f := range st.Fields.List {
								for _, id := range f.Names {
									fields[s.Name.Name+"."+id.Name] = name
								}
							}
						}
					}
				}
			}
		}
	}
	for _, m := range methods {
		if _, ok := fields[m]; ok {
			problems = append(problems, fmt.Errorf("%s: %q is both a field and a method of the generated code; rename the field", file, m))
		}
	}
	for _, t := range types {
		want := -1
		if t.Type == "record" {
			want = len(t.Fields)
		}
		if got, ok := kinds[goName(t.Name)]; !ok || got != want {
			problems = append(problems, fmt.Errorf("%s: type %q has a name that the generated code uses for something else; rename it", file, t.Name))
		}
	}
	return errors.Join(problems...)
}

// receiver returns the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
