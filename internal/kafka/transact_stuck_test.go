package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// The markers of what was committed before cannot be written for long, for all that
// have a turn: a broker that must take them is silent. One transaction finds out, and
// none after it.
func TestTurnsWhoseMarkersAreStuckAreRenewed(t *testing.T) {
	t.Parallel()
	k := kafkatest.Embedded(t)
	e, held, _ := solo(t, k, 1)
	if err := e.txns.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.txns.cfg.Watchdog = 5 * time.Second
	var mu sync.Mutex
	stuck := map[string]bool{}
	for _, p := range e.txns.turns {
		stuck[p.id] = true
	}
	isStuck := func(id *string) bool {
		mu.Lock()
		defer mu.Unlock()
		return id != nil && stuck[*id]
	}
	k.Fake.ControlKey(int16(kmsg.TxnOffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.Fake.KeepControl()
		r := req.(*kmsg.TxnOffsetCommitRequest)
		if !isStuck(&r.TransactionalID) {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
		for _, topic := range r.Topics {
			answer := kmsg.NewTxnOffsetCommitResponseTopic()
			answer.Topic = topic.Topic
			for _, p := range topic.Partitions {
				part := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, kerr.ConcurrentTransactions.Code
				answer.Partitions = append(answer.Partitions, part)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, true
	})
	k.Fake.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.Fake.KeepControl()
		if !isStuck(req.(*kmsg.InitProducerIDRequest).TransactionalID) {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = kerr.ConcurrentTransactions.Code
		return resp, nil, true
	})
	if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], 1, "stuck")); r.Outcome != Aborted {
		t.Fatalf("%+v, want it aborted", r)
	}
	for i := range 2 * len(e.txns.turns) {
		if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], int64(i)+1, fmt.Sprint("after", i))); r.Outcome != Committed {
			t.Errorf("commit %d after it: %+v", i, r)
		}
	}
	if w, err := e.look.Watermarks(t.Context(), e.out, 0); err != nil || w.Stable == w.High {
		t.Errorf("%+v, %v: no transaction was left open: the test is void", w, err)
	}
	// It is ended as soon as that can be.
	mu.Lock()
	clear(stuck)
	mu.Unlock()
	e.txns.ending.Wait()
	if w, err := e.look.Watermarks(t.Context(), e.out, 0); err != nil || w.Stable < w.High {
		t.Errorf("%+v, %v: the transaction that was left is still open", w, err)
	}
	if got := k.Committed(t, e.out); len(got[0]) != 2*len(e.txns.turns) {
		t.Errorf("committed: %q", values(got[0]))
	}
}

// A strange client has taken our idle transactional ids and left a transaction open with
// each: the outcome of one whose end was not seen does not wait until those time out.
func TestOutcomeDoesNotWaitForWhoTookOurOtherIDs(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, wire := solo(t, k, 1)
	if err := e.txns.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range e.txns.turns[1:] {
		strangeTransaction(t, k, e.out, p.id)
	}
	wire.Cut(kmsg.EndTxn, kafkatest.AfterAnswer, kafkatest.Always)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // the embedded Kafka ends them after 20 s
	defer cancel()
	r := e.txns.Commit(ctx, oneRecord(e.out, held[0], 1, "unseen"))
	if r.Outcome != Committed || !r.Resolved {
		t.Fatalf("%+v, want it committed, found in the log", r)
	}
	e.txns.ending.Wait()
	wire.Mend()
	if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], 2, "next")); r.Outcome != Committed {
		t.Fatalf("the next one: %+v", r)
	}
	if got := values(k.Committed(t, e.out)[0]); !slices.Equal(got, []string{"unseen", "next"}) {
		t.Errorf("committed: %q", got)
	}
}
