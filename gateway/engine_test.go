package gateway

import (
	"testing"
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
