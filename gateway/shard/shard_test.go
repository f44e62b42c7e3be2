package shard

import (
	"strconv"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

var testNow = time.UnixMilli(1_700_000_000_000)

func testShard(r Restored) *Shard {
	return New(testNow, Config{
		Commands: simTopic, CommandsID: simTopicID, Installation: "test",
		Platform: func(bool, *Parked, *Reject) (runtime.TypeName, runtime.DataSchema, []byte) {
			return runtime.TypeCommandParked, "", []byte("{}")
		},
		MaxFold: 2, Foldable: func(*runtime.Message) bool { return true },
	}, r)
}

func testCommand(offset int64, agg runtime.AggregateID, value string) *Command {
	m := &runtime.Message{ID: "c" + strconv.FormatInt(offset, 10), Type: "Acc.Do", Source: "/client", Subject: agg.Root(), Data: []byte(value)}
	return &Command{Offset: offset, Message: m, Key: m.Key(), Hash: value, Topic: simEvents}
}

// invoked returns the last call that the shard asked for, or fails.
func invoked(t *testing.T, s *Shard) Invoke {
	t.Helper()
	var found *Invoke
	for _, o := range s.Outputs() {
		if i, ok := o.(Invoke); ok {
			found = &i
		}
	}
	if found == nil {
		t.Fatal("no call")
	}
	return *found
}

func testStep(version uint64) Step {
	return Step{Events: []Event{{Type: "Acc.Done", Subject: "acc:1", By: "f"}}, State: State{Version: version, Schema: "s", Data: []byte("x")}}
}

// commit ends the next batch well and returns it; nil when there is none.
func commit(s *Shard, now time.Time, next *int64) *Batch {
	b := s.Take(now, MaxBatch, 1<<20)
	if b == nil {
		return nil
	}
	offsets := make([]int64, len(b.Records))
	for i := range offsets {
		offsets[i] = *next
		*next++
	}
	s.Committed(now, b, offsets)
	return b
}

func TestRetriesWriteOneSmallRecordEach(t *testing.T) {
	t.Parallel()
	s, now, next := testShard(Restored{}), testNow, int64(0)
	const waiting = 50
	for i := range int64(waiting) {
		s.Record(now, testCommand(i, "acc:1", "v"))
	}
	records := 0
	const failures = 20
	for range failures {
		call := invoked(t, s)
		s.Computed(now, call.Call, Computed{Trouble: &Trouble{Kind: Failed, Reason: "no", Policy: Policy{Attempts: 3, Delay: time.Second}}})
		for b := commit(s, now, &next); b != nil; b = commit(s, now, &next) {
			records += len(b.Records)
		}
		now = now.Add(time.Hour)
		s.Tick(now)
		for b := commit(s, now, &next); b != nil; b = commit(s, now, &next) {
			records += len(b.Records)
		}
	}
	if want := waiting - 1 + failures; records > want {
		t.Errorf("%d records for %d failures with %d commands waiting, want %d at most", records, failures, waiting, want)
	}
}

func TestHeldCommandIsNotTriedWithoutABreak(t *testing.T) {
	t.Parallel()
	s := testShard(Restored{})
	s.Record(testNow, testCommand(0, "acc:1", "v"))
	call := invoked(t, s)
	s.Computed(testNow, call.Call, Computed{Trouble: &Trouble{Kind: Failed, Reason: "no", Policy: Policy{Attempts: 1}}})
	s.Tick(testNow.Add(10 * time.Millisecond))
	if out := s.Outputs(); len(out) > 0 {
		t.Errorf("called again at once: %+v", out)
	}
}

// Only the first commands of an aggregate can have been in a call when the last
// owner died. That it had its own counts when it leaves memory in between, too: a
// later command spends no attempt for it.
func TestOnlyTheFirstSuspectSpendsAnAttempt(t *testing.T) {
	t.Parallel()
	s, now, next := testShard(Restored{SuspectBelow: 10}), testNow, int64(0)
	s.cfg.MaxCached = 1
	history := map[runtime.AggregateID]Snapshot{}
	work := func() (announced bool) {
		for range 10 {
			for _, o := range s.Outputs() {
				switch o := o.(type) {
				case Save:
					history[o.Snapshot.Aggregate] = o.Snapshot
				case Load:
					s.Loaded(now, o.Aggregate, o.Token, history[o.Aggregate], nil)
				case Invoke:
					s.Computed(now, o.Call, Computed{Steps: []Step{testStep(o.Work.State.Version + 1)}})
				}
			}
			if b := commit(s, now, &next); b != nil {
				for _, r := range b.Records {
					announced = announced || r.Kind == AsideRecord && r.Value != nil
				}
			}
		}
		return announced
	}
	for i, c := range []struct {
		aggregate runtime.AggregateID
		announced bool
	}{{"acc:1", true}, {"acc:2", true}, {"acc:3", true}, {"acc:1", false}, {"acc:2", false}} {
		s.Record(now, testCommand(int64(i), c.aggregate, "v"))
		if got := work(); got != c.announced {
			t.Errorf("command %d of %s: announced %v, want %v", i, c.aggregate, got, c.announced)
		}
	}
	if b := s.Backlog(); b.Commands != 0 {
		t.Errorf("left: %+v", b)
	}
	s.Record(now, testCommand(11, "acc:1", "v")) // offsets in between are gaps
	work()
	if s.Tick(now); len(s.examined) != 0 {
		t.Errorf("still remembered: %v", s.examined)
	}
}

func TestPositionMovesOverWhatEndsWhileABatchIsOpen(t *testing.T) {
	t.Parallel()
	for _, aborted := range []bool{false, true} {
		s := testShard(Restored{})
		s.Record(testNow, testCommand(0, "acc:1", "v"))
		s.Computed(testNow, invoked(t, s).Call, Computed{Steps: []Step{testStep(1)}})
		b := s.Take(testNow, 10, 1<<20)
		s.Skip(1)
		if aborted {
			s.Aborted(testNow, b, false, "test")
		} else {
			s.Committed(testNow, b, []int64{0})
		}
		if _, _, ok := s.TakePlain(); !ok {
			t.Errorf("aborted %v: nothing moves the position over offset 1", aborted)
		}
		if _, _, ok := s.TakePlain(); ok {
			t.Errorf("aborted %v: the same position once more", aborted)
		}
		s.ReturnPlain()
		if _, _, ok := s.TakePlain(); !ok {
			t.Errorf("aborted %v: a position that was not committed is forgotten", aborted)
		}
	}
}

func TestCallsThatMakeNoSenseAreFailures(t *testing.T) {
	t.Parallel()
	unknown := testStep(1)
	unknown.State = UnknownState(1)
	for name, steps := range map[string][]Step{
		"nothing at all":                   nil,
		"more steps than commands":         {testStep(1), testStep(2), testStep(3)},
		"rejected on a state nobody knows": {unknown, {Rejected: &Reject{Code: "x"}}},
	} {
		s := testShard(Restored{})
		s.Record(testNow, testCommand(0, "acc:1", "v")) // is called alone
		s.Record(testNow, testCommand(1, "acc:1", "v"))
		s.Record(testNow, testCommand(2, "acc:1", "v"))
		s.Record(testNow, testCommand(3, "acc:1", "v"))
		s.Computed(testNow, invoked(t, s).Call, Computed{Steps: []Step{testStep(1)}})
		for i := range steps {
			steps[i].State.Version++
		}
		call := invoked(t, s)
		s.Computed(testNow, call.Call, Computed{Steps: steps})
		for _, o := range s.Outputs() {
			t.Errorf("%s: went on with %+v", name, o)
		}
		if got := len(s.Troubled()); got != 3 {
			t.Errorf("%s: %d commands are in trouble, want 3", name, got)
		}
	}
}

// The world of these tests: what the events topic would answer.
func answers(s *Shard) map[int64]Outcome {
	found := map[int64]Outcome{}
	for _, o := range s.Outputs() {
		if a, ok := o.(Answer); ok {
			found[a.Command.Offset] = a.Outcome
		}
	}
	return found
}

func TestRepeatBehindAConflictGetsItsOutcome(t *testing.T) {
	t.Parallel()
	// The history has c0 with the value "v".
	head := Head{Version: 1, Command: testCommand(0, "acc:1", "v").Key, Pos: 1}
	s := testShard(Restored{Position: position.Position{Offset: 1}, Heads: map[runtime.AggregateID]Head{"acc:1": head}})
	again := func(offset int64, value string) *Command {
		c := testCommand(0, "acc:1", value)
		c.Offset = offset
		return c
	}
	s.Record(testNow, again(1, "other"))
	s.Record(testNow, again(2, "v"))
	s.Record(testNow, again(3, "other"))
	got := map[int64]Status{}
	for range 10 {
		for _, out := range s.Outputs() {
			switch o := out.(type) {
			case Load:
				seen := &Seen{}
				seen.Add(SeenEntry{Hash: SeenHash(head.Command)})
				s.Loaded(testNow, o.Aggregate, o.Token, Snapshot{Aggregate: o.Aggregate, Head: head, Links: []int64{0}, Seen: seen}, nil)
			case Confirm:
				s.Confirmed(testNow, o.Token, Confirmation{Found: true, Same: o.Command.Hash == "v", Outcome: Outcome{Status: Done}})
			case Answer:
				got[o.Command.Offset] = o.Outcome.Status
			case Invoke:
				t.Fatalf("called with %+v", o)
			}
		}
	}
	if len(got) != 3 || got[1] != Conflict || got[2] != Done || got[3] != Conflict {
		t.Errorf("outcomes %v, want a conflict, the old outcome, a conflict", got)
	}
}

func TestSameCommandUnderAnotherSchemaIsARepeat(t *testing.T) {
	t.Parallel()
	s, next := testShard(Restored{}), int64(0)
	s.cfg.Comparable = func(a, b string) bool { return a[:1] == b[:1] }
	older, newer, other := testCommand(0, "acc:1", "1v"), testCommand(0, "acc:1", "2v"), testCommand(0, "acc:1", "1w")
	newer.Offset, other.Offset = 1, 2
	s.Record(testNow, older)
	call := invoked(t, s)
	s.Record(testNow, newer)
	s.Record(testNow, other)
	if got := answers(s); len(got) != 1 || got[2].Status != Conflict {
		t.Errorf("before the first has its outcome: %v, want the conflict alone", got)
	}
	s.Computed(testNow, call.Call, Computed{Steps: []Step{testStep(1)}})
	commit(s, testNow, &next)
	for _, out := range s.Outputs() {
		if o, ok := out.(Confirm); ok {
			s.Confirmed(testNow, o.Token, Confirmation{Found: true, Same: true, Outcome: Outcome{Status: Done, Version: 1}})
		}
	}
	if got := answers(s); len(got) != 1 || got[1].Status != Done || !got[1].Repeat {
		t.Errorf("after it: %v, want the outcome of the first", got)
	}
}

func TestAsideThatCannotBeReadIsKept(t *testing.T) {
	t.Parallel()
	next := int64(100)
	s := testShard(Restored{Position: position.Position{Offset: 9}, AsideEnd: 50, Asides: []Aside{
		{Offset: 3, RecordAt: 20},
		{Offset: 4, RecordAt: 30, Command: testCommand(4, "acc:1", "v")},
	}})
	s.Computed(testNow, invoked(t, s).Call, Computed{Steps: []Step{testStep(1)}})
	for b := commit(s, testNow, &next); b != nil; b = commit(s, testNow, &next) {
		p, err := position.Parse(b.Offset, b.Metadata, simTopicID)
		if err != nil || p.Aside > 20 {
			t.Errorf("the next owner reads the parked topic from %d on, %v: the record at 20 is lost", p.Aside, err)
		}
		for _, r := range b.Records {
			if r.Kind == AsideRecord && r.Offset == 3 {
				t.Error("its record is deleted")
			}
		}
	}
	// The position was lost, and now it can be read.
	s = testShard(Restored{AsideEnd: 50, Asides: []Aside{{Offset: 0, RecordAt: 20}}})
	s.Record(testNow, testCommand(0, "acc:1", "v"))
	s.Computed(testNow, invoked(t, s).Call, Computed{Steps: []Step{testStep(1)}})
	commit(s, testNow, &next)
	if b := commit(s, testNow, &next); b == nil || b.Records[0].Offset != 0 || b.Records[0].Value != nil {
		t.Errorf("the record of a command with an outcome is not deleted: %+v", b)
	}
}

// What is computed behind a command that fails again is for nothing, and may be
// much: so one that has failed goes alone, and those behind it share a call again.
func TestCommandThatHasFailedGoesAlone(t *testing.T) {
	t.Parallel()
	s := testShard(Restored{})
	for offset := range int64(4) {
		s.Record(testNow, testCommand(offset, "acc:1", "v"))
	}
	s.Computed(testNow, invoked(t, s).Call, Computed{Steps: []Step{testStep(1)}})
	run := invoked(t, s)
	if n := len(run.Work.Commands); n != 2 {
		t.Fatalf("%d commands in a call, want 2", n)
	}
	s.Computed(testNow, run.Call, Computed{Trouble: &Trouble{Kind: Failed, Reason: "poison", Policy: DefaultPolicy}})
	s.Outputs()
	s.Tick(testNow.Add(time.Minute))
	alone := invoked(t, s)
	if n := len(alone.Work.Commands); n != 1 {
		t.Fatalf("%d commands in a call with one that has failed", n)
	}
	s.Computed(testNow, alone.Call, Computed{Steps: []Step{testStep(2)}})
	if n := len(invoked(t, s).Work.Commands); n != 2 {
		t.Errorf("%d commands in the call behind it, want 2", n)
	}
}

// That a suspect is announced records nothing of its aggregate: there is no new
// snapshot, of one without records none at all.
func TestAnnouncingSavesNothing(t *testing.T) {
	t.Parallel()
	s, next := testShard(Restored{SuspectBelow: 10}), int64(0)
	s.Record(testNow, testCommand(0, "acc:1", "v"))
	b := s.Take(testNow, MaxBatch, 1<<20)
	if b == nil || len(b.Records) != 1 || b.Records[0].Kind != AsideRecord {
		t.Fatalf("the attempt is not recorded before the call: %+v", b)
	}
	s.Committed(testNow, b, []int64{next})
	invoked := 0
	for _, o := range s.Outputs() {
		switch o := o.(type) {
		case Save:
			t.Errorf("saved: %+v", o.Snapshot)
		case Invoke:
			invoked++
		}
	}
	if invoked != 1 {
		t.Errorf("called %d times after the attempt was recorded", invoked)
	}
}
