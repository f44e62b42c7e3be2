package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Members says how many members the group has now; none when nobody ever was one.
func (t *Takeover) Members(ctx context.Context) (n int, err error) {
	err = t.again(ctx, "describe consumer group "+t.group, func(ctx context.Context) error {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{t.group}
		resp, err := req.RequestWith(ctx, t.client)
		if err != nil {
			return err
		}
		n = 0
		for _, g := range resp.Groups {
			if err := kerr.ErrorForCode(g.ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
				return err
			}
			n += len(g.Members)
		}
		return nil
	})
	return n, err
}

// WrittenAt returns the time of the first record of a partition from an offset on,
// whether or not its transaction commits; the zero time when there is none.
func (t *Takeover) WrittenAt(ctx context.Context, topic string, partition int32, from, to int64) (at time.Time, err error) {
	err = t.fetchAll(ctx, fetchRange{topic, partition, from, to, readUncommitted}, 10*time.Second, func(r *kgo.Record) bool {
		at = r.Timestamp
		return false
	})
	return at, err
}
