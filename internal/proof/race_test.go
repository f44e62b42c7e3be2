//go:build race

package proof

// buildFlags make the gateways find data races when the tests do.
var buildFlags = []string{"-race"}
