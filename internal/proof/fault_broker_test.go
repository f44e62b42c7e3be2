package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// defaultSession is what --session-timeout is unless somebody says otherwise. While a
// broker is missed the group's coordinator lets a heartbeat wait, for 5 s at most
// (offsets.commit.timeout.ms), for what it wrote before to be replicated: sessions
// that are shorter end then.
const defaultSession = 6 * time.Second

// brokerFaults are the losses of brokers: one of three, each chosen for what it
// does, all three, and the only one.
func brokerFaults() (list []fault) {
	for _, who := range []struct {
		name, is string
		ci       []string
		find     func(*trial) int
	}{
		{"leader", "the broker that leads most partitions", []string{"kill-5s", "pause-15s"},
			func(tr *trial) int { return tr.ground.brokers.leader(tr, tr.world.topics.Prefix) }},
		{"group-coordinator", "the broker that coordinates the gateways' group", nil,
			func(tr *trial) int {
				return tr.ground.brokers.coordinator(tr, tr.world.topics.Commands()+"-gateway")
			}},
		{"transaction-coordinator", "the broker that coordinates a transaction of a gateway", nil,
			func(tr *trial) int { return tr.ground.brokers.transactions(tr) }},
		{"controller", "the broker that is the active controller", nil,
			func(tr *trial) int { return tr.ground.brokers.controller(tr) }},
	} {
		list = append(list, victim{
			name: who.name, is: who.is, needs: needs{circle: who.name == "transaction-coordinator", session: defaultSession},
			find:    func(tr *trial) *process { return tr.ground.brokers.list[who.find(tr)] },
			restart: restartBroker,
			may:     []string{"503", lateAnswer}, within: 15 * time.Second,
			ci: who.ci,
		}.faults()...)
	}
	list = append(list, victim{
		name: "only-broker", is: "the only broker", needs: needs{ground: oneBroker},
		find:    func(tr *trial) *process { return tr.ground.brokers.list[0] },
		restart: restartBroker,
		may:     []string{"503", lateAnswer},
		ci:      []string{"kill-5s"},
	}.faults()...)

	for _, s := range away {
		lasts := time.Duration(s) * time.Second
		list = append(list, fault{
			name: fmt.Sprintf("kill-all-brokers-%ds", s), does: fmt.Sprintf("all three brokers are killed, and started again after %d s", s),
			lasts: lasts, may: []string{"503", lateAnswer},
			inject: func(tr *trial) {
				for _, p := range tr.ground.brokers.list {
					p.kill()
				}
			},
			heal: func(tr *trial) {
				b := tr.ground.brokers
				for i := range b.list {
					b.start(tr, i)
				}
				for i := range b.list {
					b.awaitReady(tr, i)
				}
			},
		}, fault{
			name: fmt.Sprintf("pause-all-brokers-%ds", s), does: fmt.Sprintf("all three brokers are silent for %d s", s),
			lasts: lasts, may: []string{"503", lateAnswer},
			inject: func(tr *trial) { signalAll(tr, syscall.SIGSTOP) },
			heal:   func(tr *trial) { signalAll(tr, syscall.SIGCONT) },
		})
	}
	return list
}

func signalAll(tr *trial, s syscall.Signal) {
	for _, p := range tr.ground.brokers.list {
		signal(tr, p, s)
	}
}

func restartBroker(tr *trial, gone *process) {
	b := tr.ground.brokers
	i := slices.Index(b.list, gone)
	b.start(tr, i)
	b.awaitReady(tr, i)
}

// transactions is the broker that coordinates a transaction that is under way.
func (b *brokers) transactions(tr *trial) (i int) {
	b.admin(tr, func(ctx context.Context, a *kadm.Client) error {
		open, err := tr.openTransactions(ctx, a)
		if err == nil && len(open) == 0 {
			err = errors.New("no transaction of the gateways is under way")
		}
		if err == nil {
			i = int(open[0].Coordinator) - 1
		}
		return err
	})
	return i
}

// controller is the broker that leads the quorum of controllers.
func (b *brokers) controller(tr *trial) (i int) {
	client, err := kgo.NewClient(b.kafka.Opts()...)
	if err != nil {
		tr.Fatal(err)
	}
	defer client.Close()
	wait(tr, func() error {
		ctx, cancel := context.WithTimeout(tr.Context(), patience/3)
		defer cancel()
		r := kmsg.NewPtrDescribeQuorumRequest()
		topic, partition := kmsg.NewDescribeQuorumRequestTopic(), kmsg.NewDescribeQuorumRequestTopicPartition()
		topic.Topic, topic.Partitions = "__cluster_metadata", append(topic.Partitions, partition)
		r.Topics = append(r.Topics, topic)
		answer, err := r.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
			return fmt.Errorf("the quorum is described as %+v", answer)
		}
		i = int(answer.Topics[0].Partitions[0].LeaderID) - 1
		if i < 0 || i >= len(b.list) {
			return fmt.Errorf("the controller is broker %d", i+1)
		}
		return nil
	})
	return i
}
