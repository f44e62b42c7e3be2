// A function whose test fails.
package main

func main() {}
