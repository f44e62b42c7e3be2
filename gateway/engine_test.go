package gateway

import (
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// A takeover brings the heads up by the events since the checkpoint. What the
// next checkpoint leaves out of them, the takeover after it does not know.
func TestHeadsOutliveACrashAndAStop(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 1)
	first := w.start(1)
	if o := first.send(w.open(t, "checking:1")); o.Version != 1 {
		t.Fatalf("opened: %+v", o)
	}
	first.crash()
	second := w.start(1)
	second.send(w.open(t, "checking:2"))
	second.stop()
	third := w.start(1)
	if o := third.send(w.deposit(t, "checking:1", "d1", 100)); o.Version != 2 {
		t.Errorf("a deposit has version %d, want 2: %+v", o.Version, o)
	}
	if o := third.send(w.open(t, "checking:1")); o.Version != 1 {
		t.Errorf("the first command sent again: %+v", o)
	}
}

// An error of one partition is told once, and its reading is paused then.
func TestPartitionIsReadAgainAfterAnError(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 1)
	e := w.start(1)
	e.send(w.open(t, "checking:1"))
	refused := make(chan struct{})
	var once sync.Once
	w.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		select {
		case <-refused:
			return nil, nil, false
		default:
		}
		fetch := req.(*kmsg.FetchRequest)
		if fetch.SessionEpoch < 0 { // not the group's reader
			return nil, nil, false
		}
		resp := fetch.ResponseKind().(*kmsg.FetchResponse)
		for _, topic := range fetch.Topics {
			answer := kmsg.NewFetchResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				part := kmsg.NewFetchResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				answer.Partitions = append(answer.Partitions, part)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		if len(resp.Topics) == 0 { // have it name its partitions
			resp.ErrorCode = kerr.FetchSessionIDNotFound.Code
			return resp, nil, true
		}
		once.Do(func() { close(refused) })
		return resp, nil, true
	})
	select {
	case <-refused:
	case <-patience(t).Done():
		t.Fatal("nothing was fetched")
	}
	if o := e.send(w.deposit(t, "checking:1", "d1", 100)); o.Version != 2 {
		t.Errorf("%+v", o)
	}
}

// A partition whose batches abort again and again sits out, so that the others
// do not wait for each of its transactions to fail.
func TestFailingPartitionSitsOut(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 2)
	e := w.start(2)
	accounts := map[int32]runtime.AggregateID{}
	for i := 0; len(accounts) < 2; i++ {
		id := runtime.AggregateID(fmt.Sprintf("checking:%d", i))
		accounts[kafka.Partition(string(id), 2)] = id
	}
	e.send(w.open(t, accounts[0]))
	e.send(w.open(t, accounts[1]))
	var mu sync.Mutex
	refused, healed := 0, false
	w.cluster.ControlKey(int16(kmsg.TxnOffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		commit := req.(*kmsg.TxnOffsetCommitRequest)
		resp := commit.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
		bad := false
		for _, topic := range commit.Topics {
			answer := kmsg.NewTxnOffsetCommitResponseTopic()
			answer.Topic = topic.Topic
			for _, p := range topic.Partitions {
				part := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				if part.Partition = p.Partition; p.Partition == 0 && !healed {
					part.ErrorCode, bad = kerr.OffsetMetadataTooLarge.Code, true
				}
				answer.Partitions = append(answer.Partitions, part)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		if bad {
			refused++
		}
		return resp, nil, bad
	})
	stuck := w.deposit(t, accounts[0], "d0", 100)
	if _, err := e.Append(patience(t), stuck); err != nil {
		t.Fatal(err)
	}
	const deposits = 60
	for i := range deposits {
		e.send(w.deposit(t, accounts[1], fmt.Sprintf("d%d", i+1), 100))
	}
	// Nothing is wrong with the command: it spends no attempt.
	if o, err := e.Outcome(patience(t), accounts[0], stuck.Key()); err != nil || o.Attempts != 0 || o.Status != OutcomePending {
		t.Errorf("while the position is refused: %+v, %v", o, err)
	}
	mu.Lock()
	tries := refused
	healed = true
	mu.Unlock()
	if tries == 0 || tries > deposits/2 {
		t.Errorf("%d transactions of the failing partition beside %d of the other", tries, deposits)
	}
	if o := e.outcome(patience(t), stuck); o.Version != 2 {
		t.Errorf("after it: %+v", o)
	}
}
