package shard

import (
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// tornShard has a command of acc:1 that is committed whole and a second one that
// misses an event, a whole one of acc:2, and one of acc:3 whose set-aside record is
// missing; and says what was answered.
func tornShard(t *testing.T) (*Shard, []Output) {
	t.Helper()
	s, now := testShard(Restored{}), testNow
	s.cfg.Foldable = func(*runtime.Message) bool { return false }
	calls := map[runtime.AggregateID]uint64{}
	collect := func() {
		for _, o := range s.Outputs() {
			if i, ok := o.(Invoke); ok {
				calls[i.Work.Aggregate] = i.Call
			}
		}
	}
	for i, id := range []runtime.AggregateID{"acc:1", "acc:1", "acc:2", "acc:3", "acc:1"} {
		s.Record(now, testCommand(int64(i), id, "v"))
	}
	collect()
	s.Computed(now, calls["acc:1"], Computed{Steps: []Step{testStep(1)}})
	collect()
	two := testStep(3)
	two.Events = append(two.Events, two.Events[0])
	s.Computed(now, calls["acc:1"], Computed{Steps: []Step{two}})
	s.Computed(now, calls["acc:2"], Computed{Steps: []Step{testStep(1)}})
	now = now.Add(3 * time.Second)
	s.Tick(now) // sets aside what has no result
	s.Outputs()
	b := s.Take(now, MaxBatch, 1<<20)
	offsets := make([]int64, len(b.Records))
	for i, r := range b.Records {
		offsets[i] = int64(100 + i)
		if r.Kind == EventRecord && r.Message.CausationID == "c1" && r.Message.Pos == 2 || r.Kind == AsideRecord && r.Offset == 3 {
			offsets[i] = -1
		}
	}
	s.Committed(now, b, offsets)
	return s, s.Outputs()
}

func TestTornCommitStopsItsAggregateAlone(t *testing.T) {
	t.Parallel()
	s, out := tornShard(t)
	answered, corrupt := "", ""
	for _, o := range out {
		switch o := o.(type) {
		case Answer:
			answered += o.Command.Message.ID + " "
		case Corrupt:
			corrupt += string(o.Aggregate) + " "
		case Invoke:
			t.Errorf("%s is called", o.Work.Aggregate)
		}
	}
	if answered != "c0 c2 " || corrupt != "acc:1 " {
		t.Errorf("answered %q, want c0 and c2; stopped %q, want acc:1", answered, corrupt)
	}
	if h := s.heads["acc:1"]; h.Version != 1 || h.Offset < 0 {
		t.Errorf("its head is %+v", h)
	}
	// Its commands wait and are shown; the position does not pass them unseen.
	shown := map[int64]Status{}
	for _, w := range s.Troubled() {
		shown[w.Command.Offset] = w.Status
		if w.Command.Message.Aggregate() == "acc:1" && !strings.Contains(w.Reason, "event 2 of 2 of the command at offset 1") {
			t.Errorf("the reason is %q", w.Reason)
		}
	}
	if shown[1] != Held || shown[4] != Held {
		t.Errorf("shown: %v", shown)
	}
	if offset, _, ok := s.TakePlain(); !ok || offset != 1 {
		t.Errorf("the position is %d, %v; the command at 1 has no outcome", offset, ok)
	}
	s.Read(testNow, 7, "acc:1", simEvents, 0)
	s.Record(testNow, testCommand(5, "acc:1", "later"))
	order := testCommand(6, "acc:1", "order")
	order.Order = &Order{Drop: true, Offset: 1}
	s.Record(testNow, order)
	broken, refused := false, false
	for _, o := range s.Outputs() {
		switch o := o.(type) {
		case Reply:
			broken = o.Broken && o.Err != ""
		case Answer:
			refused = o.Outcome.Status == Rejected && strings.Contains(o.Outcome.Reason, "stopped")
		case Invoke, Load:
			t.Errorf("it goes on: %+v", o)
		}
	}
	if !broken || !refused {
		t.Errorf("a read is told so: %v, an order: %v", broken, refused)
	}
	// The others go on, and what was not written is written again.
	s.Record(testNow, testCommand(7, "acc:2", "v"))
	invoked(t, s)
	next := int64(200)
	again := commit(s, testNow.Add(time.Hour), &next)
	found := false
	for _, r := range again.Records {
		found = found || r.Kind == AsideRecord && r.Offset == 3 && r.Value != nil
	}
	if !found || s.asideLive[3] < 200 {
		t.Errorf("the set-aside record that is missing is not written again: %+v", again.Records)
	}
	if err := recount(s); err != nil {
		t.Error(err)
	}
}

func TestTornAggregateIsStoppedForLaterOwners(t *testing.T) {
	t.Parallel()
	s, _ := tornShard(t)
	c := s.TakeCheckpoint(true)
	if _, written := c.Heads["acc:1"]; !written || c.Broken["acc:1"] == "" || len(c.Broken) != 1 {
		t.Fatalf("the checkpoint: %+v", c)
	}
	aside := Aside{Offset: 1, Command: testCommand(1, "acc:9", "v")}
	next := testShard(Restored{Position: position.Position{Offset: 1}, Broken: map[runtime.AggregateID]string{"acc:9": "torn"}, Asides: []Aside{aside}})
	for _, o := range next.Outputs() {
		switch o.(type) {
		case Invoke, Load:
			t.Errorf("it goes on: %+v", o)
		}
	}
	if c := next.TakeCheckpoint(false); c.Broken["acc:9"] != "torn" {
		t.Errorf("the next checkpoint: %+v", c)
	}
}
