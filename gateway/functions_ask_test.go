package gateway

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// registerNext registers the next version of the bank's schema: a deposit and
// the account have one field more.
func registerNext(t *testing.T, w *functionWorld, change func(schema string) string) {
	t.Helper()
	text, err := os.ReadFile("../examples/bank/schemas/CheckingAccount.avsc")
	if err != nil {
		t.Fatal(err)
	}
	next := change(string(text))
	if next == string(text) {
		t.Fatal("the schema did not change")
	}
	a, err := avro.ParseAggregate("CheckingAccount.avsc", []byte(next))
	if err != nil {
		t.Fatal(err)
	}
	registerSchemas(t, w.schemas, a)
}

// addField adds an optional text to a record type of a schema.
func addField(schema, record, field string) string {
	at := strings.Index(schema, fmt.Sprintf(`"name": %q, "namespace": "CheckingAccount",`, record))
	if at < 0 {
		return schema
	}
	fields := at + strings.Index(schema[at:], `"fields": [`) + len(`"fields": [`)
	return schema[:fields] + fmt.Sprintf(`{"name": %q, "type": ["null", "string"], "default": null},`, field) + schema[fields:]
}

// nextBuild answers in a build's own schemas, whatever the bank's own are, and
// refuses to be given anything else.
func nextBuild(t *testing.T, w *functionWorld, hash runtime.Fingerprint, without ...runtime.TypeName) *rawFunction {
	d := describe(w.schemas, hash, without...)
	own := func(name runtime.TypeName) runtime.DataSchema {
		return runtime.NewDataSchema(name, d.Schemas[name].Fingerprint)
	}
	bank := gen.AggregateFunction(checking.Handler{}, checking.Aggregator{})
	old := bank.Description()
	theirs := func(name runtime.TypeName) runtime.DataSchema {
		return runtime.NewDataSchema(name, old.Schemas[name].Fingerprint)
	}
	convert := func(from runtime.DataSchema, data []byte, to runtime.DataSchema) []byte {
		data, err := w.schemas.Transcode(from, data, to)
		if err != nil {
			t.Errorf("from %s to %s: %v", from, to, err)
		}
		return data
	}
	return &rawFunction{description: d, invoke: func(in runtime.Invocation) runtime.Result {
		if in.StateSchema != "" {
			root := runtime.TypeName("CheckingAccount.CheckingAccount")
			if in.StateSchema != own(root) {
				t.Errorf("build %s was given a state in %s", hash, in.StateSchema)
				return runtime.Result{Failure: &runtime.Failure{Code: runtime.FailureSchema, Message: string(in.StateSchema)}}
			}
			in.State, in.StateSchema = convert(in.StateSchema, in.State, theirs(root)), theirs(root)
		}
		messages := make([]*runtime.Message, len(in.Messages))
		for i, m := range in.Messages {
			if m.Schema != own(m.Type) {
				t.Errorf("build %s was given a message in %s", hash, m.Schema)
				return runtime.Result{Failure: &runtime.Failure{Code: runtime.FailureSchema, Message: string(m.Schema)}}
			}
			c := *m
			c.Data, c.Schema = convert(m.Schema, m.Data, theirs(m.Type)), theirs(m.Type)
			messages[i] = &c
		}
		in.Messages = messages
		res := bank.Invoke(context.Background(), in, nil)
		for _, step := range res.Steps {
			for _, e := range step.Events {
				e.Data, e.Schema = convert(e.Schema, e.Data, own(e.Type)), own(e.Type)
			}
		}
		if res.StateSchema != "" {
			name, _, _ := res.StateSchema.Parse()
			res.State, res.StateSchema = convert(res.StateSchema, res.State, own(name)), own(name)
		}
		return res
	}}
}

func nextSchema(s string) string {
	return addField(addField(addField(s, "CheckingAccount", "nickname"), "DepositReceived", "note"), "ReceiveDeposit", "note")
}

// While a function is rolled out, calls meet old and new instances in turn.
// Nothing fails, nothing is lost, and nobody is given what he cannot read.
func TestRollOutWithOldAndNewInstancesSideBySide(t *testing.T) {
	t.Parallel()
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprintf("both in one %v", both), func(t *testing.T) {
			t.Parallel()
			w := newFunctionWorld(t, func(s *FunctionSettings) { s.Runs = true })
			before := nextBuild(t, w, "old")
			registerNext(t, w, nextSchema)
			after := nextBuild(t, w, "new")
			// Uneven, so that a retry does not always meet the other one.
			w.wire.serve("http://roll", before, before, after, before, after, after, before)
			w.separate("http://roll", "http://roll")
			if both {
				w.combined("http://roll")
			}
			w.meet(t)
			var state shard.State
			schemas := map[runtime.DataSchema]bool{}
			minor := 0
			for i := range 60 {
				m := w.deposit(t, bankAccount, fmt.Sprint("d", i), i)
				if i == 0 {
					m = w.open(t, bankAccount)
				}
				minor += i
				c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{m}})
				if c.Trouble != nil {
					t.Fatalf("command %d: %s", i, c.Trouble.Reason)
				}
				state = c.Steps[0].State
				schemas[state.Schema] = true
			}
			if got := w.json(t, state.Schema, state.Data); !strings.Contains(got, fmt.Sprintf(`"minor":%d,"currency":"USD"}`, minor)) {
				t.Errorf("balance is not %d: %s", minor, got)
			}
			if len(schemas) != 2 {
				t.Errorf("states were kept in %d schemas, want those of the function that made them: 2", len(schemas))
			}
		})
	}
}

// Calls of many aggregates share requests, and are encoded for one build or the other.
func TestRollOutUnderLoad(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	before := nextBuild(t, w, "old")
	registerNext(t, w, nextSchema)
	after := nextBuild(t, w, "new")
	w.wire.serve("http://roll", before, before, after, before, after, after, before)
	w.combined("http://roll")
	w.meet(t)
	// While a request is under way others collect, for both builds.
	w.wire.setFault(func(ctx context.Context, _ string, _ []runtime.Invocation) error {
		return waitOn(ctx, time.Millisecond)
	})
	var all sync.WaitGroup
	for i := range 40 {
		a := numbered(i)
		works := []*runtime.Message{w.open(t, a)}
		for n := range 5 {
			works = append(works, w.deposit(t, a, fmt.Sprint("d", n), 1))
		}
		all.Go(func() {
			var state shard.State
			for _, m := range works {
				for tries := 0; ; tries++ {
					c := w.Compute(context.Background(), shard.Work{Aggregate: a, State: state, Commands: []*runtime.Message{m}})
					if c.Trouble == nil {
						state = c.Steps[0].State
						break
					}
					if tries == 10 || c.Trouble.Kind == shard.Failed {
						t.Errorf("%s %s: %s", a, m.ID, c.Trouble.Reason)
						return
					}
				}
			}
		})
	}
	all.Wait()
}

// A balancer that gives each replica its turn.
func TestRollOutWithReplicasInTurn(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	before := nextBuild(t, w, "old")
	registerNext(t, w, nextSchema)
	w.wire.serve("http://roll", before, nextBuild(t, w, "new"))
	w.combined("http://roll")
	w.meet(t)
	for i := range 20 {
		a := numbered(i)
		if c := w.Compute(t.Context(), shard.Work{Aggregate: a, Commands: []*runtime.Message{w.open(t, a)}}); c.Trouble != nil {
			t.Fatalf("%s: %s", a, c.Trouble.Reason)
		}
	}
}

func TestEndlessChangeOfBuildsIsTroubleNotALoop(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	w.meet(t)
	var n atomic.Int64
	w.wire.setFault(func(context.Context, string, []runtime.Invocation) error {
		return &runtime.DescriptionChanged{Description: describe(w.schemas, runtime.Fingerprint(fmt.Sprint("build ", n.Add(1))))}
	})
	c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, Commands: []*runtime.Message{w.open(t, bankAccount)}})
	wantTrouble(t, c, shard.Unavailable)
	if n.Load() != maxBuilds {
		t.Errorf("%d calls, want %d", n.Load(), maxBuilds)
	}
}

func TestTypeThatTheFunctionWasBuiltWithoutWaitsForItsNextBuild(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, func(s *FunctionSettings) { s.Runs = true })
	now := time.Unix(1000, 0)
	w.now = func() time.Time { return now }
	w.wire.serve("http://old", nextBuild(t, w, "old", "CheckingAccount.WithdrawCash"))
	w.combined("http://old")
	state := w.opened(t, bankAccount)
	work := shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{
		w.deposit(t, bankAccount, "d1", 50),
		w.message(t, bankAccount, "w1", "WithdrawCash", `{"destination": "atm", "amount": {"minor": 5}}`),
	}}
	// What stands before it is done.
	c := w.Compute(t.Context(), work)
	if c.Trouble != nil || len(c.Steps) != 1 {
		t.Fatalf("%+v %+v", c, c.Trouble)
	}
	work.State, work.Commands = c.Steps[0].State, work.Commands[1:]
	before := len(w.wire.sent())
	c = w.Compute(t.Context(), work)
	wantTrouble(t, c, shard.Unavailable)
	if !strings.Contains(c.Trouble.Reason, "not yet known there") || len(w.wire.sent()) != before {
		t.Errorf("called %d times, trouble is %+v", len(w.wire.sent())-before, c.Trouble)
	}
	w.wire.serve("http://old", nextBuild(t, w, "next"))
	now = now.Add(2 * time.Second)
	if c := w.Compute(t.Context(), work); c.Trouble != nil || len(c.Steps) != 1 {
		t.Errorf("after the next build: %+v %+v", c, c.Trouble)
	}
}

func TestFunctionOfAnUnregisteredSchemaWaits(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	f := nextBuild(t, w, "ahead")
	name := runtime.TypeName("CheckingAccount.ReceiveDeposit")
	f.description.Schemas[name] = runtime.SchemaText{Fingerprint: "0123456789abcdef"}
	w.wire.serve("http://ahead", f)
	w.separate("http://ahead", "http://aggregator")
	c := w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, Commands: []*runtime.Message{w.deposit(t, bankAccount, "d", 1)}})
	wantTrouble(t, c, shard.Unavailable)
	if !strings.Contains(c.Trouble.Reason, "not registered") {
		t.Errorf("the reason is %s", c.Trouble.Reason)
	}
}

func TestStateVersionInForce(t *testing.T) {
	t.Parallel()
	type change struct {
		aggregate string
		fold      int
	}
	var changes []change
	w := newFunctionWorld(t, func(s *FunctionSettings) {
		s.FoldChanged = func(a string, fold int) { changes = append(changes, change{a, fold}) }
	})
	now := time.Unix(1000, 0)
	w.now = func() time.Time { return now }
	v1, v2 := nextBuild(t, w, "v1"), nextBuild(t, w, "v2")
	v2.description.StateVersion = 2
	served := []answerer{v1}
	w.wire.serve("http://both", served...)
	w.combined("http://both")
	state := w.opened(t, bankAccount)
	compute := func() shard.Computed {
		rebuilt := state // by now, as far as these functions can tell
		rebuilt.Fold, _ = w.KnownFold("CheckingAccount")
		return w.Compute(t.Context(), shard.Work{Aggregate: bankAccount, State: rebuilt, Commands: []*runtime.Message{w.deposit(t, bankAccount, "d", 1)}})
	}
	wantChanges := func(when string, folds ...int) {
		t.Helper()
		if len(changes) != len(folds) {
			t.Fatalf("%s: told of %v, want %v", when, changes, folds)
		}
		for i, c := range changes {
			if c.aggregate != "CheckingAccount" || c.fold != folds[i]*foldRebuilds {
				t.Errorf("%s: told of %+v, want state version %d", when, c, folds[i])
			}
		}
	}
	if c := compute(); c.Trouble != nil {
		t.Fatal(c.Trouble)
	}
	wantChanges("at first", 1)

	// The roll-out begins: the first call that meets the new one has to be asked again, with a state it made.
	w.wire.serve("http://both", v2)
	wantTrouble(t, compute(), shard.Unavailable)
	wantChanges("the new one was met", 1, 2)
	if fold, ok := w.KnownFold("CheckingAccount"); !ok || fold != 2*foldRebuilds {
		t.Errorf("fold in force is %d", fold)
	}
	if c := compute(); c.Trouble != nil {
		t.Error(c.Trouble)
	}

	// A state from before turns up late: it is not used, and its holders are told once more.
	work := shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{w.deposit(t, bankAccount, "d", 1)}}
	wantTrouble(t, w.Compute(t.Context(), work), shard.Unavailable)
	wantChanges("a state from before", 1, 2, 2)

	// The old ones are still there: they are not asked any more, however long it takes.
	now = now.Add(foldRollback - time.Second)
	if c := compute(); c.Trouble != nil {
		t.Error(c.Trouble)
	}
	now = now.Add(2 * time.Second)
	w.wire.serve("http://both", v1)
	wantTrouble(t, compute(), shard.Unavailable)
	w.wire.serve("http://both", v1, v2)
	for range 20 {
		if c := compute(); c.Trouble != nil {
			t.Error("with the new one among them:", c.Trouble)
		}
	}
	wantChanges("old ones were met", 1, 2, 2)

	// It is rolled back.
	w.wire.serve("http://both", v1)
	now = now.Add(foldRollback + time.Second)
	wantTrouble(t, compute(), shard.Unavailable)
	wantChanges("the new one is gone", 1, 2, 2, 1)
	if c := compute(); c.Trouble != nil {
		t.Error("after it was rolled back:", c.Trouble)
	}
}

// Who calls no function does not meet a new one, and has to ask.
func TestFoldIsAskedAgainByWhoDoesNotCall(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	now := time.Unix(1000, 0)
	w.now = func() time.Time { return now }
	v1, v2 := nextBuild(t, w, "v1"), nextBuild(t, w, "v2")
	v2.description.StateVersion = 2
	w.combined("http://both")
	want := func(when string, version int) {
		t.Helper()
		if fold, ok := w.FreshFold(t.Context(), "CheckingAccount"); ok != (version > 0) || fold != version*foldRebuilds {
			t.Errorf("%s: %d, %v, want state version %d", when, fold, ok, version)
		}
	}
	w.wire.serve("http://both")
	want("never met", 0)
	now = now.Add(time.Minute) // past the breaker
	w.wire.serve("http://both", v1)
	want("met", 1)
	w.wire.serve("http://both", v2)
	want("a moment later", 1)
	now = now.Add(foldFresh)
	want("later", 2)
	now = now.Add(foldFresh)
	w.wire.serve("http://both")
	want("while it is away", 2)
}

func TestRootThatSaysRebuildIsAnotherFold(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	before := nextBuild(t, w, "old")
	w.wire.serve("http://both", before)
	w.combined("http://both")
	state := w.opened(t, bankAccount)
	fold, _ := w.KnownFold("CheckingAccount")
	registerNext(t, w, func(s string) string {
		return strings.Replace(addField(s, "CheckingAccount", "nickname"), `"kind": "root",`, `"kind": "root", "rebuild": true,`, 1)
	})
	after := nextBuild(t, w, "new")
	after.invoke = func(runtime.Invocation) runtime.Result {
		return runtime.Result{Failure: &runtime.Failure{Code: runtime.FailureError, Message: "reached"}}
	}
	w.wire.serve("http://both", after)
	work := shard.Work{Aggregate: bankAccount, State: state, Commands: []*runtime.Message{w.deposit(t, bankAccount, "d", 1)}}
	wantTrouble(t, w.Compute(t.Context(), work), shard.Unavailable)
	if now, _ := w.KnownFold("CheckingAccount"); now <= fold {
		t.Errorf("fold is %d after the root said rebuild, %d before", now, fold)
	}
	work.State = shard.State{Version: 1} // rebuilt, as far as this function cares
	if c := w.Compute(t.Context(), work); c.Trouble == nil || !strings.Contains(c.Trouble.Reason, "reached") {
		t.Errorf("a rebuilt state did not reach the new function: %+v", c.Trouble)
	}
}
