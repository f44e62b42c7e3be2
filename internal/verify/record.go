package verify

import (
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// Record is a record of a topic as a committed reader sees it.
type Record struct {
	At runtime.Coordinates
	M  *runtime.Message
}

// Decision is a record of the dispatched topic.
type Decision struct {
	Record
	D avro.Dispatched
}

// CommandKey is the identity of one of its commands, counted from 0.
func (d Decision) CommandKey(i int) runtime.CommandKey {
	return runtime.NewCommandKey(d.M.Source, d.D.Commands[i].Target.Aggregate(), d.M.ID+"-"+itoa(i))
}

// Head is what the heads topic says of an aggregate: its last record at the
// checkpoint.
type Head struct {
	At        runtime.Coordinates // of the head's own record
	Aggregate runtime.AggregateID
	Topic     string // of the aggregate's events; "" where it is not known
	Version   uint64
	Offset    int64  // of the aggregate's last record in that topic
	Event     string // id of that record; "" when there is none
	Broken    string // the owner found that the aggregate's log contradicts itself, and how
}

// Checkpoint says up to where the heads of a partition contain an events topic.
type Checkpoint struct {
	At     runtime.Coordinates // of the checkpoint's own record
	Topic  string
	Offset int64
	Event  string // id of the record there
}

// Aside is a live set-aside record.
type Aside struct {
	At      runtime.Coordinates // of the record itself
	Offset  int64               // of the command, in the same partition of the commands topic
	Entity  string              // aggregate
	Parked  bool                // it lists a command that has its outcome
	Outcome string              // Parked: id of the CommandParked record; "" where it is not told
}

// Snapshot is a state in the cache, with the place in the log that it is of.
type Snapshot struct {
	Aggregate runtime.AggregateID
	Topic     string // of the aggregate's events; "" where it is not known
	Version   uint64
	Offset    int64  // of the last record in it, in that topic
	Event     string // id of that record
}

// Sighting is an event as somebody was shown it: a function, a sink, a projection, a
// reader of a stream.
type Sighting struct {
	By        string // who; each has an order of its own
	At        runtime.Coordinates
	ID        string
	Source    string
	Aggregate runtime.AggregateID
	Sequence  uint64
}

// Check is more to be held against the same records: what a domain promises, like
// the conservation of money. Its methods are called as the checker's are.
type Check interface {
	Command(Record)
	Event(Record)
	Decision(Decision)
	// Finish tells what was found when everything has been read.
	Finish(found func(Violation))
}
