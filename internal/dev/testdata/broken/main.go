// A function that does not compile.
package main

func main() { undefinedThing() }
