package main

import (
	"os"
	goruntime "runtime"
	"runtime/debug"
	"runtime/metrics"
)

// relaxGC lets the heap of a gateway grow to five times what lives in it between
// collections: most of it are requests on their way, which die young. It may hold no
// more than relaxedGarbage that is dead, though, once that is more than what lives:
// five times the bodies of hostile clients would be gigabytes. GOGC, where it is
// set, wins; GOMEMLIMIT bounds the process in any case.
func relaxGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gcPercent(0))
	goruntime.SetFinalizer(new(collected), (*collected).again)
}

// relaxedGarbage is in bytes.
const relaxedGarbage = 512 << 20

// gcPercent is how much garbage may come on top of so many live bytes, in percent of them.
func gcPercent(live uint64) int {
	return int(min(400, max(100, relaxedGarbage*100/max(live, 1))))
}

// collected is found dead by each collection, which is when the bytes that live are known.
type collected struct{ percent int }

func (c *collected) again() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if p := gcPercent(live[0].Value.Uint64()); p != c.percent {
		c.percent = p
		debug.SetGCPercent(p)
	}
	goruntime.SetFinalizer(c, (*collected).again)
}
