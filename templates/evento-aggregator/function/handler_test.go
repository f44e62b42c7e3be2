package function_test

import (
	"testing"

	"github.com/evento-oss/evento/runtime/eventotest"

	"handler/function"
	"handler/function/gen"
)

// An aggregator is tested with the events that it is given; who decided them is another function.
func cart(t *testing.T) *eventotest.Kit[*gen.Cart, gen.Command, gen.Event] {
	return eventotest.New(t, gen.AggregatorFunction(function.Aggregator{})).Entity("cart:1")
}

func TestTheSameProductIsOneLine(t *testing.T) {
	cart(t).Given(&gen.ProductAdded{Product: "tea", Quantity: 1}, &gen.ProductAdded{Product: "jam", Quantity: 1}, &gen.ProductAdded{Product: "tea", Quantity: 2}).
		ThenState(&gen.Cart{Lines: []gen.Line{{Product: "tea", Quantity: 3}, {Product: "jam", Quantity: 1}}})
}

func TestACheckedOutCartHasAnAddress(t *testing.T) {
	cart(t).Given(&gen.ProductAdded{Product: "tea", Quantity: 1}, &gen.CartCheckedOut{Address: "Main Street 1"}).
		ThenState(&gen.Cart{Lines: []gen.Line{{Product: "tea", Quantity: 1}}, Address: "Main Street 1"})
}
