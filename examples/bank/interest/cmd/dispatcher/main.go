// This function is the dispatcher of monthly interest.
package main

import (
	"github.com/evento-oss/evento/examples/bank/interest"
	"github.com/evento-oss/evento/runtime"
)

func main() { runtime.ServeDispatcher(interest.Reactions()...) }
