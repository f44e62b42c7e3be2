// The program of a handler. What it does is written in function/.
package main

import (
	function "handler/function"
	"handler/function/gen"
)

func main() { gen.ServeHandler(function.Handler{}) }
