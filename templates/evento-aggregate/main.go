// The program of handler and aggregator in one. What they do is written in function/.
package main

import (
	function "handler/function"
	"handler/function/gen"
)

func main() { gen.ServeAggregate(function.Handler{}, function.Aggregator{}) }
