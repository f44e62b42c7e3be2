package kafka

import (
	"testing"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// BenchmarkConfirm is what a read of the newest state costs beside the read: by one
// reader, and by many at a time, who share requests.
func BenchmarkConfirm(b *testing.B) {
	k := kafkatest.Start(b)
	in, out := k.Topic(b, "in", 1), k.Topic(b, "out", 1)
	e := newEcho(b, echoConfig{in: in, out: out, group: k.Group("echo"), address: "127.0.0.1:1", member: k.Opts(), writer: k.Opts()})
	defer e.close()
	h := e.join(1)[0]
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			if err := e.group.Confirm(b.Context(), h); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := e.group.Confirm(b.Context(), h); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
