package generate_test

import (
	"os"
	"testing"

	"github.com/evento-oss/evento/internal/generate"
)

// Generated packages are committed, so that they can be read and built without
// the generator: the bank's, and the one that the runtime tests itself with.
func TestCommittedPackagesAreGeneratedFromTheirSchemas(t *testing.T) {
	for _, c := range []struct{ schema, dir, name string }{
		{"../../examples/bank/schemas/CheckingAccount.avsc", "../../examples/bank/checking/gen", "gen"},
		{"../../examples/bank/rollout/schemas/CheckingAccount.avsc", "../../examples/bank/rollout/gen", "gen"},
		{"../../examples/bank/schemas/SavingsAccount.avsc", "../../examples/bank/savings/gen", "gen"},
		{"../../examples/bank/schemas/CreditAccount.avsc", "../../examples/bank/credit/gen", "gen"},
		{"../../examples/bank/schemas/Client.avsc", "../../examples/bank/client/gen", "gen"},
		{"../../runtime/internal/basket/Basket.avsc", "../../runtime/internal/basket", "basket"},
	} {
		t.Run(c.dir, func(t *testing.T) {
			text, err := os.ReadFile(c.schema)
			if err != nil {
				t.Fatal(err)
			}
			files, err := generate.Aggregate(text, generate.Options{File: c.schema, Package: c.name})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, c.dir, files)
		})
	}
}
