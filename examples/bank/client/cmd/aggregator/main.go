// This function is the aggregator of clients.
package main

import (
	"github.com/evento-oss/evento/examples/bank/client"
	"github.com/evento-oss/evento/examples/bank/client/gen"
)

func main() { gen.ServeAggregator(client.Aggregator{}) }
