package shard

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
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
		if err := newWorld(seed).play(); err != nil {
			t.Fatalf("seed %d: %v\nrepeat with: go test ./gateway/shard -run TestSimulation -sim.seeds 1 -sim.from %d -sim.print", seed, err, seed)
		}
	}
}

// All follows from the seed: it repeats a failure.
func TestSimulationIsDeterministic(t *testing.T) {
	for seed := range uint64(40) {
		var histories [2]strings.Builder
		for i := range histories {
			w := newWorld(seed + 1)
			w.print = &histories[i]
			if err := w.play(); err != nil {
				t.Fatalf("seed %d: %v", seed+1, err)
			}
		}
		one, two := strings.Split(histories[0].String(), "\n"), strings.Split(histories[1].String(), "\n")
		for i := range max(len(one), len(two)) {
			if i >= len(one) || i >= len(two) || one[i] != two[i] {
				t.Fatalf("seed %d: the histories of %d and %d lines differ from line %d on", seed+1, len(one), len(two), i+1)
			}
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
	heads    map[runtime.AggregateID]Head // the heads topic
	headsEnd int64                        // its checkpoint: the events before it are in the heads

	shard   *Shard
	term    uint64
	pending []func() // answers under way to the shard of this term
	txn     *simTxn  // the open transaction
	answers []simAnswer
	sent    map[runtime.CommandKey]*Command
	poison  map[runtime.CommandKey]bool // fails for good
	strays  map[int64]bool              // commands of another partition, by offset: whether they were forwarded
	lists   map[runtime.AggregateID]string
	print   io.Writer           // of the history; nil: nobody reads it
	reads   map[uint64]*simRead // not answered yet
	lastAsk uint64
	wrong   error // the first wrong answer

	bug    string  // a planted one: see plantedBugs
	zombie *simTxn // of a former owner
}

// simRead is a question for an aggregate's snapshot.
type simRead struct {
	id      runtime.AggregateID
	version uint64
	asked   time.Time
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
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 7)), now: time.UnixMilli(1_700_000_000_000), seed: seed,
		heads: map[runtime.AggregateID]Head{}, reads: map[uint64]*simRead{},
		sent: map[runtime.CommandKey]*Command{}, poison: map[runtime.CommandKey]bool{}, lists: map[runtime.AggregateID]string{},
		strays: map[int64]bool{},
	}
	if *simPrint {
		w.print = os.Stdout
	}
	return w
}

func (w *world) logf(format string, args ...any) {
	if w.print != nil {
		fmt.Fprintf(w.print, "%s "+format+"\n", append([]any{w.now.Format("05.000")}, args...)...)
	}
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// play runs the world and says which promise was broken. It always ends.
func (w *world) play() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			if w.bug == "" {
				err = fmt.Errorf("%w\n%s", err, debug.Stack())
			}
		}
	}()
	w.run(600)
	if w.wrong != nil {
		return w.wrong
	}
	if err := w.check(); err != nil {
		return err
	}
	return w.checkParked()
}

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
		if w.wrong != nil {
			return
		}
		if w.shard.Backlog() == (Backlog{}) && w.txn == nil && len(w.pending) == 0 && w.shard.Next() == int64(len(w.commands)) {
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
			if _, stray := w.strays[next]; stray {
				w.shard.Stray(w.now, &c)
			} else {
				w.shard.Record(w.now, &c)
			}
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
		w.forward(faults)
		if faults && w.chance(30) {
			w.read()
		}
		if offset, metadata, ok := w.shard.TakePlain(); ok && w.txn == nil {
			w.offset, w.metadata = offset, metadata
		}
	case n < 98 && faults && w.chance(60):
		w.crash()
	case n < 98 && faults:
		w.read()
	case n < 99 && w.chance(20):
		w.checkpoint(false, faults)
	case n < 99 && w.chance(30):
		w.shard.Forget(w.now, "acc")
	case n < 99 && faults && w.txn == nil:
		w.stop()
	}
	w.carryOut(faults)
	if w.shard != nil {
		if err := recount(w.shard); err != nil {
			w.fail("%v", err)
		}
	}
}

// forward writes a stray to its own partition, or fails to.
func (w *world) forward(faults bool) {
	for _, c := range w.shard.Strays() {
		if faults && w.chance(70) {
			w.shard.StrayFailed(c.Offset, "away")
			continue
		}
		w.strays[c.Offset] = true
		w.shard.Forwarded(c.Offset)
	}
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
		if parked := w.listed(); len(parked) > 0 && w.chance(50) {
			target = w.commands[parked[w.rng.IntN(len(parked))].Command.Offset]
		}
		m.ID, m.Type, m.Subject = "order-"+strconv.Itoa(len(w.commands)), runtime.TypeDropCommand, target.Message.Subject
		m.Expect = nil
		c.Order = &Order{Drop: w.chance(50), Offset: target.Offset}
	} else if w.chance(5) {
		c.Publish = true
	}
	c.Key = m.Key()
	if c.Order == nil && w.chance(3) {
		w.strays[c.Offset] = false
	} else if c.Order == nil {
		if first := w.sent[c.Key]; first == nil {
			w.sent[c.Key] = c
			w.poison[c.Key] = w.chance(4)
		}
	}
	w.logf("send %d %s %s %s order=%v", c.Offset, m.Subject, m.ID, value, c.Order)
	w.commands = append(w.commands, c)
}
