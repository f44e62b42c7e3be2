package proof

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafkatest/proxy"
)

// network is what is between one gateway and Kafka.
type network struct {
	*proxy.Proxy
	writers *seen          // transactional ids of the gateway's requests
	faults  []*proxy.Fault // of what is done to it
}

// suffer adds a rule, of which mend wants to see that it has met something.
func (n *network) suffer(r proxy.Rule) *proxy.Fault {
	f := n.Add(r)
	n.faults = append(n.faults, f)
	return f
}

// onNetworks gives each gateway a network of its own.
func onNetworks(tr *trial, s *setup) {
	tr.nets = nil
	for range max(1, s.gateways) {
		n := &network{Proxy: proxy.Start(tr, s.kafka.Servers), writers: &seen{}}
		n.watch()
		tr.nets = append(tr.nets, n)
	}
	s.servers = func(i int) []string { return tr.nets[i].Servers() }
}

// mend ends all that was done to the networks. What has met nothing has shown nothing.
func mend(tr *trial) {
	for i, n := range tr.nets {
		n.Mend()
		n.watch()
		for _, f := range n.faults {
			tr.Logf("network of gateway %d: %d requests and answers were taken", i, f.Hits())
			if f.Hits() == 0 {
				tr.Errorf("nothing in the network of gateway %d has met the fault", i)
			}
		}
		n.faults = nil
	}
}

// on makes a fault of rules for the network of the first gateway.
func on(rules ...proxy.Rule) func(*trial) {
	return func(tr *trial) {
		for _, r := range rules {
			tr.nets[0].suffer(r)
		}
	}
}

// onBoth makes a fault of rules for all networks.
func onBoth(rules ...proxy.Rule) func(*trial) {
	return func(tr *trial) {
		for _, n := range tr.nets {
			for _, r := range rules {
				n.suffer(r)
			}
		}
	}
}

// faultSession is how long a silent gateway keeps its partitions in these trials.
const faultSession = 3 * time.Second

// networkFaults are what happens to the network between gateways and Kafka, whatever
// goes through it. A gateway that is cut off loses its partitions to the other one,
// and wakes up as one who does not know.
func networkFaults() []fault {
	troubles := []string{"503", lateAnswer, "504"}
	away := func(d proxy.Direction) proxy.Rule { return proxy.Rule{Do: proxy.Hold, Direction: d} }
	list := []fault{{
		name: "cut-gateway-5s", does: "a gateway is cut off from Kafka for 5 s",
		lasts: 5 * time.Second, inject: on(away(proxy.BothWays)),
	}, {
		name: "cut-gateway-15s", does: "a gateway is cut off from Kafka for 15 s, and wakes up when others own its partitions", ci: true,
		lasts: 15 * time.Second, inject: on(away(proxy.BothWays)),
	}, {
		name: "cut-gateway-30s", does: "a gateway is cut off from Kafka for 30 s, and wakes up when others own its partitions",
		lasts: 30 * time.Second, inject: on(away(proxy.BothWays)),
	}, {
		name: "mute-gateway-15s", does: "nothing that a gateway sends reaches Kafka for 15 s",
		lasts: 15 * time.Second, inject: on(away(proxy.Requests)),
	}, {
		name: "deaf-gateway-15s", does: "Kafka's answers do not reach a gateway for 15 s; what it asks for is done",
		lasts: 15 * time.Second, inject: on(away(proxy.Answers)),
	}, {
		name: "cut-all-10s", does: "no gateway reaches Kafka for 10 s",
		lasts: 10 * time.Second, inject: onBoth(away(proxy.BothWays)),
	}, {
		name: "no-fetch-20s", does: "nothing that a gateway reads arrives for 20 s, all else does",
		lasts: 20 * time.Second, inject: on(proxy.Rule{Do: proxy.Hold, Direction: proxy.Answers, Keys: []kmsg.Key{kmsg.Fetch}}),
	}, {
		name: "no-heartbeat-20s", does: "a gateway's heartbeats do not reach Kafka for 20 s: it reads and writes on, as the owner that it is not any more", ci: true,
		lasts:  20 * time.Second,
		inject: on(proxy.Rule{Do: proxy.Hold, Keys: []kmsg.Key{kmsg.Heartbeat}, Where: groupOf("-gateway")}),
	}, {
		name: "slow-network", does: "each request and each answer is 20 to 120 ms late",
		lasts: 20 * time.Second, inject: onBoth(proxy.Rule{Do: proxy.Delay, Direction: proxy.BothWays, Wait: 20 * time.Millisecond, Jitter: 100 * time.Millisecond}),
	}, {
		name: "very-slow-network", does: "each request and each answer is 0 to 1 s late",
		lasts: 30 * time.Second, inject: onBoth(proxy.Rule{Do: proxy.Delay, Direction: proxy.BothWays, Jitter: time.Second}),
	}, {
		name: "narrow-network", does: "40 kB/s in each direction between each gateway and Kafka",
		lasts: 20 * time.Second, inject: onBoth(proxy.Rule{Do: proxy.Limit, Direction: proxy.BothWays, BytesPerSecond: 40_000}),
	}, {
		name: "resets", does: "each hundredth request and answer resets its connection",
		lasts: 20 * time.Second, inject: onBoth(proxy.Rule{Do: proxy.Reset, Direction: proxy.BothWays, Chance: 0.01}),
	}, {
		name: "resets-of-transactions", does: "each tenth request of a transaction, and each tenth answer, resets its connection",
		lasts:  20 * time.Second,
		inject: onBoth(proxy.Rule{Do: proxy.Reset, Direction: proxy.BothWays, Keys: inTransactions, Chance: 0.1}),
	}}
	for i := range list {
		f := &list[i]
		f.needs.prepare, f.needs.session, f.heal, f.may = onNetworks, faultSession, mend, troubles
	}
	circle := list[1]
	circle.name, circle.does, circle.ci = "cut-dispatchers-15s", "a gateway with dispatchers is cut off from Kafka for 15 s", false
	circle.needs.circle = true
	slow := list[8]
	slow.name, slow.does = "slow-network-of-dispatchers", "each request and each answer of gateways with dispatchers is 20 to 120 ms late"
	slow.needs.circle = true
	return append(list, circle, slow)
}

// inTransactions are the requests of transactions.
var inTransactions = []kmsg.Key{kmsg.InitProducerID, kmsg.Produce, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.EndTxn}
