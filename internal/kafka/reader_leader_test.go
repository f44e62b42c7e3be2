package kafka

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker that was away for long comes back with another leader epoch. The
// library asks with the old one until it is made to ask for the leader again.
func TestWatermarksAfterTheLeaderChanged(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	settings, err := NewSettings(map[string]string{"bootstrap.servers": strings.Join(cluster.ListenAddrs(), ",")})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := NewReader(ReaderConfig{Settings: settings, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, _, _, err := reader.Watermarks(t.Context(), "log", 0); err != nil {
		t.Fatal(err)
	}
	var changed, asked atomic.Bool
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked.Store(changed.Load())
		return nil, nil, false
	})
	cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !changed.Load() || asked.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, topic := range req.(*kmsg.ListOffsetsRequest).Topics {
			answer := kmsg.NewListOffsetsResponseTopic()
			answer.Topic = topic.Topic
			for _, p := range topic.Partitions {
				fenced := kmsg.NewListOffsetsResponseTopicPartition()
				fenced.Partition, fenced.ErrorCode = p.Partition, kerr.FencedLeaderEpoch.Code
				answer.Partitions = append(answer.Partitions, fenced)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, true
	})
	changed.Store(true)
	if _, _, high, err := reader.Watermarks(t.Context(), "log", 0); err != nil || high != 0 {
		t.Fatalf("after the leader changed: high watermark %d, %v", high, err)
	}
	if !asked.Load() {
		t.Error("the leader was not asked for again: nothing was tried")
	}
}
