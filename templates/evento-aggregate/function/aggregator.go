package function

import (
	"github.com/evento-oss/evento/runtime"

	"handler/function/gen"
)

// Aggregator makes a cart of its events.
type Aggregator struct{ gen.FailuresIgnored }

var _ gen.Aggregator = Aggregator{} // a method that is missing does not compile

// ProductAdded adds a line, or to the line that has the product.
func (Aggregator) ProductAdded(_ runtime.AggregatorContext, cart *gen.Cart, e *gen.ProductAdded) (*gen.Cart, error) {
	if cart == nil {
		cart = &gen.Cart{}
	}
	for i := range cart.Lines {
		if cart.Lines[i].Product == e.Product {
			cart.Lines[i].Quantity += e.Quantity
			return cart, nil
		}
	}
	cart.Lines = append(cart.Lines, gen.Line{Product: e.Product, Quantity: e.Quantity})
	return cart, nil
}

// CartCheckedOut is the last event that changes anything.
func (Aggregator) CartCheckedOut(_ runtime.AggregatorContext, cart *gen.Cart, e *gen.CartCheckedOut) (*gen.Cart, error) {
	cart.Address = e.Address
	return cart, nil
}
