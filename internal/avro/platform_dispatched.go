package avro

import (
	"fmt"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// DispatchStatus says what a dispatcher's decision about an event is.
type DispatchStatus string

// The statuses. Of one event, dispatcher and replay epoch there is at most one
// record that is decided or dropped, and none after it.
const (
	DispatchDecided DispatchStatus = "decided" // its commands are sent, perhaps none
	DispatchParked  DispatchStatus = "parked"  // the function failed too often; an operator may have it asked again
	DispatchDropped DispatchStatus = "dropped" // an operator gave up one that was parked: no commands, and nobody is asked again
	DispatchWaiting DispatchStatus = "waiting" // not decided for long, and tried on; it keeps the position from growing
)

// Dispatched is a dispatcher's decision about one event, a record of the
// dispatched topic.
type Dispatched struct {
	Dispatcher string // namespace/name of its Trigger
	Epoch      uint64 // replay epoch: how often the dispatcher was sent back
	Event      string // id
	At         string // coordinates of the event
	Status     DispatchStatus
	Reason     string // parked, waiting: of the last attempt; dropped: who did it, and why
	Attempts   int32  // calls that were made
	Function   string // function, image and schema that decided: eventoby of the commands
	Commands   []DispatchedCommand
}

// DispatchedCommand is one command of a decision.
type DispatchedCommand struct {
	Type   runtime.TypeName
	Target runtime.Entity
	Schema runtime.DataSchema
	Data   []byte
	Time   time.Time // milliseconds
}

const textDispatched = `{"type":"record","name":"Dispatched","namespace":"evento","evento":{"kind":"event"},` +
	`"doc":"What a dispatcher decided about an event.","fields":[` +
	`{"name":"dispatcher","type":"string"},{"name":"epoch","type":"long"},{"name":"event","type":"string"},{"name":"at","type":"string"},` +
	`{"name":"status","type":"string"},{"name":"reason","type":"string"},{"name":"attempts","type":"int"},{"name":"function","type":"string"},` +
	`{"name":"commands","type":{"type":"array","items":{"type":"record","name":"DispatchedCommand","evento":{"kind":"value"},"fields":[` +
	`{"name":"type","type":"string"},{"name":"target","type":"string"},{"name":"dataschema","type":"string"},{"name":"data","type":"bytes"},{"name":"time","type":"long"}]}}}]}`

const schemaDispatched runtime.DataSchema = "urn:evento:avro:evento.Dispatched:eb63d47b73101bee"

// Encode returns the record's dataschema and its data.
func (r Dispatched) Encode() (runtime.DataSchema, []byte) {
	data := appendText(appendLong(appendText(nil, r.Dispatcher), int64(r.Epoch)), r.Event)
	data = appendText(appendText(appendText(data, r.At), string(r.Status)), r.Reason)
	data = appendText(appendLong(data, int64(r.Attempts)), r.Function)
	if len(r.Commands) > 0 {
		data = appendLong(data, int64(len(r.Commands)))
	}
	for _, c := range r.Commands {
		data = appendText(appendText(appendText(data, string(c.Type)), string(c.Target)), string(c.Schema))
		data = append(appendLong(data, int64(len(c.Data))), c.Data...)
		data = appendLong(data, c.Time.UnixMilli())
	}
	return schemaDispatched, appendLong(data, 0)
}

// DecodeDispatched reads an evento.Dispatched of any version. The error is that of [Catalogue.Transcode].
func (c *Catalogue) DecodeDispatched(d runtime.DataSchema, data []byte) (r Dispatched, err error) {
	if data, err = c.platformData(d, data, schemaDispatched); err != nil {
		return r, err
	}
	f := fields{b: data}
	r.Dispatcher = f.text()
	epoch := f.long()
	r.Epoch = uint64(epoch)
	r.Event, r.At = f.text(), f.text()
	r.Status = DispatchStatus(f.text())
	r.Reason = f.text()
	r.Attempts = int32(f.long()) // checked to fit
	r.Function = f.text()
	for n := f.long(); n != 0; n = f.long() {
		if n < 0 { // a block with its size before it
			n = -n
			f.long()
		}
		for range n {
			r.Commands = append(r.Commands, DispatchedCommand{
				Type: runtime.TypeName(f.text()), Target: runtime.Entity(f.text()), Schema: runtime.DataSchema(f.text()),
				Data: []byte(f.text()), Time: time.UnixMilli(f.long()).UTC(),
			})
		}
	}
	switch r.Status {
	case DispatchDecided, DispatchParked, DispatchDropped, DispatchWaiting:
	default:
		return r, fmt.Errorf("%w: status %q of a decision is not known", ErrData, string(r.Status))
	}
	if epoch < 0 {
		return r, fmt.Errorf("%w: replay epoch %d of a decision", ErrData, epoch)
	}
	return r, nil
}
