package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// newerSchemas says that something registered for every aggregate is beyond
// this gateway, as long as newer is set.
type newerSchemas struct{ newer atomic.Bool }

func (*newerSchemas) CatchUp(context.Context) error { return nil }
func (s *newerSchemas) Beyond(string) bool          { return s.newer.Load() }

// A command that this gateway cannot understand was accepted by a newer one. It
// must still be there when a gateway comes that can; what nobody registered is
// left out.
func TestCommandOfANewerGatewayIsNotLeftOut(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 1)
	schemas := &newerSchemas{}
	schemas.newer.Store(true)
	w.schemas = schemas
	e := w.start(1)
	unknown := w.open(t, "checking:1")
	unknown.Schema = "urn:evento:avro:" + "CheckingAccount.OpenCheckingAccount:0123456789abcdef"
	at, err := e.Append(patience(t), unknown)
	if err != nil {
		t.Fatal(err)
	}
	behind := w.deposit(t, "checking:2", "d1", 1)
	if _, err := e.Append(patience(t), behind); err != nil {
		t.Fatal(err)
	}
	e.awaitHeld(t)
	// The reading stands before it: neither it nor what follows is taken up.
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := e.Outcome(ctx, behind.Aggregate(), behind.Key()); err == nil {
		t.Fatal("a command behind one that cannot be read was taken up: the partition was read on")
	}
	e.stop()
	positions := w.positions(t, 0)
	if p := positions[0]; p.Found && p.Offset > at.Offset {
		t.Fatalf("the position %d is beyond the command at %d: it is lost", p.Offset, at.Offset)
	}

	schemas.newer.Store(false) // nobody registered it: somebody else's record
	next := w.start(1)
	if o := next.outcome(patience(t), behind); !o.Status.Final() {
		t.Errorf("the command behind has %+v", o)
	}
}

// Only the partition that has a record whose schema is not known yet waits for
// it; when the schema comes, what follows is taken up in its order.
func TestOnlyThePartitionOfAnUnknownSchemaWaits(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 2)
	schemas := &newerSchemas{}
	schemas.newer.Store(true)
	w.schemas = schemas
	here, there := accountsOf(2)[0], accountsOf(2)[1]
	next := func(schema string) string { return addField(schema, "ReceiveDeposit", "memo") }
	intake := &functionWorld{schemas: avro.NewCatalogue()} // is ahead
	registerSchemas(t, intake.schemas, readSchemas(t, "../examples/bank/schemas/CheckingAccount.avsc"))
	registerNext(t, intake, next)

	e := w.start(2)
	e.send(w.open(t, here))
	e.send(w.open(t, there))
	newer := intake.deposit(t, here, "newer", 1)
	if _, known := w.functionWorld.schemas.Version(newer.Schema); known {
		t.Fatal("the newer schema is known already: nothing is tried")
	}
	appendTo := func(m *runtime.Message) *runtime.Message {
		if _, err := e.Append(patience(t), m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	appendTo(newer)
	var behind []*runtime.Message
	for i := range 20 {
		behind = append(behind, appendTo(w.deposit(t, here, fmt.Sprintf("behind%d", i), 1)))
	}
	for i := range 20 {
		if o := e.send(w.deposit(t, there, fmt.Sprintf("d%d", i), 1)); o.Version != uint64(i+2) {
			t.Fatalf("the other partition: %+v", o)
		}
	}
	registerNext(t, w.functionWorld, next)
	for i, m := range append([]*runtime.Message{newer}, behind...) {
		if o := e.outcome(patience(t), m); o.Version != uint64(i+2) {
			t.Errorf("%s is at version %d, want %d: %+v", m.ID, o.Version, i+2, o)
		}
	}
	// It is read on.
	if o := e.send(w.deposit(t, here, "last", 1)); o.Version != uint64(len(behind)+3) {
		t.Errorf("the last one: %+v", o)
	}
}

// A record that stands in the wrong partition and that Kafka does not take in its
// own holds up nobody, is shown, outlives a restart, and is forwarded in the end.
func TestStrayThatCannotBeForwardedHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 2)
	here, there := accountsOf(2)[0], accountsOf(2)[1]
	e := w.start(2)
	e.send(w.open(t, here))
	e.send(w.open(t, there))
	var refuse atomic.Bool
	refuse.Store(true)
	stray := w.deposit(t, there, "stray", 1)
	w.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		produce := req.(*kmsg.ProduceRequest)
		if !refuse.Load() || produce.TransactionID != nil {
			return nil, nil, false
		}
		resp := produce.ResponseKind().(*kmsg.ProduceResponse)
		bad := false
		for _, topic := range produce.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition = p.Partition
				if p.Partition == 1 && bytes.Contains(p.Records, []byte("stray")) {
					part.ErrorCode, bad = kerr.MessageTooLarge.Code, true
				}
				answer.Partitions = append(answer.Partitions, part)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, bad
	})
	misplaced := e.commandRecord(stray)
	misplaced.Partition = 0
	at, err := w.producer.Produce(patience(t), misplaced)
	if err != nil {
		t.Fatal(err)
	}
	parked := func(e *runningEngine) ParkedCommand {
		ctx := patience(t)
		for {
			list, _, err := e.Parked(ctx, ParkedFilter{})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range list {
				if c.At.Partition == 0 && c.At.Offset == at && strings.Contains(c.Reason, "wrong partition") {
					return c
				}
			}
			if !sleep(ctx, 10*time.Millisecond) {
				t.Fatalf("the stray is not shown: %+v", list)
			}
		}
	}
	if c := parked(e); c.Aggregate != there || !c.Misplaced {
		t.Errorf("it is shown as %+v", c)
	}
	for i, id := range []runtime.AggregateID{here, there, here, there} {
		if o := e.send(w.deposit(t, id, fmt.Sprintf("d%d", i), 1)); o.Version != uint64(i/2+2) {
			t.Fatalf("beside the stray: %+v", o)
		}
	}
	e.stop()
	if p := w.positions(t, 0)[0]; p.Offset <= at {
		t.Errorf("the position %d stands at the stray, which is at %d", p.Offset, at)
	}
	second := w.start(2)
	second.awaitHeld(t)
	parked(second)
	second.crash()
	refuse.Store(false)
	third := w.start(2)
	third.awaitHeld(t)
	if o := third.outcome(patience(t), stray); o.Version != 4 {
		t.Errorf("forwarded in the end: %+v", o)
	}
	ctx := patience(t)
	for {
		list, _, err := third.Parked(ctx, ParkedFilter{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		if !sleep(ctx, 10*time.Millisecond) {
			t.Fatalf("still shown: %+v", list)
		}
	}
}

// accountsOf returns an account of each partition.
func accountsOf(partitions int32) map[int32]runtime.AggregateID {
	accounts := map[int32]runtime.AggregateID{}
	for i := 0; len(accounts) < int(partitions); i++ {
		id := runtime.AggregateID(fmt.Sprintf("checking:%d", i))
		accounts[kafka.Partition(string(id), partitions)] = id
	}
	return accounts
}

// A client asks for the outcome right after its 202, before the command is read.
func TestOutcomeRightAfterTheAppendIsNotNotFound(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 1)
	e := w.start(1)
	e.send(w.open(t, "checking:1"))
	for i := range 200 {
		m := w.deposit(t, "checking:1", "d"+string(rune('a'+i%26))+string(rune('a'+i/26)), 1)
		if _, err := e.Append(patience(t), m); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Outcome(patience(t), m.Aggregate(), m.Key()); err != nil {
			t.Fatalf("deposit %d: %v", i, err)
		}
	}
	if _, err := e.Outcome(patience(t), "checking:1", w.deposit(t, "checking:1", "never", 1).Key()); !errors.Is(err, ErrNotFound) {
		t.Errorf("a command that was never sent: %v, want not found", err)
	}
}

// awaitHeld waits until the engine owns and has taken over its partition.
func (r *runningEngine) awaitHeld(t *testing.T) {
	t.Helper()
	if !r.AwaitReady(patience(t)) {
		t.Fatal("the partition is not taken over")
	}
}

// positions reads the group's committed positions of partitions.
func (w *engineWorld) positions(t *testing.T, partitions ...int32) map[int32]kafka.Position {
	t.Helper()
	franz, err := w.settings.Franz(w.log)
	if err != nil {
		t.Fatal(err)
	}
	look, err := kafka.NewTakeover(franz, w.topics.Commands()+"-gateway", w.topics.Commands(), w.log)
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	positions, err := look.StableOffsets(patience(t), partitions)
	if err != nil {
		t.Fatal(err)
	}
	return positions
}
