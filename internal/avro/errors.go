package avro

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrUnknownType is returned when no version of a type is registered.
	ErrUnknownType = errors.New("unknown type")

	// ErrUnknownSchema is returned when the type may be known, but not in the
	// version that a dataschema names. The schema may arrive later.
	ErrUnknownSchema = errors.New("unknown schema")

	// ErrData is returned when bytes or JSON do not conform to their schema.
	// The error is a [*DataError]. It is final: the same data fail again.
	ErrData = errors.New("data does not conform to its schema")

	// ErrIncompatible is returned when values of one version cannot be brought
	// to another. It is final for the pair.
	ErrIncompatible = errors.New("schemas are incompatible")

	// ErrSubject is returned when the entity that a command or event is about
	// does not fit its type.
	ErrSubject = errors.New("subject does not fit the type")
)

// DataError says where a value breaks its schema. It wraps [ErrData].
type DataError struct {
	Type   string // full name of the record type
	Path   string // "amount.minor", "cards[3].limit"; "" for the whole value
	Reason string
}

func (e *DataError) Error() string {
	if e.Path == "" {
		return e.Type + ": " + e.Reason
	}
	return e.Type + ": " + e.Path + ": " + e.Reason
}

// Unwrap returns [ErrData].
func (e *DataError) Unwrap() error { return ErrData }

// Problem is one thing that is wrong with a schema.
type Problem struct {
	File  string // as given to [ParseAggregate]; "" for a check against registered versions of a known file
	Line  int    // from 1; 0 when not known
	Type  string // "" when it is about the file
	Field string // "" when it is about the type
	Rule  string // a stable word, for example "enum-default"
	What  string // what is wrong
	Do    string // what to do about it
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Type != "" {
		b.WriteString(p.Type)
		if p.Field != "" {
			b.WriteString("." + p.Field)
		}
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "%s: %s", p.Rule, p.What)
	if p.Do != "" {
		b.WriteString("; " + p.Do)
	}
	return b.String()
}

// LintError lists everything that is wrong with a schema file.
type LintError struct{ Problems []Problem }

func (e *LintError) Error() string { return joinProblems("schema file", e.Problems) }

// CompatError lists every way in which a schema file breaks the rules of
// evolution. It wraps [ErrIncompatible].
type CompatError struct{ Problems []Problem }

func (e *CompatError) Error() string { return joinProblems("schema evolution", e.Problems) }

// Unwrap returns [ErrIncompatible].
func (e *CompatError) Unwrap() error { return ErrIncompatible }

func joinProblems(subject string, problems []Problem) string {
	lines := make([]string, 0, len(problems)+1)
	plural := "s"
	if len(problems) == 1 {
		plural = ""
	}
	lines = append(lines, fmt.Sprintf("%s has %d problem%s", subject, len(problems), plural))
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}
