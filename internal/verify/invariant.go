package verify

import (
	"encoding/json"
	"fmt"

	"github.com/evento-oss/evento/runtime"
)

// Invariant names something that always holds.
type Invariant string

// The invariants.
const (
	Kept          Invariant = "I1"  // an acknowledged command is never lost
	OneOutcome    Invariant = "I2"  // one command has one outcome, whatever is sent again
	Versions      Invariant = "I3"  // an aggregate's versions are 1, 2, 3..., and each record leads to the one before
	Linear        Invariant = "I4"  // commands take effect one at a time, between call and answer
	AllOrNothing  Invariant = "I5"  // of a command's events all are there, or none
	CommittedOnly Invariant = "I6"  // nobody is shown an event that is not committed
	StateIsLog    Invariant = "I7"  // snapshot and tail are what a full replay makes
	Causes        Invariant = "I8"  // causes lead to a root, without a circle or an orphan
	Ends          Invariant = "I9"  // every command ends
	Isolation     Invariant = "I10" // who waits delays nobody else
	NoZombies     Invariant = "I11" // who lost a partition writes nothing to it
	SinkOrder     Invariant = "I12" // at a sink an aggregate's order holds, and a repeat is recognisable
	Conservation  Invariant = "I13" // what must stay constant stays so, at every consistent cut

	// Of the records that make the promises cheap to keep.
	Placement Invariant = "placement" // a record stands in the partition of its key
	Readable  Invariant = "record"    // a record is one of Evento's
	Position  Invariant = "position"  // a committed position is one of Evento's, inside of the log
	SetAside  Invariant = "set-aside" // a set-aside record is about a command that waits, or is listed
	Heads     Invariant = "heads"     // the heads are those of the checkpoint
	Open      Invariant = "open"      // no transaction stays open
	Settings  Invariant = "settings"  // the topics are set as the promises need it
)

// Advice says what an operator does about a violation.
func (i Invariant) Advice() string {
	switch i {
	case Kept:
		return "an accepted command is gone: was the commands topic truncated, restored from an older copy, or its retention changed? Send the command again, with its id"
	case OneOutcome:
		return "do not repair the log; find out what else writes to the topics or moves the group's offsets. A command without outcome is sent again, with its id"
	case Versions, Linear, AllOrNothing, NoZombies:
		return "stop sending to the aggregate (its owner stops it by itself where it sees this), keep the topics as they are, and look for a second writer: another installation with this prefix, or a producer that is no gateway"
	case CommittedOnly, StateIsLog:
		return "delete the aggregate's keys in Redis: its state is rebuilt from the events. If it comes back, something else writes to this Redis, or the aggregator is not deterministic"
	case Causes:
		return "something other than a gateway has written the record, or an offset moved: was the topic mirrored or restored? See who may write to the topics"
	case Placement:
		return "the record's producer does not partition by murmur2 of the key; set partitioner=murmur2_random there, and see who may write to the topics"
	case Readable:
		return "something other than Evento has written to the topic; see who may write to it"
	case Position:
		return "nothing is lost: the next owner rebuilds the position from the events. See who commits offsets for the group"
	case SetAside:
		return "restart the gateway that owns the partition: a takeover reads the set-aside records and ends those that are settled"
	case Heads:
		return "if the aggregate is stopped, see its other violations; else delete the records of this partition from the heads topic (tombstones), and the next owner rebuilds them from all events"
	case Open:
		return "end the transaction: kafka-transactions.sh find-hanging and abort (KIP-664), or restart the writer named; readers wait behind it until then"
	case Settings:
		return "set the topic as the message says, before anything is lost"
	}
	return "look at what wrote the records named"
}

// Violation is one contradiction between what is recorded and an invariant.
type Violation struct {
	Invariant Invariant
	At        runtime.Coordinates // of the record that shows it; zero when none does
	Entity    string              // "" when it is about none
	Command   string              // id of the command, where one is concerned
	Text      string              // what is wrong, for people
}

// String tells all of it on a line.
func (v Violation) String() string {
	s := string(v.Invariant) + ": "
	if v.At != (runtime.Coordinates{}) {
		s += v.At.String() + ": "
	}
	if v.Entity != "" {
		s += v.Entity + ": "
	}
	return s + v.Text
}

// MarshalJSON writes it under the names that all of Evento's JSON has.
func (v Violation) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Invariant   Invariant `json:"invariant"`
		Coordinates string    `json:"coordinates,omitempty"`
		Entity      string    `json:"entity,omitempty"`
		Command     string    `json:"command,omitempty"`
		Text        string    `json:"text"`
	}{v.Invariant, v.At.String(), v.Entity, v.Command, v.Text})
}

// Report is what a [Checker] has found.
type Report struct {
	Violations []Violation       // the first ones, up to [Options.Most]
	Counts     map[Invariant]int // of all
	Read       Counts
}

// Counts say how much was checked.
type Counts struct {
	Commands   int `json:"commands"` // records of the commands topic
	Events     int `json:"events"`   // records of the events topics
	Decisions  int `json:"decisions"`
	Aggregates int `json:"aggregates"`
	Waiting    int `json:"waiting"` // commands without an outcome, to which none is owed yet
	Snapshots  int `json:"snapshots"`
}

// Total is how many violations there are, those that were not kept included.
func (r *Report) Total() int {
	n := 0
	for _, k := range r.Counts {
		n += k
	}
	return n
}

// findings are a checker's violations so far.
type findings struct {
	report Report
	most   int
}

func (f *findings) add(v Violation) {
	if f.report.Counts == nil {
		f.report.Counts = map[Invariant]int{}
	}
	f.report.Counts[v.Invariant]++
	if len(f.report.Violations) < f.most {
		f.report.Violations = append(f.report.Violations, v)
	}
}

func (f *findings) at(i Invariant, at runtime.Coordinates, entity runtime.Entity, format string, args ...any) {
	f.add(Violation{Invariant: i, At: at, Entity: string(entity), Text: fmt.Sprintf(format, args...)})
}

// of is about a command's or an event's record.
func (f *findings) of(i Invariant, r Record, format string, args ...any) {
	v := Violation{Invariant: i, At: r.At, Entity: string(r.M.Subject), Text: fmt.Sprintf(format, args...)}
	if r.M.Pos == 0 {
		v.Command = r.M.ID
	} else {
		v.Command = r.M.CausationID
	}
	f.add(v)
}
