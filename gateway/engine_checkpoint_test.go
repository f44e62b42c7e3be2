package gateway

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// onePerPartition names an account in each of the first n partitions of n.
func onePerPartition(n int32) []runtime.AggregateID {
	list := make([]runtime.AggregateID, n)
	for i, found := 1, int32(0); found < n; i++ {
		id := runtime.AggregateID("checking:" + string(rune('a'+i%26)) + string(rune('a'+i/26)))
		if p := kafka.Partition(string(id), n); list[p] == "" {
			list[p], found = id, found+1
		}
	}
	return list
}

// clean lists the partitions whose position says that nothing was under way.
func (r *runningEngine) clean(t *testing.T, partitions ...int32) (clean []int32) {
	t.Helper()
	for n, c := range r.w.positions(t, partitions...) {
		p, err := position.Parse(c.Offset, c.Metadata, r.cfg.CommandsID)
		if err != nil {
			t.Errorf("partition %d: %v", n, err)
		} else if p.Clean {
			clean = append(clean, n)
		}
	}
	slices.Sort(clean)
	return clean
}

// handOver has an engine of four partitions, with an account in each, give them up:
// what it commits from then on goes through commit. It returns the partitions that were
// left clean, and has another engine go on with every account.
func handOver(t *testing.T, commit func(*Engine, context.Context, kafka.Txn) kafka.Result) (clean []int32) {
	t.Helper()
	w := newEngineWorld(t, 4)
	var leaving atomic.Bool
	w.made = func(e *Engine) {
		e.commitTxn = func(ctx context.Context, txn kafka.Txn) kafka.Result {
			if leaving.Load() {
				return commit(e, ctx, txn)
			}
			return e.commit.Commit(ctx, txn)
		}
	}
	accounts := onePerPartition(4)
	first := w.start(4)
	for _, id := range accounts {
		first.send(w.open(t, id))
	}
	leaving.Store(true)
	first.stop()
	clean = first.clean(t, 0, 1, 2, 3)
	leaving.Store(false)
	second := w.start(4)
	for _, id := range accounts {
		if o := second.send(w.deposit(t, id, "d", 1)); o.Version != 2 {
			t.Errorf("%s after the hand-over: %+v, want version 2", id, o)
		}
	}
	return clean
}

// The partitions that an engine gives up have no owner until the last of them has its
// checkpoint: one transaction leaves them all.
func TestPartitionsAreLeftInOneTransaction(t *testing.T) {
	t.Parallel()
	var transactions, positions atomic.Int32
	clean := handOver(t, func(e *Engine, ctx context.Context, txn kafka.Txn) kafka.Result {
		// What is still to be said of a command that was set aside may come before.
		if slices.ContainsFunc(txn.Records, func(r kafka.Record) bool { return r.Topic == e.cfg.Topics.Heads() }) {
			transactions.Add(1)
			positions.Add(int32(len(txn.Offsets)))
		}
		return e.commit.Commit(ctx, txn)
	})
	if transactions.Load() != 1 || positions.Load() != 4 {
		t.Errorf("%d transactions with %d positions, want 1 with 4", transactions.Load(), positions.Load())
	}
	if len(clean) != 4 {
		t.Errorf("only partitions %v were left clean", clean)
	}
}

// A partition whose checkpoint Kafka does not take is left as it is, and keeps no
// other one from its own.
func TestPartitionThatCannotBeLeftCleanIsLeftAlone(t *testing.T) {
	t.Parallel()
	clean := handOver(t, func(e *Engine, ctx context.Context, txn kafka.Txn) kafka.Result {
		if slices.ContainsFunc(txn.Offsets, func(o kafka.PartitionOffset) bool { return o.Partition == 2 }) {
			return kafka.Result{Outcome: kafka.Aborted, Reason: kafka.ReasonRecord, Err: errors.New("its leader is away"), Partition: 2}
		}
		return e.commit.Commit(ctx, txn)
	})
	if !slices.Equal(clean, []int32{0, 1, 3}) {
		t.Errorf("partitions %v were left clean, want all but 2", clean)
	}
}
