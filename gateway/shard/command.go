package shard

import (
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Command is a record of the commands topic: a command, an event to publish,
// or an order of an operator.
type Command struct {
	Offset  int64
	Message *runtime.Message
	Key     runtime.CommandKey
	Hash    string // of type, target and value; two commands of one key with different hashes conflict
	Topic   string // the events topic of its aggregate
	Publish bool   // Message is an event from outside
	Order   *Order // set for evento.RetryNow and evento.DropCommand
}

// Order is what an operator wants done with a waiting command.
type Order struct {
	Drop   bool  // false: try it now
	Offset int64 // of the command meant
	Reason string
	By     string // who gave it; "" when that is not known
}

// entry is a command on its way through the shard.
type entry struct {
	cmd      *Command
	agg      *aggregate
	stage    stage
	arrived  time.Time
	attempts int
	held     bool
	reason   string    // why it has no outcome yet
	function string    // that the reason is about
	image    string    // what it ran
	failing  time.Time // since when it has a reason; zero for never

	// verdict is the platform's own decision. That a command is parked outlives a roll-back.
	verdict *verdict
	// step is the computed result, valid in stages computed and batched.
	step *Step

	behind  *entry   // the command whose outcome it waits for, if it is not in the queue itself
	repeats []*entry // the same command again, waiting for this one's outcome
	rivals  []*entry // commands of the same id that say, or seem to say, something else: held against the history after it

	confirmed bool // its hash is known to be another command's: it is new

	aside        asideStage
	asideCounted bool // in the backlog's Aside
	asideChanged bool // the record says something older than the entry
	stray        bool // belongs to another partition
	suspect      bool // may have been in a call when the last owner died: the attempt is recorded first
	ending       bool // its record stood in the transaction of its CommandParked: see park
	announced    bool // that attempt has been counted
}

// whole says whether the state after the entry's result is known.
func (e *entry) whole() bool { return e.step == nil || e.step.State.Known() }

type stage uint8

const (
	waiting  stage = iota // in the aggregate's queue
	checking              // a repeat perhaps: being confirmed against the history
	calling               // with the functions
	computed              // has a result, on top of the aggregate's tail
	batched               // its result is in the open transaction
	finished              // its outcome is recorded, or it needed none
)

type asideStage uint8

const (
	asideNone     asideStage = iota
	asideWanted              // stands in Shard.asideWanted
	asideBatched             // its record is in the open transaction
	asideRecorded            // its offset is finished, its record is live
)

// verdict is a platform record that ends a command.
type verdict struct {
	parked   *Parked
	rejected *Reject
}

// Parked is the content of evento.CommandParked.
type Parked struct {
	Reason   string
	Attempts int
	Function string
}
