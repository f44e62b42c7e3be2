package shard

import (
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Output is something that the shard wants done: one of the types below.
type Output interface{ output() }

// Load asks for an aggregate's snapshot, brought up to Head. Answer with [Shard.Loaded].
type Load struct {
	Token     uint64
	Aggregate runtime.AggregateID
	Topic     string // its events topic
	Head      Head
}

// Invoke asks for a work to be computed. Answer with [Shard.Computed].
type Invoke struct {
	Call uint64
	Work Work
}

// Confirm asks whether a command has an outcome in the history already, at one
// of the offsets. Answer with [Shard.Confirmed].
type Confirm struct {
	Token   uint64
	Command *Command
	Offsets []int64
	Head    Head
}

// Answer tells those who wait what became of a command.
type Answer struct {
	Command *Command
	Outcome Outcome
}

// Reply answers a [Shard.Read].
type Reply struct {
	Token    uint64
	Snapshot Snapshot // as committed
	Missing  bool     // there is no such aggregate
	Err      string   // it cannot be read now; why
	Broken   bool     // with Err: its log contradicts itself, and time does not help
}

// Save offers a committed snapshot to the cache.
type Save struct{ Snapshot Snapshot }

// Corrupt reports that the log of an aggregate contradicts itself.
type Corrupt struct {
	Aggregate runtime.AggregateID
	Reason    string
}

func (Load) output()    {}
func (Invoke) output()  {}
func (Confirm) output() {}
func (Answer) output()  {}
func (Reply) output()   {}
func (Save) output()    {}
func (Corrupt) output() {}

// Status says how far a command is.
type Status string

const (
	Pending  Status = "pending"  // accepted, not yet tried or being tried
	Retrying Status = "retrying" // failed or its function is away; tried again by itself
	Held     Status = "held"     // attempts used up; tried on at the longest delay until it succeeds or is dropped
	Done     Status = "done"     // its events are recorded
	Refused  Status = "refused"  // its events are recorded, all of them failures
	Rejected Status = "rejected" // the platform refused it for good
	ParkedS  Status = "parked"   // given up, by policy or by an operator
	Conflict Status = "conflict" // the id belongs to another command
)

// Final says whether the status will never change.
func (s Status) Final() bool { return s != Pending && s != Retrying && s != Held }

// Outcome is what became of a command.
type Outcome struct {
	Status   Status
	Version  uint64 // of the aggregate after it; 0 when no record carries one
	Records  []Recorded
	Reason   string
	Attempts int // of a final outcome only where it is recorded, in CommandParked: a repeat is answered the same
	NextTry  time.Time
	Repeat   bool // the outcome stood there already
}

// Recorded is a record of the events topic with its place.
type Recorded struct {
	Message *runtime.Message
	At      runtime.Coordinates
}
