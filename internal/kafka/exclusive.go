package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Exclusive writes what may only be written by one process at a time, each one
// on top of what the one before wrote: read, decide, write. All share one
// transactional id; who asks for it ends the transaction of whoever had it, and
// what that one decided is not written. So between the beginning of a decision
// that is written and its commit nobody else's was.
type Exclusive struct {
	client []kgo.Opt
	id     string
	log    *slog.Logger
}

// NewExclusive names the transactional id that the processes share.
func NewExclusive(client []kgo.Opt, id string, log *slog.Logger) *Exclusive {
	return &Exclusive{client: client, id: id, log: log}
}

// exclusiveCall is how long one call of the client may take.
const exclusiveCall = 10 * time.Second

// Do calls decide, which reads what is there up to its end, and writes the
// records that it returns, all or none. When another process came in between,
// or it is not known whether they were written, it begins again: decide finds
// them there. It returns decide's error, [ErrNotWritten] when Kafka refuses the
// records, or the end of the context, wrapped with [ErrInDoubt].
func (x *Exclusive) Do(ctx context.Context, decide func(context.Context) ([]Record, error)) error {
	for backoff := 20 * time.Millisecond; ; backoff = min(2*backoff, time.Second) {
		again, err := x.try(ctx, decide)
		if err == nil || !again {
			return err
		}
		x.log.Info("exclusive write did not succeed; trying again", "transactional_id", x.id, "err", err)
		if wait(ctx, nil, backoff/2+rand.N(backoff)) != nil {
			return fmt.Errorf("%w: %w (last: %w)", ErrInDoubt, context.Cause(ctx), err)
		}
	}
}

func (x *Exclusive) try(ctx context.Context, decide func(context.Context) ([]Record, error)) (again bool, err error) {
	client, err := newClient(slices.Concat(x.client, []kgo.Opt{
		kgo.MaxVersions(versions()),
		kgo.TransactionalID(x.id),
		kgo.TransactionTimeout(defaultTransactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}))
	if err != nil {
		return false, err
	}
	defer func() { go client.Close() }() // it may hang where a call before it did
	err = guarded(ctx, exclusiveCall, "take the transactional id", func(ctx context.Context) error {
		_, _, err := client.ProducerID(ctx)
		return err
	})
	if err != nil {
		return transient(err), err
	}
	records, err := decide(ctx)
	if err != nil || len(records) == 0 {
		return false, err
	}
	if err := client.BeginTransaction(); err != nil {
		return true, err
	}
	sent := make([]*kgo.Record, len(records))
	for i := range records {
		sent[i] = toClient(&records[i], x.id)
	}
	err = guarded(ctx, exclusiveCall, "write", func(ctx context.Context) error {
		if err := client.ProduceSync(ctx, sent...).FirstErr(); err != nil {
			return err
		}
		return published(ctx, client, sent)
	})
	end := kgo.TryCommit
	if err != nil {
		end = kgo.TryAbort
	}
	ended := guarded(ctx, exclusiveCall, "end transaction", func(ctx context.Context) error { return client.EndTransaction(ctx, end) })
	if err == nil {
		return ended != nil, ended
	}
	if !transient(err) {
		return false, fmt.Errorf("%w: %w", ErrNotWritten, err)
	}
	return true, err
}

// transient says whether another try may go better.
func transient(err error) bool {
	return !errors.As(err, new(*kerr.Error)) || passing(err) || fencing(err)
}
