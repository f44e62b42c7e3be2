// This function is the dispatcher of what clients hold.
package main

import (
	"github.com/evento-oss/evento/examples/bank/holdings"
	"github.com/evento-oss/evento/runtime"
)

func main() { runtime.ServeDispatcher(holdings.Reactions()...) }
