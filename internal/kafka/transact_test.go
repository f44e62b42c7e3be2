package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/evento-oss/evento/internal/kafkatest"
)

func oneRecord(topic string, h Held, offset int64, value string) Txn {
	return Txn{
		Records: []Record{{Topic: topic, Partition: h.Partition, Key: []byte("key"), Value: []byte(value), Headers: []Header{{Key: "ce_id", Value: []byte(value)}}}},
		Offsets: []PartitionOffset{{Held: h, Offset: offset, Metadata: "meta " + value}},
	}
}

func incompressible(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(rand.Text())
	}
	return b.String()[:n]
}

func values(records []*kgo.Record) []string {
	var vs []string
	for _, r := range records {
		vs = append(vs, string(r.Value))
	}
	return vs
}

// solo is one member that holds all partitions, with a network to break.
func solo(t testing.TB, k *kafkatest.Kafka, partitions int, configs ...string) (e *echo, held map[int32]Held, wire *kafkatest.Wire) {
	t.Helper()
	wire = kafkatest.NewWire()
	e = newEcho(t, echoConfig{
		in: k.Topic(t, "in", int32(partitions)), out: k.Topic(t, "out", int32(partitions), configs...), group: k.Group("echo"),
		address: "127.0.0.1:1", member: k.Opts(), writer: append(k.Opts(), wire.Opt()),
	})
	t.Cleanup(e.close)
	t.Cleanup(wire.Mend)
	return e, e.join(partitions), wire
}

func TestCommitTellsOffsetsAndMovesPositions(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 2)
	for round := range int64(7) { // each producer more than twice
		txn := Txn{Offsets: []PartitionOffset{{Held: held[0], Offset: round, Metadata: "zero"}, {Held: held[1], Offset: 10 * round, Metadata: "one"}}}
		for i, p := range []int32{1, 0, 1} {
			txn.Records = append(txn.Records, Record{Topic: e.out, Partition: p, Value: fmt.Appendf(nil, "%d-%d", round, i), Time: time.UnixMilli(1700000000000 + round)})
		}
		r := e.txns.Commit(t.Context(), txn)
		if r.Outcome != Committed || r.Err != nil || r.Reason != ReasonNone || r.Resolved {
			t.Fatalf("round %d: %+v", round, r)
		}
		got := k.Committed(t, e.out)
		for i, rec := range txn.Records {
			var there *kgo.Record
			for _, g := range got[rec.Partition] {
				if g.Offset == r.Offsets[i] {
					there = g
				}
			}
			if there == nil || string(there.Value) != string(rec.Value) || there.Timestamp.UnixMilli() != rec.Time.UnixMilli() {
				t.Fatalf("round %d: record %d is not at offset %d: %+v", round, i, r.Offsets[i], there)
			}
			if in := fromClient(there); !strings.HasPrefix(string(in.Header(WriterHeader)), "evento-") {
				t.Fatalf("round %d: record %d names the writer %q", round, i, in.Header(WriterHeader))
			}
		}
		pos, err := e.look.StableOffsets(t.Context(), []int32{0, 1})
		if err != nil || pos[0] != (Position{round, "zero", true}) || pos[1] != (Position{10 * round, "one", true}) {
			t.Fatalf("round %d: positions %+v, %v", round, pos, err)
		}
	}
}

func TestPlainCommitMovesPositions(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 2)
	if err := e.txns.CommitPlain(t.Context(), []PartitionOffset{{Held: held[1], Offset: 5, Metadata: "plain"}}); err != nil {
		t.Fatal(err)
	}
	pos, err := e.look.StableOffsets(t.Context(), []int32{0, 1})
	if err != nil || pos[0].Found || pos[1] != (Position{5, "plain", true}) {
		t.Errorf("positions %+v, %v", pos, err)
	}
	stale := held[1]
	stale.Term--
	if err := e.txns.CommitPlain(t.Context(), []PartitionOffset{{Held: stale, Offset: 6}}); !errors.Is(err, ErrStaleTerm) {
		t.Errorf("plain commit in another term: %v", err)
	}
}

func TestInvalidTransactionsAreRefused(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 2)
	both := []PartitionOffset{{Held: held[0]}, {Held: held[1]}}
	for name, txn := range map[string]Txn{
		"no record":             {Offsets: both},
		"offset without record": {Records: []Record{{Topic: e.out, Partition: 0}}, Offsets: both},
		"record without offset": {Records: []Record{{Topic: e.out, Partition: 0}, {Topic: e.out, Partition: 1}}, Offsets: both[:1]},
		"two offsets":           {Records: []Record{{Topic: e.out, Partition: 0}}, Offsets: []PartitionOffset{{Held: held[0]}, {Held: held[0], Offset: 1}}},
	} {
		if r := e.txns.Commit(t.Context(), txn); r.Outcome != Aborted || r.Reason != ReasonInvalid || r.Err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	stale := oneRecord(e.out, Held{Partition: 0, Term: held[0].Term + 1}, 1, "stale")
	if r := e.txns.Commit(t.Context(), stale); r.Outcome != Aborted || r.Reason != ReasonStale || !errors.Is(r.Err, ErrStaleTerm) {
		t.Errorf("stale: %+v", r)
	}
	if got := k.Committed(t, e.out); len(got[0])+len(got[1]) > 0 {
		t.Errorf("committed: %+v", got)
	}
}

// One partition's offset is refused: the whole transaction is aborted, the
// partition named, and the next transaction is none the worse.
func TestRefusedOffsetAbortsAll(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 3)
	txn := Txn{}
	for p := range int32(3) {
		txn.Records = append(txn.Records, Record{Topic: e.out, Partition: p, Value: []byte("refused")})
		txn.Offsets = append(txn.Offsets, PartitionOffset{Held: held[p], Offset: 1})
	}
	if k.Fake != nil {
		k.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Partitions: []int32{1}, Err: kerr.OffsetMetadataTooLarge})
	} else {
		txn.Offsets[1].Metadata = strings.Repeat("x", 4097)
	}
	r := e.txns.Commit(t.Context(), txn)
	if r.Outcome != Aborted || r.Reason != ReasonOffset || r.Partition != 1 || !errors.Is(r.Err, kerr.OffsetMetadataTooLarge) {
		t.Errorf("%+v", r)
	}
	if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[2], 1, "good")); r.Outcome != Committed {
		t.Errorf("next: %+v", r)
	}
	got := k.Committed(t, e.out)
	if len(got[0])+len(got[1]) != 0 || len(got[2]) != 1 {
		t.Errorf("committed: %+v", got)
	}
	pos, err := e.look.StableOffsets(t.Context(), []int32{0, 1, 2})
	if err != nil || pos[0].Found || pos[1].Found || pos[2].Offset != 1 {
		t.Errorf("positions %+v, %v", pos, err)
	}
}

// One record is refused: the same.
func TestRefusedRecordAbortsAll(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 2, "max.message.bytes=2000")
	txn := Txn{Offsets: []PartitionOffset{{Held: held[0], Offset: 1}, {Held: held[1], Offset: 1}}}
	txn.Records = []Record{{Topic: e.out, Partition: 0, Value: []byte("small")}, {Topic: e.out, Partition: 1, Value: []byte(incompressible(5000))}}
	r := e.txns.Commit(t.Context(), txn)
	if r.Outcome != Aborted || r.Reason != ReasonRecord || r.Partition != 1 || r.Topic != e.out || !errors.Is(r.Err, kerr.MessageTooLarge) {
		t.Errorf("%+v", r)
	}
	for i := range 4 {
		if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], 1, fmt.Sprint(i))); r.Outcome != Committed {
			t.Errorf("next: %+v", r)
		}
	}
	if got := k.Committed(t, e.out); len(got[0]) != 4 || len(got[1]) != 0 {
		t.Errorf("committed: %+v", got)
	}
}

// A partition that cannot be written at the moment is named, so that the others
// can go on without it.
func TestPartitionWithoutLeaderIsNamed(t *testing.T) {
	t.Parallel()
	k := kafkatest.Embedded(t)
	e, held, _ := solo(t, k, 3)
	if err := e.txns.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	away := k.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: e.out, Partitions: []int32{1}, Err: kerr.NotLeaderForPartition, Count: -1})
	var txn Txn
	for p := range int32(3) {
		txn.Records = append(txn.Records, Record{Topic: e.out, Partition: p, Value: []byte("away")})
		txn.Offsets = append(txn.Offsets, PartitionOffset{Held: held[p], Offset: 1})
	}
	usual := e.txns.cfg.Watchdog
	e.txns.cfg.Watchdog = 4 * time.Second // for the one that is away; the others have their time
	r := e.txns.Commit(t.Context(), txn)
	e.txns.cfg.Watchdog = usual
	if r.Outcome != Aborted || r.Reason != ReasonRecord || r.Partition != 1 || !errors.Is(r.Err, ErrWatchdog) {
		t.Errorf("%+v", r)
	}
	if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[2], 1, "others")); r.Outcome != Committed {
		t.Errorf("others: %+v", r)
	}
	away.Remove()
	if r := e.txns.Commit(t.Context(), txn); r.Outcome != Committed {
		t.Errorf("back again: %+v", r)
	}
	if got := k.Committed(t, e.out); len(got[0]) != 1 || len(got[1]) != 1 || len(got[2]) != 2 {
		t.Errorf("committed: %+v", got)
	}
}

// The end of a transaction is not seen. Whatever became of it, the answer is
// what stands in the log.
func TestUnseenEndIsFoundInTheLog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		where kafkatest.Cut
		times int
		want  Outcome
	}{
		{"asked again", kafkatest.BeforeSend, 1, Committed},
		{"answered twice", kafkatest.AfterAnswer, 1, Committed},
		{"never sent", kafkatest.BeforeSend, kafkatest.Always, Aborted},
		{"never answered", kafkatest.AfterAnswer, kafkatest.Always, Committed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := kafkatest.Start(t)
			e, held, wire := solo(t, k, 2)
			if err := e.txns.Warm(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], 1, "before")); r.Outcome != Committed {
				t.Fatal(r)
			}
			txn := oneRecord(e.out, held[0], 2, "unseen")
			txn.Records = append(txn.Records, oneRecord(e.out, held[1], 0, "unseen").Records[0])
			txn.Offsets = append(txn.Offsets, PartitionOffset{Held: held[1], Offset: 2})
			wire.Cut(kmsg.EndTxn, c.where, c.times)
			suspect := e.txns.turns[e.txns.next].client
			r := e.txns.Commit(t.Context(), txn)
			wire.Mend()
			if wire.Cuts(kmsg.EndTxn) == 0 {
				t.Fatal("the test is void: nothing was cut")
			}
			if r.Outcome != c.want || !r.Resolved {
				t.Errorf("%+v, want it %v and resolved", r, c.want)
			}
			for _, p := range e.txns.turns {
				if p.client == suspect {
					t.Error("the producer whose end was not seen is still in use")
				}
			}
			got := k.Committed(t, e.out)
			committed := len(got[0]) == 2 && len(got[1]) == 1
			if committed != (r.Outcome == Committed) {
				t.Errorf("answered %v, committed: %q and %q", r.Outcome, values(got[0]), values(got[1]))
			}
			if committed && (r.Offsets[0] != got[0][1].Offset || r.Offsets[1] != got[1][0].Offset) {
				t.Errorf("offsets %d, want %d and %d", r.Offsets, got[0][1].Offset, got[1][0].Offset)
			}
			pos, err := e.look.StableOffsets(t.Context(), []int32{0, 1})
			if want := map[Outcome]int64{Committed: 2, Aborted: 1}[r.Outcome]; err != nil || pos[0].Offset != want {
				t.Errorf("positions %+v, %v, want %d", pos, err, want)
			}
			// All producers go on, the one that was made anew too.
			for i := range 4 {
				if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], 3, fmt.Sprint("after", i))); r.Outcome != Committed {
					t.Errorf("afterwards: %+v", r)
				}
			}
		})
	}
}

// The request to commit is held up in the network until its producer has been
// given up and the id's next transaction is open. It must not end that one: with
// transaction.version 2 each has its own epoch (KIP-890).
func TestLateEndDoesNotEndTheNext(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, wire := solo(t, k, 1)
	t.Cleanup(wire.Thaw)
	if err := e.txns.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.txns.cfg.Watchdog = 5 * time.Second
	p := e.txns.turns[e.txns.next]
	wire.Freeze(kmsg.EndTxn)
	r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], 1, "late"))
	if r.Outcome != Aborted || !r.Resolved {
		t.Fatalf("%+v, want it aborted and resolved", r)
	}
	if err := e.txns.begin(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	next := oneRecord(e.out, held[0], 2, "next")
	if _, failed := e.txns.produce(t.Context(), p, next.Records); failed != nil {
		t.Fatal(failed.Err)
	}
	kafkatest.Wait(t, time.Minute, func() error {
		if wire.GivenUp() == 0 {
			return errors.New("the client still waits for an answer")
		}
		return nil
	})
	wire.Thaw()
	kafkatest.Wait(t, time.Minute, func() error {
		if wire.Late() == 0 {
			return errors.New("the late request was not answered")
		}
		return nil
	})
	pass, err := e.group.fence.enter(t.Context(), []Held{held[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer e.group.fence.leave(pass)
	if w, err := e.look.Watermarks(t.Context(), e.out, 0); err != nil || w.Stable >= w.High {
		t.Errorf("the next transaction is not open any more: %+v, %v", w, err)
	}
	if failed := e.txns.commitInTxn(t.Context(), p, pass, next.Offsets); failed != nil {
		t.Fatal(failed.Err)
	}
	if err := p.client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Error(err)
	}
	if got := values(k.Committed(t, e.out)[0]); len(got) != 1 || got[0] != "next" {
		t.Errorf("committed: %q", got)
	}
}

// A request on the way to the end is lost: nobody was asked to commit, so it is
// aborted, or it went through at a second try.
func TestLostRequestsOnTheWay(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.TxnOffsetCommit} {
		for _, where := range []kafkatest.Cut{kafkatest.BeforeSend, kafkatest.AfterAnswer} {
			t.Run(fmt.Sprint(key.Name(), where), func(t *testing.T) {
				t.Parallel()
				k := kafkatest.Start(t)
				e, held, wire := solo(t, k, 1)
				wire.Cut(key, where, 1)
				n := int64(0)
				for i := range int64(5) {
					if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], i, fmt.Sprint(i))); r.Outcome == Committed {
						n++
					} else if i > 0 {
						t.Errorf("%+v", r)
					}
				}
				if wire.Cuts(key) != 1 {
					t.Fatal("the test is void: nothing was cut")
				}
				if got := k.Committed(t, e.out); int64(len(got[0])) != n {
					t.Errorf("%d were answered as committed, committed: %q", n, values(got[0]))
				}
			})
		}
	}
}

// Somebody takes the transactional id over in the middle, as a takeover by
// mistake would: the writer loses a turn, no more.
func TestFencedWriterGoesOn(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 1)
	if err := e.txns.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range e.txns.turns {
		if err := e.look.EndWriter(t.Context(), p.id); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for i := range int64(7) {
		r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], i, fmt.Sprint(i)))
		if r.Outcome == Committed {
			n++
		} else if i >= 3 || r.Reason != ReasonBroker {
			t.Errorf("commit %d: %+v", i, r)
		}
	}
	if got := k.Committed(t, e.out); len(got[0]) != n || n < 4 {
		t.Errorf("%d were answered as committed, committed: %q", n, values(got[0]))
	}
}

// A term ends while a transaction of it is under way, as when the group throws
// this member out: it is aborted without asking the group.
func TestTermThatEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, _ := solo(t, k, 1)
	pass, err := e.group.fence.enter(t.Context(), []Held{held[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer e.group.fence.leave(pass)
	p := e.txns.turns[0]
	if err := e.txns.begin(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	e.group.fence.drop([]Held{held[0]})
	if r := e.txns.run(t.Context(), p, pass, oneRecord(e.out, held[0], 1, "stale")); r.Outcome != Aborted || r.Reason != ReasonStale {
		t.Errorf("%+v, want it aborted as %q", r, ReasonStale)
	}
	if got := k.Committed(t, e.out); len(got[0]) != 0 {
		t.Errorf("committed: %q", values(got[0]))
	}
}

// A cluster from before KIP-890 (transaction.version below 2) works the same, by
// other requests.
func TestOlderCluster(t *testing.T) {
	t.Parallel()
	k := kafkatest.Embedded(t, kfake.MaxVersions(kversion.V3_7_0()))
	adds := k.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.AddOffsetsToTxn}, Count: -1, Observe: true})
	e, held, wire := solo(t, k, 1)
	for i := range int64(5) {
		if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], i, fmt.Sprint(i))); r.Outcome != Committed {
			t.Fatalf("commit %d: %+v", i, r)
		}
	}
	if adds.Hits() != 5 {
		t.Errorf("%d transactions were told of the group, want 5", adds.Hits())
	}
	wire.Cut(kmsg.EndTxn, kafkatest.BeforeSend, kafkatest.Always)
	if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], 9, "unseen")); r.Outcome != Aborted || !r.Resolved {
		t.Errorf("unseen: %+v", r)
	}
	if got := k.Committed(t, e.out); len(got[0]) != 5 {
		t.Errorf("committed: %q", values(got[0]))
	}
}

// A commit whose outcome cannot be found out while its caller waits is unknown,
// and says so.
func TestOutcomeIsUnknownOnlyWhenTheCallerLeaves(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	e, held, wire := solo(t, k, 1)
	if err := e.txns.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	wire.Cut(kmsg.EndTxn, kafkatest.BeforeSend, kafkatest.Always)
	wire.Cut(kmsg.InitProducerID, kafkatest.BeforeSend, kafkatest.Always)
	// The caller leaves when the end has been tried, not before.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for wire.Cuts(kmsg.EndTxn) == 0 && ctx.Err() == nil {
			<-time.After(time.Millisecond)
		}
		cancel()
	}()
	r := e.txns.Commit(ctx, oneRecord(e.out, held[0], 1, "unknown"))
	if r.Outcome != Unknown || !errors.Is(r.Err, context.Canceled) {
		t.Errorf("%+v", r)
	}
	wire.Mend()
	for range 3 { // the next turn of that producer ends it
		if r := e.txns.Commit(t.Context(), oneRecord(e.out, held[0], 1, "known")); r.Outcome != Committed {
			t.Errorf("%+v", r)
		}
	}
	if got := values(k.Committed(t, e.out)[0]); len(got) != 3 {
		t.Errorf("committed: %q", got)
	}
}
