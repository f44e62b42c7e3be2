package shard

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// listed returns the parked commands that an operator is shown.
func (w *world) listed() []Waiter {
	if w.shard == nil {
		return nil
	}
	return slices.DeleteFunc(w.shard.Troubled(), func(t Waiter) bool { return t.Status != ParkedS })
}

// simParked reads a CommandParked as the simulation writes it.
func simParked(m *runtime.Message) *Parked {
	var verdict []*Parked
	if err := json.Unmarshal(m.Data, &verdict); err != nil {
		panic(err)
	}
	return verdict[0]
}

// checkParked holds the list of parked commands against the log: all that the
// platform gave up and no operator has dealt with, and the same ones after the
// next takeover.
func (w *world) checkParked() error {
	listed := map[int64]Waiter{}
	for _, l := range w.listed() {
		listed[l.Command.Offset] = l
	}
	ordered, gone := map[int64]bool{}, map[int64]bool{}
	for _, c := range w.commands {
		if c.Order != nil && c.Order.Drop {
			ordered[c.Order.Offset] = true
		}
	}
	for _, a := range w.answers {
		if a.cmd.Order != nil && a.cmd.Order.Drop && a.o.Status == Done {
			gone[a.cmd.Order.Offset] = true
		}
	}
	for at, e := range w.events {
		if e.m == nil || e.m.Type != runtime.TypeCommandParked {
			continue
		}
		verdict := simParked(e.m)
		offset := e.m.Cause.Offset
		l, is := listed[offset]
		delete(listed, offset)
		switch c := w.commands[offset]; {
		case strings.HasPrefix(verdict.Reason, droppedBy):
			if is {
				return fmt.Errorf("the command at %d was dropped and is listed as parked", offset)
			}
		case !is && !ordered[offset]:
			return fmt.Errorf("the command at %d is parked, and neither listed nor dropped", offset)
		case !is:
		case gone[offset]:
			return fmt.Errorf("the parked command at %d was taken off the list and is on it", offset)
		case l.OutcomeAt != int64(at) || l.Command.Message.ID != c.Message.ID || l.Command.Message.Subject != c.Message.Subject || l.Attempts != verdict.Attempts || l.Reason != verdict.Reason:
			return fmt.Errorf("the parked command at %d is listed as %+v", offset, l)
		}
	}
	for offset := range listed {
		return fmt.Errorf("the command at %d is listed as parked, and is not", offset)
	}
	if aside := w.shard.Backlog().Aside; aside != 0 {
		return fmt.Errorf("%d commands count as set aside, and nothing waits", aside)
	}
	before := w.listed()
	w.crash()
	w.takeOver()
	if after := w.listed(); !reflect.DeepEqual(before, after) {
		return fmt.Errorf("the next owner lists the parked commands %+v, the last one listed %+v", after, before)
	}
	return nil
}

// The simulation must have something to check.
func TestSimulationParks(t *testing.T) {
	t.Parallel()
	parked, dropped := 0, 0
	for seed := uint64(1); seed <= 60; seed++ {
		w := newWorld(seed)
		if err := w.play(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		parked += len(w.listed())
		for _, a := range w.answers {
			if a.cmd.Order != nil && a.cmd.Order.Drop && a.o.Status == Done {
				dropped++
			}
		}
	}
	t.Logf("%d parked commands are listed in the end, %d were taken off", parked, dropped)
	if parked < 10 || dropped < 3 {
		t.Errorf("%d parked commands are listed in the end, %d were taken off: too few", parked, dropped)
	}
}
