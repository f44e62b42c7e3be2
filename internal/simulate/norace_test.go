//go:build !race

package simulate

const (
	underRace    = false
	defaultSeeds = 2000
)
