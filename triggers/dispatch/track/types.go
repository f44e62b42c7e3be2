package track

import (
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// Config is what a [Track] is told.
type Config struct {
	TopicID  string // of the events topic
	Epoch    uint64 // replay epoch of the dispatcher
	MaxCalls int    // events asked about at the same time; at least 1

	// The metadata's length, and the distance between the position and the end of
	// what is known, from which events are set aside. Zero means
	// [position.MetadataSoft] and [MaxSpan].
	Soft int
	Span int64
}

// Live is an event that the position has moved past without a decision: parked,
// or set aside and waiting.
type Live struct {
	Offset   int64            // of the event
	Message  *runtime.Message // the event itself; nil when it cannot be read any more
	RecordAt int64            // offset of the record in the dispatched topic that says so
	Status   avro.DispatchStatus
	Attempts int32
	Reason   string
	Since    time.Time // when the record was written
}

// Restored is where the last owner of the partition stopped.
type Restored struct {
	Position position.Position
	Live     []Live // by their offsets
	AsideEnd int64  // the offset after the last record of the dispatched topic
}

// Ask wants the dispatcher to be asked about an event. Answer with [Track.Answered].
type Ask struct {
	Token    uint64
	Offset   int64
	Message  *runtime.Message
	Attempts int32 // failed calls so far
}

// Answer is what came of an [Ask]: commands, perhaps none, or trouble.
type Answer struct {
	Commands []*runtime.Message
	By       string // function and image
	Trouble  *Trouble
}

// Trouble says why nothing was decided.
type Trouble struct {
	Failed bool          // it spends an attempt; otherwise the function was not there
	Last   bool          // of a failed one: the attempts are used up
	Wait   time.Duration // before the next try
	Reason string        // for people
}

// Record is one to be written to the dispatched topic.
type Record struct {
	Status   avro.DispatchStatus
	Offset   int64 // of the event
	Event    *runtime.Message
	Commands []*runtime.Message
	By       string
	Reason   string
	Attempts int32

	item *item
}

// Batch is what one transaction carries for a partition.
type Batch struct {
	Records  []Record // at least one
	Offset   int64    // position to commit
	Metadata string
}

type stage uint8

const (
	queued  stage = iota // behind another of its aggregate, or about to be asked about
	asked                // a call is under way
	resting              // until next
	ready                // decided or given up; to be recorded
	batched              // in a transaction
)

// item is an event that has no final record yet.
type item struct {
	offset   int64
	event    *runtime.Message
	stage    stage
	next     time.Time // resting: when to ask again
	attempts int32
	reason   string
	aside    bool // a record holds its place instead of the position, or is about to
	again    bool // an operator has a parked one asked about again; it is in no queue
	parked   bool // ready: the attempts are used up
	dropped  bool // ready: an operator has given a parked one up
	commands []*runtime.Message
	by       string
}
