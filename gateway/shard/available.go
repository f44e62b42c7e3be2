package shard

import "time"

// When a function answers again, those who wait for it go on within wakeLeast, or,
// when they are many, each wakeEach after the one before.
const (
	wakeLeast = 100 * time.Millisecond
	wakeEach  = 50 * time.Microsecond
)

// Available tells that a function answers again, by the name that [Trouble.Function]
// has. Aggregates that wait because it did not are tried soon, none of them later
// than it would have been. What waits after a failed attempt waits on.
func (s *Shard) Available(now time.Time, function string) {
	if function == "" {
		return
	}
	var waiting []*aggregate
	for _, t := range s.timers {
		if agg := t.agg; s.aggregates[agg.id] == agg && agg.awaits == function && agg.notBefore.Equal(t.at) && t.at.After(now) {
			waiting = append(waiting, agg)
		}
	}
	within := max(wakeLeast, time.Duration(len(waiting))*wakeEach)
	for _, agg := range waiting {
		if wait := time.Duration(s.rand.Int64N(int64(within))); agg.notBefore.After(now.Add(wait)) {
			s.delay(agg, now, wait)
		}
	}
}
