package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

func TestACommandIsHandledAndItsEventsAreApplied(t *testing.T) {
	f := both()
	url := serve(t, f, runtime.Config{})
	handled := ask(t, url, invocation(runtime.KindHandle, add(t, f, "tea", 2)))[0]
	if handled.Failure != nil || len(handled.Steps) != 1 || len(handled.Steps[0].Events) != 1 {
		t.Fatalf("answer %+v, want one step of one event", handled)
	}
	e := handled.Steps[0].Events[0]
	if e.Type != "Basket.ItemAdded" || e.Subject != "basket:1/line:tea" || !e.Time.Equal(aTime) {
		t.Errorf("event %q of %q at %v, want Basket.ItemAdded of basket:1/line:tea at the command's time", e.Type, e.Subject, e.Time)
	}
	applied := ask(t, url, invocation(runtime.KindApply, e))[0]
	if applied.Failure != nil {
		t.Fatal(applied.Failure)
	}
	if got := state(t, f, applied); len(got.Lines) != 1 || got.Lines[0] != (basket.Line{Id: "tea", Quantity: 2}) {
		t.Errorf("state %+v, want two tea", got)
	}
}

func TestARefusalIsAnEventAndLeavesNoState(t *testing.T) {
	f := both()
	r := ask(t, serve(t, f, runtime.Config{}), invocation(runtime.KindExecute, add(t, f, "tea", 0)))[0]
	if r.Failure != nil || len(r.Steps) != 1 || r.Steps[0].Events[0].Type != "Basket.Refused" {
		t.Fatalf("answer %+v, want Basket.Refused", r)
	}
	if r.Steps[0].Events[0].Subject != "basket:1" || r.StateSchema != "" || r.State != nil {
		t.Errorf("subject %q, state schema %q; want the root and no state", r.Steps[0].Events[0].Subject, r.StateSchema)
	}
}

func TestExecutingGivesWhatHandlingAndApplyingGive(t *testing.T) {
	f := both()
	url := serve(t, f, runtime.Config{})
	commands := []*runtime.Message{
		add(t, f, "tea", 2), add(t, f, "milk", 1), add(t, f, "none", 0),
		message(t, f, "change", "basket:1/line:tea", &basket.ChangeQuantity{Quantity: 101}),
		message(t, f, "less", "basket:1/line:tea", &basket.ChangeQuantity{Quantity: -1}),
	}
	var apart runtime.Result
	var steps []runtime.ResultStep
	version := uint64(0)
	for _, c := range commands {
		in := invocation(runtime.KindHandle, c)
		in.Version, in.StateSchema, in.State = version, apart.StateSchema, apart.State
		handled := ask(t, url, in)[0]
		if handled.Failure != nil {
			t.Fatal(handled.Failure)
		}
		steps = append(steps, handled.Steps[0])
		in.Kind, in.Messages = runtime.KindApply, handled.Steps[0].Events
		if apart = ask(t, url, in)[0]; apart.Failure != nil {
			t.Fatal(apart.Failure)
		}
		version += uint64(len(handled.Steps[0].Events))
	}
	inOne := ask(t, url, invocation(runtime.KindExecute, commands...))[0]
	if inOne.Failure != nil {
		t.Fatal(inOne.Failure)
	}
	if !bytes.Equal(inOne.State, apart.State) || inOne.StateSchema != apart.StateSchema {
		t.Errorf("state %x in one, %x apart", inOne.State, apart.State)
	}
	if a, b := fmt.Sprint(flat(inOne.Steps)), fmt.Sprint(flat(steps)); a != b {
		t.Errorf("steps differ:\n%s\n%s", a, b)
	}
}

func flat(steps []runtime.ResultStep) (out []string) {
	for _, s := range steps {
		line := ""
		for _, e := range s.Events {
			line += fmt.Sprintf("%s %s %s %x; ", e.Type, e.Subject, e.Time, e.Data)
		}
		out = append(out, line)
	}
	return out
}

// The id that an aggregator sees must be the one in the record, else a rebuild
// from events gives another state.
func TestAnAggregatorSeesTheSameEnvelopeBeforeAndAfterRecording(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	note := func(ctx runtime.AggregatorContext, s *basket.Basket) (*basket.Basket, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%s %s %d %s", ctx.EventID(), ctx.Entity(), ctx.Version(), ctx.Time()))
		return s, nil, true
	}
	f := basket.AggregateFunction(handler{}, aggregator{before: note}).Function
	url := serve(t, f, runtime.Config{})
	command := add(t, f, "tea", 1)
	in := invocation(runtime.KindExecute, command)
	in.Version = 6
	executed := ask(t, url, in)[0]

	event := executed.Steps[0].Events[0]
	event.ID = command.Key().EventID(1) // as the platform records it
	again := invocation(runtime.KindApply, event)
	again.Version = 6
	ask(t, url, again)
	// An event from outside keeps its own id.
	event.ID = "from-outside"
	in.Messages = []*runtime.Message{event}
	if r := ask(t, url, in)[0]; r.Failure != nil || len(r.Steps) != 1 {
		t.Fatalf("an event in an execution: %+v", r)
	}
	if len(seen) != 3 || seen[0] != seen[1] {
		t.Errorf("seen %q, want the first two equal", seen)
	}
	if !strings.HasPrefix(seen[2], "from-outside ") {
		t.Errorf("seen %q, want the event's own id", seen[2])
	}
}

func TestWhatGoesWrongIsAFailureWithItsCode(t *testing.T) {
	broken := func(h handler) *runtime.Function { return basket.AggregateFunction(h, aggregator{}).Function }
	answering := func(events []basket.Event, err error) *runtime.Function {
		return broken(handler{before: func(runtime.HandlerContext, *basket.Basket, string) ([]basket.Event, error) { return events, err }})
	}
	good := both()
	tea := func(f *runtime.Function) runtime.Invocation {
		return invocation(runtime.KindHandle, add(t, f, "tea", 1))
	}
	for name, c := range map[string]struct {
		f       *runtime.Function
		change  func(*runtime.Invocation)
		code    runtime.FailureCode
		message string
		status  int
	}{
		"error": {f: answering(nil, errors.New("the warehouse is asleep")), code: runtime.FailureError, message: "the warehouse is asleep", status: 500},
		"panic": {f: broken(handler{before: func(runtime.HandlerContext, *basket.Basket, string) ([]basket.Event, error) {
			panic("spilt")
		}}), code: runtime.FailurePanic, message: "panic: spilt", status: 500},
		"no events":      {f: answering([]basket.Event{}, nil), code: runtime.FailureNoEvents, message: "a refusal is an event too", status: 500},
		"nil event":      {f: answering([]basket.Event{nil}, nil), code: runtime.FailureError, message: "it is nil", status: 500},
		"typed nil":      {f: answering([]basket.Event{(*basket.ItemAdded)(nil)}, nil), code: runtime.FailurePanic, message: "using nil *ItemAdded pointer", status: 500},
		"another's":      {f: answering([]basket.Event{&basket.CouponEarned{}}, nil), code: runtime.FailureError, message: `in neither "emits" nor "fails"`, status: 500},
		"no entity":      {f: answering([]basket.Event{&basket.ItemAdded{}}, nil), code: runtime.FailureError, message: "say which one with On", status: 500},
		"outside":        {f: answering([]basket.Event{basket.On("basket:2/line:x", &basket.ItemAdded{})}, nil), code: runtime.FailureError, message: "outside the aggregate", status: 500},
		"wrong prefix":   {f: answering([]basket.Event{basket.On("basket:1/box:x", &basket.ItemAdded{})}, nil), code: runtime.FailureError, message: `belongs to an entity "line:..."`, status: 500},
		"child for root": {f: answering([]basket.Event{basket.On("basket:1/line:x", &basket.Refused{})}, nil), code: runtime.FailureError, message: "belongs to the root", status: 500},
		"bad text":       {f: answering([]basket.Event{&basket.Refused{Message: "\xff"}}, nil), code: runtime.FailureError, message: "not valid UTF-8", status: 500},
		"unknown type":   {f: good, change: func(in *runtime.Invocation) { in.Messages[0].Type = "Basket.Burn" }, code: runtime.FailureUnknownType, message: `no code for "Basket.Burn"`, status: 422},
		"another schema": {f: good, change: func(in *runtime.Invocation) {
			in.Messages[0].Schema = "urn:evento:avro:Basket.AddItem:0000000000000000"
		}, code: runtime.FailureSchema, message: "the function was built with", status: 422},
		"bad data":    {f: good, change: func(in *runtime.Invocation) { in.Messages[0].Data = []byte{0xff} }, code: runtime.FailureSchema, message: "a number is cut off", status: 422},
		"other state": {f: good, change: func(in *runtime.Invocation) { in.StateSchema = "urn:evento:avro:Basket.Basket:0000000000000000" }, code: runtime.FailureSchema, message: "the state is in", status: 422},
		"bad state": {f: good, change: func(in *runtime.Invocation) {
			in.StateSchema, in.State = basket.Definition().Root.Schema(), []byte{2}
		}, code: runtime.FailureSchema, message: "a block of 1 elements, 0 bytes are left", status: 422},
		"wrong role":    {f: basket.AggregatorFunction(aggregator{}).Function, change: func(in *runtime.Invocation) {}, code: runtime.FailureUnknownType, message: `takes the role "handler"`, status: 422},
		"dispatch":      {f: good, change: func(in *runtime.Invocation) { in.Kind = runtime.KindDispatch }, code: runtime.FailureUnknownType, message: `takes the role "dispatcher"`, status: 422},
		"no kind":       {f: good, change: func(in *runtime.Invocation) { in.Kind = 0 }, code: runtime.FailureUnknownType, message: "no kind of invocation", status: 422},
		"no message":    {f: good, change: func(in *runtime.Invocation) { in.Messages = nil }, code: runtime.FailureUnknownType, message: "0 messages", status: 422},
		"two aggregate": {f: good, change: func(in *runtime.Invocation) { in.Aggregate = "basket:2" }, code: runtime.FailureUnknownType, message: "not about the aggregate", status: 422},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, c.f, runtime.Config{})
			in := tea(good)
			if c.change != nil {
				c.change(&in)
			}
			r := ask(t, url, in)[0]
			if r.Failure == nil || r.Failure.Code != c.code || !strings.Contains(r.Failure.Message, c.message) {
				t.Fatalf("failure %v, want %v with %q", r.Failure, c.code, c.message)
			}
			if len(r.Steps) != 0 {
				t.Errorf("%d steps beside a failure", len(r.Steps))
			}
			if c.code == runtime.FailurePanic && name == "panic" {
				if !strings.Contains(r.Failure.Trace, "TestWhatGoesWrong") || strings.Contains(r.Failure.Trace, "runtime/run.go") || strings.Contains(r.Failure.Trace, "debug.Stack") {
					t.Errorf("trace is not the author's part:\n%s", r.Failure.Trace)
				}
			}
			// Others in the same request are not touched.
			other := invocation(runtime.KindHandle, message(t, good, "change", "basket:1/line:tea", &basket.ChangeQuantity{Quantity: 3}))
			other.ID = "i-2"
			both := ask(t, url, in, other)
			if both[0].Failure == nil || (both[1].Failure == nil) != (name != "wrong role") {
				t.Errorf("together: %v and %v, want the first alone to fail", both[0].Failure, both[1].Failure)
			}
		})
	}
}

func TestItemsOfARequestRunAtTheSameTime(t *testing.T) {
	const n = 8
	var together sync.WaitGroup
	together.Add(n)
	f := basket.HandlerFunction(handler{before: func(runtime.HandlerContext, *basket.Basket, string) ([]basket.Event, error) {
		together.Done()
		together.Wait() // nobody goes on before all are here
		return nil, nil
	}}).Function
	var in []runtime.Invocation
	for i := range n {
		inv := invocation(runtime.KindHandle, add(t, f, "tea", 1))
		inv.ID = fmt.Sprint(i)
		in = append(in, inv)
	}
	for i, r := range ask(t, serve(t, f, runtime.Config{}), in...) {
		if r.ID != fmt.Sprint(i) || r.Failure != nil {
			t.Errorf("result %d: %+v", i, r)
		}
	}
}

// stuck is a handler that never answers for the item "stuck" and fails for "bad".
func stuck(t *testing.T) handler {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	return handler{before: func(_ runtime.HandlerContext, _ *basket.Basket, item string) ([]basket.Event, error) {
		switch item {
		case "stuck":
			<-release
		case "bad":
			return nil, errors.New("bad")
		case "panic":
			panic("no")
		}
		return nil, nil
	}}
}

// Whatever goes wrong in the middle of an execution, asking again for the rest
// comes to the command that is to blame, with the state of those before it.
func TestAnExecutionKeepsWhatWasDoneBeforeTheTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		f    func(t *testing.T) *runtime.Function
		item string
		code runtime.FailureCode
	}{
		"handler fails":  {func(t *testing.T) *runtime.Function { return basket.AggregateFunction(stuck(t), aggregator{}).Function }, "bad", runtime.FailureError},
		"handler panics": {func(t *testing.T) *runtime.Function { return basket.AggregateFunction(stuck(t), aggregator{}).Function }, "panic", runtime.FailurePanic},
		"handler hangs":  {func(t *testing.T) *runtime.Function { return basket.AggregateFunction(stuck(t), aggregator{}).Function }, "stuck", runtime.FailureDeadline},
		"aggregator spoils": {func(t *testing.T) *runtime.Function {
			return basket.AggregateFunction(handler{}, aggregator{before: func(ctx runtime.AggregatorContext, s *basket.Basket) (*basket.Basket, error, bool) {
				if ctx.Entity().ID() == "spoil" {
					s.Lines = nil // half done
					return nil, errors.New("spoilt"), true
				}
				return nil, nil, false
			}}).Function
		}, "spoil", runtime.FailureError},
		"aggregator loses the state": {func(t *testing.T) *runtime.Function {
			return basket.AggregateFunction(handler{}, aggregator{before: func(ctx runtime.AggregatorContext, s *basket.Basket) (*basket.Basket, error, bool) {
				return nil, nil, ctx.Entity().ID() == "lose"
			}}).Function
		}, "lose", runtime.FailureError},
		"state cannot be written": {func(t *testing.T) *runtime.Function {
			return basket.AggregateFunction(handler{}, aggregator{before: func(ctx runtime.AggregatorContext, s *basket.Basket) (*basket.Basket, error, bool) {
				if ctx.Entity().ID() == "unwritable" {
					s.Coupon = basket.SomeString("\xff")
				}
				return s, nil, true
			}}).Function
		}, "unwritable", runtime.FailureError},
	} {
		t.Run(name, func(t *testing.T) {
			f := c.f(t)
			// Only who hangs runs into the deadline; a busy machine takes its time for the others.
			timeout := 30 * time.Second
			if c.code == runtime.FailureDeadline {
				timeout = 5 * time.Second
			}
			url := serve(t, f, runtime.Config{ExecTimeout: timeout})
			var all []*runtime.Message
			for i := range 40 {
				item := fmt.Sprint(i)
				if i == 25 {
					item = c.item
				}
				all = append(all, add(t, f, item, 1))
			}
			var last runtime.Result
			done := 0
			for calls := 1; ; calls++ {
				in := invocation(runtime.KindExecute, all[done:]...)
				in.Version, in.StateSchema, in.State = uint64(done), last.StateSchema, last.State
				r := ask(t, url, in)[0]
				if r.Failure == nil && len(r.Steps) == 0 || calls > 40 {
					t.Fatalf("call %d made no progress after %d: %+v", calls, done, r)
				}
				done += len(r.Steps)
				last = r
				if got := len(state(t, f, r).Lines); got != done {
					t.Fatalf("call %d: %d steps done, the state has %d lines", calls, done, got)
				}
				if r.Failure != nil {
					break
				}
			}
			if done != 25 || last.Failure.Code != c.code {
				t.Errorf("%d steps before %v, want 25 before %v", done, last.Failure, c.code)
			}
		})
	}
}

// A state that takes long to write is not kept after each step. Then a command
// that hangs is not blamed on the first step that is missing in the answer.
func TestALateExecutionBlamesTheRightCommand(t *testing.T) {
	f := basket.AggregateFunction(stuck(t), aggregator{}).Function
	in := invocation(runtime.KindExecute, add(t, f, "a", 1), add(t, f, "b", 1), add(t, f, "c", 1), add(t, f, "stuck", 1))
	large := message(t, f, "", "basket:1", &basket.Basket{Notes: map[string]string{"large": strings.Repeat("x", 8<<20)}})
	in.StateSchema, in.State = large.Schema, large.Data
	r := ask(t, serve(t, f, runtime.Config{ExecTimeout: 6 * time.Second}), in)[0]
	if len(r.Steps) == 0 || len(r.Steps) > 3 {
		t.Fatalf("%d steps, want 1 to 3", len(r.Steps))
	}
	if blamed := r.Failure != nil; blamed != (len(r.Steps) == 3) {
		t.Errorf("%d of 3 steps are in the answer, and its failure is %v", len(r.Steps), r.Failure)
	}
}

func TestADeadlineOfTheCallerTravels(t *testing.T) {
	asked := make(chan time.Duration, 1)
	f := basket.HandlerFunction(handler{before: func(ctx runtime.HandlerContext, _ *basket.Basket, _ string) ([]basket.Event, error) {
		deadline, ok := ctx.Deadline()
		if !ok {
			return nil, errors.New("no deadline")
		}
		asked <- time.Until(deadline)
		return nil, nil
	}}).Function
	url := serve(t, f, runtime.Config{ExecTimeout: time.Hour})
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(within(t), patience)
	defer cancel()
	if _, _, err := newClient(t, runtime.ClientOptions{}).Invoke(ctx, url, "", []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))}); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got > patience {
		t.Errorf("the function may run %s, its caller waits %s", got, patience)
	}
}

func TestADispatcherSendsCommands(t *testing.T) {
	react := basket.OnCouponEarned(func(ctx runtime.DispatcherContext, e *basket.CouponEarned) ([]runtime.Command, error) {
		if e.Code == "NONE" {
			return nil, nil
		}
		if e.Code == "LOST" {
			return []runtime.Command{basket.Send("nowhere", &basket.AddItem{})}, nil
		}
		return []runtime.Command{basket.Send("basket:2", &basket.AddItem{Item: e.Code, Quantity: 1})}, nil
	})
	f, err := runtime.NewDispatcher(react, runtime.Sends(basket.Definition()))
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, f, runtime.Config{})
	earned := func(code string) runtime.Result {
		m := message(t, f, "e-1", "basket:1", &basket.CouponEarned{Code: code})
		return ask(t, url, runtime.Invocation{ID: "1", Kind: runtime.KindDispatch, Messages: []*runtime.Message{m}})[0]
	}
	if r := earned("GIFT"); r.Failure != nil || len(r.Steps) != 1 || len(r.Steps[0].Events) != 1 ||
		r.Steps[0].Events[0].Subject != "basket:2" || r.Steps[0].Events[0].Type != "Basket.AddItem" {
		t.Errorf("answer %+v, want AddItem for basket:2", r)
	}
	if r := earned("NONE"); r.Failure != nil || len(r.Steps) != 1 || len(r.Steps[0].Events) != 0 {
		t.Errorf("answer %+v, want one step without commands", r)
	}
	if r := earned("LOST"); r.Failure == nil || !strings.Contains(r.Failure.Message, "has no target") {
		t.Errorf("answer %+v, want a failure", r)
	}
	if _, err := runtime.NewDispatcher(react, react); err == nil {
		t.Error("two reactions to one event are taken")
	}
	if _, err := runtime.NewDispatcher(); err == nil {
		t.Error("a dispatcher of nothing is taken")
	}
}
