package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetError says that the group refused the position of one partition.
type OffsetError struct {
	Topic     string
	Partition int32
	Offset    int64
	Metadata  int   // bytes
	Err       error // Kafka's
}

func (e *OffsetError) Error() string {
	if errors.Is(e.Err, kerr.OffsetMetadataTooLarge) {
		return fmt.Sprintf("commit offset %d of %s partition %d with %d bytes of metadata: %v: the broker's setting %s allows less", e.Offset, e.Topic, e.Partition, e.Metadata, e.Err, offsetMetadataSetting)
	}
	return fmt.Sprintf("commit offset %d of %s partition %d: %v", e.Offset, e.Topic, e.Partition, e.Err)
}

func (e *OffsetError) Unwrap() error { return e.Err }

// commitInTxn puts the offsets into the open transaction. It gives the result to
// abort with, or nil.
func (t *Transactor) commitInTxn(ctx context.Context, p *turn, pass pass, offsets []PartitionOffset) *Result {
	group := &t.cfg.Group.cfg
	err := t.coordinated(ctx, "commit offsets in transaction", func(ctx context.Context) error {
		// Read each time: they change with every transaction.
		id, epoch, err := p.client.ProducerID(ctx)
		if err != nil {
			return err
		}
		if !p.perTxn {
			if err := addOffsets(ctx, p, group.Group, id, epoch); err != nil {
				return err
			}
		}
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID = p.id
		req.Group = group.Group
		req.ProducerID, req.ProducerEpoch = id, epoch
		req.MemberID, req.Generation = pass.member, pass.generation
		for _, of := range group.byTopic(offsets) {
			topic := kmsg.NewTxnOffsetCommitRequestTopic()
			topic.Topic = of.topic
			for i := range of.offsets {
				part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
				part.Partition, part.Offset, part.Metadata = of.offsets[i].Partition, of.offsets[i].Offset, &of.offsets[i].Metadata
				topic.Partitions = append(topic.Partitions, part)
			}
			req.Topics = append(req.Topics, topic)
		}
		resp, err := req.RequestWith(ctx, p.client)
		if err != nil {
			return err
		}
		answered := make(map[place]int16, len(offsets))
		for _, topic := range resp.Topics {
			for _, part := range topic.Partitions {
				answered[place{topic.Topic, part.Partition}] = part.ErrorCode
			}
		}
		return group.offsetErrors(offsets, answered)
	})
	if err == nil {
		return nil
	}
	failed := refused(offsetReason(err), err)
	var oe *OffsetError
	if failed.Reason == ReasonOffset && errors.As(err, &oe) {
		failed.Topic, failed.Partition = oe.Topic, oe.Partition
	}
	if failed.Reason == ReasonBroker {
		p.throwAway() // the request may still be on its way
	}
	return &failed
}

// topicOffsets are the offsets of one topic.
type topicOffsets struct {
	topic   string
	offsets []PartitionOffset
}

// byTopic sorts offsets by their topics: a request names each topic once.
func (c *GroupConfig) byTopic(offsets []PartitionOffset) []topicOffsets {
	var all []topicOffsets
	for _, o := range offsets {
		topic := cmp.Or(o.Topic, c.Topic)
		i := slices.IndexFunc(all, func(of topicOffsets) bool { return of.topic == topic })
		if i < 0 {
			i = len(all)
			all = append(all, topicOffsets{topic: topic})
		}
		all[i].offsets = append(all[i].offsets, o)
	}
	return all
}

// addOffsets tells the transaction's coordinator that a group is part of it.
// Since transaction.version 2 the group's coordinator does that itself.
func addOffsets(ctx context.Context, p *turn, group string, id int64, epoch int16) error {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID = p.id
	req.ProducerID, req.ProducerEpoch = id, epoch
	req.Group = group
	resp, err := req.RequestWith(ctx, p.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// CommitPlain moves positions without a transaction, for what leaves no record,
// as the same member of the same generation and behind the same fence as a
// transaction, in turn with them. Nothing is known of what a failed call did:
// positions may have moved, some or all. It fails with [ErrStaleTerm],
// [ErrNoMember], [*OffsetError]s joined (also when the group refuses the
// member), or what the client said.
func (t *Transactor) CommitPlain(ctx context.Context, offsets []PartitionOffset) error {
	held := make([]Held, len(offsets))
	for i, o := range offsets {
		held[i] = o.Held
	}
	if err := t.take(ctx); err != nil {
		return fmt.Errorf("commit offsets: wait for the turn: %w", err)
	}
	defer t.give()
	entering, cancel := context.WithTimeoutCause(ctx, t.cfg.Watchdog, ErrWatchdog)
	defer cancel()
	pass, err := t.cfg.Group.fence.enter(entering, held)
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	defer t.cfg.Group.fence.leave(pass)

	group := &t.cfg.Group.cfg
	return t.coordinated(ctx, "commit offsets", func(ctx context.Context) error {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group = group.Group
		req.MemberID, req.Generation = pass.member, pass.generation
		for _, of := range group.byTopic(offsets) {
			topic := kmsg.NewOffsetCommitRequestTopic()
			topic.Topic = of.topic
			for i := range of.offsets {
				part := kmsg.NewOffsetCommitRequestTopicPartition()
				part.Partition, part.Offset, part.Metadata = of.offsets[i].Partition, of.offsets[i].Offset, &of.offsets[i].Metadata
				topic.Partitions = append(topic.Partitions, part)
			}
			req.Topics = append(req.Topics, topic)
		}
		resp, err := req.RequestWith(ctx, t.look.client)
		if err != nil {
			return err
		}
		answered := make(map[place]int16, len(offsets))
		for _, topic := range resp.Topics {
			for _, part := range topic.Partitions {
				answered[place{topic.Topic, part.Partition}] = part.ErrorCode
			}
		}
		return group.offsetErrors(offsets, answered)
	})
}

// coordinated makes a call to the group's coordinator within the watchdog's
// time, again while the coordinator says that it will pass.
func (t *Transactor) coordinated(ctx context.Context, what string, call func(context.Context) error) error {
	return guarded(ctx, t.cfg.Watchdog, what, func(ctx context.Context) error {
		for backoff := 5 * time.Millisecond; ; backoff = min(2*backoff, 250*time.Millisecond) {
			err := call(ctx)
			var ke *kerr.Error
			if !errors.As(err, &ke) || !passing(ke) || errors.Is(err, kerr.RebalanceInProgress) {
				return err
			}
			if wait(ctx, nil, backoff) != nil {
				return err
			}
		}
	})
}

// offsetErrors joins what the coordinator said of each partition. Errors are per
// partition, and the answer as a whole has none.
func (c *GroupConfig) offsetErrors(offsets []PartitionOffset, answered map[place]int16) error {
	var errs []error
	for _, o := range offsets {
		topic := cmp.Or(o.Topic, c.Topic)
		code, ok := answered[place{topic, o.Partition}]
		err := kerr.ErrorForCode(code)
		if !ok {
			err = errors.New("the partition is not in the answer")
		}
		if err != nil {
			errs = append(errs, &OffsetError{Topic: topic, Partition: o.Partition, Offset: o.Offset, Metadata: len(o.Metadata), Err: err})
		}
	}
	return errors.Join(errs...)
}

// offsetReason sorts what the coordinator said.
func offsetReason(err error) Reason {
	var ke *kerr.Error
	switch {
	case !errors.As(err, &ke) || errors.Is(err, kgo.ErrClientClosed) || fencing(err):
		return ReasonBroker
	case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID),
		errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.FencedMemberEpoch), errors.Is(err, kerr.StaleMemberEpoch):
		return ReasonFenced
	case passing(err):
		return ReasonBroker
	default:
		return ReasonOffset
	}
}
