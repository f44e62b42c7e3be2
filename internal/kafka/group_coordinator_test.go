package kafka

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// The coordinator is away for longer than a member says its session is, and the group
// still knows the member when it is back: so do Kafka's coordinators, which are elected
// later than that, and read the members from their log. Meanwhile the member asks for
// the coordinator, of brokers most of which are gone, and which the cluster still counts.
func TestMemberOutlivesItsCoordinator(t *testing.T) {
	t.Parallel()
	const session = time.Second
	cluster, settings := fake(t, kfake.NumBrokers(5), kfake.SeedTopics(1, "in"), kfake.GroupMinSessionTimeout(session))
	settings, err := settings.With("retry.backoff.max.ms", "100") // more tries than the library would make
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var away, back time.Time // between them the coordinator is away
	beats := 0               // that arrived
	cluster.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req.(*kmsg.JoinGroupRequest).SessionTimeoutMillis = 60_000 // the group is patient
		return nil, nil, false
	})
	cluster.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); !away.IsZero() && now.After(away) && now.Before(back) {
			resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
			resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
			return resp, nil, true
		}
		beats++
		return nil, nil, false
	})
	opts, err := settings.Franz(quiet())
	if err != nil {
		t.Fatal(err)
	}
	assigned := make(chan Held, 10)
	gone := func(held []Held) { t.Errorf("gave %v up", held) }
	g, err := NewGroup(GroupConfig{
		Client: opts, Group: "members", Topic: "in", Address: "127.0.0.1:1", SessionTimeout: session, Log: quiet(),
		OnAssigned: func(h Held) { assigned <- h },
		OnRevoked: func(_ context.Context, held []Held) {
			if t.Context().Err() == nil {
				gone(held)
			}
		},
		OnLost: gone,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Join(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close(context.Background()) })
	beat := func(n int) { // waits until n more heartbeats have arrived
		t.Helper()
		mu.Lock()
		n += beats
		mu.Unlock()
		kafkatest.Wait(t, time.Minute, func() error {
			mu.Lock()
			defer mu.Unlock()
			if beats < n {
				return errors.New("the member does not beat")
			}
			return nil
		})
	}
	held := <-assigned
	beat(2) // what the library asks about a new assignment is answered by then

	for node := range int32(5) {
		if node != cluster.CoordinatorFor("members") {
			if err := cluster.RemoveNode(node); err != nil {
				t.Fatal(err)
			}
		}
	}
	mu.Lock()
	away = time.Now()
	back = away.Add(3 * session)
	mu.Unlock()
	beat(1)
	if !g.Holds(held) {
		t.Error("its partition is not held any more")
	}
}
