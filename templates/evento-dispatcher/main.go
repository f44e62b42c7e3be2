// The program of a dispatcher. What it does is written in function/.
package main

import (
	"github.com/evento-oss/evento/runtime"

	function "handler/function"
)

func main() { runtime.ServeDispatcher(function.Reactions()...) }
