package generate_test

import (
	"go/parser"
	"go/token"
	"os"
	"testing"

	"github.com/evento-oss/evento/internal/generate"
)

// FuzzAggregate: a schema is refused, or becomes Go that can be parsed.
func FuzzAggregate(f *testing.F) {
	for _, name := range []string{"../../examples/bank/schemas/CheckingAccount.avsc", "../../examples/bank/schemas/CreditAccount.avsc"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add(file())
	f.Add(file(value("V", `{"name": "u", "type": ["null", "int"], "default": null}`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := generate.Aggregate(text, generate.Options{File: "dir/A.avsc", Package: "a"})
		if err != nil {
			return
		}
		for name, source := range files {
			if _, err := parser.ParseFile(token.NewFileSet(), name, source, parser.AllErrors); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
