package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/evento-oss/evento/runtime"
)

// CloudEvents are parsed by the CloudEvents SDK, and by it alone: its server
// has no limits. What the SDK lets pass silently is refused before: repeated
// headers and keys (it takes the first, or the last), names that are no
// attribute names, and a structured event with ce- headers besides.

const (
	mediaStructured = "application/cloudevents+json"
	mediaBatch      = "application/cloudevents-batch+json"
)

// isCloudEvent says whether a request claims to be one, in whichever form.
func isCloudEvent(h http.Header, media string) bool {
	return strings.HasPrefix(media, "application/cloudevents") || h.Get("Ce-Specversion") != "" || h.Get("Ce-Id") != ""
}

// parseBinary reads a CloudEvent from headers and body (HTTP binding 3.1).
// Errors are problems.
func parseBinary(h http.Header, body []byte, wants intakeWants) (*draft, error) {
	clean := http.Header{}
	for name, values := range h {
		lower := strings.ToLower(name)
		attribute, ok := strings.CutPrefix(lower, "ce-")
		if !ok {
			continue
		}
		// Headers come with canonical names, so ce-id and CE-ID are one name with two values.
		if len(values) != 1 {
			return nil, fail(problemDuplicate, "the header %s is given %d times", lower, len(values)).field(lower)
		}
		if err := checkAttributeName(attribute, lower); err != nil {
			return nil, err
		}
		// The values are percent-encoded (HTTP binding 3.1.3.2), which the SDK
		// leaves as it is. Decoded here once and never again.
		value, err := url.PathUnescape(values[0])
		if err != nil {
			return nil, fail(problemAttribute, "the header %s is not percent-encoded as CloudEvents want it", lower).field(lower)
		}
		clean[http.CanonicalHeaderKey(name)] = []string{value}
	}
	contentType := h.Get("Content-Type")
	if contentType != "" {
		clean.Set("Content-Type", contentType)
	}
	e, err := binding.ToEvent(context.Background(), cehttp.NewMessage(clean, io.NopCloser(bytes.NewReader(body))))
	if err != nil {
		return nil, fail(problemMalformed, "the request is not a CloudEvent in binary mode: %s", err)
	}
	d := &draft{form: formBinary, wants: wants}
	return d, d.fromEvent(e, traceParent(h.Get("Traceparent")))
}

// parseStructured reads one CloudEvent from a JSON object. Errors are problems.
func parseStructured(object []byte, wants intakeWants, trace string) (*draft, error) {
	data := 0
	err := walkJSONObject(object, func(key string, _ []byte) error {
		if key != "data" && key != "data_base64" {
			return checkAttributeName(key, key)
		}
		if data++; data > 1 {
			return fail(problemAttribute, "the event has both data and data_base64").field("data_base64")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var e event.Event
	if err := json.Unmarshal(object, &e); err != nil {
		return nil, fail(problemMalformed, "the body is not a CloudEvent in structured mode: %s", err)
	}
	d := &draft{form: formStructured, wants: wants}
	return d, d.fromEvent(&e, trace)
}

// checkAttributeName refuses what the platform alone sets, and what is no
// CloudEvents attribute name (spec 3: lower-case letters and digits).
func checkAttributeName(attribute, given string) error {
	if runtime.Reserved(strings.ToLower(attribute)) {
		return fail(problemReserved, "%s is set by the platform alone; send the message without it", given).field(given)
	}
	if attribute == "" || strings.Trim(attribute, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return fail(problemAttribute, "%q is no CloudEvents attribute name: only lower-case letters and digits are", given).field(given)
	}
	return nil
}

// fromEvent takes what is allowed over from a CloudEvent. Extensions other
// than traceparent are dropped: they would stay in the log for ever.
func (d *draft) fromEvent(e *event.Event, trace string) error {
	if v := e.SpecVersion(); v != event.CloudEventsVersionV1 {
		return fail(problemAttribute, "%s is %q; CloudEvents 1.0 are taken", d.name("specversion"), v).field(d.name("specversion"))
	}
	d.id, d.typ, d.source, d.entity = e.ID(), e.Type(), e.Source(), e.Subject()
	d.time, d.schema, d.data = e.Time(), e.DataSchema(), e.Data()
	for _, attribute := range []struct{ name, value string }{
		{"id", d.id}, {"type", d.typ}, {"source", d.source}, {"subject", d.entity},
	} {
		if attribute.value == "" {
			name := d.name(attribute.name)
			return fail(problemAttribute, "%s is missing", name).field(name)
		}
	}
	d.trace = trace
	if own, ok := e.Extensions()[runtime.AttrTraceParent].(string); ok && traceParent(own) != "" {
		d.trace = own
	}
	contentType := e.DataContentType()
	if contentType == "" && d.form == formStructured {
		contentType = "application/json" // the default of the JSON format (3.1.1)
	}
	return d.setContentType(contentType)
}

// setContentType decides by the data's content type how it is read.
func (d *draft) setContentType(contentType string) error {
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err == nil && (media == "application/json" || strings.HasSuffix(media, "+json")):
	case err == nil && (media == runtime.ContentTypeAvro || media == "avro/binary"):
		d.isAvro = true
	default:
		name := d.name("datacontenttype")
		if d.form == formBinary {
			name = "content-type"
		}
		return fail(problemMediaType, "%s is %q; the data is taken as %s or application/json", name, contentType, runtime.ContentTypeAvro).field(name)
	}
	return nil
}
