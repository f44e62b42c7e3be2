package proof

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

// logged is a record of a topic as a committed reader sees it.
type logged = verify.Record

// evidence is what is known when a run is over and nothing is under way any more.
type evidence struct {
	Sent        []*command
	Commands    []logged   // by partition and offset
	Events      []logged   // of all events topics; by topic, partition and offset
	Decisions   []decision // by partition and offset
	Dispatchers []string   // names of those that run
}

// check holds the evidence against the invariants, those of the bank included,
// without asking anybody.
func check(e evidence) []string {
	c := verify.New(verify.Options{AtRest: true, Dispatchers: e.Dispatchers, Most: 1 << 20, Checks: []verify.Check{newBankCheck(e.Dispatchers)}})
	c.Sent(e.operations())
	partitions := map[int32]bool{}
	for _, list := range [][]logged{e.Commands, e.Events} {
		for _, r := range list {
			partitions[r.At.Partition] = true
		}
	}
	for _, n := range slices.Sorted(maps.Keys(partitions)) {
		p := c.Partition(n)
		for _, d := range e.Decisions {
			if d.At.Partition == n {
				p.Decision(d, true)
			}
		}
		for _, r := range e.Commands {
			if r.At.Partition == n {
				p.Command(r)
			}
		}
		for _, r := range e.Events {
			if r.At.Partition == n {
				p.Event(r)
			}
		}
		p.Close()
	}
	found := c.Finish()
	list := make([]string, len(found.Violations))
	for i, v := range found.Violations {
		list[i] = v.String()
	}
	return list
}

// operations are what the clients sent, as the checker takes it.
func (e evidence) operations() []verify.Operation {
	list := make([]verify.Operation, len(e.Sent))
	for i, c := range e.Sent {
		list[i] = verify.Operation{Source: c.Source, ID: c.ID, Entity: runtime.Entity(c.Entity), Type: c.Type}
		for _, a := range c.tries() {
			list[i].Attempts = append(list[i].Attempts, verify.Attempt{
				Gateway: a.Gateway, Sent: a.Sent, Done: a.Done, Reused: a.Problem == "id-reused", Outcome: a.Outcome.told(),
				Result: map[result]verify.Result{unknown: verify.Unknown, failed: verify.Failed, accepted: verify.OK}[a.Result],
			})
		}
	}
	return list
}

// bankCheck is what the bank promises beside the invariants: its functions, asked
// again, decide what is recorded, and no cent is lost or made.
type bankCheck struct {
	list        []verify.Violation
	dispatchers []string
	records     map[runtime.CommandKey][]logged            // in the commands topic
	made        map[runtime.CommandKey]runtime.Coordinates // by dispatchers: where that was decided
	events      []logged
	byAggregate map[runtime.AggregateID][]logged
	decisions   []decision
}

func newBankCheck(dispatchers []string) *bankCheck {
	return &bankCheck{
		dispatchers: dispatchers, records: map[runtime.CommandKey][]logged{}, made: map[runtime.CommandKey]runtime.Coordinates{},
		byAggregate: map[runtime.AggregateID][]logged{},
	}
}

func (c *bankCheck) add(i verify.Invariant, format string, args ...any) {
	c.list = append(c.list, verify.Violation{Invariant: i, Text: fmt.Sprintf(format, args...)})
}

// Command implements [verify.Check].
func (c *bankCheck) Command(r logged) {
	if !r.M.Platform() {
		c.records[r.M.Key()] = append(c.records[r.M.Key()], r)
	}
}

// Event implements [verify.Check].
func (c *bankCheck) Event(r logged) {
	c.events = append(c.events, r)
	c.byAggregate[r.M.Aggregate()] = append(c.byAggregate[r.M.Aggregate()], r)
}

// Decision implements [verify.Check].
func (c *bankCheck) Decision(d decision) {
	c.decisions = append(c.decisions, d)
	if d.D.Status == avro.DispatchDecided {
		for i := range d.D.Commands {
			c.made[d.CommandKey(i)] = d.At
		}
	}
}

// Finish implements [verify.Check].
func (c *bankCheck) Finish(found func(verify.Violation)) {
	c.decided()
	for _, id := range sortedKeys(c.byAggregate) {
		c.replay(id, c.byAggregate[id])
	}
	c.money()
	for _, v := range c.list {
		found(v)
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// dispatches is what the bank's dispatchers promise: each event has the effect that
// they say, when they are asked again.
const dispatches verify.Invariant = "dispatch"

func (c *bankCheck) decided() {
	made := map[[2]string]decision{}
	for _, d := range c.decisions {
		if d.D.Status == avro.DispatchDecided && d.D.Epoch == 0 {
			made[[2]string{d.D.Dispatcher, d.D.Event}] = d
		}
	}
	for _, r := range c.events {
		for _, name := range c.dispatchers {
			commands, err := reaction(name, r.M)
			if err != nil {
				c.add(dispatches, "%v", err)
				continue
			}
			var want, got []string
			for _, m := range commands {
				want = append(want, fmt.Sprintf("%s to %s: %s %x", m.Type, m.Subject, m.Schema, m.Data))
			}
			d, there := made[[2]string{name, r.M.ID}]
			if !there {
				if len(want) > 0 {
					c.add(dispatches, "%s has not decided about the %s at %s", name, r.M.Type, r.At)
				}
				continue
			}
			for _, m := range d.D.Commands {
				got = append(got, fmt.Sprintf("%s to %s: %s %x", m.Type, m.Target, m.Schema, m.Data))
			}
			if !slices.Equal(want, got) {
				c.add(dispatches, "the decision at %s is %q; %s says %q of the event", d.At, got, name, want)
			}
		}
	}
}
