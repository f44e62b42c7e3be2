package function_test

import (
	"testing"

	"github.com/evento-oss/evento/runtime/eventotest"

	"handler/function"
	"handler/function/gen"
)

func cart(t *testing.T) *eventotest.Kit[*gen.Cart, gen.Command, gen.Event] {
	return eventotest.New(t, gen.AggregateFunction(function.Handler{}, function.Aggregator{})).Entity("cart:1")
}

func TestProductsAreAdded(t *testing.T) {
	cart(t).Given(&gen.ProductAdded{Product: "tea", Quantity: 1}).
		When(&gen.AddProduct{Product: "tea", Quantity: 2}).
		Then(&gen.ProductAdded{Product: "tea", Quantity: 2}).
		ThenState(&gen.Cart{Lines: []gen.Line{{Product: "tea", Quantity: 3}}})
}

func TestAnEmptyCartIsNotCheckedOut(t *testing.T) {
	cart(t).Given().
		When(&gen.CheckOut{Address: "Main Street 1"}).
		Then(&gen.CheckOutFailed{Message: "the cart is empty"})
}

func TestACheckedOutCartTakesNoMore(t *testing.T) {
	lines := []gen.Line{{Product: "tea", Quantity: 1}}
	cart(t).Given(&gen.ProductAdded{Product: "tea", Quantity: 1}).
		When(&gen.CheckOut{Address: "Main Street 1"}).
		Then(&gen.CartCheckedOut{Address: "Main Street 1", Lines: lines}).
		When(&gen.AddProduct{Product: "tea", Quantity: 1}).
		Then(&gen.AddProductFailed{Message: "the cart has been checked out"})
}
