package runtime_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

// A function is called with a command, and answers with events.
func ExampleClient_Invoke() {
	function := basket.AggregateFunction(handler{}, aggregator{})
	server, err := runtime.NewServer(function.Function, runtime.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println(err)
		return
	}
	s := httptest.NewServer(server)
	defer s.Close()

	command, err := function.Message(&basket.AddItem{Item: "tea", Quantity: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	command.ID, command.Subject = "c-1", "basket:1"
	client := runtime.NewClient(runtime.ClientOptions{})
	defer client.CloseIdleConnections()
	results, _, err := client.Invoke(context.Background(), s.URL, "", []runtime.Invocation{
		{ID: "1", Kind: runtime.KindHandle, Aggregate: "basket:1", Messages: []*runtime.Message{command}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, event := range results[0].Steps[0].Events {
		fmt.Println(event.Type, event.Subject)
	}
	// Output: Basket.ItemAdded basket:1/line:tea
}
