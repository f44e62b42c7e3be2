package gateway

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

func TestReplayGivesTheStatesThatWereComputed(t *testing.T) {
	t.Parallel()
	for _, both := range []bool{false, true} {
		w := newFunctionWorld(t, func(s *FunctionSettings) { s.Runs, s.Limits.BatchBytes = true, 2000 })
		if both {
			w.combined("http://both")
		}
		w.meet(t)
		var events []*runtime.Message
		var state shard.State
		for i := range 60 {
			m := w.deposit(t, bankAccount, fmt.Sprint("d", i), i*10)
			if i == 1 {
				m = w.open(t, bankAccount)
			}
			m.Time = time.Unix(int64(1000+i), 0).UTC()
			c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{m}})
			if c.Trouble != nil {
				t.Fatal(c.Trouble)
			}
			// As the engine records it and reads it back.
			for j, e := range c.Steps[0].Events {
				events = append(events, &runtime.Message{
					ID: m.Key().EventID(j + 1), Type: e.Type, Source: "/evento/x", Subject: e.Subject, Schema: e.Schema, Data: e.Data, Time: e.Time,
					Sequence: state.Version + uint64(j) + 1, CausationID: m.ID, Pos: j + 1, Count: len(c.Steps[0].Events), RecordedTime: time.Unix(5000, 0),
				})
			}
			state = c.Steps[0].State
		}
		w.set.Limits.StateBytes = 10 // facts know no limit
		before := len(w.wire.sent())
		got, trouble := w.Replay(t.Context(), bankAccount, shard.State{}, events)
		if trouble != nil {
			t.Fatal(trouble)
		}
		if got.Version != state.Version || got.Schema != state.Schema || !bytes.Equal(got.Data, state.Data) {
			t.Errorf("replayed to %d %s\nwas computed %d %s", got.Version, w.json(t, got.Schema, got.Data), state.Version, w.json(t, state.Schema, state.Data))
		}
		version := uint64(0)
		for _, r := range w.wire.sent()[before:] {
			for _, m := range r.items[0].Messages {
				if version++; m.Sequence != version || m.Source != "" || m.CausationID != "" || m.ID != events[version-1].ID {
					t.Errorf("the aggregator saw %+v at version %d, want what it saw at first", m, version)
				}
			}
		}
		if n := len(w.wire.sent()) - before; n < 3 {
			t.Errorf("%d calls for a history of several times the limit of bytes", n)
		}
		if _, trouble := w.Replay(t.Context(), bankAccount, shard.State{}, events[1:]); trouble == nil {
			t.Error("a history with a gap was replayed")
		}
	}
}
