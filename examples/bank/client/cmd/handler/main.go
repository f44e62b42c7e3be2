// This function is the handler of clients.
package main

import (
	"github.com/evento-oss/evento/examples/bank/client"
	"github.com/evento-oss/evento/examples/bank/client/gen"
)

func main() { gen.ServeHandler(client.Handler{}) }
