package verify

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	evento "github.com/evento-oss/evento/runtime"
)

// BenchmarkMemory tells what is kept of a partition: bytes for each command, with so
// many commands to each aggregate.
func BenchmarkMemory(b *testing.B) {
	const commands = 200_000
	for _, each := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("commands-of-one-aggregate=%d", each), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				c := New(Options{})
				p := c.Partition(0)
				message := func(i int) *evento.Message {
					return &evento.Message{ID: fmt.Sprint("c-", i), Source: "/client", Subject: evento.Entity(fmt.Sprint("a:", i/each)), Time: began}
				}
				for i := range commands {
					p.Command(Record{At: evento.Coordinates{Topic: commandsTopic, Offset: int64(i)}, M: message(i)})
				}
				for i := range commands {
					m := message(i)
					event := &evento.Message{
						ID: m.Key().EventID(1), Subject: m.Subject, CausationID: m.ID, CorrelationID: m.ID, Cause: evento.Coordinates{Topic: commandsTopic, Offset: int64(i)},
						Pos: 1, Count: 1, Sequence: uint64(i%each + 1), Prev: evento.NoPrev, RecordedTime: began.Add(time.Hour), Writer: "evento-ONE-0", Type: "A.Done",
					}
					if i%each > 0 {
						event.Prev = int64(i - 1)
					}
					p.Event(Record{At: evento.Coordinates{Topic: eventsTopic, Offset: int64(i)}, M: event})
				}
				kept := heap() - before
				p.Close()
				if r := c.Finish(); r.Total() > 0 {
					b.Fatal(r.Violations[0])
				}
				b.ReportMetric(float64(kept)/commands, "B/command")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/commands, "ns/command")
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
