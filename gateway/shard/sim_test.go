package shard

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

var (
	simSeeds = flag.Int("sim.seeds", 400, "how many seeds the simulation runs")
	simFrom  = flag.Uint64("sim.from", 1, "the first seed; with -sim.seeds 1 it repeats a failure")
	simPrint = flag.Bool("sim.print", false, "print the history")
)

// The simulation drives shards, one owner after the other, against a log that
// commits, aborts and forgets to say which, functions that fail, and clients
// that repeat themselves; then it holds the log against the promises.
func TestSimulation(t *testing.T) {
	for seed := *simFrom; seed < *simFrom+uint64(*simSeeds); seed++ {
		w := newWorld(seed)
		w.run(600)
		if err := w.check(); err != nil {
			t.Fatalf("seed %d: %v\nrepeat with: go test ./gateway/shard -run TestSimulation -sim.seeds 1 -sim.from %d -sim.print", seed, err, seed)
		}
	}
}

const (
	simTopic    = "kf-evento-commands"
	simEvents   = "kf-evento-events"
	simTopicID  = "id-of-commands"
	simSendings = 120
)

type simEvent struct {
	m *runtime.Message // nil: a control or aborted record
}

type simAside struct {
	key   int64
	value []byte // nil: tombstone
}

// world is the simulated surroundings: two logs, the parked topic, the
// committed position, and what clients were told.
type world struct {
	rng  *rand.Rand
	now  time.Time
	seed uint64

	commands []*Command
	events   []simEvent
	parked   []simAside
	offset   int64
	metadata string
	clean    bool

	shard   *Shard
	term    uint64
	pending []func() // answers under way to the shard of this term
	txn     *simTxn  // the open transaction
	answers []simAnswer
	sent    map[runtime.CommandKey]*Command
	poison  map[runtime.CommandKey]bool // fails for good
	lists   map[runtime.AggregateID]string
	lines   []string
}

type simTxn struct {
	shard *Shard
	batch *Batch
}

type simAnswer struct {
	cmd *Command
	o   Outcome
}

func newWorld(seed uint64) *world {
	return &world{
		rng: rand.New(rand.NewPCG(seed, 7)), now: time.UnixMilli(1_700_000_000_000), seed: seed,
		sent: map[runtime.CommandKey]*Command{}, poison: map[runtime.CommandKey]bool{}, lists: map[runtime.AggregateID]string{},
	}
}

func (w *world) logf(format string, args ...any) {
	if *simPrint {
		fmt.Printf("%s "+format+"\n", append([]any{w.now.Format("05.000")}, args...)...)
	}
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// run takes random steps, then heals everything and waits for quiet.
func (w *world) run(steps int) {
	for range steps {
		w.step(true)
	}
	clear(w.poison)
	for range 20_000 {
		if w.shard == nil {
			w.takeOver()
		}
		w.step(false)
		if n, _ := w.shard.Backlog(); n == 0 && w.txn == nil && len(w.pending) == 0 && w.shard.Next() == int64(len(w.commands)) {
			if r, other := w.shard.Ready(); r == 0 && !other {
				return
			}
		}
	}
}

func (w *world) step(faults bool) {
	w.now = w.now.Add(time.Duration(w.rng.IntN(200)) * time.Millisecond)
	if w.shard == nil {
		if w.chance(50) {
			w.takeOver()
		}
		return
	}
	switch n := w.rng.IntN(100); {
	case n < 25 && faults && len(w.commands) < simSendings:
		w.send()
	case n < 45:
		if next := w.shard.Next(); next < int64(len(w.commands)) {
			c := *w.commands[next]
			w.shard.Record(w.now, &c)
		}
	case n < 70:
		if len(w.pending) > 0 {
			i := w.rng.IntN(len(w.pending))
			f := w.pending[i]
			w.pending = slices.Delete(w.pending, i, i+1)
			f()
		}
	case n < 80:
		w.begin()
	case n < 90:
		w.end(faults)
	case n < 96:
		w.shard.Tick(w.now)
		if offset, metadata, ok := w.shard.TakePlain(); ok && w.txn == nil {
			w.offset, w.metadata = offset, metadata
		}
	case n < 98 && faults:
		w.crash()
	case n < 99 && w.chance(30):
		w.shard.Forget(w.now, "acc")
	case n < 99 && faults && w.txn == nil:
		w.stop()
	}
	w.carryOut(faults)
}

// send appends a command: a new one, a repeat, a conflicting one, or an order.
func (w *world) send() {
	id := "c" + strconv.Itoa(w.rng.IntN(60))
	agg := runtime.AggregateID("acc:" + strconv.Itoa(w.rng.IntN(1+int(w.seed%4))))
	value := "v"
	if w.chance(3) {
		value = "other"
	}
	m := &runtime.Message{ID: id, Type: "Acc.Do", Source: "/client", Subject: agg.Root(), Data: []byte(value)}
	if w.chance(10) {
		v := uint64(w.rng.IntN(4))
		m.Expect = &v
		value += "-expect" // part of what makes it the same command
	}
	c := &Command{Offset: int64(len(w.commands)), Message: m, Hash: value, Topic: simEvents}
	if w.chance(4) && len(w.commands) > 0 {
		target := w.commands[w.rng.IntN(len(w.commands))]
		m.ID, m.Type, m.Subject = "order-"+strconv.Itoa(len(w.commands)), runtime.TypeDropCommand, target.Message.Subject
		m.Expect = nil
		c.Order = &Order{Drop: w.chance(50), Offset: target.Offset}
	} else if w.chance(5) {
		c.Publish = true
	}
	c.Key = m.Key()
	if c.Order == nil {
		if first := w.sent[c.Key]; first == nil {
			w.sent[c.Key] = c
			w.poison[c.Key] = w.chance(4)
		}
	}
	w.logf("send %d %s %s %s order=%v", c.Offset, m.Subject, m.ID, value, c.Order)
	w.commands = append(w.commands, c)
}

func (w *world) carryOut(faults bool) {
	s := w.shard
	if s == nil {
		return
	}
	later := func(f func()) {
		w.pending = append(w.pending, func() {
			if w.shard == s {
				f()
			}
		})
	}
	for _, out := range s.Outputs() {
		switch o := out.(type) {
		case Load:
			later(func() {
				if faults && w.chance(20) {
					s.Loaded(w.now, o.Aggregate, o.Token, Snapshot{}, &Trouble{Kind: Unavailable, Reason: "aggregator away", Wait: time.Second})
					return
				}
				s.Loaded(w.now, o.Aggregate, o.Token, w.fold(o.Aggregate), nil)
			})
		case Invoke:
			computed := w.compute(o.Work, faults)
			later(func() { s.Computed(w.now, o.Call, computed) })
		case Confirm:
			later(func() {
				if faults && w.chance(20) {
					s.Confirmed(w.now, o.Token, Confirmation{Trouble: &Trouble{Kind: Unavailable, Wait: time.Second}})
					return
				}
				s.Confirmed(w.now, o.Token, w.confirm(o))
			})
		case Answer:
			w.logf("answer %d %s %s v%d %s", o.Command.Offset, o.Command.Message.ID, o.Outcome.Status, o.Outcome.Version, o.Outcome.Reason)
			w.answers = append(w.answers, simAnswer{o.Command, o.Outcome})
		case Corrupt:
			panic(fmt.Sprintf("seed %d: %s: %s", w.seed, o.Aggregate, o.Reason))
		}
	}
}

// compute plays handler and aggregator: the state is the list of event ids' values.
func (w *world) compute(work Work, faults bool) Computed {
	var c Computed
	state := work.State
	for _, m := range work.Commands {
		if w.poison[m.Key()] {
			c.Trouble = &Trouble{Kind: Failed, Reason: "poison", Policy: Policy{Attempts: 3, Delay: 100 * time.Millisecond, MaxDelay: time.Second, Park: w.seed%2 == 0}}
			break
		}
		if faults && w.chance(15) {
			c.Trouble = &Trouble{Kind: TroubleKind(1 + w.rng.IntN(2)), Reason: "weather", Wait: 300 * time.Millisecond, Policy: Policy{Attempts: 30, Delay: 100 * time.Millisecond}}
			break
		}
		var step Step
		for i := range 1 + w.rng.IntN(3) {
			data := fmt.Sprintf("%s/%s/%d.%d;", m.ID, m.Data, i, w.rng.IntN(1000)) // another answer at each call
			step.Events = append(step.Events, Event{Type: "Acc.Done", Subject: m.Subject, Data: []byte(data), By: "f img schema"})
			state = State{Version: state.Version + 1, Schema: "s", Data: append(slices.Clone(state.Data), data...)}
		}
		if len(c.Steps) > 0 {
			last := &c.Steps[len(c.Steps)-1]
			last.State = UnknownState(last.State.Version) // only the last state of a call comes back
		}
		step.State = state
		c.Steps = append(c.Steps, step)
		if w.chance(10) {
			break // the rest was not tried
		}
	}
	return c
}

// fold rebuilds a snapshot from the log, as a loader does.
func (w *world) fold(id runtime.AggregateID) Snapshot {
	snap := Snapshot{Aggregate: id, Seen: &Seen{}}
	for offset, e := range w.events {
		if e.m == nil || e.m.Aggregate() != id {
			continue
		}
		m := e.m
		key, pos, _ := runtime.ParseEventID(m.ID)
		if pos == 1 {
			snap.Seen.Add(SeenEntry{Hash: SeenHash(key), Offset: int64(offset)})
		}
		if m.Sequence > 0 {
			snap.State = State{Version: m.Sequence, Schema: "s", Data: append(slices.Clone(snap.State.Data), m.Data...)}
		}
		if m.Skip != nil {
			snap.Links = nil
		}
		snap.Links = append(snap.Links, int64(offset))
		snap.Head = Head{Version: snap.State.Version, Offset: int64(offset), Command: key, Pos: int32(pos)}
		snap.Recorded = m.RecordedTime
	}
	return snap
}

func (w *world) confirm(o Confirm) Confirmation {
	var c Confirmation
	for _, offset := range o.Offsets {
		for at := offset; at < int64(len(w.events)); at++ {
			m := w.events[at].m
			if m == nil {
				continue
			}
			if key, _, _ := runtime.ParseEventID(m.ID); key != o.Command.Key {
				continue
			}
			c.Found, c.Same = true, m.Hash == o.Command.Hash
			c.Outcome.Status = Done
			c.Outcome.Records = append(c.Outcome.Records, Recorded{Message: m, At: runtime.Coordinates{Topic: simEvents, Offset: at}})
			if m.Pos == m.Count {
				return c
			}
		}
	}
	return c
}

func (w *world) begin() {
	if w.txn != nil {
		return
	}
	if b := w.shard.Take(w.now, 1+w.rng.IntN(20), 1<<20); b != nil {
		w.txn = &simTxn{w.shard, b}
	}
}

// end ends the open transaction one way or the other, and tells the shard the truth.
func (w *world) end(faults bool) {
	if w.txn == nil {
		return
	}
	txn := w.txn
	w.txn = nil
	if faults && w.chance(20) {
		for range w.rng.IntN(len(txn.batch.Records) + 1) {
			w.events = append(w.events, simEvent{}) // aborted records take offsets
		}
		w.logf("abort %d results", txn.batch.Results())
		if txn.shard == w.shard {
			txn.shard.Aborted(w.now, txn.batch, w.chance(50), "simulated")
		}
		return
	}
	offsets := w.commit(txn.batch)
	if txn.shard == w.shard {
		txn.shard.Committed(w.now, txn.batch, offsets)
	}
}

func (w *world) commit(b *Batch) []int64 {
	w.logf("commit %d results, %d records, position %d %s", b.Results(), len(b.Records), b.Offset, b.Metadata)
	var offsets []int64
	for _, r := range b.Records {
		if r.Kind == EventRecord {
			offsets = append(offsets, int64(len(w.events)))
			w.events = append(w.events, simEvent{r.Message})
			continue
		}
		offsets = append(offsets, int64(len(w.parked)))
		w.parked = append(w.parked, simAside{r.Offset, r.Value})
	}
	w.events = append(w.events, simEvent{}) // the commit marker
	w.offset, w.metadata = b.Offset, b.Metadata
	return offsets
}

// crash loses the owner; its open transaction is ended by the next one: it may
// have been committed without a word, or is aborted.
func (w *world) crash() {
	w.logf("crash")
	if w.txn != nil && w.chance(50) {
		w.commit(w.txn.batch)
	}
	w.txn, w.shard, w.pending, w.clean = nil, nil, nil, false
}

func (w *world) stop() {
	w.logf("stop")
	c := w.shard.TakeCheckpoint(true)
	w.offset, w.metadata = c.Offset, c.Metadata
	w.shard, w.pending = nil, nil
}

func (w *world) takeOver() {
	w.term++
	r := Restored{Position: Position{Offset: w.offset}, Heads: map[runtime.AggregateID]Head{}, AsideEnd: int64(len(w.parked))}
	if w.metadata != "" {
		p, err := ParsePosition(w.offset, w.metadata, simTopicID)
		if err != nil {
			panic(err)
		}
		r.Position = p
	}
	if w.chance(3) {
		r.Position = Position{} // the committed offset has expired: everything is read again
	}
	if !r.Position.Clean {
		r.SuspectBelow = int64(len(w.commands))
	}
	live := map[int64]Aside{}
	for at := r.Position.Aside; at < int64(len(w.parked)); at++ {
		p := w.parked[at]
		if p.value == nil {
			delete(live, p.key)
			continue
		}
		a, err := ParseAside(p.value)
		if err != nil {
			panic(err)
		}
		c := *w.commands[p.key]
		a.Offset, a.RecordAt, a.Command = p.key, at, &c
		live[p.key] = a
	}
	for _, a := range live {
		r.Asides = append(r.Asides, a)
	}
	slices.SortFunc(r.Asides, func(a, b Aside) int { return int(a.Offset - b.Offset) })
	for _, e := range w.events {
		if e.m != nil {
			r.Heads[e.m.Aggregate()] = w.fold(e.m.Aggregate()).Head
		}
	}
	w.logf("take over at %d, %d above, %d aside, clean %v", r.Position.Offset, len(r.Position.Done), len(r.Asides), r.Position.Clean)
	w.shard = New(w.now, Config{
		Commands: simTopic, CommandsID: simTopicID, Installation: "sim", Seed: w.seed,
		Failure:  func(runtime.TypeName) bool { return false },
		Foldable: func(*runtime.Message) bool { return w.seed%3 == 0 },
		Platform: func(publish bool, p *Parked, r *Reject) (runtime.TypeName, runtime.DataSchema, []byte) {
			data, _ := json.Marshal([]any{p, r})
			if p != nil {
				return runtime.TypeCommandParked, "", data
			}
			return runtime.TypeCommandRejected, "", data
		},
		MaxCached: 2, MaxFold: 5, MaxTail: 8,
	}, r)
}

// check holds the log and the answers against P2, P3, P4 and P5.
func (w *world) check() error {
	if n, _ := w.shard.Backlog(); n > 0 {
		return fmt.Errorf("%d commands never ended", n)
	}
	type chain struct {
		version uint64
		offsets []int64
		state   string
		cause   int64
	}
	chains := map[runtime.AggregateID]*chain{}
	outcomes := map[runtime.CommandKey][]*runtime.Message{}
	var last time.Time
	for offset, e := range w.events {
		if e.m == nil {
			continue
		}
		m := e.m
		key, pos, ok := runtime.ParseEventID(m.ID)
		if !ok {
			return fmt.Errorf("event id %q", m.ID)
		}
		c := chains[m.Aggregate()]
		if c == nil {
			c = &chain{}
			chains[m.Aggregate()] = c
		}
		if m.Platform() != (m.Sequence == 0) {
			return fmt.Errorf("offset %d: type %s with sequence %d", offset, m.Type, m.Sequence)
		}
		if m.Sequence > 0 {
			if m.Sequence != c.version+1 {
				return fmt.Errorf("offset %d: version %d of %s after %d", offset, m.Sequence, m.Aggregate(), c.version)
			}
			if pos == 1 {
				if m.Cause.Offset < c.cause {
					return fmt.Errorf("offset %d: the command at offset %d of %s takes effect after the one at %d", offset, m.Cause.Offset, m.Aggregate(), c.cause)
				}
				c.cause = m.Cause.Offset
				if want := w.commands[m.Cause.Offset].Message.Expect; want != nil && *want != c.version {
					return fmt.Errorf("offset %d: the command at offset %d expects version %d and is done at %d", offset, m.Cause.Offset, *want, c.version)
				}
			}
			c.version, c.state = m.Sequence, c.state+string(m.Data)
		}
		if m.Type == runtime.TypeCommandRejected {
			if want := w.commands[m.Cause.Offset].Message.Expect; want == nil || *want == c.version {
				return fmt.Errorf("offset %d: the command at offset %d is rejected at version %d, which it expects", offset, m.Cause.Offset, c.version)
			}
		}
		if err := w.checkLinks(int64(offset), m, c.offsets); err != nil {
			return err
		}
		c.offsets = append(c.offsets, int64(offset))
		if m.RecordedTime.Before(last.Add(-time.Hour)) {
			return fmt.Errorf("offset %d: recorded at %v after %v", offset, m.RecordedTime, last)
		}
		last = m.RecordedTime
		if pos != len(outcomes[key])+1 || pos != m.Pos {
			return fmt.Errorf("offset %d: position %d of command %s after %d events: a second outcome or a torn one", offset, pos, m.CausationID, len(outcomes[key]))
		}
		outcomes[key] = append(outcomes[key], m)
	}
	for key, events := range outcomes {
		if len(events) != events[0].Count {
			return fmt.Errorf("command %s has %d events of %d", events[0].CausationID, len(events), events[0].Count)
		}
		if w.sent[key] == nil {
			return fmt.Errorf("outcome of a command nobody sent: %+v", events[0])
		}
	}
	if w.seed%4 == 0 && len(chains) > 0 && len(chains["acc:0"].offsets) < SkipEvery {
		return fmt.Errorf("the only aggregate has %d records: eventoskip was not tried", len(chains["acc:0"].offsets))
	}
	for key, c := range w.sent {
		if len(outcomes[key]) == 0 {
			return fmt.Errorf("command %s to %s has no outcome", c.Message.ID, c.Message.Subject)
		}
	}
	for id, c := range chains {
		if got := string(w.fold(id).State.Data); got != c.state {
			return fmt.Errorf("state of %s is %q, folded %q", id, got, c.state)
		}
	}
	for _, a := range w.answers {
		if a.cmd.Order != nil || a.o.Status == Conflict {
			continue
		}
		want := outcomes[a.cmd.Key]
		if len(a.o.Records) != len(want) {
			return fmt.Errorf("command %s was answered with %d events, %d are recorded", a.cmd.Message.ID, len(a.o.Records), len(want))
		}
		for i, r := range a.o.Records {
			if r.Message.ID != want[i].ID || string(r.Message.Data) != string(want[i].Data) || w.events[r.At.Offset].m != want[i] {
				return fmt.Errorf("command %s was answered with an event that is not the recorded one: %+v", a.cmd.Message.ID, r)
			}
		}
		if first := w.sent[a.cmd.Key]; want[0].Hash != a.cmd.Hash {
			return fmt.Errorf("command %s (%s) was answered with the outcome of %s, first %s", a.cmd.Message.ID, a.cmd.Hash, want[0].Hash, first.Hash)
		}
	}
	return nil
}

// checkLinks holds eventoprev and eventoskip against the offsets before. A
// distance may be off where aborted records lie between; here transactions are whole.
func (w *world) checkLinks(offset int64, m *runtime.Message, before []int64) error {
	resolve := func(link int64) int64 {
		if link < 0 {
			return offset + link
		}
		return link
	}
	switch {
	case len(before) == 0:
		if m.Prev != runtime.NoPrev {
			return fmt.Errorf("offset %d: the first record of %s has eventoprev %d", offset, m.Aggregate(), m.Prev)
		}
	case resolve(m.Prev) != before[len(before)-1]:
		return fmt.Errorf("offset %d: eventoprev %d, want %d", offset, m.Prev, before[len(before)-1])
	}
	if due := len(before) > 0 && len(before)%SkipEvery == 0; due != (m.Skip != nil) {
		return fmt.Errorf("offset %d: %d records before it and eventoskip %v", offset, len(before), m.Skip)
	}
	for i, link := range m.Skip {
		if want := before[len(before)-SkipEvery+i]; resolve(link) != want {
			return fmt.Errorf("offset %d: eventoskip[%d] is %d, want %d", offset, i, link, want)
		}
	}
	return nil
}
