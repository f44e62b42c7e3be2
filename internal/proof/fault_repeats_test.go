package proof

import (
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// repeatFaults are deliveries of what was delivered before. All of it is answered as
// the first time, and nothing happens twice.
func repeatFaults() []fault {
	return []fault{{
		name: "commands-repeated", does: "commands are delivered 40 times more, in no order, some as from two weeks ago",
		needs: needs{ground: oneBroker, circle: true}, lasts: 5 * time.Second,
		inject: func(tr *trial) {
			random := rand.New(rand.NewPCG(tr.seed, 55))
			var again []*kgo.Record
			topic := tr.world.topics.Commands()
			byPartition := tr.world.kafka.Committed(tr, topic)
			for _, p := range sortedKeys(byPartition) {
				for _, r := range byPartition[p] {
					if random.IntN(4) > 0 {
						continue
					}
					for i := range 40 {
						once := &kgo.Record{Topic: topic, Partition: p, Key: r.Key, Value: r.Value, Headers: r.Headers}
						if i%2 == 0 {
							once.Timestamp = time.Now().Add(-14 * 24 * time.Hour)
						}
						again = append(again, once)
					}
				}
			}
			random.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
			client, err := kgo.NewClient(append(tr.world.kafka.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
			if err != nil {
				tr.Fatal(err)
			}
			defer client.Close()
			if err := client.ProduceSync(tr.Context(), again...).FirstErr(); err != nil {
				tr.Fatal(err)
			}
			// And by HTTP, from everybody at once.
			sent := tr.load.history.all()
			random.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
			sent = sent[:min(20, len(sent))]
			parallel(16, 40*len(sent), func(i int) { tr.gateway(i%2).send(sent[i%len(sent)], tr.load.wait) })
			tr.Logf("%d records were written again, and %d commands sent 40 times", len(again), len(sent))
		},
	}}
}
