// This function is the aggregator of credit accounts.
package main

import (
	"github.com/evento-oss/evento/examples/bank/credit"
	"github.com/evento-oss/evento/examples/bank/credit/gen"
)

func main() { gen.ServeAggregator(credit.Aggregator{}) }
