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
)

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
