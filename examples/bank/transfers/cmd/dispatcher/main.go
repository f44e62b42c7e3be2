// This function is the dispatcher of transfers between accounts.
package main

import (
	"github.com/evento-oss/evento/examples/bank/transfers"
	"github.com/evento-oss/evento/runtime"
)

func main() { runtime.ServeDispatcher(transfers.Reactions()...) }
