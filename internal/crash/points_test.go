package crash

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestPointsAreWhole holds the points that are declared, those in the table and
// those in the code against each other.
func TestPointsAreWhole(t *testing.T) {
	declared := map[string]Point{} // by constant
	file, err := parser.ParseFile(token.NewFileSet(), "points.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Point" {
				declared[v.Names[0].Name] = Point(strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
			}
		}
		return true
	})
	listed := map[Point]bool{}
	for _, row := range Points {
		if listed[row.Point] || row.Says == "" || row.Where != Engine && row.Where != Dispatch {
			t.Errorf("point %q stands there twice, or says nothing", row.Point)
		}
		listed[row.Point] = true
	}
	used := pointsIn(t, "../..")
	for name, point := range declared {
		if !listed[point] {
			t.Errorf("point %q is not in the table", point)
		}
		if !used[name] {
			t.Errorf("no code passes the point %q", point)
		}
	}
	if len(declared) != len(Points) || len(Points) < 60 {
		t.Errorf("%d points are declared, %d stand in the table", len(declared), len(Points))
	}
}

// pointsIn finds the constants X of all crash.At(crash.X) below a folder.
func pointsIn(t *testing.T, root string) map[string]bool {
	t.Helper()
	used := map[string]bool{}
	look := func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 || selected(call.Fun) != "At" {
				return true
			}
			if name := selected(call.Args[0]); name != "" {
				used[name] = true
			}
			return true
		})
		return nil
	}
	for _, folder := range []string{"gateway", "triggers", "internal"} {
		if err := filepath.WalkDir(filepath.Join(root, folder), look); err != nil {
			t.Fatal(err)
		}
	}
	return used
}

// selected is the X of crash.X.
func selected(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		if p, ok := s.X.(*ast.Ident); ok && p.Name == "crash" {
			return s.Sel.Name
		}
	}
	return ""
}
