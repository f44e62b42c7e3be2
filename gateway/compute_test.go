package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// TestCommandsAreComputedOverHTTP goes through the real client and servers, with
// separate functions and with one that is both.
func TestCommandsAreComputedOverHTTP(t *testing.T) {
	t.Parallel()
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprintf("both in one %v", both), func(t *testing.T) {
			t.Parallel()
			w := newFunctionWorld(t, func(s *FunctionSettings) { s.Caller = httpCaller(t) })
			if both {
				w.combined(w.serveHTTP(t, gen.AggregateFunction(checking.Handler{}, checking.Aggregator{}).Function, runtime.Config{Image: "bank:7"}))
			} else {
				w.separate(
					w.serveHTTP(t, gen.HandlerFunction(checking.Handler{}).Function, runtime.Config{Image: "bank:7"}),
					w.serveHTTP(t, gen.AggregatorFunction(checking.Aggregator{}).Function, runtime.Config{}))
			}
			state := w.opened(t, bankAccount)
			c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{w.deposit(t, bankAccount, "d1", 700)}})
			if c.Trouble != nil || len(c.Steps) != 1 {
				t.Fatalf("%+v %+v", c, c.Trouble)
			}
			step := c.Steps[0]
			e := step.Events[0]
			if len(step.Events) != 1 || e.Type != "CheckingAccount.DepositReceived" || e.Subject != "checking:1" || e.Time.IsZero() {
				t.Errorf("events are %+v", step.Events)
			}
			if by := strings.Fields(e.By); len(by) != 3 || !strings.HasPrefix(by[0], "bank/") || by[1] != "bank:7" || len(by[2]) != 16 {
				t.Errorf("made by %q, want function, image and schema", e.By)
			}
			if step.State.Version != 2 || !strings.Contains(w.json(t, step.State.Schema, step.State.Data), `"balance":{"minor":700`) {
				t.Errorf("state is %d %s", step.State.Version, w.json(t, step.State.Schema, step.State.Data))
			}
			// A business refusal is a result like any other.
			c = w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: step.State, Commands: []*runtime.Message{
				w.message(t, bankAccount, "w1", "WithdrawCash", `{"destination": "atm", "amount": {"minor": 701}}`)}})
			if c.Trouble != nil || c.Steps[0].Events[0].Type != "CheckingAccount.WithdrawCashFailed" || c.Steps[0].State.Version != 3 {
				t.Errorf("a refusal came as %+v %+v", c, c.Trouble)
			}
		})
	}
}

func TestRefusalLeavesAnAggregateWithoutState(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	w.meet(t)
	c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, Commands: []*runtime.Message{w.deposit(t, bankAccount, "d1", 5)}})
	if c.Trouble != nil || len(c.Steps) != 1 {
		t.Fatalf("%+v %+v", c, c.Trouble)
	}
	if s := c.Steps[0].State; s.Version != 1 || s.Schema != "" || s.Data != nil || !s.Known() {
		t.Errorf("state is %+v, want none at version 1", s)
	}
}

func TestRunIsFoldedInOneCall(t *testing.T) {
	t.Parallel()
	for _, runs := range []bool{true, false} {
		t.Run(fmt.Sprintf("runs %v", runs), func(t *testing.T) {
			t.Parallel()
			w := newFunctionWorld(t, func(s *FunctionSettings) { s.Runs = runs })
			w.combined("http://both")
			state := w.opened(t, bankAccount)
			before := len(w.wire.sent())
			var commands []*runtime.Message
			for i := range 10 {
				commands = append(commands, w.deposit(t, bankAccount, fmt.Sprint("d", i), 100))
			}
			if got := w.Foldable(commands[0]); got != runs {
				t.Errorf("foldable is %v", got)
			}
			c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: commands})
			want := 10
			if !runs {
				want = 1
			}
			if c.Trouble != nil || len(c.Steps) != want || len(w.wire.sent()) != before+1 {
				t.Fatalf("%d steps in %d calls, trouble %+v", len(c.Steps), len(w.wire.sent())-before, c.Trouble)
			}
			for i, step := range c.Steps {
				if step.State.Version != state.Version+uint64(i)+1 || step.State.Known() != (i == want-1) {
					t.Errorf("step %d has the state %+v", i, step.State)
				}
			}
			if runs {
				if got := w.json(t, c.Steps[9].State.Schema, c.Steps[9].State.Data); !strings.Contains(got, `"minor":1000`) {
					t.Errorf("state after the run is %s", got)
				}
			}
		})
	}
}

func TestRunStopsAtTheCommandThatFails(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, func(s *FunctionSettings) { s.Runs = true })
	good := gen.AggregateFunction(checking.Handler{}, checking.Aggregator{})
	wrong := "" // what the function does wrong to the command "bad"
	w.wire.serve("http://odd", &rawFunction{description: good.Description(), invoke: func(in runtime.Invocation) runtime.Result {
		bad := -1
		for i, m := range in.Messages {
			if m.ID == "bad" {
				bad = i
			}
		}
		switch {
		case bad >= 0 && wrong == "fails":
			failure := &runtime.Failure{Code: runtime.FailurePanic, Message: "kaboom"}
			if bad == 0 {
				return runtime.Result{Failure: failure}
			}
			in.Messages = in.Messages[:bad]
			res := good.Invoke(context.Background(), in, nil)
			res.Failure = failure
			return res
		case bad >= 0 && wrong == "answers nonsense":
			res := good.Invoke(context.Background(), in, nil)
			res.Steps[bad].Events[0].Subject = "checking:2"
			return res
		case bad >= 0 && wrong == "spoils the whole answer":
			return runtime.Result{Failure: &runtime.Failure{Code: runtime.FailureError, Message: "out of memory"}}
		}
		return good.Invoke(context.Background(), in, nil)
	}})
	w.combined("http://odd")
	state := w.opened(t, bankAccount)
	var commands []*runtime.Message
	for i := range 6 {
		commands = append(commands, w.deposit(t, bankAccount, fmt.Sprint("d", i), 100))
	}
	commands[3].ID = "bad"
	for _, wrong = range []string{"fails", "answers nonsense", "spoils the whole answer"} {
		work := shard.Work{Aggregate: bankAccount, State: state, Commands: commands}
		done := 0
		for range 10 { // as the engine goes on
			c := w.Compute(t.Context(), work)
			if n := len(c.Steps); n > 0 {
				if !c.Steps[n-1].State.Known() {
					t.Fatalf("%s: the last step's state is not known", wrong)
				}
				done += n
				work.State, work.Commands = c.Steps[n-1].State, work.Commands[n:]
			}
			if c.Trouble != nil {
				wantTrouble(t, c, shard.Failed)
				break
			}
		}
		if done != 3 || work.Commands[0].ID != "bad" {
			t.Errorf("%s: %d commands done before %q, want 3 before bad", wrong, done, work.Commands[0].ID)
		}
	}
}

func TestEventFromOutsideMeetsTheAggregatorAlone(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	state := w.opened(t, bankAccount)
	before := len(w.wire.sent())
	m := w.message(t, bankAccount, "e1", "DepositReceived", `{"transaction_id": "t", "source": "x", "amount": {"minor": 42}}`)
	c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{m}})
	if c.Trouble != nil || len(c.Steps) != 1 {
		t.Fatalf("%+v %+v", c, c.Trouble)
	}
	if e := c.Steps[0].Events[0]; !bytes.Equal(e.Data, m.Data) || !e.Time.Equal(m.Time) || e.By != "" || c.Steps[0].State.Version != 2 {
		t.Errorf("published as %+v", c.Steps[0])
	}
	requests := w.wire.sent()[before:]
	if len(requests) != 1 || requests[0].url != "http://aggregator" {
		t.Errorf("calls were %+v", requests)
	}
	if got := requests[0].items[0].Messages[0]; got.ID != m.Key().EventID(1) || got.Sequence != 2 || got.Source != "" {
		t.Errorf("the aggregator saw %+v, want what it will see when the event is read back", got)
	}
	// It cannot be applied to an account that does not exist: the aggregator says so.
	c = w.Compute(t.Context(), shard.Work{Aggregate: "checking:2", Commands: []*runtime.Message{w.message(t, "checking:2", "e1", "DepositReceived", `{"transaction_id": "t", "source": "x", "amount": {"minor": 42}}`)}})
	wantTrouble(t, c, shard.Failed)
}

func TestWrongAnswersAreFailures(t *testing.T) {
	t.Parallel()
	type change func(w *functionWorld, t *testing.T, events []*runtime.Message) []*runtime.Message
	cases := map[string]struct {
		change change
		kind   shard.TroubleKind
		says   string
	}{
		"no event": {func(*functionWorld, *testing.T, []*runtime.Message) []*runtime.Message { return nil }, shard.Failed, "no event"},
		"not allowed": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Type = "CheckingAccount.CashWithdrawn"
			return e
		}, shard.Failed, "emits"},
		"unknown type": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Type = "No.Such"
			return e
		}, shard.Failed, "emits"},
		"another aggregate": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Subject = "checking:2"
			return e
		}, shard.Failed, "does not belong"},
		"a child of the aggregate": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Subject = "checking:1/card:1"
			return e
		}, shard.Failed, "card"},
		"no entity": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Subject = "checking:1/"
			return e
		}, shard.Failed, ""},
		"another type's schema": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			typ, _ := w.schemas.Type("CheckingAccount.CashWithdrawn")
			e[0].Schema = typ.DataSchema()
			return e
		}, shard.Failed, "encoded as"},
		"nonsense for a schema": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Schema = "https://example.com"
			return e
		}, shard.Failed, "dataschema"},
		"an unregistered version": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Schema = "urn:evento:avro:CheckingAccount.DepositReceived:0123456789abcdef"
			return e
		}, shard.Unavailable, "not registered"},
		"trailing bytes": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Data = append(e[0].Data, 0)
			return e
		}, shard.Failed, "no valid value"},
		"cut bytes": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Data = e[0].Data[:3]
			return e
		}, shard.Failed, "no valid value"},
		"too large": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Data = w.message(t, bankAccount, "x", "DepositReceived", fmt.Sprintf(`{"transaction_id": %q, "source": "x", "amount": {"minor": 42}}`, strings.Repeat("x", 2000))).Data
			return e
		}, shard.Failed, "limit of 1000"},
		"too large together": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			e[0].Data = w.message(t, bankAccount, "x", "DepositReceived", fmt.Sprintf(`{"transaction_id": %q, "source": "x", "amount": {"minor": 42}}`, strings.Repeat("x", 900))).Data
			return append(e, e[0], e[0])
		}, shard.Failed, "2000 bytes together"},
		"too many": {func(w *functionWorld, t *testing.T, e []*runtime.Message) []*runtime.Message {
			return append(e, e[0], e[0], e[0], e[0])
		}, shard.Failed, "limit of 4"},
	}
	for name, test := range cases {
		for _, both := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, both in one %v", name, both), func(t *testing.T) {
				t.Parallel()
				w := newFunctionWorld(t, func(s *FunctionSettings) {
					s.Runs = true
					s.Limits = FunctionLimits{Events: 4, EventBytes: 1000, StepBytes: 2000}
				})
				state := w.opened(t, bankAccount)
				good := gen.AggregateFunction(checking.Handler{}, checking.Aggregator{})
				w.wire.serve("http://wrong", &rawFunction{description: good.Description(), invoke: func(in runtime.Invocation) runtime.Result {
					res := good.Invoke(context.Background(), in, nil)
					if in.Kind != runtime.KindApply {
						res.Steps[0].Events = test.change(w, t, res.Steps[0].Events)
					}
					return res
				}})
				if both {
					w.combined("http://wrong")
				} else {
					w.separate("http://wrong", "http://aggregator")
				}
				c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{w.deposit(t, bankAccount, "d1", 5)}})
				wantTrouble(t, c, test.kind)
				if !strings.Contains(c.Trouble.Reason, test.says) {
					t.Errorf("the reason does not say %q: %s", test.says, c.Trouble.Reason)
				}
				if test.kind == shard.Failed && c.Trouble.Policy.Attempts != 3 {
					t.Errorf("policy is %+v, want the Trigger's", c.Trouble.Policy)
				}
			})
		}
	}
}

func TestWhatTroubleMeans(t *testing.T) {
	t.Parallel()
	status := func(kind runtime.CallErrorKind, code int) error {
		return &runtime.CallError{Kind: kind, Status: code, Reason: fmt.Sprint("status ", code)}
	}
	failure := func(code runtime.FailureCode) *runtime.Failure {
		return &runtime.Failure{Code: code, Message: "because"}
	}
	for name, test := range map[string]struct {
		err     error
		failure *runtime.Failure
		kind    shard.TroubleKind
	}{
		"refused":        {err: &runtime.CallError{Kind: runtime.CallUnavailable, Reason: "refused", Err: errors.New("cable cut")}, kind: shard.Unavailable},
		"404":            {err: status(runtime.CallUnavailable, 404), kind: shard.Unavailable},
		"429":            {err: status(runtime.CallUnavailable, 429), kind: shard.Unavailable},
		"503":            {err: status(runtime.CallUnavailable, 503), kind: shard.Unavailable},
		"500":            {err: status(runtime.CallFailed, 500), kind: shard.Failed},
		"undecodable":    {err: status(runtime.CallFailed, 200), kind: shard.Failed},
		"error":          {failure: failure(runtime.FailureError), kind: shard.Failed},
		"panic":          {failure: failure(runtime.FailurePanic), kind: shard.Failed},
		"no events":      {failure: failure(runtime.FailureNoEvents), kind: shard.Failed},
		"deadline":       {failure: failure(runtime.FailureDeadline), kind: shard.Unavailable},
		"unknown type":   {failure: failure(runtime.FailureUnknownType), kind: shard.Unavailable},
		"another schema": {failure: failure(runtime.FailureSchema), kind: shard.Unavailable},
	} {
		for _, both := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, both in one %v", name, both), func(t *testing.T) {
				t.Parallel()
				w := newFunctionWorld(t, func(s *FunctionSettings) { s.Runs = true })
				state := w.opened(t, bankAccount)
				w.wire.setFault(func(context.Context, string, []runtime.Invocation) error { return test.err })
				if test.failure != nil {
					good := gen.AggregateFunction(checking.Handler{}, checking.Aggregator{})
					w.wire.serve("http://odd", &rawFunction{description: good.Description(), invoke: func(runtime.Invocation) runtime.Result {
						return runtime.Result{Failure: test.failure}
					}})
					w.separate("http://odd", "http://aggregator")
				}
				if both {
					w.combined(w.router.handler.URL)
					if test.failure == nil {
						w.combined("http://both")
					}
				}
				commands := []*runtime.Message{w.deposit(t, bankAccount, "d1", 5), w.deposit(t, bankAccount, "d2", 5)}
				c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: commands})
				wantTrouble(t, c, test.kind)
				if !strings.HasPrefix(c.Trouble.Function, "bank/") {
					t.Errorf("trouble with %q, want the Trigger's name", c.Trouble.Function)
				}
			})
		}
	}
}

func TestWithoutTriggerOrSchemaItWaits(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	work := shard.Work{Aggregate: bankAccount, Commands: []*runtime.Message{w.open(t, bankAccount)}}
	w.router.none = errors.New("no Trigger handles it")
	wantTrouble(t, w.Compute(t.Context(), work), shard.Unavailable)
	w.router.none = nil
	unknown := *work.Commands[0]
	unknown.Type = "CheckingAccount.NotYet"
	work.Commands = []*runtime.Message{&unknown}
	wantTrouble(t, w.Compute(t.Context(), work), shard.Unavailable)
}

func TestWhatNobodyCanComputeIsRejected(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, func(s *FunctionSettings) { s.Runs = true })
	state := w.opened(t, bankAccount)
	spoilt := w.deposit(t, bankAccount, "d1", 5)
	spoilt.Data = spoilt.Data[:4]
	root := w.deposit(t, bankAccount, "d2", 5)
	root.Type = "CheckingAccount.CheckingAccount"
	platform := w.deposit(t, bankAccount, "d3", 5)
	platform.Type = runtime.TypeCommandParked
	for code, m := range map[string]*runtime.Message{RejectInvalidData: spoilt, RejectNotACommand: root, "not-a-command ": platform} {
		for _, both := range []bool{false, true} {
			w.separate("http://handler", "http://aggregator")
			if both {
				w.combined("http://both")
			}
			c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{m}})
			if c.Trouble != nil || len(c.Steps) != 1 || c.Steps[0].Rejected == nil || c.Steps[0].Rejected.Code != strings.TrimSpace(code) {
				t.Errorf("%s %s came as %+v %+v", code, m.Type, c, c.Trouble)
			}
		}
	}
}

func TestNothingPanicsTheGateway(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	w.meet(t)
	w.wire.setFault(func(context.Context, string, []runtime.Invocation) error { panic("kaboom") })
	work := shard.Work{Aggregate: bankAccount, Commands: []*runtime.Message{w.open(t, bankAccount)}}
	wantTrouble(t, w.Compute(t.Context(), work), shard.Failed)
	work.Commands = []*runtime.Message{nil}
	wantTrouble(t, w.Compute(t.Context(), work), shard.Failed)
	if c := w.Compute(t.Context(), shard.Work{}); c.Trouble != nil || len(c.Steps) != 0 {
		t.Errorf("no work came as %+v", c)
	}
}
