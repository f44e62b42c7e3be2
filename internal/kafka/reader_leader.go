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

	// leadersFresh is how long what a broker said of a topic's leaders is believed when
	// nothing goes wrong. The library remembers it for 15 minutes (metadata.max.age.ms).
	leadersFresh = time.Minute

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
		if err := r.knowLeaders(ctx, places); err != nil {
			return err
		}
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
		spent, code := time.Since(began), known.Code()
		if !(otherLeader(code) && spent < adminTimeout || code == ck.ErrUnknownTopicOrPart && spent < propagation) {
			return err
		}
		for _, topic := range topics {
			// What comes of it the next question tells.
			if _, err := r.leaders(ctx, topic, time.Now()); err != nil {
				break
			}
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

// knowLeaders makes sure that the admin client has heard who leads these partitions.
//
// ListOffsets would find out by itself, beginning in the thread of whoever calls it.
// If somebody else asks about the same topic at that moment, and is answered, the
// library's own thread ends that look-up while the caller is still in it, and the
// process dies (rd_kafka_topic_partition_list_query_leaders_async of librdkafka 2.15).
// It never gets so far where all leaders are known.
func (r *Reader) knowLeaders(ctx context.Context, places []Place) error {
	fresh := time.Now().Add(-leadersFresh)
	for _, p := range places {
		led, err := r.leaders(ctx, p.Topic, fresh)
		if err != nil {
			return fmt.Errorf("who leads %s: %w", p, err)
		}
		switch leads, there := led[p.Partition]; {
		case !there:
			return fmt.Errorf("%s: %w", p, ck.NewError(ck.ErrUnknownTopicOrPart, "the topic has no such partition", false))
		case !leads:
			return fmt.Errorf("%s: %w", p, ck.NewError(ck.ErrLeaderNotAvailable, "nobody leads it", false))
		}
	}
	return nil
}

// lookup is a question to a broker who leads the partitions of a topic.
type lookup struct {
	began time.Time
	done  chan struct{} // closed when the following is there
	led   map[int32]bool
	err   error
}

// leaders returns the partitions of a topic, and whether somebody leads them, as a
// broker has said since then, or says now: to all who want to know at the same time.
func (r *Reader) leaders(ctx context.Context, topic string, since time.Time) (map[int32]bool, error) {
	r.mu.Lock()
	l := r.lookups[topic]
	if l == nil || l.over(since) {
		l = &lookup{began: time.Now(), done: make(chan struct{})}
		r.lookups[topic] = l
		r.looking.Go(func() {
			defer close(l.done)
			l.led, l.err = r.lookUp(topic)
		})
	}
	r.mu.Unlock()
	select {
	case <-l.done:
		return l.led, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// over says whether a look-up has ended and is of no use any more.
func (l *lookup) over(since time.Time) bool {
	select {
	case <-l.done:
		return l.err != nil || l.began.Before(since)
	default:
		return false
	}
}

func (r *Reader) lookUp(topic string) (map[int32]bool, error) {
	m, err := r.admin.GetMetadata(&topic, false, int(leaderLookup.Milliseconds()))
	if err != nil {
		return nil, err
	}
	t, there := m.Topics[topic]
	if !there || t.Error.Code() == ck.ErrNoError && len(t.Partitions) == 0 {
		t.Error = ck.NewError(ck.ErrUnknownTopicOrPart, "the topic is not described", false)
	}
	if t.Error.Code() != ck.ErrNoError {
		return nil, t.Error
	}
	led := make(map[int32]bool, len(t.Partitions))
	for _, p := range t.Partitions {
		led[p.ID] = slices.ContainsFunc(m.Brokers, func(b ck.BrokerMetadata) bool { return b.ID == p.Leader })
	}
	return led, nil
}
