// Package function is the handler of the aggregate Cart: a shopping cart.
package function

//go:generate evento generate --schema Cart.avsc --out gen

import (
	"fmt"

	"github.com/evento-oss/evento/runtime"

	"handler/function/gen"
)

// Handler decides what may be done with a cart.
type Handler struct{}

var _ gen.Handler = Handler{} // a method that is missing does not compile

// AddProduct puts a product into the cart.
func (Handler) AddProduct(_ runtime.HandlerContext, cart *gen.Cart, c *gen.AddProduct) ([]gen.Event, error) {
	switch {
	case cart != nil && cart.Address != "":
		return gen.Refuse(&gen.AddProductFailed{Message: "the cart has been checked out"})
	case c.Quantity < 1:
		return gen.Refuse(&gen.AddProductFailed{Message: fmt.Sprintf("the quantity %d is less than 1", c.Quantity)})
	}
	return gen.Emit(&gen.ProductAdded{Product: c.Product, Quantity: c.Quantity})
}

// CheckOut ends the shopping. The cart is nil when nothing was ever put into it.
func (Handler) CheckOut(_ runtime.HandlerContext, cart *gen.Cart, c *gen.CheckOut) ([]gen.Event, error) {
	switch {
	case cart == nil:
		return gen.Refuse(&gen.CheckOutFailed{Message: "the cart is empty"})
	case cart.Address != "":
		return gen.Refuse(&gen.CheckOutFailed{Message: "the cart has been checked out"})
	case c.Address == "":
		return gen.Refuse(&gen.CheckOutFailed{Message: "an address is needed"})
	}
	return gen.Emit(&gen.CartCheckedOut{Address: c.Address, Lines: cart.Lines})
}
