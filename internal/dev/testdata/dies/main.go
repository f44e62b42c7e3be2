// A function that cannot start.
package main

import "os"

func main() {
	os.Stderr.WriteString("no configuration found\n")
	os.Exit(1)
}
