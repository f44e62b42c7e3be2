package shard

import (
	"container/heap"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// Config is what a shard must know of its surroundings. All of it is constant
// for one term.
type Config struct {
	Partition    int32
	Commands     string // name of the commands topic
	CommandsID   string // its topic id
	Installation string

	// Platform encodes the content of a platform record.
	Platform func(publish bool, p *Parked, r *Reject) (runtime.TypeName, runtime.DataSchema, []byte)
	// Failure says whether a type is a business refusal.
	Failure func(runtime.TypeName) bool
	// Foldable says whether consecutive commands from here on may be computed in
	// one call; it is asked for the first one.
	Foldable func(*runtime.Message) bool
	// Comparable says whether two hashes are of one schema, so that they differ
	// only where the commands do.
	Comparable func(a, b string) bool

	SetAsideAfter time.Duration // unfinished so long, a command is set aside; 2 s
	MaxFold       int           // commands in one Work; 128
	MaxTail       int           // results of one aggregate that may wait for their commit; 1024
	MaxCached     int           // aggregates kept in memory without work; 10,000
	Seed          uint64        // of the jitter
}

func (c *Config) setDefaults() {
	set := func(p *int, d int) {
		if *p == 0 {
			*p = d
		}
	}
	if c.SetAsideAfter == 0 {
		c.SetAsideAfter = 2 * time.Second
	}
	set(&c.MaxFold, 128)
	set(&c.MaxTail, 1024)
	set(&c.MaxCached, 10_000)
	if c.Failure == nil {
		c.Failure = func(runtime.TypeName) bool { return false }
	}
	if c.Comparable == nil {
		c.Comparable = func(string, string) bool { return true }
	}
	if c.Foldable == nil {
		c.Foldable = func(*runtime.Message) bool { return false }
	}
}

// Restored is what a takeover found in Kafka.
type Restored struct {
	Position position.Position
	AsideEnd int64   // high watermark of the parked topic's partition, taken before Asides was read
	Asides   []Aside // live set-aside records with their commands, ascending by offset
	Heads    map[runtime.AggregateID]Head
	// Unsaved are the aggregates whose head is not in the heads topic as it is in
	// Heads (or is there, and not in Heads): the next checkpoint writes them.
	Unsaved map[runtime.AggregateID]struct{}
	// Broken are the aggregates whose log contradicts itself, and why: they are stopped.
	Broken map[runtime.AggregateID]string
	Since  int // records of the events topics that were read for that
	// SuspectBelow is the offset below which commands may have been in a call when
	// the former owner died: 0 after a clean stop.
	SuspectBelow int64
}

// Shard is the state machine of one partition for one term. It has no clock, no
// goroutine and no client: callers hold a lock around every method, pass the
// time, and carry out what [Shard.Outputs] returns.
type Shard struct {
	cfg  Config
	rand *rand.Rand

	offsets    *position.Offsets
	unrecorded bool // offsets have been finished without a record since the last committed position
	suspect    int64
	examined   map[runtime.AggregateID]struct{} // aggregates that are not in memory and had their first suspects announced

	heads      map[runtime.AggregateID]Head
	dirtyHeads map[runtime.AggregateID]struct{}
	sinceHeads int // events since the last checkpoint

	aggregates map[runtime.AggregateID]*aggregate
	idle       idleList
	entries    map[int64]*entry // unfinished, by offset
	backlog    Backlog          // what they are together
	arrivals   []*entry         // in order of arrival, for setting aside by age
	timers     timers
	ready      []*entry // computed, in order
	limit      int      // results in the next batch; shrinks when batches abort
	batch      *Batch   // the open one

	asideWanted []*entry
	asideLive   map[int64]int64 // command offset -> offset of its record in the parked topic
	asideOrder  asideOrder
	asideEnd    int64   // no live record that is not in asideLive stands before this offset of the parked topic
	tombstones  []int64 // command offsets whose set-aside records are to be deleted, or to say parked: see closing

	parked     map[int64]*Aside // by command offset: parked and not dropped
	dismissals map[int64]*entry // by command offset: orders that end when its record is deleted

	strays   map[int64]*entry // commands of other partitions, by offset
	calls    map[uint64]*aggregate
	checks   map[uint64]*entry
	nextCall uint64
	out      []Output
}

// MaxBatch is how many results one transaction carries of one partition.
const MaxBatch = 4096

// New returns a shard that goes on where Restored says.
func New(now time.Time, cfg Config, r Restored) *Shard {
	cfg.setDefaults()
	s := &Shard{
		cfg: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, uint64(cfg.Partition))),
		offsets: position.NewOffsets(r.Position), suspect: r.SuspectBelow,
		heads: r.Heads, dirtyHeads: r.Unsaved, sinceHeads: r.Since,
		aggregates: map[runtime.AggregateID]*aggregate{}, entries: map[int64]*entry{},
		asideLive: map[int64]int64{}, parked: map[int64]*Aside{}, dismissals: map[int64]*entry{}, strays: map[int64]*entry{}, checks: map[uint64]*entry{},
		calls: map[uint64]*aggregate{}, examined: map[runtime.AggregateID]struct{}{}, limit: MaxBatch, asideEnd: r.AsideEnd,
	}
	if s.heads == nil {
		s.heads = map[runtime.AggregateID]Head{}
	}
	if s.dirtyHeads == nil {
		s.dirtyHeads = map[runtime.AggregateID]struct{}{}
	}
	s.idle.init()
	for _, id := range slices.Sorted(maps.Keys(r.Broken)) {
		s.tear(s.named(id, ""), r.Broken[id])
	}
	s.asideOrder.restore(r.Asides)
	for _, a := range r.Asides {
		s.restoreAside(now, a)
	}
	return s
}

// Next returns the offset from which the commands topic is to be read.
func (s *Shard) Next() int64 { return s.offsets.Next() }

// Outputs returns what is to be done since the last call, in order.
func (s *Shard) Outputs() []Output {
	out := s.out
	s.out = nil
	return out
}

func (s *Shard) emit(o Output) { s.out = append(s.out, o) }

// Record takes a record of the commands topic. Records come in the order of
// their offsets; what is finished already is left out.
func (s *Shard) Record(now time.Time, c *Command) {
	e := s.arrived(now, c)
	if e == nil {
		return
	}
	s.arrivals = append(s.arrivals, e)
	s.enqueue(now, e)
}

// arrived makes the entry of a record, or none when there is nothing to do for it.
func (s *Shard) arrived(now time.Time, c *Command) *entry {
	if c.Offset < s.offsets.Next() {
		return nil
	}
	s.offsets.See(c.Offset)
	if s.offsets.Finished(c.Offset) {
		return nil
	}
	if s.entries[c.Offset] != nil {
		// Known from its set-aside record: the committed position was lost and the topic is read again.
		s.offsets.Finish(c.Offset)
		return nil
	}
	if s.parked[c.Offset] != nil {
		s.offsets.Finish(c.Offset)
		s.unrecorded = true
		return nil
	}
	e := &entry{cmd: c, arrived: now, suspect: c.Offset < s.suspect}
	if _, live := s.asideLive[c.Offset]; live {
		e.aside = asideRecorded
	}
	return e
}

// Skip finishes an offset that holds nothing for anybody: a record that cannot
// be read.
func (s *Shard) Skip(offset int64) {
	if offset < s.offsets.Next() {
		return
	}
	s.offsets.See(offset)
	s.offsets.Finish(offset)
	s.unrecorded = true
}

func (s *Shard) enqueue(now time.Time, e *entry) {
	agg := s.aggregate(e.cmd)
	if agg.broken != "" {
		e.reason = agg.broken
	}
	s.hold(e, agg)
	if e.cmd.Order != nil {
		s.obey(now, e)
		return
	}
	if first := agg.inFlight[e.cmd.Key]; first != nil {
		switch {
		case first.cmd.Hash == e.cmd.Hash:
			e.behind = first
			first.repeats = append(first.repeats, e)
		case first.confirmed && s.cfg.Comparable(first.cmd.Hash, e.cmd.Hash):
			s.finishWithout(e, Outcome{Status: Conflict, Reason: "the id belongs to another command that is under way"})
		default:
			// Which of the two is the repeat of an older one, if any, or whether they
			// say the same under different schemas, the history tells once the first
			// has its outcome.
			e.behind = first
			first.rivals = append(first.rivals, e)
		}
		return
	}
	agg.inFlight[e.cmd.Key] = e
	agg.queue.push(e)
	if head := agg.queue.first(); head != e && head.aside != asideNone {
		// Behind a command that has been set aside it would be, sooner or later.
		s.setAside(e)
	}
	s.pump(now, agg)
}

// finishWithout ends an entry that needs no record of its own: a repeat, a
// conflict, an order.
func (s *Shard) finishWithout(e *entry, o Outcome) {
	s.emit(Answer{Command: e.cmd, Outcome: o})
	s.finish(e)
	s.unrecorded = true
}

// finish ends an entry whose outcome is safe.
func (s *Shard) finish(e *entry) {
	e.stage = finished
	s.release(e)
	s.offsets.Finish(e.cmd.Offset)
	switch e.aside {
	case asideRecorded:
		// In a transaction after the one of its outcome, so that it never is gone while the outcome is not there.
		s.tombstones = append(s.tombstones, e.cmd.Offset)
	case asideWanted:
		e.aside = asideNone // left out when the wanted ones are taken
	}
}

// rejoin lets the rivals of a command go on that now stands in the history.
func (s *Shard) rejoin(now time.Time, rivals []*entry) {
	for _, e := range rivals {
		e.behind = nil
		s.enqueue(now, e)
	}
}

// Tick lets time pass: retries that are due, commands that have waited long.
func (s *Shard) Tick(now time.Time) {
	if len(s.examined) > 0 && s.offsets.Next() >= s.suspect {
		clear(s.examined) // whoever has suspects left has them in its queue
	}
	for len(s.timers) > 0 && !s.timers[0].at.After(now) {
		agg := heap.Pop(&s.timers).(*timer).agg
		if s.aggregates[agg.id] == agg && !agg.notBefore.IsZero() && !agg.notBefore.After(now) {
			agg.notBefore = time.Time{}
			s.pump(now, agg)
		}
	}
	for len(s.arrivals) > 0 {
		e := s.arrivals[0]
		if e.stage != finished {
			if now.Sub(e.arrived) < s.cfg.SetAsideAfter {
				break
			}
			if e.stage < computed && e.aside == asideNone {
				s.setAside(e)
			}
		}
		s.arrivals[0] = nil
		s.arrivals = s.arrivals[1:]
	}
}

type timer struct {
	at  time.Time
	agg *aggregate
}

type timers []*timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(*timer)) }
func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	return last
}
