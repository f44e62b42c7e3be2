package gateway

import (
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// checkEvents holds what a handler answered to a command against the schema and
// the limits. An error is a *wrongAnswerError, or wraps errUnregistered.
func (f *Functions) checkEvents(t *FunctionTarget, a *answered, command *runtime.Message, answer []*runtime.Message) ([]shard.Event, error) {
	limits := &f.set.Limits
	typ, ok := f.set.Schemas.Type(command.Type)
	switch {
	case !ok:
		return nil, fmt.Errorf("%q: %w", string(command.Type), errUnregistered)
	case len(answer) == 0:
		return nil, wrongAnswer("no event for %s %q; a refusal is an event too", command.Type, command.ID)
	case len(answer) > limits.Events:
		return nil, wrongAnswer("%d events for one command, more than the limit of %d", len(answer), limits.Events)
	}
	now := f.now().Truncate(time.Millisecond).UTC()
	events, size := make([]shard.Event, len(answer)), 0
	for i, m := range answer {
		e, err := f.checkEvent(typ, command, a.build, m)
		if err != nil {
			return nil, fmt.Errorf("event %d of %d: %w", i+1, len(answer), err)
		}
		if e.Time.IsZero() {
			e.Time = now
		}
		e.By = madeBy(t, a, e.Schema)
		if size += len(e.Data); size > limits.StepBytes {
			return nil, wrongAnswer("its events have more than %d bytes together, the limit for one command", limits.StepBytes)
		}
		events[i] = e
	}
	return events, nil
}

func (f *Functions) checkEvent(command *avro.Type, m *runtime.Message, build *runtime.Description, answer *runtime.Message) (shard.Event, error) {
	e := shard.Event{Type: answer.Type, Subject: answer.Subject, Schema: answer.Schema, Data: answer.Data, Time: answer.Time}
	typ, ok := f.set.Schemas.Type(e.Type)
	switch {
	case !command.Allows(e.Type):
		return e, wrongAnswer("%q is neither in \"emits\" nor in \"fails\" of %q", string(e.Type), string(command.Name))
	case !ok:
		return e, fmt.Errorf("%q: %w", string(e.Type), errUnregistered)
	case len(e.Data) > f.set.Limits.EventBytes:
		return e, wrongAnswer("%q has %d bytes, more than the limit of %d that fit into a record", string(e.Type), len(e.Data), f.set.Limits.EventBytes)
	}
	if e.Subject == "" {
		e.Subject = defaultSubject(typ, command, m)
	}
	if err := f.checkSubject(typ, m.Aggregate(), e.Subject); err != nil {
		return e, err
	}
	if e.Schema == "" {
		e.Schema = runtime.NewDataSchema(e.Type, build.Schemas[e.Type].Fingerprint)
	}
	return e, f.checkData(e.Type, e.Schema, e.Data)
}

// defaultSubject is whom an event is about when the function does not say: the
// root, or the child that the command was for if the event is of that kind.
func defaultSubject(event, command *avro.Type, m *runtime.Message) runtime.Entity {
	if event.Entity == "" || event.Entity != command.Target {
		return m.Aggregate().Root()
	}
	return m.Subject
}

func (f *Functions) checkSubject(event *avro.Type, aggregate runtime.AggregateID, subject runtime.Entity) error {
	if subject.Aggregate() != aggregate {
		return wrongAnswer("%q is about %q, which does not belong to the aggregate %q; only a dispatcher reaches another one, with a command", string(event.Name), string(subject), string(aggregate))
	}
	if err := f.set.Schemas.CheckSubject(event, subject); err != nil {
		return wrongAnswer("%v", err)
	}
	return nil
}

// checkData validates a value that claims to be of a type.
func (f *Functions) checkData(name runtime.TypeName, schema runtime.DataSchema, data []byte) error {
	said, _, err := schema.Parse()
	switch {
	case err != nil:
		return wrongAnswer("%q: %v", string(name), err)
	case said != name:
		return wrongAnswer("%q is encoded as %q", string(name), string(said))
	}
	if _, ok := f.set.Schemas.Version(schema); !ok {
		return fmt.Errorf("%q: %w", string(schema), errUnregistered)
	}
	if err := f.set.Schemas.Validate(schema, data); err != nil {
		return wrongAnswer("%q is no valid value: %v", string(name), err)
	}
	return nil
}

// errStateGrew is returned when a state is over its limit and larger than the one before.
var errStateGrew = errors.New("the state grew beyond its limit")

// checkState holds the state that an aggregator answered against the schema and
// the limit.
func (f *Functions) checkState(q *question, a *answered, events int) (shard.State, error) {
	s := shard.State{Version: q.state.Version + uint64(events), Schema: a.result.StateSchema, Data: a.result.State}
	if s.Schema == "" {
		if q.state.Schema != "" {
			return s, wrongAnswer("no state after %d events, but there was one before", events)
		}
		s.Data = nil // failures may leave an aggregate without state
		return s, nil
	}
	if s.Data == nil {
		s.Data = []byte{} // a root without fields is not the absence of one
	}
	var err error
	if s.Fold, err = f.foldOf(q.typeName, a.build); err != nil {
		return s, err
	}
	name, _, err := s.Schema.Parse()
	if err != nil {
		return s, wrongAnswer("state: %v", err)
	}
	if typ, ok := f.set.Schemas.Type(name); ok && (typ.Kind != avro.KindRoot || typ.Aggregate != q.typeName) {
		return s, wrongAnswer("the state is a %q, which is not the root of %q", string(name), q.typeName)
	}
	if err := f.checkData(name, s.Schema, s.Data); err != nil {
		return s, fmt.Errorf("state: %w", err)
	}
	if limit := f.set.Limits.StateBytes; len(s.Data) > limit && len(s.Data) > len(q.state.Data) {
		return s, fmt.Errorf("%w: %d bytes, the limit is %d; it had %d before", errStateGrew, len(s.Data), limit, len(q.state.Data))
	}
	return s, nil
}

// madeBy is the eventoby of an event: function, image and schema.
func madeBy(t *FunctionTarget, a *answered, schema runtime.DataSchema) string {
	image := a.result.Image
	if image == "" {
		image = a.build.Image
	}
	if image == "" {
		image = "-"
	}
	_, fingerprint, _ := schema.Parse() // it has been checked
	return t.Name + " " + image + " " + string(fingerprint)
}

// applied is an event as an aggregator sees it: what is the same when it has
// just been made and when it is read back years later, and nothing else. So a
// state cannot come to depend on when it was folded.
func applied(m *runtime.Message) *runtime.Message {
	return &runtime.Message{ID: m.ID, Type: m.Type, Subject: m.Subject, Schema: m.Schema, Time: m.Time, Data: m.Data, Sequence: m.Sequence}
}

// appliedEvents are events that have just been made, as an aggregator sees them.
func appliedEvents(key runtime.CommandKey, version uint64, events []shard.Event) []*runtime.Message {
	messages := make([]*runtime.Message, len(events))
	for i, e := range events {
		messages[i] = &runtime.Message{
			ID: key.EventID(i + 1), Type: e.Type, Subject: e.Subject, Schema: e.Schema,
			Time: e.Time, Data: e.Data, Sequence: version + uint64(i) + 1,
		}
	}
	return messages
}
