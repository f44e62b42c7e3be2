package generate_test

import (
	"os"
	"testing"

	"github.com/evento-oss/evento/internal/generate"
)

// The bank's generated packages are committed, so that the example can be read
// and built without the generator.
func TestBankIsGeneratedFromItsSchemas(t *testing.T) {
	for _, c := range []struct{ schema, dir, name string }{
		{"CheckingAccount.avsc", "checking", "gen"},
		{"SavingsAccount.avsc", "savings", "gen"},
	} {
		t.Run(c.schema, func(t *testing.T) {
			text, err := os.ReadFile("../../examples/bank/schemas/" + c.schema)
			if err != nil {
				t.Fatal(err)
			}
			files, err := generate.Aggregate(text, generate.Options{File: c.schema, Package: c.name})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, "../../examples/bank/"+c.dir+"/gen", files)
		})
	}
}
