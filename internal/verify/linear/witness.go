package linear

import (
	"math"

	"github.com/anishathalye/porcupine"
)

// witness tries the one order that is the likeliest: each command takes effect as soon
// as it was called, those before it have, and those who read the version before it
// were asked. When that fits, there is an order, and nothing is left to be searched for;
// when it does not, there may be another one all the same.
//
// The search is for histories with few operations at a time. Where many overlap, as
// when clients ask for minutes until they have their answer, it tries their orders one
// by one, though what they say of versions leaves hardly any.
func witness(list []porcupine.Operation) bool {
	next := map[uint64]porcupine.Operation{} // by the version that it needs
	reads := map[uint64][]porcupine.Operation{}
	var others []porcupine.Operation
	left := 0 // that are not placed
	for _, o := range list {
		switch s := o.Input.(step); {
		case s.not:
			others = append(others, o)
		case s.from == s.to:
			reads[s.from] = append(reads[s.from], o)
			left++
		default:
			if _, twice := next[s.from]; twice {
				return false
			}
			next[s.from] = o
			left++
		}
	}
	type span struct{ from, to int64 } // when a version was the newest
	when := map[uint64]span{}
	version, now := uint64(0), int64(math.MinInt64)
	for {
		began := now
		for _, r := range reads[version] {
			if r.Return < began {
				return false
			}
			now = max(now, r.Call)
			left--
		}
		o, more := next[version]
		if !more {
			when[version] = span{began, math.MaxInt64}
			break
		}
		now = max(now, o.Call)
		if _, again := when[version]; again || o.Return < now {
			return false
		}
		left--
		when[version] = span{began, now}
		version = o.Input.(step).to
	}
	for _, o := range others {
		// There must be a moment in which another version is the newest.
		if s, known := when[o.Input.(step).from]; known && o.Call > s.from && (o.Return < s.to || s.to == math.MaxInt64) {
			return false
		}
	}
	return left == 0
}
