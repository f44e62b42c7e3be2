package generate

import (
	"errors"
	"fmt"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
)

// Options say what to generate.
type Options struct {
	File    string // name of the schema file, for messages and the header
	Package string // name of the Go package
}

// Aggregate returns the Go files, by name, of an aggregate's schema file: the
// records, and evento.go with the interfaces that the author implements, the
// registration and the server. The error lists every problem of the file.
func Aggregate(text []byte, o Options) (map[string][]byte, error) {
	if !token.IsIdentifier(o.Package) || o.Package == "_" || o.Package == "main" {
		return nil, fmt.Errorf("%q cannot be the name of the generated Go package", o.Package)
	}
	types, err := parseTypes(o.File, text)
	if err != nil {
		return nil, err
	}
	model, err := newModel(types, o)
	if err != nil {
		return nil, err
	}
	files, err := records(o.File, types, o.Package)
	if err != nil {
		return nil, err
	}
	if model.Optionals, err = optionals(files); err != nil {
		return nil, err
	}
	if files["evento.go"], err = model.render(); err != nil {
		return nil, err
	}
	if err := checkNames(o.File, types, files); err != nil {
		return nil, err
	}
	return files, nil
}

// model is an aggregate as the template wants it.
type model struct {
	File, Package string
	Aggregate     string
	Root          string // Go name of the root record
	Commands      []commandModel
	Events        []eventModel // events and failures, in the order of the file
	Optionals     []optional
}

type commandModel struct {
	Name     string // Go name
	Doc      string
	Target   string // Go name of the target entity; empty for the root
	Outcomes []string
	Emits    []string
}

type eventModel struct {
	Name    string // Go name
	Doc     string
	Failure bool
	Entity  string // Go name of the entity it belongs to; empty for the root
	Prefix  string // of that entity
}

// Failures returns the events that refuse a command.
func (m *model) Failures() []eventModel {
	return slices.Collect(func(yield func(eventModel) bool) {
		for _, e := range m.Events {
			if e.Failure && !yield(e) {
				return
			}
		}
	})
}

// newModel reads the roles of the types out of their "evento" properties.
func newModel(types []typeDef, o Options) (*model, error) {
	m := &model{File: filepath.Base(o.File), Package: o.Package}
	var problems []error
	fail := func(t typeDef, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: type %q: "+format, append([]any{o.File, t.Name}, args...)...))
	}
	byName := make(map[string]typeDef)
	for _, t := range types {
		byName[t.Name] = t
		if t.Evento.Kind == "root" {
			if m.Root != "" {
				fail(t, "a second root; %q is the first", m.Root)
			}
			m.Root, m.Aggregate = goName(t.Name), t.Name
			if t.Namespace != t.Name {
				fail(t, "the root has the name of the aggregate, which is the namespace %q", t.Namespace)
			}
		}
	}
	if m.Root == "" {
		problems = append(problems, fmt.Errorf("%s: no type has \"evento\": {\"kind\": \"root\"}; the aggregate's state needs one", o.File))
	}
	for _, t := range types {
		if t.Namespace != m.Aggregate && m.Root != "" {
			fail(t, "its namespace is %q, the aggregate's is %q", t.Namespace, m.Aggregate)
		}
		entity := func(name, property string) (prefix string) {
			e, ok := byName[name]
			switch {
			case name == "" || name == m.Aggregate:
			case !ok || e.Evento.Kind != "entity":
				fail(t, "%q names %q, which is no type of the kind \"entity\"", property, name)
			case e.Evento.Prefix == "":
				fail(e, "an entity needs a \"prefix\"")
			}
			if name == m.Aggregate {
				return ""
			}
			return e.Evento.Prefix
		}
		if k := t.Evento.Kind; k != "value" && t.Type != "record" {
			fail(t, "a type of the kind %q is a record, not %q", k, t.Type)
			continue
		}
		switch t.Evento.Kind {
		case "root", "entity", "value":
		case "command":
			c := commandModel{Name: goName(t.Name), Doc: oneLine(t.Doc)}
			if entity(t.Evento.Target, "target") != "" {
				c.Target = goName(t.Evento.Target)
			}
			if len(t.Evento.Emits) == 0 || len(t.Evento.Fails) == 0 {
				fail(t, "a command has \"emits\" and \"fails\", each with at least one event: it always ends in one")
			}
			for i, list := range [][]string{t.Evento.Emits, t.Evento.Fails} {
				kind := []string{"event", "failure"}[i]
				for _, name := range list {
					if got := byName[name].Evento.Kind; got != kind {
						fail(t, "%q names %q, which is no type of the kind %q", []string{"emits", "fails"}[i], name, kind)
					}
					c.Outcomes = append(c.Outcomes, m.Aggregate+"."+name)
				}
			}
			m.Commands = append(m.Commands, c)
		case "event", "failure":
			e := eventModel{Name: goName(t.Name), Doc: oneLine(t.Doc), Failure: t.Evento.Kind == "failure"}
			if e.Prefix = entity(t.Evento.Entity, "entity"); e.Prefix != "" {
				e.Entity = goName(t.Evento.Entity)
			}
			m.Events = append(m.Events, e)
		default:
			fail(t, "\"evento\": {\"kind\": %q} is none of root, entity, value, event, failure, command", t.Evento.Kind)
		}
	}
	if m.Root != "" && (len(m.Commands) == 0 || len(m.Events) == 0) {
		problems = append(problems, fmt.Errorf("%s: an aggregate has commands and events; this one has %d and %d", o.File, len(m.Commands), len(m.Events)))
	}
	return m, errors.Join(problems...)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
