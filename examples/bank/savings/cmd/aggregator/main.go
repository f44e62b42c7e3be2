// This function is the aggregator of savings accounts.
package main

import (
	"github.com/evento-oss/evento/examples/bank/savings"
	"github.com/evento-oss/evento/examples/bank/savings/gen"
)

func main() { gen.ServeAggregator(savings.Aggregator{}) }
