// This function is handler and aggregator of credit accounts in one process, which
// saves a call for each command.
package main

import (
	"github.com/evento-oss/evento/examples/bank/credit"
	"github.com/evento-oss/evento/examples/bank/credit/gen"
)

func main() { gen.ServeAggregate(credit.Handler{}, credit.Aggregator{}) }
