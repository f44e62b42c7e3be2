package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// What only the leader of a partition knows is asked for by an admin client, which
// librdkafka leaves with what it once heard of leaders: a leader that has died is
// waited for as long as the request may take, and one that has come back is asked
// with an epoch that it refuses (KIP-320), until somebody asks for the metadata. A
// partition's other clients, which hold it, ask by themselves.

const (
	// leaderAnswer is how long a leader may take to answer before it is asked for
	// who leads now.
	leaderAnswer = 3 * time.Second

	// leaderLookup is how long asking for the leaders of a topic may take.
	leaderLookup = 2 * time.Second

	// propagation is how long a topic that was just made may be unknown to a broker.
	propagation = 5 * time.Second
)

// askOffsets asks the leaders of partitions for one offset of each.
func (r *Reader) askOffsets(ctx context.Context, places []Place, spec ck.OffsetSpec, isolation ck.IsolationLevel) (map[Place]int64, error) {
	topics := map[string]bool{}
	ask := make(map[ck.TopicPartition]ck.OffsetSpec, len(places))
	for _, p := range places {
		topics[p.Topic] = true
		ask[ck.TopicPartition{Topic: &p.Topic, Partition: p.Partition}] = spec
	}
	offsets := make(map[Place]int64, len(places))
	err := r.askLeaders(ctx, slices.Sorted(maps.Keys(topics)), func() error {
		clear(offsets)
		result, err := r.admin.ListOffsets(ctx, ask, ck.SetAdminIsolationLevel(isolation), ck.SetAdminRequestTimeout(leaderAnswer))
		if err != nil {
			return err
		}
		for at, info := range result.ResultInfos { // their keys hold other pointers to the topics' names
			if info.Error.Code() != ck.ErrNoError {
				return fmt.Errorf("%s/%d: %w", *at.Topic, at.Partition, info.Error)
			}
			if info.Offset == ck.OffsetInvalid { // the library's way to say that the leader did not answer in time
				return fmt.Errorf("%s/%d: %w", *at.Topic, at.Partition, ck.NewError(ck.ErrTimedOut, "its leader does not answer", false))
			}
			offsets[Place{*at.Topic, at.Partition}] = int64(info.Offset)
		}
		if len(offsets) < len(places) {
			return errors.New("the answer does not name every partition")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return offsets, nil
}

// askLeaders repeats a question about these topics or their partitions: for
// [adminTimeout] where another broker may answer it, for [propagation] where the topic
// may be new.
func (r *Reader) askLeaders(ctx context.Context, topics []string, ask func() error) error {
	for began := time.Now(); ; {
		err := ask()
		var known ck.Error
		if err == nil || !errors.As(err, &known) {
			return err
		}
		switch code := known.Code(); {
		case otherLeader(code) && time.Since(began) < adminTimeout:
			for _, topic := range topics {
				// What comes of it the next question tells.
				if _, err := r.admin.GetMetadata(&topic, false, int(leaderLookup.Milliseconds())); err != nil || ctx.Err() != nil {
					break
				}
			}
		case code == ck.ErrUnknownTopicOrPart && time.Since(began) < propagation:
		default:
			return err
		}
		if wait(ctx, nil, 100*time.Millisecond) != nil {
			return err
		}
	}
}

// otherLeader says whether an error may go away when the client hears who leads.
func otherLeader(c ck.ErrorCode) bool {
	switch c {
	case ck.ErrFencedLeaderEpoch, ck.ErrUnknownLeaderEpoch, ck.ErrNotLeaderForPartition, // it was asked who does not lead, or not any more
		ck.ErrLeaderNotAvailable, ck.ErrReplicaNotAvailable, ck.ErrOffsetNotAvailable, ck.ErrKafkaStorageError, // nobody leads, or not yet
		ck.ErrTimedOut, ck.ErrTimedOutQueue, ck.ErrRequestTimedOut, ck.ErrTransport, ck.ErrNetworkException, // who was asked is gone, or silent
		ck.ErrBrokerNotAvailable, ck.ErrAllBrokersDown, ck.ErrNoent:
		return true
	default:
		return false
	}
}
