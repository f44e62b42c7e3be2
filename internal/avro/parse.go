package avro

import (
	"cmp"
	"fmt"
	"slices"

	twmb "github.com/twmb/avro"
)

// ParseAggregate reads the schema file of an aggregate and checks it against
// every rule. The error is a [*LintError] with all problems found. The name of
// the file is only used in messages.
func ParseAggregate(file string, text []byte) (*Aggregate, error) {
	l := &linter{file: file, text: text, types: map[string]*definition{}}
	l.run()
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, &LintError{Problems: l.problems}
	}
	fail := func(name string, err error) (*Aggregate, error) {
		return nil, &LintError{Problems: []Problem{{File: file, Type: name, Rule: "avro", What: err.Error()}}}
	}
	parsed, err := twmb.Parse(string(text))
	if err != nil {
		return fail("", err)
	}
	a := &Aggregate{Name: l.namespace, File: file, Warnings: l.warnings}
	branches := parsed.Root().Branches
	for i := range branches {
		t, err := l.extract(&branches[i])
		if err != nil {
			return fail(fullName(&branches[i]), err)
		}
		if t.Kind == KindRoot {
			a.Prefix, a.Rebuild = t.Prefix, t.Rebuild
		}
		a.Types = append(a.Types, t)
	}
	return a, nil
}

// extract takes one type out of the file's union, with all that it refers to.
func (l *linter) extract(node *twmb.SchemaNode) (*Type, error) {
	alone, err := node.Schema()
	if err != nil {
		return nil, err
	}
	if node.Type != "record" {
		t := &Type{Name: l.types[node.Name].fullName(), Aggregate: l.namespace, Doc: node.Doc, Text: alone.String(), Fingerprint: fingerprint(alone)}
		return t, t.readProperty(node.Props["evento"])
	}
	t, _, err := parseType(alone.String())
	if err != nil {
		return nil, fmt.Errorf("cannot use its schema: %w", err)
	}
	return t, nil
}
