package runtime

import (
	"fmt"
	"slices"
)

// Command is a command that a dispatcher sends. Generated code makes one with
// its Send, which takes only its own aggregate's commands.
type Command struct {
	to     Entity
	record Record
}

// NewCommand pairs a command with its target. Prefer the generated Send.
func NewCommand(to Entity, record Record) Command { return Command{to: to, record: record} }

// To returns the target of the command.
func (c Command) To() Entity { return c.to }

// Record returns the command itself.
func (c Command) Record() Record { return c.record }

// Reaction is what a dispatcher does about one event type, or a declaration of
// the commands it sends. Generated code makes them.
type Reaction struct {
	event    *Codec
	react    func(DispatcherContext, Record) ([]Command, error)
	commands []CommandType
}

// React makes a reaction of a function on the event type E. Prefer the generated On<Event>.
func React[E Record](codec *Codec, react func(DispatcherContext, E) ([]Command, error)) Reaction {
	return Reaction{event: codec, react: func(ctx DispatcherContext, r Record) ([]Command, error) {
		return react(ctx, r.(E))
	}}
}

// Sends declares that a dispatcher may send the commands of an aggregate, so
// that its description has their schemas before the first one is sent.
func Sends(d Definition) Reaction { return Reaction{commands: d.Commands} }

// NewDispatcher makes a dispatcher of its reactions, at most one an event type.
func NewDispatcher(reactions ...Reaction) (*Function, error) {
	f := &Function{
		codecs:      make(map[TypeName]*Codec),
		reactions:   make(map[TypeName]Reaction),
		commands:    make(map[TypeName]CommandType),
		description: Description{Roles: []Role{RoleDispatcher}},
	}
	for _, r := range reactions {
		for _, c := range r.commands {
			f.commands[c.Codec.Name()] = c
			f.codecs[c.Codec.Name()] = c.Codec
		}
		if r.event == nil {
			continue
		}
		name := r.event.Name()
		if _, ok := f.reactions[name]; ok {
			return nil, fmt.Errorf("two reactions to %q; make one of them", name)
		}
		f.reactions[name] = r
		f.codecs[name] = r.event
	}
	if len(f.reactions) == 0 {
		return nil, fmt.Errorf("a dispatcher needs a reaction to at least one event")
	}
	f.describe()
	return f, nil
}

// commandsOf turns what a dispatcher answered into messages.
func (f *Function) commandsOf(event *Message, answer []Command) ([]*Message, *Failure) {
	commands := make([]*Message, 0, len(answer))
	for i, c := range answer {
		wrong := func(err error) ([]*Message, *Failure) {
			return nil, &Failure{Code: FailureError, Message: fmt.Sprintf("command %d of the answer to %q: %v", i+1, event.Type, err)}
		}
		if c.record == nil {
			return wrong(fmt.Errorf("it is empty"))
		}
		if _, err := ParseEntity(string(c.to)); err != nil {
			return wrong(fmt.Errorf("%q has no target: %w", c.record.SchemaName(), err))
		}
		codec := f.codecs[TypeName(c.record.SchemaName())]
		if codec == nil {
			return wrong(fmt.Errorf("%q is of an aggregate that the dispatcher does not declare; add runtime.Sends with its Definition (it declares %q)", c.record.SchemaName(), f.declared()))
		}
		data, err := codec.Encode(c.record)
		if err != nil {
			return wrong(err)
		}
		commands = append(commands, &Message{Type: codec.Name(), Schema: codec.Schema(), Subject: c.to, Time: event.Time, Data: data})
	}
	return commands, nil
}

func (f *Function) declared() []TypeName {
	var names []TypeName
	for n := range f.commands {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
