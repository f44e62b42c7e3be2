package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// errUnpublished is returned when a producer does not come to know a partition that
// it has written to.
var errUnpublished = errors.New("the client does not know a partition that it has written to")

// published waits until a producer knows the partitions of what it has written.
// No transaction may be ended before.
//
// The client hands records of a topic that is new to it to their sender, and only
// then stores the topic's partitions. Asked to commit, it looks through the
// partitions it has stored for one that was written to; if all of the transaction
// came in between the two, it finds none, aborts instead, and says nothing of it
// (docs/decisions/0013). A partition once stored stays, so this waits, if ever, in
// a producer's first transaction to a topic.
func published(ctx context.Context, client *kgo.Client, written []*kgo.Record) error {
	return publishedTo(ctx, client.PartitionLeader, written)
}

func publishedTo(ctx context.Context, leader func(topic string, partition int32) (int32, int32, error), written []*kgo.Record) error {
	var known place // the last one asked for: records come sorted, more often than not
	for _, r := range written {
		if known == (place{r.Topic, r.Partition}) {
			continue
		}
		for {
			node, _, err := leader(r.Topic, r.Partition)
			if node >= 0 {
				break
			}
			if wait(ctx, nil, time.Millisecond) != nil {
				return fmt.Errorf("%w: %s partition %d: %w", errUnpublished, r.Topic, r.Partition, errors.Join(context.Cause(ctx), err))
			}
		}
		known = place{r.Topic, r.Partition}
	}
	return nil
}
