package gateway

import (
	"context"
	"slices"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafka"
)

// checkpointPart is a partition's part of a transaction with checkpoints.
type checkpointPart struct {
	p          *partition
	s          *shard.Shard
	checkpoint shard.Checkpoint
	records    []kafka.Record
	bytes      int
}

// commitHeads writes a checkpoint where one is due.
func (e *Engine) commitHeads() {
	var due []*partition
	for _, p := range e.list() {
		p.mu.Lock()
		if p.shard != nil && !p.closing && p.shard.HeadsDue() {
			due = append(due, p)
		}
		p.mu.Unlock()
	}
	e.writeHeads(e.ctx, due, false)
}

// writeHeads writes the changed heads and a new checkpoint of each partition in
// fenced transactions, together as far as they fit: a partition that is given up
// has no owner until all that go with it have theirs. With clean it also leaves
// positions that say that nothing was under way.
func (e *Engine) writeHeads(ctx context.Context, list []*partition, clean bool) {
	var parts []checkpointPart
	bytes := 0
	for _, p := range list {
		part, ok := e.takeHeads(p, clean)
		if !ok {
			continue
		}
		if len(parts) > 0 && bytes+part.bytes > commitBytes {
			e.writeCheckpoints(ctx, parts)
			parts, bytes = nil, 0
		}
		parts, bytes = append(parts, part), bytes+part.bytes
	}
	e.writeCheckpoints(ctx, parts)
}

// takeHeads takes the checkpoint of a partition that has no open transaction, and
// holds up other ones until it is written.
func (e *Engine) takeHeads(p *partition, clean bool) (checkpointPart, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shard == nil || p.open || p.closing && !clean {
		return checkpointPart{}, false
	}
	part := checkpointPart{p: p, s: p.shard, checkpoint: p.shard.TakeCheckpoint(clean)}
	part.records = e.headRecords(p, part.checkpoint)
	for i := range part.records {
		part.bytes += len(part.records[i].Key) + len(part.records[i].Value)
	}
	p.open = true
	return part, true
}

// writeCheckpoints makes one transaction; when a single partition is in its way,
// another one without that.
func (e *Engine) writeCheckpoints(ctx context.Context, parts []checkpointPart) {
	for len(parts) > 0 {
		var txn kafka.Txn
		for _, part := range parts {
			txn.Records = append(txn.Records, part.records...)
			txn.Offsets = append(txn.Offsets, kafka.PartitionOffset{Held: part.p.held, Offset: part.checkpoint.Offset, Metadata: part.checkpoint.Metadata})
		}
		crash.At(crash.HeadsWrite)
		result := e.commitTxn(ctx, txn)
		if crash.On && result.Outcome == kafka.Committed {
			crash.At(crash.HeadsWritten)
		}
		guilty := -1
		if result.Outcome == kafka.Aborted && result.Partition >= 0 {
			guilty = slices.IndexFunc(parts, func(part checkpointPart) bool { return part.p.held.Partition == result.Partition })
		}
		if guilty < 0 {
			for _, part := range parts {
				e.checkpointWritten(part, result)
			}
			return
		}
		e.checkpointWritten(parts[guilty], result)
		parts = slices.Delete(parts, guilty, guilty+1)
	}
}

// checkpointWritten ends what takeHeads began.
func (e *Engine) checkpointWritten(part checkpointPart, result kafka.Result) {
	p := part.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = false
	p.idle.Broadcast()
	if result.Outcome == kafka.Committed || p.shard != part.s {
		return
	}
	part.s.ReturnCheckpoint(part.checkpoint)
	e.cfg.Log.Warn("heads not written; a takeover reads more events instead", "partition", p.held.Partition, "reason", string(result.Reason), "err", result.Err)
}
