//go:build !unix

package httplimit

// Conns returns how many connections a listener takes at most by default.
func Conns(most int) int { return most }
