package gateway

import (
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
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
