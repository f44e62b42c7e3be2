package eventotest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/eventotest"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

// recorder is a test that fails without failing this one.
type recorder struct {
	testing.TB
	said    []string
	cleanup []func()
}

func (r *recorder) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

func (r *recorder) Fatal(args ...any) {
	r.said = append(r.said, fmt.Sprint(args...))
	panic(r)
}

// said runs a test and returns what it complained about.
func said(run func(t testing.TB)) string {
	r := &recorder{}
	func() {
		defer func() {
			if v := recover(); v != nil && v != r {
				panic(v)
			}
		}()
		run(r)
	}()
	for _, f := range r.cleanup {
		f()
	}
	return strings.Join(r.said, "\n")
}

type handler struct{ calls int }

func (h *handler) AddItem(ctx runtime.HandlerContext, state *basket.Basket, c *basket.AddItem) ([]basket.Event, error) {
	h.calls++
	quantity := c.Quantity
	switch c.Item {
	case "error":
		return nil, errors.New("no line")
	case "panic":
		panic("at the disco")
	case "chance":
		quantity += int32(h.calls) // another decision each time
	case "sly":
		if state != nil {
			state.Lines = nil
		}
	case "refuse":
		return basket.Refuse(&basket.Refused{Message: "sold out"})
	}
	return basket.Emit(basket.On(ctx.Child("line", c.Item), &basket.ItemAdded{Quantity: quantity}))
}

func (*handler) ChangeQuantity(_ runtime.HandlerContext, _ *basket.Basket, c *basket.ChangeQuantity) ([]basket.Event, error) {
	return basket.Emit(&basket.QuantityChanged{Quantity: c.Quantity})
}

type aggregator struct {
	basket.FailuresIgnored
	last int32
}

func (a *aggregator) ItemAdded(ctx runtime.AggregatorContext, state *basket.Basket, e *basket.ItemAdded) (*basket.Basket, error) {
	if state == nil {
		state = &basket.Basket{}
	}
	quantity := e.Quantity
	if quantity == 666 {
		return nil, errors.New("beast")
	}
	if quantity == 777 {
		a.last++
		quantity = a.last // remembers what is in no state
	}
	state.Lines = append(state.Lines, basket.Line{Id: ctx.Entity().ID(), Quantity: quantity})
	return state, nil
}

func (*aggregator) QuantityChanged(_ runtime.AggregatorContext, state *basket.Basket, e *basket.QuantityChanged) (*basket.Basket, error) {
	state.Lines[0].Quantity = e.Quantity
	return state, nil
}

func (*aggregator) CouponEarned(_ runtime.AggregatorContext, state *basket.Basket, _ *basket.CouponEarned) (*basket.Basket, error) {
	return state, nil
}

func kit(t testing.TB) *eventotest.Kit[*basket.Basket, basket.Command, basket.Event] {
	return eventotest.New(t, basket.AggregateFunction(&handler{}, &aggregator{})).Entity("basket:1")
}

func added(item string, quantity int32) basket.Event {
	return basket.On(runtime.Entity("basket:1/line:"+item), &basket.ItemAdded{Quantity: quantity})
}

func TestAScenarioThatHoldsSaysNothing(t *testing.T) {
	kit(t).Given().
		When(&basket.AddItem{Item: "tea", Quantity: 2}).Then(added("tea", 2)).
		ThenState(&basket.Basket{Lines: []basket.Line{{Id: "tea", Quantity: 2}}}).
		WhenTo("basket:1/line:tea", &basket.ChangeQuantity{Quantity: 5}).Then(&basket.QuantityChanged{Quantity: 5}).
		When(&basket.AddItem{Item: "refuse"}).Then(&basket.Refused{Message: "sold out"}).
		When(&basket.AddItem{Item: "error"}).ThenError("no line").
		When(&basket.AddItem{Item: "panic"}).ThenError("at the disco").
		ThenState(&basket.Basket{Lines: []basket.Line{{Id: "tea", Quantity: 5}}})
	kit(t).Given().ThenState(nil)
	handlerAlone := eventotest.New(t, basket.HandlerFunction(&handler{})).Entity("basket:1")
	handlerAlone.GivenState(&basket.Basket{}, 3).When(&basket.AddItem{Item: "tea", Quantity: 1}).Then(added("tea", 1))
	aggregatorAlone := eventotest.New(t, basket.AggregatorFunction(&aggregator{})).Entity("basket:1")
	aggregatorAlone.Given(added("tea", 1)).ThenState(&basket.Basket{Lines: []basket.Line{{Id: "tea", Quantity: 1}}})
}

func TestAScenarioThatDoesNotHoldSaysWhy(t *testing.T) {
	tea := &basket.AddItem{Item: "tea", Quantity: 2}
	for name, c := range map[string]struct {
		run  func(t testing.TB)
		want []string
	}{
		"another value": {func(t testing.TB) { kit(t).Given().When(tea).Then(added("tea", 3)) },
			[]string{"1: Basket.ItemAdded", "- quantity: 3", "+ quantity: 2"}},
		"another entity": {func(t testing.TB) { kit(t).Given().When(tea).Then(added("milk", 2)) },
			[]string{"- (entity): basket:1/line:milk", "+ (entity): basket:1/line:tea"}},
		"another type": {func(t testing.TB) { kit(t).Given().When(tea).Then(&basket.Refused{Message: "no"}) },
			[]string{"another type", "- Basket.Refused", `-   message: "no"`, "+ Basket.ItemAdded"}},
		"one too many":  {func(t testing.TB) { kit(t).Given().When(tea).Then() }, []string{"not expected", "+ Basket.ItemAdded"}},
		"one missing":   {func(t testing.TB) { kit(t).Given().When(tea).Then(added("tea", 2), added("tea", 2)) }, []string{"2: missing"}},
		"another state": {func(t testing.TB) { kit(t).Given(added("tea", 1)).ThenState(&basket.Basket{}) }, []string{"- lines: []", `+ lines[0].id: "tea"`}},
		"a state":       {func(t testing.TB) { kit(t).Given(added("tea", 1)).ThenState(nil) }, []string{"- no state"}},
		"an error":      {func(t testing.TB) { kit(t).Given().When(&basket.AddItem{Item: "error"}).Then(added("tea", 1)) }, []string{"no events but error: no line"}},
		"a panic":       {func(t testing.TB) { kit(t).Given().When(&basket.AddItem{Item: "panic"}).Then(added("tea", 1)) }, []string{"at the disco", "kit_test.go"}},
		"error not looked at": {func(t testing.TB) {
			kit(t).Given().When(&basket.AddItem{Item: "error"}).When(tea).Then(added("tea", 2))
		},
			[]string{"the command before was answered with error: no line"}},
		"no error":       {func(t testing.TB) { kit(t).Given().When(tea).ThenError("x") }, []string{"answered Basket.ItemAdded, expected an error"}},
		"another error":  {func(t testing.TB) { kit(t).Given().When(&basket.AddItem{Item: "error"}).ThenError("x") }, []string{`expected an error with "x"`}},
		"Then too early": {func(t testing.TB) { kit(t).Given().Then() }, []string{"call When first"}},
		"chance":         {func(t testing.TB) { kit(t).Given().When(&basket.AddItem{Item: "chance"}) }, []string{"something else when it was called again"}},
		"a handler that changes the state": {func(t testing.TB) { kit(t).Given(added("tea", 1)).When(&basket.AddItem{Item: "sly", Quantity: 1}) },
			[]string{"does the handler change the state"}},
		"an aggregator that remembers": {func(t testing.TB) { kit(t).Given(added("tea", 777)) }, []string{"another state when the events come one by one"}},
		"an aggregator that fails":     {func(t testing.TB) { kit(t).Given(added("tea", 666)) }, []string{"cannot apply Basket.ItemAdded: error: beast"}},
		"events for a handler alone": {func(t testing.TB) {
			eventotest.New(t, basket.HandlerFunction(&handler{})).Entity("basket:1").Given(added("tea", 1))
		}, []string{"use GivenState"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := said(c.run)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("said\n%s\nwant %q in it", got, want)
				}
			}
		})
	}
}

func TestADispatcherIsTested(t *testing.T) {
	calls := int32(0)
	gift := func(ctx runtime.DispatcherContext, e *basket.CouponEarned) ([]runtime.Command, error) {
		calls++
		quantity := int32(1)
		switch e.Code {
		case "":
			return nil, nil
		case "error":
			return nil, errors.New("no line")
		case "panic":
			panic("at the disco")
		case "chance":
			quantity = calls // another decision each time
		case "time":
			quantity = int32(ctx.Now().Second())
		case "sometimes":
			if calls%2 == 0 {
				return nil, errors.New("not today")
			}
		}
		return []runtime.Command{basket.Send("basket:2", &basket.AddItem{Item: e.Code, Quantity: quantity})}, nil
	}
	reactions := []runtime.Reaction{basket.OnCouponEarned(gift), runtime.Sends(basket.Definition())}
	dispatcher := func(t testing.TB) *eventotest.Dispatcher { return eventotest.NewDispatcher(t, reactions...) }
	when := func(t testing.TB, code string) *eventotest.Dispatcher {
		calls = 0
		return dispatcher(t).When("basket:1", &basket.CouponEarned{Code: code})
	}
	add := func(item string, quantity int32) runtime.Command {
		return basket.Send("basket:2", &basket.AddItem{Item: item, Quantity: quantity})
	}
	when(t, "tea").Then(add("tea", 1)).
		When("basket:1", &basket.CouponEarned{}).Then().
		When("basket:1", &basket.CouponEarned{Code: "time"}).Then(add("time", 2)). // each is a second later
		When("basket:1", &basket.CouponEarned{Code: "error"}).ThenError("no line").
		When("basket:1", &basket.CouponEarned{Code: "panic"}).ThenError("at the disco")
	for name, c := range map[string]struct {
		run  func(t testing.TB)
		want []string
	}{
		"another target": {func(t testing.TB) {
			when(t, "tea").Then(basket.Send("basket:3", &basket.AddItem{Item: "tea", Quantity: 1}))
		}, []string{"- (entity): basket:3", "+ (entity): basket:2"}},
		"another value":  {func(t testing.TB) { when(t, "tea").Then(add("tea", 5)) }, []string{"- quantity: 5", "+ quantity: 1"}},
		"one too many":   {func(t testing.TB) { when(t, "tea").Then() }, []string{"not expected", "+ Basket.AddItem"}},
		"one missing":    {func(t testing.TB) { when(t, "").Then(add("tea", 1)) }, []string{"1: missing"}},
		"an error":       {func(t testing.TB) { when(t, "error").Then() }, []string{"no commands but error: no line"}},
		"no error":       {func(t testing.TB) { when(t, "tea").ThenError("x") }, []string{"expected an error with \"x\""}},
		"another error":  {func(t testing.TB) { when(t, "error").ThenError("x") }, []string{"failed with", "no line"}},
		"chance":         {func(t testing.TB) { when(t, "chance") }, []string{"something else when it was called again"}},
		"sometimes":      {func(t testing.TB) { when(t, "sometimes") }, []string{"failed the second: error: not today"}},
		"Then too early": {func(t testing.TB) { dispatcher(t).Then() }, []string{"call When first"}},
		"error not looked at": {func(t testing.TB) { when(t, "error").When("basket:1", &basket.CouponEarned{}).Then() },
			[]string{"the event before was answered with error: no line"}},
		"error not looked at in the end": {func(t testing.TB) { when(t, "error") }, []string{"the event before was answered with error: no line"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := said(c.run)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("said\n%s\nwant %q in it", got, want)
				}
			}
		})
	}
}
