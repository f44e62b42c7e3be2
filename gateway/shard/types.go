package shard

import (
	"time"

	"github.com/evento-oss/evento/runtime"
)

// State is an aggregate's state at a version. The zero value is an aggregate
// that does not exist yet.
type State struct {
	Version uint64
	Schema  runtime.DataSchema // the schema that wrote Data
	Data    []byte             // bare Avro value of the root record; nil when there is none
	Fold    int                // how the events were folded into Data; who computes tells folds apart
}

// Known says whether the state is whole. Between two commands that were folded
// in one call nobody but the function sees the state; then it has a Version, no
// Schema, and Data that is empty but not nil. Nothing can be computed on it.
func (s State) Known() bool { return s.Schema != "" || s.Data == nil }

// UnknownState is the state between two commands of one call.
func UnknownState(version uint64) State { return State{Version: version, Data: []byte{}} }

// Head is the last record of an aggregate in the events topic, event or
// platform record. The zero value is an aggregate without records.
type Head struct {
	Version uint64 // of the aggregate after the record
	Offset  int64  // of the record in the aggregate's events topic
	Command runtime.CommandKey
	Pos     int32 // position of the record within its command, from 1; 0 for no record at all
}

// Exists says whether the aggregate has any record.
func (h Head) Exists() bool { return h.Pos > 0 }

// EventID returns the id of the record.
func (h Head) EventID() string { return h.Command.EventID(int(h.Pos)) }

// Snapshot is all that the writer of an aggregate must know of its past: state,
// place in the log, and which commands it has seen. It can always be rebuilt
// from the aggregate's own records.
type Snapshot struct {
	Aggregate runtime.AggregateID
	State     State
	Head      Head
	Links     []int64   // offsets of the records since the last one with eventoskip, that one included, oldest first
	Recorded  time.Time // recordedtime of the last record
	Seen      *Seen     // commands with an outcome
}

// Work asks for commands to be computed, in order, each on the state that the
// one before it left.
type Work struct {
	Aggregate runtime.AggregateID
	State     State
	Commands  []*runtime.Message // commands, or events to publish; at least one
}

// Event is what a function answered, checked against its schema.
type Event struct {
	Type    runtime.TypeName
	Subject runtime.Entity
	Schema  runtime.DataSchema
	Data    []byte
	Time    time.Time // when it happened; zero for "when it is recorded"
	By      string    // "function image schema"
}

// Step is the result of one command: its events (at least one) and the state
// after them, or its refusal by the platform.
type Step struct {
	Events   []Event
	State    State   // State.Version is the version before the step + len(Events)
	Rejected *Reject // set when the platform itself refuses for good; then there are no events
}

// Reject is a reason of the platform to record CommandRejected or PublishRejected.
type Reject struct {
	Code   string // a stable word, for example "version-mismatch"
	Reason string // for people
}

// Computed answers a [Work]: the steps of the first commands, and what went
// wrong with the next one, if anything did. Fewer steps than commands without
// trouble mean that the rest has not been tried.
type Computed struct {
	Steps   []Step
	Trouble *Trouble
}

// Trouble says why a command has no result yet.
type Trouble struct {
	Kind     TroubleKind
	Function string        // the Trigger that names the function, or "" when there is none
	Image    string        // what that function runs; "" when it did not say
	Reason   string        // for people
	Wait     time.Duration // Unavailable: when to ask again; Failed: ignored
	Policy   Policy        // Failed: how to go on
	Broken   bool          // Unavailable: the log contradicts itself; somebody has to look
}

// TroubleKind tells the two kinds of trouble apart.
type TroubleKind uint8

const (
	// Unavailable: refused, timed out, scaled to zero, no Trigger, schema not yet known there. It spends no attempt.
	Unavailable TroubleKind = iota + 1
	// Failed: the function answered with an error, a panic or nonsense. It spends an attempt.
	Failed
)

// Policy says how a command that failed is tried again (a Trigger's delivery spec).
type Policy struct {
	Attempts int           // calls before the command is held or parked; at least 1
	Delay    time.Duration // before the second call
	Linear   bool          // delay grows by Delay each time; otherwise it doubles
	MaxDelay time.Duration // the longest delay; held commands are tried on at it
	Park     bool          // when the attempts are used up: true parks, false holds
}

// DefaultPolicy is used where a Trigger has no delivery spec.
var DefaultPolicy = Policy{Attempts: 8, Delay: 200 * time.Millisecond, MaxDelay: 30 * time.Second}
