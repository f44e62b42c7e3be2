package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

func TestStateThatGrowsBeyondItsLimitIsRejectedAndMayShrink(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, func(s *FunctionSettings) { s.Runs, s.Limits.StateBytes = true, 100 })
	state := w.opened(t, bankAccount)
	size := 500 // of the state that the function answers
	good := gen.AggregateFunction(checking.Handler{}, checking.Aggregator{})
	w.wire.serve("http://grows", &rawFunction{description: good.Description(), invoke: func(in runtime.Invocation) runtime.Result {
		res := good.Invoke(context.Background(), in, nil)
		data, schema, err := w.schemas.FromJSON("CheckingAccount.CheckingAccount", fmt.Appendf(nil, `{"client": %q, "balance": {"minor": 1}}`, strings.Repeat("x", size)))
		if err != nil {
			t.Error(err)
		}
		if in.Kind != runtime.KindHandle {
			res.State, res.StateSchema = data, schema
		}
		return res
	}})
	for _, both := range []bool{true, false} {
		w.separate("http://handler", "http://grows")
		if both {
			w.combined("http://grows")
		}
		size = 500
		commands := []*runtime.Message{w.deposit(t, bankAccount, "d1", 5), w.deposit(t, bankAccount, "d2", 5), w.deposit(t, bankAccount, "d3", 5)}
		c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: commands})
		if c.Trouble != nil || len(c.Steps) != 1 || c.Steps[0].Rejected == nil {
			t.Fatalf("%+v %+v", c, c.Trouble)
		}
		if r := c.Steps[0].Rejected; r.Code != RejectStateTooLarge || !strings.Contains(r.Reason, "limit is 100") {
			t.Errorf("rejected as %+v", r)
		}
		if both {
			// Of a run, what stands before it is done.
			size = 10
			calls := 0
			grow := func(in runtime.Invocation) runtime.Result {
				calls++
				res := good.Invoke(context.Background(), in, nil)
				if in.Messages[len(in.Messages)-1].ID == "d3" {
					data, _, _ := w.schemas.FromJSON("CheckingAccount.CheckingAccount", fmt.Appendf(nil, `{"client": %q, "balance": {"minor": 1}}`, strings.Repeat("x", 500)))
					res.State = data
				}
				return res
			}
			w.wire.serve("http://third", &rawFunction{description: good.Description(), invoke: grow})
			w.combined("http://third")
			w.set.Limits.StateBytes = 300
			work := shard.Work{Aggregate: bankAccount, State: state, Commands: commands}
			done := 0
			for len(work.Commands) > 0 {
				c := w.Compute(t.Context(), work)
				if c.Trouble != nil {
					t.Fatal(c.Trouble)
				}
				if c.Steps[0].Rejected != nil {
					break
				}
				n := len(c.Steps)
				done, work.State, work.Commands = done+n, c.Steps[n-1].State, work.Commands[n:]
			}
			if done != 2 {
				t.Errorf("%d commands done before the one that grows the state, want 2, in %d calls", done, calls)
			}
			w.set.Limits.StateBytes = 100
			w.combined("http://grows")
		}
		// One that is over the limit already, because that was lowered, may shrink.
		big := shard.State{Version: 1, Schema: state.Schema, Fold: state.Fold}
		var err error
		if big.Data, _, err = w.schemas.FromJSON("CheckingAccount.CheckingAccount", fmt.Appendf(nil, `{"client": %q, "balance": {"minor": 1}, "status": "OPEN"}`, strings.Repeat("x", 300))); err != nil {
			t.Fatal(err)
		}
		size = 200
		c = w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: big, Commands: commands[:1]})
		if c.Trouble != nil || len(c.Steps) != 1 || c.Steps[0].Rejected != nil {
			t.Errorf("a state that shrinks came as %+v %+v", c, c.Trouble)
		}
	}
}

func TestWrongStatesAreFailures(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	state := w.opened(t, bankAccount)
	event, _ := w.schemas.Type("CheckingAccount.CashWithdrawn")
	for name, change := range map[string]func(*runtime.Result){
		"none":                  func(r *runtime.Result) { r.State, r.StateSchema = nil, "" },
		"of a type that is not": func(r *runtime.Result) { r.StateSchema = event.DataSchema() },
		"cut":                   func(r *runtime.Result) { r.State = r.State[:2] },
		"in no schema":          func(r *runtime.Result) { r.StateSchema = "x" },
	} {
		good := gen.AggregatorFunction(checking.Aggregator{})
		w.wire.serve("http://wrong", &rawFunction{description: good.Description(), invoke: func(in runtime.Invocation) runtime.Result {
			res := good.Invoke(context.Background(), in, nil)
			change(&res)
			return res
		}})
		w.separate("http://handler", "http://wrong")
		c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{w.deposit(t, bankAccount, "d1", 5)}})
		if c.Trouble == nil || c.Trouble.Kind != shard.Failed {
			t.Errorf("a state %s came as %+v %+v", name, c, c.Trouble)
		}
	}
}
