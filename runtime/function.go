package runtime

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Definition is what generated code says of an aggregate's schema file.
type Definition struct {
	Aggregate string // name, which is the namespace of its types
	Root      *Codec
	Commands  []CommandType
	Events    []EventType // failures are events
}

// CommandType is one command of an aggregate.
type CommandType struct {
	Codec    *Codec
	Outcomes []TypeName // events that may answer it: emits and fails
}

// EventType is one event or failure of an aggregate.
type EventType struct {
	Codec *Codec
	// Prefix is that of the entity inside the aggregate that the event belongs
	// to; empty for the root's.
	Prefix string
}

// HandleFunc is a handler with its types erased: generated code makes one of an
// author's Handler. A nil state is an aggregate that does not exist.
type HandleFunc func(ctx HandlerContext, state, command Record) ([]Record, error)

// ApplyFunc is an aggregator with its types erased. A nil state is none, before and after.
type ApplyFunc func(ctx AggregatorContext, state, event Record) (Record, error)

// StateVersioner may be implemented by an aggregator. Raise the version when the
// same events give another state than before: then all snapshots are rebuilt
// from events. Without it the version is 1.
type StateVersioner interface{ StateVersion() int }

// Placed is a record that knows the entity or the time it is for. Generated code
// makes them in its On and At.
type Placed interface {
	Place() (record Record, subject Entity, at time.Time)
}

// Function is what a process serves: authors' code behind the invocation
// protocol. It is made by generated code, or by [NewDispatcher]. It is safe for
// concurrent use when the author's code is.
type Function struct {
	description Description
	root        *Codec
	commands    map[TypeName]CommandType
	events      map[TypeName]EventType
	codecs      map[TypeName]*Codec // all of the above, and a dispatcher's

	handle    HandleFunc
	apply     ApplyFunc
	reactions map[TypeName]Reaction
}

// FunctionOf is a [Function] that remembers the author's types: state S, commands
// C and events E. The test kit takes them from here.
type FunctionOf[S, C, E Record] struct{ *Function }

// NewFunction makes the function of an aggregate: a handler, an aggregator, or
// both in one when neither is nil. versioned is the author's aggregator, asked
// whether it is a [StateVersioner]; it may be nil.
func NewFunction(d Definition, handle HandleFunc, apply ApplyFunc, versioned any) *Function {
	f := &Function{
		root:     d.Root,
		handle:   handle,
		apply:    apply,
		commands: make(map[TypeName]CommandType),
		events:   make(map[TypeName]EventType),
		codecs:   map[TypeName]*Codec{d.Root.Name(): d.Root},
		description: Description{
			Aggregate:    d.Aggregate,
			StateVersion: 1,
		},
	}
	if handle != nil {
		f.description.Roles = append(f.description.Roles, RoleHandler)
	}
	if apply != nil {
		f.description.Roles = append(f.description.Roles, RoleAggregator)
	}
	if v, ok := versioned.(StateVersioner); ok {
		f.description.StateVersion = v.StateVersion()
	}
	for _, c := range d.Commands {
		f.commands[c.Codec.Name()] = c
		if handle != nil { // an aggregator never sees a command
			f.codecs[c.Codec.Name()] = c.Codec
		}
	}
	for _, e := range d.Events {
		f.events[e.Codec.Name()] = e
		f.codecs[e.Codec.Name()] = e.Codec
	}
	f.describe()
	return f
}

func (f *Function) describe() {
	f.description.Schemas = make(map[TypeName]SchemaText, len(f.codecs))
	for name, c := range f.codecs {
		f.description.Schemas[name] = c.Text()
	}
	f.description.Hash = f.description.hash()
}

// Description returns what the function says of itself, without an image.
func (f *Function) Description() Description { return f.description }

// name says what the function is, for logs.
func (f *Function) name() string {
	if f.description.Aggregate == "" {
		return string(RoleDispatcher)
	}
	roles := ""
	for _, r := range f.description.Roles {
		roles += " " + string(r)
	}
	return f.description.Aggregate + roles
}

// Message encodes a record of the function's types: with type, schema, data, and
// what On and At said.
func (f *Function) Message(r Record) (*Message, error) {
	m := &Message{}
	if p, ok := r.(Placed); ok {
		r, m.Subject, m.Time = p.Place()
	}
	if r == nil {
		return nil, errors.New("there is no record")
	}
	m.Type = TypeName(r.SchemaName())
	c, ok := f.codecs[m.Type]
	if !ok {
		return nil, fmt.Errorf("%q is none of the function's types", m.Type)
	}
	var err error
	m.Schema = c.Schema()
	m.Data, err = c.Encode(r)
	return m, err
}

// Record decodes data of one of the function's types.
func (f *Function) Record(schema DataSchema, data []byte) (Record, error) {
	name, _, err := schema.Parse()
	if err != nil {
		return nil, err
	}
	c, ok := f.codecs[name]
	if !ok || c.Schema() != schema {
		return nil, fmt.Errorf("%q is none of the function's schemas", schema)
	}
	return c.Decode(data)
}

// outgoing turns what a handler answered to one command into messages with
// type, schema, subject, time and data.
func (f *Function) outgoing(command *Message, at time.Time, answer []Record) ([]*Message, []Record, *Failure) {
	if len(answer) == 0 {
		return nil, nil, &Failure{Code: FailureNoEvents, Message: fmt.Sprintf(
			"the handler answered %q with neither events nor an error; a refusal is an event too", command.Type)}
	}
	outcomes := f.commands[command.Type].Outcomes
	events := make([]*Message, len(answer))
	records := make([]Record, len(answer))
	for i, r := range answer {
		wrong := func(format string, args ...any) (_ []*Message, _ []Record, _ *Failure) {
			return nil, nil, &Failure{Code: FailureError, Message: fmt.Sprintf("event %d of the answer to %q: ", i+1, command.Type) + fmt.Sprintf(format, args...)}
		}
		if r == nil {
			return wrong("it is nil")
		}
		subject, when := Entity(""), at
		if p, ok := r.(Placed); ok {
			r, subject, when = p.Place()
			if when.IsZero() {
				when = at
			}
		}
		name := TypeName(r.SchemaName())
		event, ok := f.events[name]
		if !ok || !slices.Contains(outcomes, name) {
			return wrong("%q is in neither \"emits\" nor \"fails\" of the command; they are %q", name, outcomes)
		}
		subject, err := placeOf(event, subject, command.Subject)
		if err != nil {
			return wrong("%v", err)
		}
		data, err := event.Codec.Encode(r)
		if err != nil {
			return wrong("%v", err)
		}
		events[i] = &Message{Type: name, Schema: event.Codec.Schema(), Subject: subject, Time: when, Data: data}
		records[i] = r
	}
	return events, records, nil
}

// placeOf says which entity an event belongs to: what the author said, else the
// root for the root's events, else the command's target.
func placeOf(event EventType, said, target Entity) (Entity, error) {
	subject := said
	switch {
	case said != "":
	case event.Prefix == "":
		subject = target.Aggregate().Root()
	default:
		subject = target
	}
	if subject.Aggregate() != target.Aggregate() {
		return "", fmt.Errorf("%q is for %q, outside the aggregate %q; only a dispatcher reaches another one, with a command", event.Codec.Name(), subject, target.Aggregate())
	}
	switch {
	case event.Prefix == "" && !subject.IsRoot():
		return "", fmt.Errorf("%q belongs to the root, not to %q", event.Codec.Name(), subject)
	case event.Prefix != "" && (subject.IsRoot() || subject.Prefix() != event.Prefix):
		return "", fmt.Errorf("%q belongs to an entity %q, and %q is none; say which one with On", event.Codec.Name(), event.Prefix+":...", subject)
	}
	return subject, nil
}
