// This function is handler and aggregator of savings accounts in one process, which
// saves a call for each command.
package main

import (
	"github.com/evento-oss/evento/examples/bank/savings"
	"github.com/evento-oss/evento/examples/bank/savings/gen"
)

func main() { gen.ServeAggregate(savings.Handler{}, savings.Aggregator{}) }
