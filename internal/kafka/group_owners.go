package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Owners tells which member's address owns which partition, as the group's
// coordinator sees it. During a rebalance partitions are missing. What it says
// may be out of date when it arrives: ask the owner, not this, what is true.
// It may be called before Join has led to an assignment, not before Join.
func (g *Group) Owners(ctx context.Context) (map[int32]string, error) {
	member := g.client()
	if member == nil {
		return nil, fmt.Errorf("owners in consumer group %q: %w", g.cfg.Group, ErrNoMember)
	}
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{g.cfg.Group}
	resp, err := req.RequestWith(ctx, member)
	if err != nil {
		return nil, fmt.Errorf("describe consumer group %q: %w", g.cfg.Group, err)
	}
	owners := make(map[int32]string)
	for _, group := range resp.Groups {
		if err := kerr.ErrorForCode(group.ErrorCode); err != nil {
			return nil, fmt.Errorf("describe consumer group %q: %w", g.cfg.Group, err)
		}
		for _, m := range group.Members {
			address, ok := addressOf(m.ClientID)
			if !ok || len(m.MemberAssignment) == 0 {
				continue
			}
			var a kmsg.ConsumerMemberAssignment
			if err := a.ReadFrom(m.MemberAssignment); err != nil {
				return nil, fmt.Errorf("assignment of %q in consumer group %q: %w", m.ClientID, g.cfg.Group, err)
			}
			for _, t := range a.Topics {
				if t.Topic != g.cfg.Topic {
					continue
				}
				for _, p := range t.Partitions {
					owners[p] = address
				}
			}
		}
	}
	return owners, nil
}
