//go:build race

package simulate

const (
	underRace    = true
	defaultSeeds = 100
)
