package shard

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// What a takeover read of the events belongs into the next checkpoint, which
// says that all events before it are in the heads.
func TestCheckpointHasWhatTheTakeoverRead(t *testing.T) {
	heads := map[runtime.AggregateID]Head{
		"a:1": {Version: 1, Offset: 4, Pos: 1}, // of the last checkpoint
		"a:2": {Version: 3, Offset: 9, Pos: 1}, // of an event after it
	}
	s := New(time.Now(), Config{}, Restored{Heads: heads, Unsaved: map[runtime.AggregateID]struct{}{"a:2": {}}, Since: HeadsEvery})
	if !s.HeadsDue() {
		t.Error("no checkpoint is due, though as many events stand after the last one as may")
	}
	c := s.TakeCheckpoint(true)
	if got := slices.Collect(maps.Keys(c.Heads)); !slices.Equal(got, []runtime.AggregateID{"a:2"}) || c.Heads["a:2"] != heads["a:2"] {
		t.Errorf("the checkpoint has %v", c.Heads)
	}
	if c = s.TakeCheckpoint(true); len(c.Heads) != 0 || s.HeadsDue() {
		t.Errorf("the next one has %v", c.Heads)
	}
}
