// This function is handler and aggregator of checking accounts in one process, which
// saves a call for each command.
package main

import (
	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
)

func main() { gen.ServeAggregate(checking.Handler{}, checking.Aggregator{}) }
