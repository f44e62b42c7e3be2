// This function is the handler of checking accounts.
package main

import (
	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
)

func main() { gen.ServeHandler(checking.Handler{}) }
