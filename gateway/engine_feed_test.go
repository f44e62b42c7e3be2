package gateway

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
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
	positions := w.positions(t)
	if p := positions[0]; p.Found && p.Offset > at.Offset {
		t.Fatalf("the position %d is beyond the command at %d: it is lost", p.Offset, at.Offset)
	}

	schemas.newer.Store(false) // nobody registered it: somebody else's record
	next := w.start(1)
	if o := next.outcome(patience(t), behind); !o.Status.Final() {
		t.Errorf("the command behind has %+v", o)
	}
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

// positions reads the group's committed positions.
func (w *engineWorld) positions(t *testing.T) map[int32]kafka.Position {
	t.Helper()
	franz, err := w.settings.Franz()
	if err != nil {
		t.Fatal(err)
	}
	look, err := kafka.NewTakeover(franz, w.topics.Commands()+"-gateway", w.topics.Commands(), w.log)
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	positions, err := look.StableOffsets(patience(t), []int32{0})
	if err != nil {
		t.Fatal(err)
	}
	return positions
}
