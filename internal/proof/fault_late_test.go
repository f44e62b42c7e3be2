package proof

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafkatest/proxy"
)

// seen is a set of strings that several goroutines add to.
type seen struct {
	mu  sync.Mutex
	set map[string]bool
}

func (s *seen) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[string]bool{}
	}
	s.set[text] = true
}

func (s *seen) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sortedKeys(s.set)
}

// watch notes the transactional ids that go through the network.
func (n *network) watch() {
	n.Add(proxy.Rule{Do: proxy.Hold, Keys: []kmsg.Key{kmsg.InitProducerID, kmsg.EndTxn}, Where: func(q kmsg.Request) bool {
		if id := writerOf(q); id != "" {
			n.writers.add(id)
		}
		return false
	}})
}

// writerOf is the transactional id of a request, "" when it has none.
func writerOf(q kmsg.Request) string {
	switch q := q.(type) {
	case *kmsg.ProduceRequest:
		if q.TransactionID != nil {
			return *q.TransactionID
		}
	case *kmsg.InitProducerIDRequest:
		if q.TransactionalID != nil {
			return *q.TransactionalID
		}
	case *kmsg.EndTxnRequest:
		return q.TransactionalID
	case *kmsg.TxnOffsetCommitRequest:
		return q.TransactionalID
	}
	return ""
}

// inTransaction and plain tell what is produced in transactions from all else.
func inTransaction(q kmsg.Request) bool { return writerOf(q) != "" }
func plain(q kmsg.Request) bool         { return writerOf(q) == "" }

// groupOf takes the requests of members of groups whose name ends so.
func groupOf(suffix string) func(kmsg.Request) bool {
	return func(q kmsg.Request) bool {
		switch q := q.(type) {
		case *kmsg.HeartbeatRequest:
			return strings.HasSuffix(q.Group, suffix)
		case *kmsg.OffsetCommitRequest:
			return strings.HasSuffix(q.Group, suffix)
		}
		return false
	}
}

// A gateway makes one transaction at a time, and gives up one whose request is not
// answered after 10 s: one held request leaves time for other transactions of the
// same transactional id, which it must not touch when it is let go.

// lateFaults hold single requests of transactions and let them go when nobody
// expects them any more: after the watchdog (10 s), after the transaction's timeout
// (30 s), after their partitions have gone to another gateway, after their sender
// is dead. None of them may have an effect then that anybody sees.
func lateFaults() []fault {
	var list []fault
	add := func(name, does string, rule proxy.Rule, ci int, times ...int) {
		for _, d := range times {
			list = append(list, fault{
				name: fmt.Sprintf("%s-%ds", name, d), does: fmt.Sprintf(does, fmt.Sprintf("%d s", d)), ci: d == ci,
				lasts: time.Duration(d) * time.Second, inject: on(rule),
			})
		}
	}
	hold := func(where func(kmsg.Request) bool, keys ...kmsg.Key) proxy.Rule {
		return proxy.Rule{Do: proxy.Hold, Keys: keys, Where: where, Times: 1}
	}
	add("late-end", "the end of a transaction is on its way for %s", hold(nil, kmsg.EndTxn), 20, 1, 5, 20, 45, 60)
	add("late-records", "records of a transaction are on their way for %s", hold(inTransaction, kmsg.Produce), 0, 5, 20, 45)
	add("late-positions", "positions of a transaction are on their way for %s", hold(nil, kmsg.TxnOffsetCommit, kmsg.AddOffsetsToTxn), 0, 5, 20, 45)
	add("late-commands", "commands are on their way to Kafka for %s", hold(plain, kmsg.Produce), 0, 5, 20, 45)
	add("late-plain-positions", "positions outside of a transaction are on their way for %s", hold(nil, kmsg.OffsetCommit), 0, 5, 20)
	list = append(list, fault{
		name: "late-begin-15s", does: "some transactions end without an answer, and a new producer's begin is on its way for 15 s",
		lasts: 15 * time.Second,
		inject: on(proxy.Rule{Do: proxy.Reset, Direction: proxy.Answers, Keys: []kmsg.Key{kmsg.EndTxn}, Times: 3},
			hold(inTransaction, kmsg.InitProducerID)),
	}, fault{
		name: "lost-answers-of-ends", does: "half of the transactions end without an answer, and the connection is reset",
		lasts:  15 * time.Second,
		inject: onBoth(proxy.Rule{Do: proxy.Reset, Direction: proxy.Answers, Keys: []kmsg.Key{kmsg.EndTxn}, Chance: 0.5}),
	}, fault{
		name: "silent-answers-of-ends", does: "some transactions end without an answer, and their connections stay open",
		lasts:  25 * time.Second,
		inject: on(proxy.Rule{Do: proxy.Lose, Direction: proxy.Answers, Keys: []kmsg.Key{kmsg.EndTxn}, Times: 3}),
	}, fault{
		name: "lost-answers", does: "each tenth answer to a request of a transaction is lost with its connection",
		lasts:  20 * time.Second,
		inject: onBoth(proxy.Rule{Do: proxy.Reset, Direction: proxy.Answers, Keys: inTransactions, Chance: 0.1}),
	})
	dead := []struct {
		what, does string
		rule       proxy.Rule
		ci         bool
	}{
		{"end", "the end of a transaction", hold(nil, kmsg.EndTxn), true},
		{"records", "the records of a transaction", hold(inTransaction, kmsg.Produce), false},
		{"positions", "the positions of a transaction", hold(nil, kmsg.TxnOffsetCommit, kmsg.AddOffsetsToTxn), false},
		{"commands", "commands", hold(plain, kmsg.Produce), false},
	}
	for _, d := range dead {
		list = append(list, fault{
			name: "late-" + d.what + "-of-the-dead", does: d.does + " reach Kafka after their gateway was killed and another one has its partitions", ci: d.ci,
			lasts:  2 * time.Second,
			inject: func(tr *trial) { tr.killHolding(d.rule) },
			heal: func(tr *trial) {
				mend(tr)
				tr.restart(0)
			},
			may: []string{"503", "504", lateAnswer, noAnswer},
		}, fault{
			name: "late-" + d.what + "-of-the-ousted", does: d.does + " reach Kafka after their gateway's partitions went to another one, and it does not know",
			lasts:  2 * time.Second,
			inject: func(tr *trial) { tr.oustHolding(d.rule) },
		})
	}
	for i := range list {
		f := &list[i]
		f.needs.prepare, f.needs.session = onNetworks, faultSession
		if f.heal == nil {
			f.heal = mend
		}
		if f.may == nil {
			f.may = []string{"503", "504", lateAnswer}
		}
	}
	circle := list[slices.IndexFunc(list, func(f fault) bool { return f.name == "late-end-20s" })]
	circle.name, circle.does, circle.ci = "late-end-of-dispatchers-20s", "the end of a transaction of a gateway with dispatchers is on its way for 20 s", false
	circle.needs.circle = true
	dispatcher := circle
	dispatcher.name, dispatcher.does = "late-records-of-dispatchers-20s", "records of a transaction of a gateway with dispatchers are on their way for 20 s"
	dispatcher.inject = on(hold(inTransaction, kmsg.Produce))
	return append(list, circle, dispatcher)
}

// holding has a rule for the first gateway, and returns when it holds something.
func (tr *trial) holding(rule proxy.Rule) *proxy.Fault {
	f := tr.nets[0].suffer(rule)
	wait(tr, func() error {
		if f.Held() == 0 {
			return fmt.Errorf("nothing is held")
		}
		return nil
	})
	return f
}

// killHolding holds what a rule takes of the first gateway, kills it then, waits
// until the other one has its partitions, and lets go.
func (tr *trial) killHolding(rule proxy.Rule) {
	f := tr.holding(rule)
	tr.gateway(0).now().kill()
	wait(tr, func() error { return tr.world.allOwned(tr.world.gateways[1:]...) })
	tr.letGo(f)
}

// oustHolding is killHolding for a gateway that lives: its heartbeats do not arrive.
func (tr *trial) oustHolding(rule proxy.Rule) {
	f := tr.holding(rule)
	tr.nets[0].suffer(proxy.Rule{Do: proxy.Hold, Keys: []kmsg.Key{kmsg.Heartbeat}, Where: groupOf("-gateway")})
	wait(tr, func() error { return tr.world.allOwned(tr.world.gateways[1:]...) })
	f.End()
	tr.Logf("%d were held, %d of them came after their connection had ended", f.Hits(), f.Late())
}

// letGo ends a rule that has held requests of a process that is dead, and returns
// when they have reached Kafka.
func (tr *trial) letGo(f *proxy.Fault) {
	f.End()
	wait(tr, func() error {
		if f.Late() == 0 {
			return fmt.Errorf("none of %d requests has reached Kafka late", f.Hits())
		}
		return nil
	})
	tr.Logf("%d were held, %d of them came after their sender's end", f.Hits(), f.Late())
}
