package gateway

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// dispatchOverhead is about what a command takes in a decision's record beside
// its data and its names.
const dispatchOverhead = 64

// Dispatch asks a dispatcher what is to be done about an event. The commands
// (perhaps none) are checked: of a registered command type, a valid value, to an
// entity that takes it, and all of them fit into one record. They have Type,
// Subject, Schema, Data and Time. by is the function and its image.
func (f *Functions) Dispatch(ctx context.Context, t FunctionTarget, event *runtime.Message) (commands []*runtime.Message, by string, trouble *shard.Trouble) {
	defer func() {
		if p := recover(); p != nil {
			f.set.Logger.Error("dispatching panicked", "dispatcher", t.Name, "entity", string(event.Subject), "event", event.ID, "err", fmt.Sprint(p), "trace", string(debug.Stack()))
			trouble = &shard.Trouble{Kind: shard.Failed, Function: t.Name, Reason: shorten(fmt.Sprintf("evento panicked: %v", p)), Policy: t.Policy}
		}
	}()
	q := &question{kind: runtime.KindDispatch, aggregate: event.Aggregate(), messages: []*runtime.Message{event}}
	a, trouble := f.ask(ctx, &t, q)
	if trouble != nil {
		return nil, "", trouble
	}
	l, _ := f.line(&t) // it has just been asked
	if a.result.Failure != nil {
		return nil, "", f.trouble(&t, l, q, a.result.Failure)
	}
	if len(a.result.Steps) != 1 {
		return nil, "", f.trouble(&t, l, q, wrongAnswer("%d steps for one event", len(a.result.Steps)))
	}
	commands, err := f.checkCommands(&a, event, a.result.Steps[0].Events)
	if err != nil {
		return nil, "", f.trouble(&t, l, q, err)
	}
	image := a.result.Image
	if image == "" {
		image = a.build.Image
	}
	if image == "" {
		image = "-"
	}
	return commands, t.Name + " " + image, nil
}

// checkCommands holds what a dispatcher answered against schemas and limits.
func (f *Functions) checkCommands(a *answered, event *runtime.Message, answer []*runtime.Message) ([]*runtime.Message, error) {
	limits := &f.set.Limits
	if len(answer) > limits.Events {
		return nil, wrongAnswer("%d commands for one event, more than the limit of %d", len(answer), limits.Events)
	}
	size := 0
	commands := make([]*runtime.Message, len(answer))
	for i, m := range answer {
		c, err := f.checkCommand(a.build, m)
		if err != nil {
			return nil, fmt.Errorf("command %d of %d: %w", i+1, len(answer), err)
		}
		if c.Time.IsZero() {
			c.Time = event.Time
		}
		c.Time = c.Time.UTC().Truncate(time.Millisecond)
		size += dispatchOverhead + len(c.Data) + len(c.Type) + len(c.Subject) + len(c.Schema)
		if size > limits.EventBytes {
			return nil, wrongAnswer("its commands have more than %d bytes together, the limit of one decision's record", limits.EventBytes)
		}
		commands[i] = c
	}
	return commands, nil
}

func (f *Functions) checkCommand(build *runtime.Description, answer *runtime.Message) (*runtime.Message, error) {
	c := &runtime.Message{Type: answer.Type, Subject: answer.Subject, Schema: answer.Schema, Data: answer.Data, Time: answer.Time}
	typ, ok := f.set.Schemas.Type(c.Type)
	switch {
	case !ok:
		return nil, wrongAnswer("%q is not registered", string(c.Type))
	case typ.Kind != avro.KindCommand || c.Platform():
		return nil, wrongAnswer("%q is no command, and a dispatcher answers with commands alone", string(c.Type))
	}
	if _, err := runtime.ParseEntity(string(c.Subject)); err != nil {
		return nil, wrongAnswer("%q has no target: %v", string(c.Type), err)
	}
	if err := f.set.Schemas.CheckSubject(typ, c.Subject); err != nil {
		return nil, wrongAnswer("%v", err)
	}
	if c.Schema == "" {
		c.Schema = runtime.NewDataSchema(c.Type, build.Schemas[c.Type].Fingerprint)
	}
	return c, f.checkData(c.Type, c.Schema, c.Data)
}
