// This function is the aggregator of checking accounts.
package main

import (
	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
)

func main() { gen.ServeAggregator(checking.Aggregator{}) }
