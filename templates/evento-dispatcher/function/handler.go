// Package function is a dispatcher: what is bought is sent.
package function

//go:generate evento generate --schema Cart.avsc --out gen/cart
//go:generate evento generate --schema Shipment.avsc --out gen/shipment

import (
	"strings"

	"github.com/evento-oss/evento/runtime"

	"handler/function/gen/cart"
	"handler/function/gen/shipment"
)

// Reactions says which events lead to commands, and which commands there may be.
func Reactions() []runtime.Reaction {
	return []runtime.Reaction{
		cart.OnCartCheckedOut(prepare),
		runtime.Sends(shipment.Definition()),
	}
}

// prepare asks for a shipment with the cart's own number: the same event, told
// twice, never asks for two.
func prepare(ctx runtime.DispatcherContext, e *cart.CartCheckedOut) ([]runtime.Command, error) {
	if len(e.Lines) == 0 {
		return nil, nil
	}
	from := string(ctx.Entity())
	_, number, _ := strings.Cut(from, ":")
	to := runtime.Entity("shipment:" + number)
	return []runtime.Command{shipment.Send(to, &shipment.PrepareShipment{Cart: from, Address: e.Address})}, nil
}
