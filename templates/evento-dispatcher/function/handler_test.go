package function_test

import (
	"testing"

	"github.com/evento-oss/evento/runtime/eventotest"

	"handler/function"
	"handler/function/gen/cart"
	"handler/function/gen/shipment"
)

func TestWhatIsBoughtIsSent(t *testing.T) {
	eventotest.NewDispatcher(t, function.Reactions()...).
		When("cart:7", &cart.CartCheckedOut{Address: "Main Street 1", Lines: []cart.Line{{Product: "tea", Quantity: 1}}}).
		Then(shipment.Send("shipment:7", &shipment.PrepareShipment{Cart: "cart:7", Address: "Main Street 1"}))
}

func TestNothingIsNotSent(t *testing.T) {
	eventotest.NewDispatcher(t, function.Reactions()...).
		When("cart:7", &cart.CartCheckedOut{Address: "Main Street 1"}).
		Then()
}
