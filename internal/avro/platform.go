package avro

import (
	"fmt"
	"strings"

	"github.com/evento-oss/evento/runtime"
)

// platformNamespace is the namespace of the platform's own types. No aggregate may have it.
const platformNamespace = "evento"

// CommandParked is the outcome of a command that its function could not compute.
type CommandParked struct {
	Reason   string // of the last attempt, for people
	Attempts int32  // calls that were made
	Function string // namespace/name of its Trigger; "" when none was asked
}

// CommandRejected is the outcome of a command that the platform itself refused.
type CommandRejected struct {
	Code   string // a stable word, "version-mismatch"
	Reason string // for people
}

// PublishRejected is the outcome of an outside event that could not be taken into its aggregate.
type PublishRejected struct {
	Code   string
	Reason string
}

// RetryNow is the order to try a command that was set aside at once.
type RetryNow struct {
	Offset int64 // of the command in its partition of the commands topic
}

// DropCommand is the order to end a command that was set aside: park it.
type DropCommand struct {
	Offset int64 // of the command in its partition of the commands topic
	Reason string
}

const (
	textCommandParked = `{"type":"record","name":"CommandParked","namespace":"evento","evento":{"kind":"event"},` +
		`"doc":"The command could not be computed and was set aside for good.","fields":[` +
		`{"name":"reason","type":"string"},{"name":"attempts","type":"int"},{"name":"function","type":"string"}]}`
	textCommandRejected = `{"type":"record","name":"CommandRejected","namespace":"evento","evento":{"kind":"event"},` +
		`"doc":"The platform refused the command.","fields":[` +
		`{"name":"code","type":"string"},{"name":"reason","type":"string"}]}`
	textPublishRejected = `{"type":"record","name":"PublishRejected","namespace":"evento","evento":{"kind":"event"},` +
		`"doc":"The event from outside could not be taken into its aggregate.","fields":[` +
		`{"name":"code","type":"string"},{"name":"reason","type":"string"}]}`
	textRetryNow = `{"type":"record","name":"RetryNow","namespace":"evento","evento":{"kind":"command"},` +
		`"doc":"Try the command at this offset now.","fields":[{"name":"offset","type":"long"}]}`
	textDropCommand = `{"type":"record","name":"DropCommand","namespace":"evento","evento":{"kind":"command"},` +
		`"doc":"End the command at this offset.","fields":[{"name":"offset","type":"long"},{"name":"reason","type":"string"}]}`
)

// The fingerprints of the texts above; a test computes them.
const (
	schemaCommandParked   runtime.DataSchema = "urn:evento:avro:evento.CommandParked:93ca423726cbcc7d"
	schemaCommandRejected runtime.DataSchema = "urn:evento:avro:evento.CommandRejected:5fc03ae3b5c61f3a"
	schemaPublishRejected runtime.DataSchema = "urn:evento:avro:evento.PublishRejected:0fe4d52141ce9d28"
	schemaRetryNow        runtime.DataSchema = "urn:evento:avro:evento.RetryNow:727ee9a703c193d3"
	schemaDropCommand     runtime.DataSchema = "urn:evento:avro:evento.DropCommand:281a7502fd7fcde2"
)

// Platform returns the registrations of the platform's own types. Every
// [Catalogue] has them; they also belong into the schemas topic, so that the
// log explains itself to other readers.
func Platform() []Registered {
	var types []Registered
	for _, p := range []struct {
		schema runtime.DataSchema
		kind   Kind
		text   string
	}{
		{schemaCommandParked, KindEvent, textCommandParked},
		{schemaCommandRejected, KindEvent, textCommandRejected},
		{schemaPublishRejected, KindEvent, textPublishRejected},
		{schemaRetryNow, KindCommand, textRetryNow},
		{schemaDropCommand, KindCommand, textDropCommand},
		{schemaDispatched, KindEvent, textDispatched},
	} {
		name, fp, _ := p.schema.Parse()
		types = append(types, Registered{Name: name, Fingerprint: fp, Aggregate: platformNamespace, Kind: p.kind, Version: 1, Text: p.text})
	}
	return types
}

// Encode returns the record's dataschema and its data.
func (r CommandParked) Encode() (runtime.DataSchema, []byte) {
	return schemaCommandParked, appendText(appendLong(appendText(nil, r.Reason), int64(r.Attempts)), r.Function)
}

// Encode returns the record's dataschema and its data.
func (r CommandRejected) Encode() (runtime.DataSchema, []byte) {
	return schemaCommandRejected, appendText(appendText(nil, r.Code), r.Reason)
}

// Encode returns the record's dataschema and its data.
func (r PublishRejected) Encode() (runtime.DataSchema, []byte) {
	return schemaPublishRejected, appendText(appendText(nil, r.Code), r.Reason)
}

// Encode returns the record's dataschema and its data.
func (r RetryNow) Encode() (runtime.DataSchema, []byte) {
	return schemaRetryNow, appendLong(nil, r.Offset)
}

// Encode returns the record's dataschema and its data.
func (r DropCommand) Encode() (runtime.DataSchema, []byte) {
	return schemaDropCommand, appendText(appendLong(nil, r.Offset), r.Reason)
}

// appendText appends a string. Reasons come from anywhere, and Avro strings are UTF-8.
func appendText(dst []byte, text string) []byte {
	text = strings.ToValidUTF8(text, "\uFFFD")
	return append(appendLong(dst, int64(len(text))), text...)
}

// DecodeCommandParked reads an evento.CommandParked of any version. The error is that of [Catalogue.Transcode].
func (c *Catalogue) DecodeCommandParked(d runtime.DataSchema, data []byte) (r CommandParked, err error) {
	if data, err = c.platformData(d, data, schemaCommandParked); err != nil {
		return r, err
	}
	f := fields{b: data}
	r.Reason = f.text()
	r.Attempts = int32(f.long()) // checked to fit
	r.Function = f.text()
	return r, nil
}

// DecodeCommandRejected reads an evento.CommandRejected of any version. The error is that of [Catalogue.Transcode].
func (c *Catalogue) DecodeCommandRejected(d runtime.DataSchema, data []byte) (r CommandRejected, err error) {
	if data, err = c.platformData(d, data, schemaCommandRejected); err != nil {
		return r, err
	}
	f := fields{b: data}
	r.Code = f.text()
	r.Reason = f.text()
	return r, nil
}

// DecodePublishRejected reads an evento.PublishRejected of any version. The error is that of [Catalogue.Transcode].
func (c *Catalogue) DecodePublishRejected(d runtime.DataSchema, data []byte) (r PublishRejected, err error) {
	if data, err = c.platformData(d, data, schemaPublishRejected); err != nil {
		return r, err
	}
	f := fields{b: data}
	r.Code = f.text()
	r.Reason = f.text()
	return r, nil
}

// DecodeRetryNow reads an evento.RetryNow of any version. The error is that of [Catalogue.Transcode].
func (c *Catalogue) DecodeRetryNow(d runtime.DataSchema, data []byte) (r RetryNow, err error) {
	if data, err = c.platformData(d, data, schemaRetryNow); err != nil {
		return r, err
	}
	f := fields{b: data}
	r.Offset = f.long()
	return r, nil
}

// DecodeDropCommand reads an evento.DropCommand of any version. The error is that of [Catalogue.Transcode].
func (c *Catalogue) DecodeDropCommand(d runtime.DataSchema, data []byte) (r DropCommand, err error) {
	if data, err = c.platformData(d, data, schemaDropCommand); err != nil {
		return r, err
	}
	f := fields{b: data}
	r.Offset = f.long()
	r.Reason = f.text()
	return r, nil
}

// platformData brings a record of the platform to the version that this code was written for.
func (c *Catalogue) platformData(d runtime.DataSchema, data []byte, want runtime.DataSchema) ([]byte, error) {
	if d != want {
		return c.Transcode(d, data, want)
	}
	if err := c.Validate(d, data); err != nil {
		return nil, fmt.Errorf("record of the platform: %w", err)
	}
	return data, nil
}

// fields reads the fields of a checked record one after the other.
type fields struct {
	b []byte
	i int
}

func (f *fields) long() (v int64) {
	v, f.i = long(f.b, f.i)
	return v
}

func (f *fields) text() string {
	n := int(f.long())
	f.i += n
	return string(f.b[f.i-n : f.i])
}
