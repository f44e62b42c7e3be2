package proof

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest/proxy"
)

// writerFaults are what a client does that is none of Evento's: it takes a
// gateway's transactional id for its own, or leaves a transaction open where
// Evento writes.
func writerFaults() []fault {
	long := 10 * time.Minute
	list := []fault{{
		name: "hijack", does: "a strange client initialises each of a gateway's transactional ids again and again",
		lasts: time.Second, inject: func(tr *trial) { tr.hijack(12*time.Second, false) },
	}, {
		name: "hijack-with-records", does: "a strange client initialises each of a gateway's transactional ids, and writes to the events with it", ci: true,
		lasts: time.Second, inject: func(tr *trial) { tr.hijack(12*time.Second, true) },
	}, {
		name: "hijack-in-the-end", does: "a strange client takes over transactional ids of transactions whose ends are on their way, and writes to the events with them",
		lasts: 5 * time.Second, inject: func(tr *trial) { tr.hijackHeld() },
	}, {
		name: "hanging-in-events", does: "a strange client leaves a transaction open in each partition of the events",
		lasts:  15 * time.Second,
		inject: func(tr *trial) { tr.hang(tr.world.topics.Events("CheckingAccount"), "", long) },
	}, {
		name: "hanging-in-events-and-kill", does: "a strange client leaves a transaction open in each partition of the events for 20 s, and a gateway is killed: who takes over waits",
		lasts: 32 * time.Second, // the broker looks for transactions to end every 10 s
		inject: func(tr *trial) {
			tr.hang(tr.world.topics.Events("CheckingAccount"), "", 20*time.Second)
			tr.gateway(0).now().kill()
		},
		heal: func(tr *trial) { tr.restart(0) },
	}, {
		name: "hanging-with-name-and-kill", does: "a writer that says its name leaves a transaction open in each partition of the events for ten minutes, and a gateway is killed",
		lasts: 10 * time.Second,
		inject: func(tr *trial) {
			tr.hang(tr.world.topics.Events("CheckingAccount"), tr.world.run+"-hanging", long)
			tr.gateway(0).now().kill()
		},
		heal: func(tr *trial) { tr.restart(0) },
	}, {
		name: "hanging-in-dispatched", does: "a strange client leaves a transaction open in each partition of the decisions for 15 s",
		lasts: 15 * time.Second, needs: needs{circle: true},
		inject: func(tr *trial) { tr.hang(tr.world.topics.Dispatched(), "", long) },
	}, {
		name: "hanging-in-dispatched-with-name-and-kill", does: "a writer that says its name leaves a transaction open in each partition of the decisions for ten minutes, and a gateway is killed",
		lasts: 10 * time.Second, needs: needs{circle: true},
		inject: func(tr *trial) {
			tr.hang(tr.world.topics.Dispatched(), tr.world.run+"-hanging", long)
			tr.gateway(0).now().kill()
		},
		heal: func(tr *trial) { tr.restart(0) },
	}}
	for i := range list {
		f := &list[i]
		heal := f.heal
		f.needs.prepare, f.needs.session = onNetworks, faultSession
		f.heal = func(tr *trial) {
			mend(tr)
			tr.endStrange()
			if heal != nil {
				heal(tr)
			}
		}
		f.may = []string{"503", "504", lateAnswer, noAnswer}
	}
	return list
}

// strangeClient is a producer with a transactional id.
func (tr *trial) strangeClient(id string, timeout time.Duration) *kgo.Client {
	cl, err := kgo.NewClient(append(tr.world.kafka.Opts(), kgo.TransactionalID(id), kgo.TransactionTimeout(timeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableClientMetrics())...)
	if err != nil {
		tr.Fatal(err)
	}
	return cl
}

// strangeRecord is none of Evento's. If it ever commits, the checker trips over it.
func strangeRecord(topic string, partition int32, writer string) *kgo.Record {
	r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte("strange"), Value: []byte("not an event")}
	if writer != "" {
		r.Headers = []kgo.RecordHeader{{Key: kafka.WriterHeader, Value: []byte(writer)}}
	}
	return r
}

// hijack takes over the ids of the first gateway's transactions for a while, one
// after the other, and leaves a transaction open with each if it is to write. They
// are not aborted: that is what the gateway's own return does, or their timeout.
func (tr *trial) hijack(d time.Duration, write bool) {
	taken := 0
	for began := time.Now(); time.Since(began) < d; {
		ids := tr.nets[0].writers.all()
		if len(ids) == 0 {
			tr.Fatal("no transaction of the gateway was seen")
		}
		tr.takeOverID(ids[taken%len(ids)], write)
		taken++
		pause(300 * time.Millisecond)
	}
	tr.Logf("%d times a transactional id was taken over", taken)
}

// takeOverID makes a producer with a gateway's id, and returns when it has it, and
// has written if it is to. That the gateway takes the id back meanwhile is no failure.
func (tr *trial) takeOverID(id string, write bool) {
	cl := tr.strangeClient(id, 20*time.Second)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, _, err := cl.ProducerID(ctx); err != nil {
		tr.Logf("%s was not taken over: %v", id, err)
		return
	}
	if !write {
		return
	}
	if err := cl.BeginTransaction(); err != nil {
		tr.Fatal(err)
	}
	for p := range int32(partitions) {
		if err := cl.ProduceSync(ctx, strangeRecord(tr.world.topics.Events("CheckingAccount"), p, "")).FirstErr(); err != nil {
			tr.Logf("%s was taken back: %v", id, err)
			return
		}
	}
}

// hijackHeld takes the ids of transactions over whose ends are held, writes with
// them, and then lets the ends go.
func (tr *trial) hijackHeld() {
	for range 4 {
		held := make(chan string, 100)
		f := tr.nets[0].suffer(proxy.Rule{Do: proxy.Hold, Keys: []kmsg.Key{kmsg.EndTxn}, Times: 1, Where: func(q kmsg.Request) bool {
			select {
			case held <- writerOf(q):
			default:
			}
			return true
		}})
		wait(tr, func() error {
			if f.Held() == 0 {
				return fmt.Errorf("no end of a transaction is held")
			}
			return nil
		})
		tr.takeOverID(<-held, true)
		f.End()
	}
}

// hang writes a record to each partition of a topic in a transaction and leaves it
// open, until the end of the fault or, if that is earlier, its timeout.
func (tr *trial) hang(topic, writer string, timeout time.Duration) {
	id := writer
	if id == "" {
		id = tr.world.run + "-strange"
	}
	cl := tr.strangeClient(id, timeout)
	tr.Cleanup(cl.Close)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cl.BeginTransaction(); err != nil {
		tr.Fatal(err)
	}
	for p := range int32(partitions) {
		if err := cl.ProduceSync(ctx, strangeRecord(topic, p, writer)).FirstErr(); err != nil {
			tr.Fatal(err)
		}
	}
	tr.strange = append(tr.strange, cl)
}

// endStrange ends the transactions that hang still. One that Evento has ended is fenced.
func (tr *trial) endStrange() {
	for _, cl := range tr.strange {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := cl.EndTransaction(ctx, kgo.TryAbort)
		cancel()
		tr.Logf("the hanging transaction was aborted by its own client: %v", err)
	}
	tr.strange = nil
}
