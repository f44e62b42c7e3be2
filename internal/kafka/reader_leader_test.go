package kafka

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
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

// The library never has to find out who leads: it may die of that when somebody else
// finds out at the same time. One look-up is for all who ask, and there is another one
// where nobody leads yet.
func TestLeadersAreKnownBeforeTheyAreAsked(t *testing.T) {
	t.Parallel()
	const partitions = 8
	cluster, settings := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(partitions, "log"))
	var lookups atomic.Int32
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if topics := req.(*kmsg.MetadataRequest).Topics; len(topics) != 1 || lookups.Add(1) > 1 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, addr := range cluster.ListenAddrs() {
			host, port, _ := net.SplitHostPort(addr)
			b := kmsg.NewMetadataResponseBroker()
			b.NodeID, b.Host = int32(len(resp.Brokers)), host
			fmt.Sscan(port, &b.Port)
			resp.Brokers = append(resp.Brokers, b)
		}
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = kmsg.StringPtr("log")
		for n := range int32(partitions) {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.ErrorCode = n, -1, kerr.LeaderNotAvailable.Code
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	// Its client says what it asks brokers for.
	config, err := settings.Confluent(Admins, adminConfig)
	if err == nil {
		err = config.SetKey("debug", "metadata")
	}
	if err != nil {
		t.Fatal(err)
	}
	reader := &Reader{lookups: map[string]*lookup{}}
	if reader.admin, err = ck.NewAdminClient(config); err != nil {
		t.Fatal(err)
	}
	asks, asked := 0, make(chan struct{})
	go func() {
		defer close(asked)
		for e := range reader.admin.Logs() {
			asks += strings.Count(e.Message, "Requesting metadata")
			if strings.Contains(e.Message, "query partition leaders") {
				t.Errorf("the library looks for leaders: %s", e.Message)
			}
		}
	}()
	var all sync.WaitGroup
	for n := range int32(partitions) {
		all.Go(func() {
			if _, stable, high, err := reader.Watermarks(soon(t), "log", n); err != nil || stable != 0 || high != 0 {
				t.Errorf("partition %d: %d, %d, %v", n, stable, high, err)
			}
		})
	}
	all.Wait()
	reader.admin.Close()
	if n := lookups.Load(); n < 2 || n > 4 {
		t.Errorf("%d look-ups, want one without and one with leaders", n)
	}
	if <-asked; asks == 0 {
		t.Error("the client has not said what it asks for: this has shown nothing")
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
