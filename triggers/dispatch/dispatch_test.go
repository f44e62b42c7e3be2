package dispatch

import (
	"fmt"
	"testing"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
)

func TestOneEventOneCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.start(trigger("latest")).started()
	event, at := w.record("checking:1", "e1")
	c := w.await(1, "e1")["e1"][0]
	if c.CorrelationID != "root-of-e1" || c.Cause != at || c.TraceParent != event.TraceParent ||
		c.Source != "/evento/test/dispatchers/bank/transfers" || c.By != "bank/transfers image 0123456789abcdef" || len(c.ID) > 128 {
		t.Errorf("the command is %+v", c)
	}
	if c.ID != commandID(decisionID(event.ID, name, 0), 0) {
		t.Errorf("its id is %q", c.ID)
	}
	d := w.decisions()["e1"]
	if len(d) != 1 || d[0].Status != avro.DispatchDecided || d[0].Dispatcher != name || d[0].At != at.String() || d[0].Epoch != 0 {
		t.Errorf("decisions %+v", d)
	}
}

func TestZeroAndManyCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	g := w.start(trigger("latest")).started()
	w.answer(func(event *runtime.Message) Answer {
		var a Answer
		id := w.name(event.ID)
		for i := range int(id[1] - '0') {
			a.Commands = append(a.Commands, command(fmt.Sprintf("savings:%s-%d", id, i)))
		}
		return a
	})
	for i := range 6 {
		w.record("checking:1", fmt.Sprintf("e%d", i))
	}
	for i := range 6 {
		if i > 0 {
			w.await(i, fmt.Sprintf("e%d", i))
		}
	}
	w.asksEachOnce(6)
	if n := len(w.decisions()["e0"]); n != 0 {
		t.Errorf("%d decisions about an event that led to nothing", n)
	}
	// It is not asked about again, for the position is behind it.
	g.stop()
	w.start("").started()
	w.record("checking:1", "e7")
	w.await(7, "e7")
	w.asksEachOnce(6)
}

func (w *world) asksEachOnce(n int) {
	w.t.Helper()
	for i := range n {
		if calls := w.calls(fmt.Sprintf("e%d", i)); calls != 1 {
			w.t.Errorf("e%d was asked about %d times", i, calls)
		}
	}
}

// An event is recorded between a dispatcher's creation and its first assignment.
func TestLatestIsFixedAtCreation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	for i := range 8 {
		w.record(fmt.Sprintf("checking:%d", i), fmt.Sprintf("old%d", i))
	}
	g := w.start(trigger("latest"))
	kafkatest.Wait(t, patience, func() error {
		if _, ok, _ := g.starts.get(name); !ok {
			return fmt.Errorf("not created")
		}
		return nil
	})
	var events []string
	for i := range 8 {
		events = append(events, fmt.Sprintf("new%d", i))
		w.record(fmt.Sprintf("checking:%d", i), events[i])
	}
	w.await(1, events...)
	for i := range 8 {
		if w.calls(fmt.Sprintf("old%d", i)) != 0 {
			t.Errorf("an event from before was asked about")
		}
	}
}

func TestEarliestStartsAtTheBeginning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	var events []string
	for i := range 8 {
		events = append(events, fmt.Sprintf("old%d", i))
		w.record(fmt.Sprintf("checking:%d", i), events[i])
	}
	w.start(trigger("earliest"))
	w.await(1, events...)
}
