package generate_test

import (
	"os"
	"testing"

	"github.com/evento-oss/evento/internal/generate"
)

// Generated packages are committed, so that they can be read and built without
// the generator: the bank's, the templates', and the one that the runtime tests itself with.
func TestCommittedPackagesAreGeneratedFromTheirSchemas(t *testing.T) {
	for _, c := range []struct{ schema, dir, name string }{
		{"../../examples/bank/schemas/CheckingAccount.avsc", "../../examples/bank/checking/gen", "gen"},
		{"../../examples/bank/rollout/testdata/CheckingAccount.avsc", "../../examples/bank/rollout/gen", "gen"},
		{"../../examples/bank/schemas/SavingsAccount.avsc", "../../examples/bank/savings/gen", "gen"},
		{"../../examples/bank/schemas/CreditAccount.avsc", "../../examples/bank/credit/gen", "gen"},
		{"../../examples/bank/schemas/Client.avsc", "../../examples/bank/client/gen", "gen"},
		{"../../templates/evento-handler/function/Cart.avsc", "../../templates/evento-handler/function/gen", "gen"},
		{"../../templates/evento-aggregator/function/Cart.avsc", "../../templates/evento-aggregator/function/gen", "gen"},
		{"../../templates/evento-aggregate/function/Cart.avsc", "../../templates/evento-aggregate/function/gen", "gen"},
		{"../../templates/evento-dispatcher/function/Cart.avsc", "../../templates/evento-dispatcher/function/gen/cart", "cart"},
		{"../../templates/evento-dispatcher/function/Shipment.avsc", "../../templates/evento-dispatcher/function/gen/shipment", "shipment"},
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
