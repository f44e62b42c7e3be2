package kafka

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// BenchmarkCommit makes group commits as the engine does: so many commands are in
// flight, each waits for its transaction, and one transaction takes all that wait.
// ns/op is per record. A broker on the Java platform needs some thousand rounds
// before its times mean anything: -benchtime=20000x or more.
func BenchmarkCommit(b *testing.B) {
	const partitions = 8
	for _, inFlight := range []int{1, 16, 128} {
		for _, producers := range []int{2, 3} {
			b.Run(fmt.Sprintf("inflight=%d/producers=%d", inFlight, producers), func(b *testing.B) {
				k := kafkatest.Start(b)
				e := newEcho(b, echoConfig{
					in: k.Topic(b, "in", partitions), out: k.Topic(b, "out", partitions), group: k.Group("bench"),
					address: "127.0.0.1:1", member: k.Opts(), writer: k.Opts(),
				})
				defer e.close()
				e.txns.turns = newTurns(producers, e.txns.ids)
				held := e.join(partitions)
				if err := e.txns.Warm(b.Context()); err != nil {
					b.Fatal(err)
				}
				commitAll(b, e, held, inFlight)
			})
		}
	}
}

type command struct {
	record Record
	done   chan struct{}
}

func commitAll(b *testing.B, e *echo, held map[int32]Held, inFlight int) {
	commands := make(chan command, inFlight)
	var clients, collector sync.WaitGroup
	transactions := 0
	collector.Go(func() {
		var at int64
		for c := range commands {
			batch := []command{c}
			for more := true; more && len(commands) > 0; {
				if c, more = <-commands; more {
					batch = append(batch, c)
				}
			}
			var txn Txn
			named := make(map[int32]bool)
			for _, c := range batch {
				at++
				txn.Records = append(txn.Records, c.record)
				if p := c.record.Partition; !named[p] {
					named[p] = true
					txn.Offsets = append(txn.Offsets, PartitionOffset{Held: held[p], Offset: at})
				}
			}
			transactions++
			if r := e.txns.Commit(b.Context(), txn); r.Outcome != Committed {
				b.Errorf("%+v", r)
			}
			for _, c := range batch {
				close(c.done)
			}
		}
	})
	value := make([]byte, 200)
	took := make([][]time.Duration, inFlight)
	next := make(chan int, b.N)
	for i := range b.N {
		next <- i
	}
	close(next)
	b.ResetTimer()
	for c := range inFlight {
		clients.Go(func() {
			for i := range next {
				begin := time.Now()
				cmd := command{Record{Topic: e.out, Partition: int32(i) % 8, Key: []byte("key"), Value: value}, make(chan struct{})}
				commands <- cmd
				<-cmd.done
				took[c] = append(took[c], time.Since(begin))
			}
		})
	}
	clients.Wait()
	b.StopTimer()
	close(commands)
	collector.Wait()
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(transactions)/b.Elapsed().Seconds(), "txns/s")
	b.ReportMetric(all[len(all)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(all[len(all)*99/100].Seconds()*1000, "p99-ms")
}
