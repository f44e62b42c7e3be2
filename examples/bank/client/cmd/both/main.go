// This function is handler and aggregator of clients in one process, which
// saves a call for each command.
package main

import (
	"github.com/evento-oss/evento/examples/bank/client"
	"github.com/evento-oss/evento/examples/bank/client/gen"
)

func main() { gen.ServeAggregate(client.Handler{}, client.Aggregator{}) }
