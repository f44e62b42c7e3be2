package kafka

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// It is not known at first whether a change took effect: it is not made twice.
func TestStartInDoubtIsWrittenOnce(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	topics := Topics{Prefix: k.Prefix + "evento"}
	s := settings(t, strings.Join(k.Servers, ","))
	admin, err := NewAdmin(s, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.EnsureTopics(soon(t), Ensure{Topics: topics, Partitions: 1, Replication: 1, MinInSync: 1}); err != nil {
		t.Fatal(err)
	}
	reader, err := NewReader(ReaderConfig{Settings: s, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	wire := kafkatest.NewWire()
	starts := NewDispatcherStarts(topics, reader, NewExclusive(append(k.Opts(), wire.Opt()), k.Prefix+"starts", quiet()))
	for want := range uint64(2) {
		wire.Cut(kmsg.EndTxn, kafkatest.AfterAnswer, 4)
		got, err := starts.Change(soon(t), "bank/transfers", func(_ context.Context, there *DispatcherStart) (*DispatcherStart, error) {
			next := &DispatcherStart{Time: time.Now().UTC()}
			if there != nil {
				next.Epoch = there.Epoch + 1
			}
			return next, nil
		})
		if err != nil || got.Epoch != want {
			t.Errorf("epoch %d, %v, want %d", got.Epoch, err, want)
		}
		if wire.Cuts(kmsg.EndTxn) == 0 {
			t.Error("nothing was in doubt")
		}
		wire.Mend()
	}
}
