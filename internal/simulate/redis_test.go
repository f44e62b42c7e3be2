package simulate

import (
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// redis is a cache that may be wrong in any way: it loses, goes back in time, and
// gives old values.
type redis struct {
	w      *world
	away   bool
	values map[runtime.AggregateID]*cachedValues
}

// cachedValues are all values that a key ever had.
type cachedValues struct {
	list []cachedValue
	now  int // of list; -1 for none
}

type cachedValue struct {
	snapshot shard.Snapshot
	at       time.Duration
}

func newRedis(w *world) *redis {
	return &redis{w: w, values: map[runtime.AggregateID]*cachedValues{}}
}

func (r *redis) set(s shard.Snapshot) {
	if r.away {
		return
	}
	v := r.values[s.Aggregate]
	if v == nil {
		v = &cachedValues{}
		r.values[s.Aggregate] = v
	}
	v.list = append(v.list, cachedValue{s, r.w.now})
	v.now = len(v.list) - 1
}

func (r *redis) get(id runtime.AggregateID) (shard.Snapshot, bool) {
	v := r.values[id]
	if v == nil || v.now < 0 {
		return shard.Snapshot{}, false
	}
	at := v.now
	if r.w.chance(r.w.faults.redis) {
		at = r.w.rng.IntN(len(v.list)) // a replica that is behind, or a late write of somebody
	}
	s := v.list[at].snapshot
	s.Links = append([]int64(nil), s.Links...)
	s.Seen = s.Seen.Clone()
	s.State.Data = append([]byte(nil), s.State.Data...)
	return s, true
}

// flush loses everything.
func (r *redis) flush() {
	r.w.logf("redis loses everything")
	for _, id := range sortedKeys(r.values) {
		r.values[id].now = -1
	}
}

// rollBack makes it an old copy of itself.
func (r *redis) rollBack(to time.Duration) {
	r.w.logf("redis is as it was at %v", to)
	for _, id := range sortedKeys(r.values) {
		v := r.values[id]
		for v.now = len(v.list) - 1; v.now >= 0 && v.list[v.now].at > to; v.now-- {
		}
	}
}
