// This function is the handler of savings accounts.
package main

import (
	"github.com/evento-oss/evento/examples/bank/savings"
	"github.com/evento-oss/evento/examples/bank/savings/gen"
)

func main() { gen.ServeHandler(savings.Handler{}) }
