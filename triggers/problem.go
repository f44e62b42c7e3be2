package triggers

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoTrigger is returned, wrapped with what was looked for, when no Trigger
// takes a command, or none names an aggregator. Ask again later: it may come.
var ErrNoTrigger = errors.New("no Trigger")

// ErrTwoHandlers is returned, wrapped with the names of both Triggers, when
// more than one handler takes a command. It is returned when matching only for
// filters that could not be compared at load.
var ErrTwoHandlers = errors.New("two handlers for one command type")

// Problem is one thing wrong with what a [Source] read.
type Problem struct {
	File     string // path as configured
	Document int    // from 1 in a file of several documents; 0 for the file as a whole, or a file without documents
	Line     int    // where the document (or the value, when known) begins; 0 for unknown
	Object   string // "Trigger bank/withdraw", "function withdraw"; "" when it is not known
	Field    string // path of the field, "spec.filters[0].exact"; "" for the whole object
	Rule     string // what is wrong
	Fix      string // what to do; "" when the rule says it
}

// Error writes the problem in one line.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Document > 0 {
		fmt.Fprintf(&b, ": document %d", p.Document)
	}
	for _, s := range []string{p.Object, p.Field, p.Rule} {
		if s != "" {
			if b.Len() > 0 {
				b.WriteString(": ")
			}
			b.WriteString(s)
		}
	}
	if p.Fix != "" {
		b.WriteString("; " + p.Fix)
	}
	return b.String()
}

// LoadError says why nothing of a load took effect: all problems that were found.
type LoadError struct {
	Problems []Problem
}

// Error lists the problems, one a line.
func (e *LoadError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// problems collects what is wrong with one object.
type problems struct {
	at   Problem // File, Document, Line and Object of all that are added
	list []Problem
}

func (p *problems) add(field, rule, fix string) {
	next := p.at
	next.Field, next.Rule, next.Fix = field, rule, fix
	p.list = append(p.list, next)
}
