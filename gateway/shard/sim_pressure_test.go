package shard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// One command never gets an answer, of the others each second one comes late, in
// an order that does not compress: the metadata stay within what the broker
// takes, and who takes over from any of the positions finds every unfinished
// command, in the metadata's gaps or set aside.
func TestMetadataStayShort(t *testing.T) {
	t.Parallel()
	const commands = 30_000
	rng := rand.New(rand.NewPCG(1, 2))
	s, next, now := testShard(Restored{}), int64(0), testNow
	finished, aside := map[int64]bool{}, map[int64]bool{}
	var late []Invoke
	worst, sets := 0, 0
	answer := func(call Invoke) {
		s.Computed(now, call.Call, Computed{Steps: []Step{testStep(1)}})
	}
	drain := func() {
		for _, o := range s.Outputs() {
			switch o := o.(type) {
			case Invoke:
				if len(late) == 0 || rng.IntN(2) == 0 { // the first of all is never answered
					late = append(late, o)
				} else {
					answer(o)
				}
			case Answer:
				finished[o.Command.Offset] = true
			}
		}
	}
	check := func(b *Batch) {
		worst = max(worst, len(b.Metadata))
		for _, r := range b.Records {
			if r.Kind == AsideRecord {
				aside[r.Offset] = r.Value != nil
				sets++
			}
		}
		p, err := position.Parse(b.Offset, b.Metadata, simTopicID)
		if err != nil {
			t.Fatal(err)
		}
		for _, offset := range p.Done {
			if !finished[offset] && !aside[offset] {
				t.Fatalf("offset %d counts as finished, and nobody has an outcome or a set-aside record of it", offset)
			}
		}
		for offset := range p.Offset {
			if !finished[offset] && !aside[offset] {
				t.Fatalf("offset %d is below the position %d, and nobody has an outcome or a set-aside record of it", offset, p.Offset)
			}
		}
	}
	take := func() {
		b := s.Take(now, MaxBatch, 1<<30)
		if b == nil {
			return
		}
		offsets := make([]int64, len(b.Records))
		for i := range offsets {
			offsets[i] = next
			next++
		}
		s.Committed(now, b, offsets)
		drain()
		check(b)
	}
	for offset := range int64(commands) {
		s.Record(now, testCommand(offset, runtime.AggregateID("acc:"+strconv.FormatInt(offset, 10)), "v"))
		drain()
		if offset%2000 == 1999 {
			take()
			if n := len(late); n > 1 {
				for _, i := range rng.Perm(n - 1)[:n/3] {
					answer(late[1+i])
				}
			}
			drain()
		}
	}
	for _, call := range late[1:] {
		answer(call)
	}
	drain()
	for range 5 {
		take()
	}
	if worst > position.MetadataLimit {
		t.Errorf("metadata of %d bytes; the broker takes %d", worst, position.MetadataLimit)
	}
	if worst < position.MetadataSoft/2 || sets == 0 {
		t.Errorf("metadata of %d bytes at most, %d set-aside records: nothing was tried", worst, sets)
	}
	if b := s.Backlog(); b.Commands != 1 || b.Aside > 1 {
		t.Errorf("%d commands are unfinished and %d set aside, want the one without an answer", b.Commands, b.Aside)
	}
}

// A hot aggregate whose commits are slow stops at MaxTail results, and goes on.
func TestTailHasAnEnd(t *testing.T) {
	t.Parallel()
	s, next, now := testShard(Restored{}), int64(0), testNow
	s.cfg.MaxTail = 16
	const commands = 2000
	for offset := range int64(commands) {
		s.Record(now, testCommand(offset, "acc:1", "v"))
	}
	answered := 0
	for rounds := 0; answered < commands; rounds++ {
		if rounds > commands {
			t.Fatalf("%d of %d commands are answered, and nothing goes on", answered, commands)
		}
		for busy := true; busy; {
			busy = false
			for _, o := range s.Outputs() {
				switch o := o.(type) {
				case Invoke:
					busy = true
					var c Computed
					for i := range o.Work.Commands {
						c.Steps = append(c.Steps, testStep(o.Work.State.Version+uint64(i)+1))
					}
					s.Computed(now, o.Call, c)
				case Answer:
					answered++
				}
			}
		}
		if n := len(s.aggregates["acc:1"].tail); n > s.cfg.MaxTail+s.cfg.MaxFold {
			t.Fatalf("%d results wait for their commit", n)
		}
		now = now.Add(time.Second)
		s.Tick(now)
		if rounds%3 == 1 {
			if b := s.Take(now, 5, 1<<20); b != nil {
				s.Aborted(now, b, false, "test")
			}
			continue
		}
		commit(s, now, &next)
	}
}

// recount counts what is in memory the slow way.
func recount(s *Shard) error {
	var b Backlog
	aggs := map[*aggregate][2]int{}
	for _, e := range s.entries {
		b.Commands++
		b.Bytes += e.bytes()
		n := aggs[e.agg]
		n[0]++
		_, live := s.asideLive[e.cmd.Offset]
		if live {
			b.Aside++
			b.AsideBytes += e.bytes()
			n[1]++
		}
		aggs[e.agg] = n
	}
	if b != s.Backlog() {
		return fmt.Errorf("the backlog is %+v, counted %+v", b, s.Backlog())
	}
	for agg, n := range aggs {
		if agg.entries != n[0] || agg.asides != n[1] {
			return fmt.Errorf("%s has %d commands, %d set aside, counted %d and %d", agg.id, n[0], n[1], agg.entries, agg.asides)
		}
	}
	return nil
}

// Of an aggregate that is held, every command that is sent to it counts, also
// the same one again and again. When too much is set aside, only those that have
// commands set aside take no more.
func TestWhoTakesNoMore(t *testing.T) {
	t.Parallel()
	s, now, next := testShard(Restored{}), testNow, int64(0)
	for i := range int64(5) {
		c := testCommand(i, "acc:1", "v")
		if i > 2 {
			c.Message.ID = "c0"
			c.Key = c.Message.Key()
		}
		s.Record(now, c)
	}
	s.Computed(now, invoked(t, s).Call, Computed{Trouble: &Trouble{Kind: Failed, Reason: "no", Policy: Policy{Attempts: 1}}})
	now = now.Add(time.Minute)
	s.Tick(now)
	commit(s, now, &next)
	s.Record(now, testCommand(5, "acc:2", "v"))
	if b := s.Backlog(); b.Commands != 6 || b.Aside != 5 || b.AsideBytes < 5*entryBytes || b.Bytes <= b.AsideBytes {
		t.Errorf("backlog %+v", b)
	}
	for _, c := range []struct {
		limits     Limits
		held, fine bool
	}{
		{Limits{Waiting: 6}, false, false},
		{Limits{Waiting: 5}, true, false},
		{Limits{Waiting: 6, Full: true}, true, false},
		{Limits{Waiting: 1}, true, true},
	} {
		crowded := s.Crowded(nil, c.limits)
		for id, want := range map[runtime.AggregateID]bool{"acc:1": c.held, "acc:2": c.fine} {
			if got := s.TakesNoMore(id, c.limits); got != want || slices.Contains(crowded, id) != want {
				t.Errorf("%+v: %s takes no more: %v, want %v; crowded %v", c.limits, id, got, want, crowded)
			}
		}
	}
}
