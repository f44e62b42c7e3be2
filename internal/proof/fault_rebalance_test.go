package proof

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// rebalanceFaults are partitions that move though nobody is lost: a gateway that is
// asked to end, and those that come and go.
func rebalanceFaults() []fault {
	stop := fault{
		name: "stop-gateway", does: "a gateway is asked to end, and started again after 5 s", ci: true,
		// A session so long that no silence is noticed instead of a goodbye.
		needs: needs{session: 28 * time.Second}, lasts: 5 * time.Second, within: time.Second,
		inject: func(tr *trial) { tr.gateway(0).now().terminate(tr) },
		heal:   func(tr *trial) { tr.restart(0) },
		may:    []string{noAnswer, lateAnswer, "503"},
	}
	circle := stop
	circle.name, circle.does, circle.ci = "stop-gateway-of-three", "one of three gateways, all with dispatchers, is asked to end, and started again after 5 s", false
	circle.needs.circle, circle.needs.gateways = true, 3
	list := []fault{stop, circle, {
		name: "storm-of-gateways", does: "one of three gateways joins or leaves every 3 s, for 60 s",
		needs:  needs{gateways: 3, circle: true, session: 28 * time.Second},
		inject: func(tr *trial) { comeAndGo(tr, 60*time.Second) },
		may:    []string{noAnswer, "503"},
	}, {
		name: "storm-of-killed-gateways", does: "one of three gateways is killed and started again every 5 s, for 60 s",
		needs: needs{gateways: 3},
		inject: func(tr *trial) {
			for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
				tr.gateway(2).now().kill()
				tr.gateway(2).start(tr)
				pause(5 * time.Second)
			}
		},
		may: []string{noAnswer, "503"},
	}}
	for _, s := range []struct {
		name, protocol string
		ci             bool
		balancers      []kgo.GroupBalancer
	}{
		{"eager", "the eager protocol, which it takes partitions with,", true, []kgo.GroupBalancer{kgo.StickyBalancer()}},
		{"cooperative", "the cooperative protocol alone", false, []kgo.GroupBalancer{kgo.CooperativeStickyBalancer()}},
		{"either", "either protocol", false, []kgo.GroupBalancer{kgo.CooperativeStickyBalancer(), kgo.StickyBalancer()}},
	} {
		lasts := 30 * time.Second
		if s.ci {
			lasts = 15 * time.Second
		}
		list = append(list, fault{
			name: "storm-of-strangers-" + s.name, ci: s.ci,
			does:   "two members that are no gateways, and speak " + s.protocol + " join and leave the gateways' group every 3 s, for " + lasts.String(),
			inject: func(tr *trial) { strangers(tr, lasts, s.balancers...) },
			may:    []string{"503"},
		})
	}
	return list
}

// comeAndGo has the last gateway leave and join again, every 3 s.
func comeAndGo(tr *trial, lasts time.Duration) {
	g := tr.gateway(len(tr.world.gateways) - 1)
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		g.now().terminate(tr)
		pause(3 * time.Second)
		g.start(tr)
		pause(3 * time.Second)
	}
	g.awaitReady(tr)
}

// strangers are two consumers in the gateways' group that come and go: what they
// are given of the commands, nobody works on while they have it.
func strangers(tr *trial, lasts time.Duration, balancers ...kgo.GroupBalancer) {
	commands := tr.world.topics.Commands()
	end := time.Now().Add(lasts)
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			pause(time.Duration(i) * 1500 * time.Millisecond) // not at the same time
			for time.Now().Before(end) {
				client, err := kgo.NewClient(append(tr.world.kafka.Opts(), kgo.ConsumerGroup(commands+"-gateway"), kgo.ConsumeTopics(commands),
					kgo.Balancers(balancers...), kgo.DisableAutoCommit(), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(200*time.Millisecond))...)
				if err != nil {
					tr.Error(err)
					return
				}
				ctx, cancel := context.WithTimeout(tr.Context(), 3*time.Second)
				for ctx.Err() == nil {
					client.PollFetches(ctx)
				}
				cancel()
				client.Close() // says goodbye
				pause(1500 * time.Millisecond)
			}
		})
	}
	all.Wait()
}
