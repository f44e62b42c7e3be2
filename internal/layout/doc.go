// Package layout has the tests that hold the repository to its own map: which
// package may import what, and that links in documents lead somewhere.
package layout
