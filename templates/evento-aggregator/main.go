// The program of an aggregator. What it does is written in function/.
package main

import (
	function "handler/function"
	"handler/function/gen"
)

func main() { gen.ServeAggregator(function.Aggregator{}) }
