package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// NewGroup checks the configuration. Nothing is opened before [Group.Join].
func NewGroup(c GroupConfig) (*Group, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("consumer group %q: %w", c.Group, err)
	}
	g := &Group{cfg: c, changed: make(chan struct{}), done: make(chan struct{})}
	g.fence = newFence(g.reported)
	return g, nil
}

// Join makes this process a member. It returns at once; assignments come by
// OnAssigned. Until Close the membership is renewed by itself, whatever happens.
// A second call fails.
func (g *Group) Join() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("join consumer group %q: %w", g.cfg.Group, ErrClosed)
	}
	if g.member != nil {
		return fmt.Errorf("join consumer group %q: joined already", g.cfg.Group)
	}
	dial, err := dialAgain(g.cfg.Client)
	if err != nil {
		return fmt.Errorf("join consumer group %q: %w", g.cfg.Group, err)
	}
	member, err := newClient(slices.Concat(g.cfg.Client, []kgo.Opt{
		dial,
		kgo.MaxVersions(versions()),
		kgo.ClientID(clientIDPrefix + g.cfg.Address),
		kgo.ConsumerGroup(g.cfg.Group),
		kgo.ConsumeTopics(g.cfg.Topic),
		// Eager: every rebalance takes all partitions away first, so that the
		// revocation is complete before the generation changes. A cooperative
		// member keeps partitions while its generation moves on, and what it
		// commits while revoking is refused. Sticky: a partition comes back to
		// the owner that has it in memory.
		kgo.Balancers(kgo.StickyBalancer()),
		kgo.SessionTimeout(g.cfg.SessionTimeout),
		kgo.HeartbeatInterval(min(g.cfg.SessionTimeout/4, maxHeartbeat)),
		kgo.RebalanceTimeout(g.cfg.RebalanceTimeout),
		kgo.RetryTimeoutFn(g.retryFor),
		kgo.RequestRetries(math.MaxInt32), // time is what bounds them
		kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.AdjustFetchOffsetsFn(nothing),
		kgo.OnPartitionsAssigned(g.assigned),
		kgo.OnPartitionsRevoked(g.revoked),
		kgo.OnPartitionsLost(g.lost),
	}))
	if err != nil {
		return fmt.Errorf("join consumer group %q: %w", g.cfg.Group, err)
	}
	g.member = member
	go g.drain(member)
	return nil
}

// maxHeartbeat is the longest time between two heartbeats. A member hears of a
// rebalance by its heartbeat: partitions that another one gave up in good order
// have no owner until then, however long sessions are. A gateway with nothing to do
// takes 0.5 % of a processor more than with 500 ms.
const maxHeartbeat = 150 * time.Millisecond

// retryFor says for how long a request of the member is tried again when no broker
// answers it. Heartbeats longer than the session lasts: a group's coordinator that is
// lost has a successor when Kafka has given it up, which takes longer than a session
// may, and the successor knows the members. One that went on asking is still a member
// then. One that gave up, which is the library's way, joins as if it were new, takes
// everybody's partitions away, and waits until the group has forgotten who it was.
// Who goes on asking breaks nothing: what it commits is refused once others have its
// partitions, and the first answer tells it so.
func (g *Group) retryFor(request int16) time.Duration {
	switch kmsg.Key(request) {
	case kmsg.Heartbeat:
		return max(heartbeatRetries, g.cfg.SessionTimeout)
	case kmsg.JoinGroup, kmsg.SyncGroup:
		return g.cfg.SessionTimeout
	default:
		return otherRetries
	}
}

const (
	heartbeatRetries = time.Minute
	otherRetries     = 30 * time.Second // the library's own
)

// nothing keeps the member from fetching: see [Group].
func nothing(context.Context, map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	return nil, nil
}

// drain takes what the member has to say, which is only errors.
func (g *Group) drain(member *kgo.Client) {
	defer close(g.done)
	for {
		fetches := member.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			g.cfg.Log.Warn("consumer group session failed", "group", g.cfg.Group, "err", err)
		})
	}
}

// reported is the membership as the client has it now.
func (g *Group) reported() (string, int32) {
	member := g.client()
	if member == nil {
		return "", -1
	}
	return member.GroupMetadata()
}

// client is the member; nil before Join.
func (g *Group) client() *kgo.Client {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.member
}

func (g *Group) assigned(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
	partitions := topics[g.cfg.Topic]
	held := g.fence.assign(partitions)
	s, err := newSession(g, held)
	if err != nil {
		// The same options made the member's client, so only a programming
		// error comes here. Holding what cannot be read would be worse.
		g.cfg.Log.Error("cannot read the assigned partitions", "group", g.cfg.Group, "err", err)
		g.fence.drop(held)
		return
	}
	g.replace(s)
	g.cfg.Log.Info("partitions assigned", "group", g.cfg.Group, "partitions", partitions)
	for _, h := range held {
		g.cfg.OnAssigned(h)
	}
}

func (g *Group) revoked(ctx context.Context, _ *kgo.Client, _ map[string][]int32) {
	// First nothing more is read; then the owner ends its work, with its terms
	// still good; then the terms end; then what was let in before comes to its
	// end. The rebalance goes on after that.
	g.replace(nil)
	held := g.fence.all()
	if len(held) == 0 {
		return
	}
	// After this time the group goes on without us and the broker refuses our
	// generation, so waiting any longer protects nobody.
	ctx, cancel := context.WithTimeoutCause(ctx, g.cfg.RebalanceTimeout, errors.New("the group's rebalance timeout is over"))
	defer cancel()
	g.cfg.OnRevoked(ctx, held)
	g.fence.drop(held)
	if err := g.fence.quiet(ctx, held); err != nil {
		g.cfg.Log.Error("gave partitions up with a transaction still open", "group", g.cfg.Group, "err", err)
	}
	g.cfg.Log.Info("partitions revoked", "group", g.cfg.Group, "partitions", len(held))
}

func (g *Group) lost(_ context.Context, _ *kgo.Client, _ map[string][]int32) {
	g.replace(nil)
	held := g.fence.all()
	g.fence.drop(held)
	if len(held) == 0 {
		return
	}
	g.cfg.Log.Warn("partitions lost", "group", g.cfg.Group, "partitions", len(held))
	g.cfg.OnLost(held)
}

// Close gives the partitions up (OnRevoked is called), leaves the group, so
// that others need not wait for the session timeout, and ends Poll. The context
// bounds the wait for the group's answer. A second call does nothing.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	member := g.member
	g.mu.Unlock()

	var err error
	if member != nil {
		if err = member.LeaveGroupContext(ctx); err != nil {
			err = fmt.Errorf("leave consumer group %q: %w", g.cfg.Group, err)
		}
		member.Close()
		<-g.done
	}
	g.replace(nil)
	return err
}
