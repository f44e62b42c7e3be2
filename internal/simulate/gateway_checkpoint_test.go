package simulate

import (
	"slices"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
)

// headValue and checkpoint are the records of the heads topic.
type headValue struct{ head shard.Head }

type lastRecord struct {
	offset int64
	id     string
}

type checkpoint struct{ last *lastRecord }

const checkpointKey = "#checkpoint"

// checkpointPart is a partition's part of a transaction with checkpoints.
type checkpointPart struct {
	pt      *part
	s       *shard.Shard
	taken   shard.Checkpoint
	records []record
}

// writeHeads writes the changed heads and a checkpoint of each partition in one fenced
// transaction: see gateway/engine_checkpoint.go.
func (n *node) writeHeads(p *proc, list []*part, clean bool, over func() bool) {
	var parts []checkpointPart
	for _, pt := range list {
		if pt.shard != nil && !pt.open && (clean || !pt.closing) {
			parts = append(parts, pt.takeHeads(clean))
		}
	}
	if n.w.has(bugHeadsWithoutFence) {
		for _, cp := range parts {
			cp.written(n.writeUnfenced(p, cp.records))
		}
		return
	}
	for len(parts) > 0 {
		t := txn{over: over}
		for _, cp := range parts {
			t.records = append(t.records, cp.records...)
			t.offsets = append(t.offsets, partOffset{cp.pt.held, cp.taken.Offset, cp.taken.Metadata})
		}
		r := n.commit(p, t)
		guilty := -1
		if r.verdict == aborted && r.part >= 0 {
			guilty = slices.IndexFunc(parts, func(cp checkpointPart) bool { return cp.pt.held.part == r.part })
		}
		if guilty < 0 {
			for _, cp := range parts {
				cp.written(r)
			}
			return
		}
		parts[guilty].written(r)
		parts = slices.Delete(parts, guilty, guilty+1)
	}
}

func (pt *part) takeHeads(clean bool) checkpointPart {
	n, w, s := pt.n, pt.n.w, pt.shard
	cp := checkpointPart{pt: pt, s: s, taken: s.TakeCheckpoint(clean)}
	put := func(key string, value any) {
		cp.records = append(cp.records, record{topic: heads, part: pt.held.part, key: key, value: value, id: n.identity(), owner: pt.owner})
	}
	for _, id := range sortedKeys(cp.taken.Heads) {
		if h := cp.taken.Heads[id]; h.Exists() {
			put(string(id), headValue{h})
		} else {
			put(string(id), nil)
		}
	}
	if w.has(bugCheckpointAhead) && len(cp.records) > 0 && w.chance(500) {
		cp.records = cp.records[1:]
	}
	var last *lastRecord
	if pt.last != nil {
		l := *pt.last
		last = &l
	}
	put(checkpointKey, checkpoint{last})
	w.logf("gateway %d: checkpoint of partition %d: %d heads, clean=%v, position %d", n.id, pt.held.part, len(cp.taken.Heads), clean, cp.taken.Offset)
	pt.open = true
	return cp
}

// written ends what takeHeads began.
func (cp checkpointPart) written(r result) {
	cp.pt.open = false
	cp.pt.idle.broadcast()
	if r.verdict != done && cp.pt.shard == cp.s {
		cp.s.ReturnCheckpoint(cp.taken)
	}
}

// writeUnfenced is what writeHeads must not do.
func (n *node) writeUnfenced(p *proc, records []record) result {
	n.baton.lock(p)
	defer n.baton.unlock()
	p.sleep(n.w.between(0, 500*time.Millisecond))
	l := n.w.kafka.logs[heads][records[0].part]
	err := n.retry(p, &turn{}, func() (error, error) {
		r, lost := call(p, n.w, n.w.kafka.away, 2*time.Second, func(reply func(produced)) { n.w.kafka.produce(l, "", 0, 0, 0, records, reply) })
		return r.err, lost
	}, false)
	if err != nil {
		return failed(isBroker, err)
	}
	return result{verdict: done}
}
