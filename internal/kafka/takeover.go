package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Takeover has what a new owner of a partition needs to find out where the old
// one stopped, in the order of its use: end the transactions that are still
// open ([Takeover.OpenWriters], [Takeover.EndWriter]), then ask for the
// committed position ([Takeover.StableOffsets]), then for the end of the log
// ([Takeover.Watermarks]), then read up to it ([Takeover.Scan]).
//
// All calls may be made by several goroutines. They try again what may pass
// (a leader that moves, a coordinator that loads) until the context ends.
type Takeover struct {
	client *kgo.Client
	unpack kgo.Decompressor
	group  string
	topic  string
	log    *slog.Logger
}

// NewTakeover makes a Takeover for the positions of a group in one topic.
// Nothing is opened before the first call.
func NewTakeover(client []kgo.Opt, group, topic string, log *slog.Logger) (*Takeover, error) {
	v := versions()
	v.SetMaxKeyVersion(int16(kmsg.Fetch), 12) // by topic name
	cl, err := newClient(slices.Concat(client, []kgo.Opt{
		kgo.MaxVersions(v),
	}))
	if err != nil {
		return nil, fmt.Errorf("takeover client: %w", err)
	}
	return &Takeover{client: cl, unpack: kgo.DefaultDecompressor(), group: group, topic: topic, log: log}, nil
}

// Close gives the connections back. Calls under way fail.
func (t *Takeover) Close() { t.client.Close() }

// Position is a group's committed offset in a partition.
type Position struct {
	Offset   int64 // the next record to read
	Metadata string
	Found    bool // false: nothing was ever committed, or it has expired
}

// StableOffsets asks for the group's committed positions in its topic, and
// waits while a transaction holds one of them open (KIP-447): the answer is one
// that no transaction begun before it can change. End dead writers first, or
// the wait is theirs: up to their transaction timeout.
func (t *Takeover) StableOffsets(ctx context.Context, partitions []int32) (map[int32]Position, error) {
	return t.StableOffsetsOf(ctx, t.topic, partitions)
}

// StableOffsetsOf is [Takeover.StableOffsets] for another topic: see [GroupConfig.Also].
func (t *Takeover) StableOffsetsOf(ctx context.Context, of string, partitions []int32) (map[int32]Position, error) {
	return t.offsets(ctx, of, partitions, true)
}

// CommittedOffsetsOf asks for the group's committed positions in a topic without
// waiting for anybody: a transaction that is open may be about to move them. It is for
// who looks on, and never for who takes over.
func (t *Takeover) CommittedOffsetsOf(ctx context.Context, of string, partitions []int32) (map[int32]Position, error) {
	return t.offsets(ctx, of, partitions, false)
}

func (t *Takeover) offsets(ctx context.Context, of string, partitions []int32, stable bool) (map[int32]Position, error) {
	positions := make(map[int32]Position, len(partitions))
	err := t.again(ctx, "committed offsets", func(ctx context.Context) error {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.RequireStable = stable
		group := kmsg.NewOffsetFetchRequestGroup()
		group.Group = t.group
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic, topic.Partitions = of, partitions
		group.Topics = append(group.Topics, topic)
		req.Groups = append(req.Groups, group)
		resp, err := req.RequestWith(ctx, t.client)
		if err != nil {
			return err
		}
		for _, g := range resp.Groups {
			if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
				return err
			}
			for _, topic := range g.Topics {
				for _, p := range topic.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						return fmt.Errorf("%s partition %d: %w", of, p.Partition, err)
					}
					pos := Position{Offset: p.Offset, Found: p.Offset >= 0}
					if p.Metadata != nil && pos.Found {
						pos.Metadata = *p.Metadata
					}
					positions[p.Partition] = pos
				}
			}
		}
		for _, p := range partitions {
			if _, ok := positions[p]; !ok {
				return fmt.Errorf("%s partition %d is not in the answer", of, p)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return positions, nil
}

// EndWriter ends whatever transaction the writer with this transactional id has
// open, by taking its id over (InitProducerID): one that was about to commit is
// committed, any other is aborted, and when EndWriter returns nil that is done.
// A writer that lives is fenced by this; it finds out what became of its
// transaction, makes a new producer and goes on. An id that nobody had is
// harmless.
func (t *Takeover) EndWriter(ctx context.Context, transactionalID string) error {
	return t.again(ctx, fmt.Sprintf("end writer %q", transactionalID), func(ctx context.Context) error {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = &transactionalID
		// For the id's next transaction, which will not be: nobody else uses it.
		req.TransactionTimeoutMillis = int32(defaultTransactionTimeout.Milliseconds())
		resp, err := req.RequestWith(ctx, t.client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
}

// Watermarks are the ends of a partition's log.
type Watermarks struct {
	Low    int64 // the first record there is
	Stable int64 // the first record of an open transaction, or High
	High   int64 // after the last record that is replicated
}

// Watermarks asks for the ends of a partition's log, High before Stable: where
// they are equal, no transaction was open below High.
func (t *Takeover) Watermarks(ctx context.Context, topic string, partition int32) (Watermarks, error) {
	var w Watermarks
	var err error
	if w.High, err = t.listOffset(ctx, topic, partition, -1, readUncommitted); err != nil {
		return w, err
	}
	if w.Stable, err = t.listOffset(ctx, topic, partition, -1, readCommitted); err != nil {
		return w, err
	}
	w.Stable = min(w.Stable, w.High)
	w.Low, err = t.listOffset(ctx, topic, partition, -2, readUncommitted)
	return w, err
}

// Isolation levels as the protocol numbers them.
const (
	readUncommitted int8 = 0
	readCommitted   int8 = 1
)

func (t *Takeover) listOffset(ctx context.Context, topic string, partition int32, at int64, isolation int8) (offset int64, err error) {
	err = t.again(ctx, fmt.Sprintf("offsets of %s partition %d", topic, partition), func(ctx context.Context) error {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		req.IsolationLevel = isolation
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = partition, at
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(ctx, t.client)
		if err != nil {
			return err
		}
		for _, rt := range resp.Topics {
			for _, rp := range rt.Partitions {
				if rt.Topic == topic && rp.Partition == partition {
					offset = rp.Offset
					return kerr.ErrorForCode(rp.ErrorCode)
				}
			}
		}
		return errors.New("the partition is not in the answer")
	})
	return offset, err
}

// again makes a call until it succeeds, fails for good, or the context ends.
func (t *Takeover) again(ctx context.Context, what string, call func(context.Context) error) error {
	backoff := 5 * time.Millisecond
	for {
		err := call(ctx)
		if err == nil {
			return nil
		}
		if !passing(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		t.log.Debug("trying again", "what", what, "err", err)
		if wait(ctx, nil, backoff) != nil {
			return fmt.Errorf("%s: %w (last: %w)", what, context.Cause(ctx), err)
		}
		backoff = min(2*backoff, 250*time.Millisecond)
	}
}

// passing says whether an error may go away by itself, without anything having
// been done about it.
func passing(err error) bool {
	var ke *kerr.Error
	if !errors.As(err, &ke) {
		// Not an answer of Kafka's: no connection, or none any more.
		return !errors.Is(err, kgo.ErrClientClosed) && !errors.Is(err, ErrTruncated)
	}
	// Kafka's own list of retriable codes leaves those out that end when
	// somebody else's transaction does.
	return ke.Retriable || errors.Is(err, kerr.ConcurrentTransactions) || errors.Is(err, kerr.UnstableOffsetCommit)
}

// OffsetAt returns the offset of the first record of a partition whose time is
// not before at; when there is none, the last stable offset: what an open
// transaction has written comes after it.
func (t *Takeover) OffsetAt(ctx context.Context, topic string, partition int32, at time.Time) (int64, error) {
	offset, err := t.listOffset(ctx, topic, partition, at.UnixMilli(), readUncommitted)
	if err != nil || offset >= 0 {
		return offset, err
	}
	return t.listOffset(ctx, topic, partition, -1, readCommitted)
}
