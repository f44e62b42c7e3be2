package track

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

func event(n int) *runtime.Message {
	return &runtime.Message{ID: fmt.Sprintf("e%d", n), Subject: runtime.Entity(fmt.Sprintf("acc:%d", n)), Data: make([]byte, 24)}
}

// The function is away, or fails for good, and the filter lets every other event
// pass: what is set aside or parked is counted as long as it is in memory.
func TestMemoryCountsWhatIsAsideAndParked(t *testing.T) {
	for _, failed := range []bool{false, true} {
		tr := New(Config{TopicID: simTopicID, MaxCalls: 100_000}, Restored{})
		now, at, log := time.Unix(1000, 0), int64(0), int64(0)
		const events = 5000
		for range events {
			tr.Record(at, event(int(at)))
			tr.Skip(at + 1)
			at += 2
		}
		commit := func() {
			tr.TakePlain()
			for b := tr.Take(1 << 30); b != nil; b = tr.Take(1 << 30) {
				if len(b.Metadata) > position.MetadataLimit {
					t.Fatalf("metadata of %d bytes", len(b.Metadata))
				}
				var offsets []int64
				for range b.Records {
					offsets = append(offsets, log)
					log++
				}
				tr.Committed(now, b, offsets)
			}
		}
		asks := tr.Asks()
		for _, a := range asks {
			tr.Answered(now, a.Token, Answer{Trouble: &Trouble{Failed: failed, Last: failed, Wait: time.Hour, Reason: "away"}})
		}
		commit()
		if n := tr.Backlog(); n > events/2 {
			t.Errorf("failed %t: %d events are in the position's place", failed, n)
		}
		if n := tr.Memory(); n < events*1000 {
			t.Errorf("failed %t: %d bytes for %d events", failed, n, events)
		}
		for _, l := range tr.Live() {
			tr.Retry(l.Offset)
		}
		tr.Tick(now.Add(2 * time.Hour))
		for _, a := range tr.Asks() {
			tr.Answered(now, a.Token, Answer{Commands: []*runtime.Message{{}}})
		}
		commit()
		if n := tr.Memory(); n != 0 {
			t.Errorf("failed %t: %d bytes are left", failed, n)
		}
	}
}

// A position was made from decisions about every other event, none of which has
// been read yet: what is decided meanwhile can be recorded, and a position that
// has no room is made anew by the next owner.
func TestPositionBeforeWhatIsFinishedIsRead(t *testing.T) {
	r := Restored{}
	for offset := int64(1); offset < 20_000; offset += 2 {
		r.Position.Done = append(r.Position.Done, offset)
	}
	tr := New(Config{TopicID: simTopicID}, r)
	tr.Record(0, event(0))
	tr.Answered(time.Unix(1000, 0), tr.Asks()[0].Token, Answer{Commands: []*runtime.Message{{}}})
	b := tr.Take(1)
	if b == nil || len(b.Records) != 1 || b.Records[0].Status != avro.DispatchDecided {
		t.Fatalf("batch %+v", b)
	}
	if len(b.Metadata) > position.MetadataLimit {
		t.Fatalf("metadata of %d bytes, which Kafka refuses", len(b.Metadata))
	}
	if _, err := position.Parse(b.Offset, b.Metadata, simTopicID); err == nil {
		t.Errorf("it is taken for a position: %s", strings.TrimSpace(b.Metadata))
	}
}
