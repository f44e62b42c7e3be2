package kafka

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ledLog is a topic "log" of one partition, and a reader that knows who leads it.
func ledLog(t *testing.T, brokers int) (*kfake.Cluster, *Reader) {
	t.Helper()
	cluster, settings := fake(t, kfake.NumBrokers(brokers), kfake.SeedTopics(1, "log"))
	reader, err := NewReader(ReaderConfig{Settings: settings, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	if _, _, _, err := reader.Watermarks(t.Context(), "log", 0); err != nil {
		t.Fatal(err)
	}
	return cluster, reader
}

// A broker that was away for long comes back with another leader epoch. The
// library asks with the old one until it is made to ask for the leader again.
func TestWatermarksAfterTheLeaderChanged(t *testing.T) {
	t.Parallel()
	cluster, reader := ledLog(t, 1)
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

// Another broker leads. The library waits for the one that it has heard of, for as
// long as it may.
func TestWatermarksAfterTheLeaderWasLost(t *testing.T) {
	t.Parallel()
	for how, lose := range map[string]func(*testing.T, *kfake.Cluster, int32){
		"dead": func(t *testing.T, cluster *kfake.Cluster, leader int32) {
			if err := cluster.RemoveNode(leader); err != nil {
				t.Fatal(err)
			}
		},
		"silent": func(t *testing.T, cluster *kfake.Cluster, leader int32) {
			cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				if cluster.CurrentNode() == leader {
					cluster.SleepControl(func() { <-t.Context().Done() })
				}
				return nil, nil, false
			})
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cluster, reader := ledLog(t, 3)
			leader := cluster.LeaderFor("log", 0)
			if err := cluster.MoveTopicPartition("log", 0, (leader+1)%3); err != nil {
				t.Fatal(err)
			}
			lose(t, cluster, leader)
			ctx, cancel := context.WithTimeout(t.Context(), adminTimeout/2)
			defer cancel()
			if _, _, high, err := reader.Watermarks(ctx, "log", 0); err != nil || high != 0 {
				t.Fatalf("after the leader was lost: high watermark %d, %v", high, err)
			}
		})
	}
}

// Brokers make topics that are asked for, by default. One that is gone must not come back empty.
func TestAskingMakesNoTopic(t *testing.T) {
	t.Parallel()
	_, settings := fake(t, kfake.AllowAutoTopicCreation())
	reader, err := NewReader(ReaderConfig{Settings: settings, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	if _, _, _, err := reader.Watermarks(soon(t), "gone", 0); err == nil {
		t.Error("a topic that is not there has watermarks")
	}
}
