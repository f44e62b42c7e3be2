package gateway

import (
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/crash"
)

// What a transaction carries of set-aside records decides which crash points it
// passes. Only programs that have them look.

// asideSide is before or after a transaction.
type asideSide int

const (
	asideBefore asideSide = iota
	asideAfter
)

// passAsides passes the points of each set-aside record of a transaction.
func passAsides(parts []commitPart, side asideSide) {
	for _, part := range parts {
		for i := range part.batch.Records {
			if r := &part.batch.Records[i]; r.Kind == shard.AsideRecord {
				passAside(r.Value, side)
			}
		}
	}
}

func passAside(value []byte, side asideSide) {
	before := side == asideBefore
	if value == nil {
		if before {
			crash.At(crash.AsideDelete)
		} else {
			crash.At(crash.AsideDeleted)
		}
		return
	}
	a, err := shard.ParseAside(value)
	switch {
	case err != nil: // its own writer's: never
	case a.Parked() && before:
		crash.At(crash.ParkList)
	case a.Parked():
		crash.At(crash.ParkListed)
	case a.Ending && before:
		crash.At(crash.ParkBegin)
	case a.Ending:
		crash.At(crash.ParkDone)
	case before:
		crash.At(crash.AsideWrite)
	default:
		crash.At(crash.AsideWritten)
	}
}
