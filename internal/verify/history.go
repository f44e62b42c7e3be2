package verify

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Result is what a sender may believe.
type Result int

// The results. The zero value is the one that says least.
const (
	Unknown Result = iota // no answer, or one that says so: it may have been accepted, or will be
	Failed                // certainly not accepted
	OK                    // accepted; the outcome came with the answer or comes later
)

// Operation is a command, or an event published from outside, as its sender knows
// it: however often it was sent, it is one.
type Operation struct {
	Source, ID string
	Entity     runtime.Entity
	Type       string
	Attempts   []Attempt
}

// Attempt is one time that it was sent.
type Attempt struct {
	Gateway    string // who was asked
	Sent, Done time.Time
	Result     Result
	Reused     bool     // it was refused: the id is said to be another command's
	Outcome    *Outcome // nil when the answer had none
}

// Read is a read of an aggregate's newest state.
type Read struct {
	Entity     runtime.Entity
	Sent, Done time.Time
	Version    uint64 // 0 when there is no such aggregate
	State      []byte // nil where it was not looked at
}

// Outcome is a final answer about a command.
type Outcome struct {
	Status  string // done, refused, rejected or parked
	Version uint64
	Events  []Shown
	Full    any // all that the answer said; two of one command must be the same. nil where it is not known
}

// Shown is an event in an outcome.
type Shown struct {
	Coordinates string
	ID          string
	Type        string
	Version     uint64
}

// Key is the command's identity.
func (o *Operation) Key() runtime.CommandKey {
	return runtime.NewCommandKey(o.Source, o.Entity.Aggregate(), o.ID)
}

func (o *Operation) String() string {
	return fmt.Sprintf("%s %s (%s, %s)", o.Type, o.ID, o.Source, o.Entity)
}

// Result is OK when any attempt was, Failed when all did, else Unknown.
func (o *Operation) Result() Result {
	all := Failed
	for _, a := range o.Attempts {
		switch a.Result {
		case OK:
			return OK
		case Unknown:
			all = Unknown
		}
	}
	if len(o.Attempts) == 0 {
		return Unknown // it is on its way
	}
	return all
}

// Answer returns the first final outcome that the sender was told, or nil.
func (o *Operation) Answer() *Outcome {
	for _, a := range o.Attempts {
		if a.Outcome != nil {
			return a.Outcome
		}
	}
	return nil
}

// Span is when it was sent first, and when it was first answered with an outcome;
// zero when it never was.
func (o *Operation) Span() (sent, done time.Time) {
	for _, a := range o.Attempts {
		if sent.IsZero() || a.Sent.Before(sent) {
			sent = a.Sent
		}
		if a.Outcome != nil && (done.IsZero() || a.Done.Before(done)) {
			done = a.Done
		}
	}
	return sent, done
}

// Differ returns how two values of one type differ, field by field, "" when they
// do not.
func Differ(a, b any) string {
	var list []string
	differ("", reflect.ValueOf(a), reflect.ValueOf(b), &list)
	return strings.Join(list, "; ")
}

// differ lists the fields in which two values of one type differ.
func differ(path string, a, b reflect.Value, list *[]string) {
	switch {
	case a.Type() == reflect.TypeFor[time.Time]():
		if a.Interface().(time.Time).Equal(b.Interface().(time.Time)) {
			return
		}
	case a.Kind() == reflect.Struct:
		for i := range a.NumField() {
			differ(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i), list)
		}
		return
	case a.Kind() == reflect.Slice && a.Type().Elem().Kind() == reflect.Struct && a.Len() == b.Len():
		for i := range a.Len() {
			differ(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i), list)
		}
		return
	case reflect.DeepEqual(a.Interface(), b.Interface()):
		return
	}
	*list = append(*list, fmt.Sprintf("%s is %s and %s", path, shown(a), shown(b)))
}

func shown(v reflect.Value) string {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		return string(v.Bytes())
	}
	return fmt.Sprintf("%+v", v.Interface())
}

// same returns how two final outcomes of a command differ, "" when they do not.
func (o *Outcome) same(other *Outcome) string {
	if o.Full != nil && other.Full != nil && reflect.TypeOf(o.Full) == reflect.TypeOf(other.Full) {
		return Differ(o.Full, other.Full)
	}
	if o.Status != other.Status || o.Version != other.Version || !slices.Equal(o.Events, other.Events) {
		return fmt.Sprintf(" %+v and %+v", *o, *other)
	}
	return ""
}
