package function_test

import (
	"testing"

	"github.com/evento-oss/evento/runtime/eventotest"

	"handler/function"
	"handler/function/gen"
)

// A handler is tested with the state that it is shown; its aggregator is another function.
func cart(t *testing.T) *eventotest.Kit[*gen.Cart, gen.Command, gen.Event] {
	return eventotest.New(t, gen.HandlerFunction(function.Handler{})).Entity("cart:1")
}

func TestProductsAreAdded(t *testing.T) {
	cart(t).Given().
		When(&gen.AddProduct{Product: "tea", Quantity: 2}).
		Then(&gen.ProductAdded{Product: "tea", Quantity: 2})
}

func TestAnEmptyCartIsNotCheckedOut(t *testing.T) {
	cart(t).Given().
		When(&gen.CheckOut{Address: "Main Street 1"}).
		Then(&gen.CheckOutFailed{Message: "the cart is empty"})
}

func TestACartIsCheckedOutOnce(t *testing.T) {
	lines := []gen.Line{{Product: "tea", Quantity: 1}}
	cart(t).GivenState(&gen.Cart{Lines: lines}, 1).
		When(&gen.CheckOut{Address: "Main Street 1"}).
		Then(&gen.CartCheckedOut{Address: "Main Street 1", Lines: lines})
	cart(t).GivenState(&gen.Cart{Lines: lines, Address: "Main Street 1"}, 2).
		When(&gen.CheckOut{Address: "Main Street 2"}).
		Then(&gen.CheckOutFailed{Message: "the cart has been checked out"})
}
