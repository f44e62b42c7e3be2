package shard

import (
	"strconv"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// TestWhoWaitsForAFunctionGoesOnWhenItIsThere: aggregates that wait because a
// function does not answer go on soon after it does; others wait on.
func TestWhoWaitsForAFunctionGoesOnWhenItIsThere(t *testing.T) {
	t.Parallel()
	const many = 5000 // more than go on at once
	for _, c := range []struct {
		name    string
		trouble Trouble
		after   time.Duration // the longest that any of them waits; 0: all wait on
	}{
		{"it is back", Trouble{Kind: Unavailable, Function: "bank/handler", Wait: 10 * time.Second}, many * wakeEach},
		{"another one is back", Trouble{Kind: Unavailable, Function: "bank/other", Wait: 10 * time.Second}, 0},
		{"no function was missing", Trouble{Kind: Unavailable, Wait: 10 * time.Second}, 0},
		{"the attempt failed", Trouble{Kind: Failed, Function: "bank/handler", Policy: Policy{Attempts: 5, Delay: 10 * time.Second}}, 0},
		{"they would go on sooner", Trouble{Kind: Unavailable, Function: "bank/handler", Wait: 60 * time.Millisecond}, 75 * time.Millisecond},
	} {
		s, now := testShard(Restored{}), testNow
		for i := range int64(many) {
			s.Record(now, testCommand(i, runtime.AggregateID("acc:"+strconv.FormatInt(i, 10)), "v"))
		}
		for _, o := range s.Outputs() {
			if call, ok := o.(Invoke); ok {
				s.Computed(now, call.Call, Computed{Trouble: &c.trouble})
			}
		}
		s.Outputs()
		calls := func() (n int) {
			for _, o := range s.Outputs() {
				if _, ok := o.(Invoke); ok {
					n++
				}
			}
			return n
		}
		s.Available(now, "bank/handler")
		if n := calls(); n != 0 {
			t.Errorf("%s: %d calls at once", c.name, n)
		}
		soon, want := 5*time.Second, 0
		if c.after > 0 {
			soon, want = c.after, many
		}
		s.Tick(now.Add(soon))
		if n := calls(); n != want {
			t.Errorf("%s: %d calls within %v, want %d", c.name, n, soon, want)
		}
		s.Tick(now.Add(time.Minute))
		if n := calls(); n != many-want {
			t.Errorf("%s: %d calls after a minute, want %d more", c.name, n, many-want)
		}
	}
}
