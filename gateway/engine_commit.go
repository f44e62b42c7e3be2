package gateway

import (
	"errors"
	"strconv"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafka"
)

// Limits of one transaction. They keep it far below its timeout, and the
// requests that carry it below Kafka's default sizes.
const (
	commitResults = 2048
	commitBytes   = 8 << 20
	plainEvery    = 200 * time.Millisecond
)

// part of a transaction that belongs to one partition.
type commitPart struct {
	p     *partition
	s     *shard.Shard
	batch *shard.Batch
}

// commitLoop makes one transaction after the other of what is ready. While one
// is under way the next one fills: group commit. Positions without records and
// checkpoints get their turn under load, too.
func (e *Engine) commitLoop() {
	plain := time.NewTicker(plainEvery)
	defer plain.Stop()
	var pause time.Duration
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-plain.C:
			e.commitPlain()
			e.commitHeads()
			continue
		case <-e.wake:
		}
		parts := e.gather(time.Now())
		if len(parts) == 0 {
			continue
		}
		e.rouse() // there may be more already
		if e.commitParts(parts) {
			pause = 0
			continue
		}
		pause = min(2*pause+20*time.Millisecond, 2*time.Second)
		if !sleep(e.ctx, pause) {
			return
		}
	}
}

// A partition whose batch aborts for a reason of its own (a record that is
// refused, a leader that is away) goes alone from then on, and sits out longer
// each time: its transaction may take as long as the watchdog, and all others
// wait meanwhile.
const (
	soloFirst = 20 * time.Millisecond
	soloMost  = 20 * time.Second
)

// gather takes a batch of every partition that has something ready. One that
// goes alone and all others take turns.
func (e *Engine) gather(now time.Time) []commitPart {
	var together, alone []*partition
	for _, p := range e.list() {
		p.mu.Lock()
		switch {
		case !p.solo:
			together = append(together, p)
		case !p.soloNext.After(now):
			alone = append(alone, p)
		}
		p.mu.Unlock()
	}
	e.soloTurn = !e.soloTurn
	if e.soloTurn {
		for _, p := range alone {
			if parts := takeBatches([]*partition{p}); len(parts) > 0 {
				return parts
			}
		}
	}
	if parts := takeBatches(together); len(parts) > 0 {
		return parts
	}
	for _, p := range alone {
		if parts := takeBatches([]*partition{p}); len(parts) > 0 {
			return parts
		}
	}
	return nil
}

// takeBatches opens a batch of each partition that has something ready.
func takeBatches(list []*partition) []commitPart {
	var parts []commitPart
	budget := commitResults
	for _, p := range list {
		p.mu.Lock()
		if p.shard != nil && !p.closing && !p.open && budget > 0 {
			if b := p.shard.Take(time.Now(), budget, commitBytes); b != nil {
				p.open = true
				budget -= b.Results()
				parts = append(parts, commitPart{p, p.shard, b})
			}
		}
		p.mu.Unlock()
	}
	return parts
}

// commitParts makes one transaction and tells the shards what became of it. It
// returns false when the next one had better wait: the cluster, not a partition,
// is in trouble.
func (e *Engine) commitParts(parts []commitPart) bool {
	var txn kafka.Txn
	first := make([]int, len(parts))
	results := 0
	for i, part := range parts {
		first[i] = len(txn.Records)
		for j := range part.batch.Records {
			txn.Records = append(txn.Records, e.batchRecord(part.p.held.Partition, &part.batch.Records[j]))
		}
		txn.Offsets = append(txn.Offsets, kafka.PartitionOffset{Held: part.p.held, Offset: part.batch.Offset, Metadata: part.batch.Metadata})
		results += part.batch.Results()
	}
	began := time.Now()
	if crash.On {
		passAsides(parts, asideBefore)
	}
	result := e.commitTxn(e.ctx, txn)
	crash.At(crash.CommitKnown)
	if crash.On && result.Outcome == kafka.Committed {
		passAsides(parts, asideAfter)
	}
	e.cfg.Metrics.transaction(result, results, len(txn.Records), time.Since(began))
	if result.Outcome != kafka.Committed {
		e.cfg.Log.Warn("transaction not committed", "outcome", result.Outcome.String(), "reason", string(result.Reason), "commands", results, "partitions", len(parts), "err", result.Err)
	} else if result.Err != nil {
		// The shards stop the aggregates that miss something.
		e.cfg.Log.Error("transaction committed, but not whole", "commands", results, "partitions", len(parts), "err", result.Err)
	}
	own := result.Reason == kafka.ReasonRecord || result.Reason == kafka.ReasonOffset || result.Reason == kafka.ReasonInvalid
	for i, part := range parts {
		part.p.mu.Lock()
		part.p.open = false
		part.p.idle.Broadcast()
		if part.p.shard != part.s {
			part.p.mu.Unlock() // given up meanwhile
			continue
		}
		switch result.Outcome {
		case kafka.Committed:
			part.p.solo, part.p.soloPause = false, 0
			e.remember(part, result.Offsets[first[i]:])
			part.s.Committed(time.Now(), part.batch, result.Offsets[first[i]:first[i]+len(part.batch.Records)])
		case kafka.Aborted:
			if own && (result.Partition < 0 || result.Partition == part.p.held.Partition) {
				part.p.solo = true
				part.p.soloPause = min(max(2*part.p.soloPause, soloFirst), soloMost)
				part.p.soloNext = time.Now().Add(part.p.soloPause)
			}
			part.s.Aborted(time.Now(), part.batch, own && result.Refused() && len(parts) == 1, errText(result.Err))
		default:
			// The process stops, or the partition is gone: whoever takes it over finds out.
			part.p.closing = true
		}
		outputs := part.s.Outputs()
		part.p.mu.Unlock()
		crash.At(crash.CommitTold)
		e.carryOut(part.p, outputs)
	}
	return result.Outcome == kafka.Committed || own
}

// remember notes the last record of each events topic, for the next
// checkpoint. It is called with the partition's lock held.
func (e *Engine) remember(part commitPart, offsets []int64) {
	for j := range part.batch.Records {
		if r := &part.batch.Records[j]; r.Kind == shard.EventRecord && offsets[j] >= 0 {
			part.p.last[r.Topic] = lastRecord{TopicID: e.cfg.EventsID(r.Topic), Offset: offsets[j], Event: r.Message.ID}
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// batchRecord is a record of a batch as Kafka gets it.
func (e *Engine) batchRecord(partition int32, r *shard.BatchRecord) kafka.Record {
	if r.Kind == shard.EventRecord {
		record := kafka.NewRecord(r.Topic, partition, r.Message)
		record.Key = []byte(r.Message.Aggregate())
		return record
	}
	key := strconv.FormatInt(r.Offset, 10)
	return kafka.Record{
		Topic: e.cfg.Topics.Parked(), Partition: partition, Key: []byte(key), Value: r.Value,
		Headers: []kafka.Header{e.identity()},
	}
}

// identity tells a record from others with its key, for finding out what became
// of a transaction: the same keys are written again and again.
func (e *Engine) identity() kafka.Header {
	return kafka.Header{Key: kafka.HeaderName("id"), Value: strconv.AppendUint([]byte(e.process), e.tokens.Add(1), 36)}
}

// commitPlain moves the positions of partitions where commands ended without a
// record of their own.
func (e *Engine) commitPlain() {
	var offsets []kafka.PartitionOffset
	var shards []*shard.Shard
	list := e.list()
	parts := list[:0]
	for _, p := range list {
		p.mu.Lock()
		if p.shard != nil && !p.closing && !p.open {
			if offset, metadata, ok := p.shard.TakePlain(); ok {
				offsets = append(offsets, kafka.PartitionOffset{Held: p.held, Offset: offset, Metadata: metadata})
				parts, shards = append(parts, p), append(shards, p.shard)
			}
		}
		p.mu.Unlock()
	}
	if len(offsets) == 0 {
		return
	}
	crash.At(crash.PlainBegin)
	err := e.commit.CommitPlain(e.ctx, offsets)
	if err == nil {
		crash.At(crash.PlainDone)
		return
	}
	// What it leaves behind are repeats, recognised again; but the position must
	// not stay there until the next transaction, which may be long in coming.
	for i, p := range parts {
		p.mu.Lock()
		if p.shard == shards[i] {
			p.shard.ReturnPlain()
		}
		p.mu.Unlock()
	}
	if e.ctx.Err() == nil && !errors.Is(err, kafka.ErrStaleTerm) {
		e.cfg.Log.Warn("could not move the position", "err", err)
	}
}
