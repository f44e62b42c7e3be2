package kafka

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/kafkatest"
)

var firstCommits = flag.Int("kafka.first", 10, "how many topics TestFirstCommitOfAProducerIsACommit makes; several processes of some 2,000 each on two cores show what docs/decisions/0013 describes")

// A producer that meets a topic for the first time commits what it was asked to
// commit: what is answered as committed is there.
func TestFirstCommitOfAProducerIsACommit(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	for i := range *firstCommits {
		in, out := k.Topic(t, fmt.Sprint("in", i), 1), k.Topic(t, fmt.Sprint("out", i), 1)
		e := newEcho(t, echoConfig{in: in, out: out, group: k.Group(fmt.Sprint("echo", i)), address: "127.0.0.1:1", member: k.Opts(), writer: k.Opts()})
		held := e.join(1)[0]
		for j := range len(e.txns.turns) {
			if r := e.txns.Commit(t.Context(), oneRecord(out, held, int64(j+1), fmt.Sprint(j))); r.Outcome != Committed {
				t.Fatalf("topic %d, commit %d: %+v", i, j, r)
			}
			if got := values(k.Committed(t, out)[0]); len(got) != j+1 {
				t.Fatalf("topic %d: %d commits, and there is %q", i, j+1, got)
			}
		}
		e.close()
	}
}

func TestPublishedWaitsUntilThePartitionsAreKnown(t *testing.T) {
	t.Parallel()
	written := []*kgo.Record{{Topic: "a"}, {Topic: "a"}, {Topic: "b", Partition: 3}}
	asked := make(map[place]int)
	leader := func(topic string, partition int32) (int32, int32, error) {
		at := place{topic, partition}
		if asked[at]++; asked[at] < 3 {
			return -1, -1, nil
		}
		return 1, 0, kerr.LeaderNotAvailable // known all the same
	}
	if err := publishedTo(t.Context(), leader, written); err != nil {
		t.Fatal(err)
	}
	if asked[place{"a", 0}] != 3 || asked[place{"b", 3}] != 3 {
		t.Errorf("asked: %v, want each until it is known", asked)
	}
}

func TestPublishedGivesUpWhenThePartitionsStayUnknown(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	leader := func(string, int32) (int32, int32, error) {
		cancel(ErrWatchdog)
		return -1, -1, kerr.UnknownTopicOrPartition
	}
	err := publishedTo(ctx, leader, []*kgo.Record{{Topic: "a"}})
	for _, want := range []error{errUnpublished, ErrWatchdog, kerr.UnknownTopicOrPartition} {
		if !errors.Is(err, want) {
			t.Errorf("the error is not %q: %v", want, err)
		}
	}
}

// What is not known to be written to is not committed, and the producer that does
// not know it is not used again.
func TestUnpublishedIsAborted(t *testing.T) {
	t.Parallel()
	records := []Record{{Topic: "a"}}
	failed := judge(records, []error{nil}, errUnpublished)
	if failed == nil || failed.Outcome != Aborted || failed.Reason != ReasonBroker {
		t.Errorf("%+v, want it aborted for the broker's sake", failed)
	}
}
