package verify

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strconv"
	"time"

	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// Options say what a [Checker] may take for granted.
type Options struct {
	// Partitions is how many the topics have; 0 where it does not matter in which
	// one a record stands.
	Partitions int32
	// Place tells the partition of a key among so many; needed with Partitions.
	Place func(key string, partitions int32) int32

	// AtRest says that nothing is under way: each command must have its outcome,
	// and each decision its commands. Else only those that positions have passed.
	AtRest bool
	// End tells up to which offset, not included, a partition is read; nil when all
	// that there is is read.
	End func(topic string, partition int32) int64

	// Healed and Within bound how long commands may take (I9): an outcome is
	// recorded at the latest Within after its command was sent and after Healed.
	// Not checked while Within is 0.
	Healed time.Time
	Within time.Duration
	// Held says of which aggregates commands may take as long as they like; those of
	// all others must be answered within OthersWithin of being sent (I10). Not checked
	// while OthersWithin is 0.
	Held         func(runtime.AggregateID) bool
	OthersWithin time.Duration

	// Undecided says that decisions may be missing from what is read: then a command of
	// a dispatcher may be without one.
	Undecided bool

	// Dispatchers are the names of those that may decide; nil for any.
	Dispatchers []string

	Most   int // violations that are kept, of more the number alone; 1000 when 0
	Checks []Check
}

// Checker collects what is recorded, and what is wrong with it. It is not safe for
// concurrent use, and partitions are given one after the other.
type Checker struct {
	findings
	o    Options
	seed maphash.Seed

	sent      map[runtime.CommandKey]*operation // by clients; nil when no history was given
	sightings map[runtime.Coordinates][]Sighting
	dispatch  map[runtime.CommandKey]*relayed
	strays    map[runtime.CommandKey]stray
}

// operation is a client's operation, with what the log says of it.
type operation struct {
	Operation
	wrote    bool     // it stands in the commands topic
	recorded []Record // its outcome
}

// New returns a Checker that has seen nothing.
func New(o Options) *Checker {
	o.Most = cmp.Or(o.Most, 1000)
	c := &Checker{o: o, seed: maphash.MakeSeed(), sightings: map[runtime.Coordinates][]Sighting{}, dispatch: map[runtime.CommandKey]*relayed{}, strays: map[runtime.CommandKey]stray{}}
	c.most = o.Most
	return c
}

// Sent gives the history of the clients, all of it and before any record. From then
// on a command that is in no history, and no dispatcher's, is a forged one.
func (c *Checker) Sent(history []Operation) {
	if c.sent == nil {
		c.sent = make(map[runtime.CommandKey]*operation, len(history))
	}
	for _, o := range history {
		c.sent[o.Key()] = &operation{Operation: o}
	}
}

// Saw gives what others were shown, each one's in the order in which it was shown,
// and before any record.
func (c *Checker) Saw(all []Sighting) {
	c.order(all)
	for _, s := range all {
		c.sightings[s.At] = append(c.sightings[s.At], s)
	}
}

// Partition begins a partition. The one before must be closed.
func (c *Checker) Partition(n int32) *Partition {
	return &Partition{
		c: c, n: n, commands: map[runtime.CommandKey]*command{}, chains: map[runtime.AggregateID]*chain{},
		asides: map[int64]*aside{}, checkpoints: map[string]Checkpoint{}, about: map[place][]expected{}, writers: map[string]int{},
	}
}

// Add notes a violation that somebody else has found.
func (c *Checker) Add(v Violation) { c.add(v) }

// Violations says how many violations there are so far.
func (c *Checker) Violations() int { return c.report.Total() }

// Read says how much was given so far.
func (c *Checker) Read() Counts { return c.report.Read }

// Finish returns what was found, when all partitions are closed.
func (c *Checker) Finish() Report {
	for _, s := range c.strays {
		c.add(s.lost)
	}
	c.finishRelayed()
	c.finishHistory()
	c.finishSightings()
	for _, check := range c.o.Checks {
		check.Finish(c.add)
	}
	slices.SortStableFunc(c.report.Violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(rank(a.Invariant), rank(b.Invariant)), cmp.Compare(a.At.Topic, b.At.Topic),
			cmp.Compare(a.At.Partition, b.At.Partition), cmp.Compare(a.At.Offset, b.At.Offset))
	})
	return c.report
}

// rank sorts I2 before I10, and the others behind.
func rank(i Invariant) int {
	if n, err := strconv.Atoi(string(i[1:])); err == nil {
		return n
	}
	return 100 + int(i[0])
}

// read says whether a place is one that was read, or would have been.
func (c *Checker) read(at runtime.Coordinates) bool {
	return c.o.End == nil || at.Offset < c.o.End(at.Topic, at.Partition)
}

// sum stands for texts that are compared and not kept.
func (c *Checker) sum(texts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, t := range texts {
		h.WriteString(t)
		h.WriteByte(0)
	}
	return h.Sum64()
}

func itoa(i int) string { return strconv.Itoa(i) }

// correlation is the id of a message's root cause; a root is its own.
func correlation(m *runtime.Message) string { return cmp.Or(m.CorrelationID, m.ID) }

// place is where a record stands in the partition that is being read.
type place struct {
	topic  string
	offset int64
}

// Partition is one partition of all topics. See the package comment for the order
// in which it is to be given.
type Partition struct {
	c *Checker
	n int32

	position    *position.Position
	asides      map[int64]*aside
	checkpoints map[string]Checkpoint

	topic    string // of the commands
	commands map[runtime.CommandKey]*command
	chains   map[runtime.AggregateID]*chain
	about    map[place][]expected // events that somebody names, and that are not read yet
	torn     int                  // commands of whose events some are read, and not all
	writers  map[string]int       // processes that have written events here, in the order of their first

	term     int64 // of the events to come
	newest   int64 // of the events so far
	newestAt runtime.Coordinates
}
