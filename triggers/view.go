package triggers

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/evento-oss/evento/runtime"
)

// newView returns m as the CloudEvent that filters see: the attributes of its
// Kafka record without the data. Left out is what only the platform's own
// reading needs (eventoprev, eventoskip, eventowriter, eventowaiter), and so
// may change without notice. Extensions are strings, as they are in Kafka
// headers.
func newView(m *runtime.Message) *cloudevents.Event {
	contentType := runtime.ContentTypeAvro
	c := &cloudevents.EventContextV1{ID: m.ID, Type: string(m.Type), DataContentType: &contentType}
	if u, err := url.Parse(m.Source); err == nil {
		c.Source = types.URIRef{URL: *u}
	}
	if m.Subject != "" {
		subject := string(m.Subject)
		c.Subject = &subject
	}
	if u, err := url.Parse(string(m.Schema)); err == nil && m.Schema != "" {
		c.DataSchema = &types.URI{URL: *u}
	}
	if !m.Time.IsZero() {
		c.Time = &types.Timestamp{Time: m.Time.UTC()}
	}
	x := make(map[string]any, 10)
	set := func(name, value string) {
		if value != "" {
			x[name] = value
		}
	}
	set(runtime.AttrPartitionKey, string(m.Aggregate()))
	set(runtime.AttrCausationID, m.CausationID)
	set(runtime.AttrCorrelationID, m.CorrelationID)
	set(runtime.AttrTraceParent, m.TraceParent)
	set(runtime.AttrCause, m.Cause.String())
	set(runtime.AttrBy, m.By)
	set(runtime.AttrHash, m.Hash)
	if m.Sequence > 0 {
		x[runtime.AttrSequence] = fmt.Sprintf("%020d", m.Sequence)
	}
	if m.Pos > 0 {
		x[runtime.AttrPos] = strconv.Itoa(m.Pos) + "/" + strconv.Itoa(m.Count)
	}
	if m.Expect != nil {
		x[runtime.AttrExpect] = strconv.FormatUint(*m.Expect, 10)
	}
	if !m.RecordedTime.IsZero() {
		x[runtime.AttrRecordedTime] = m.RecordedTime.UTC().Format(time.RFC3339Nano)
	}
	c.Extensions = x
	return &cloudevents.Event{Context: c}
}

// lazyView makes the view of a message once, and only when it is asked for.
type lazyView struct {
	message *runtime.Message
	made    *cloudevents.Event
}

func (v *lazyView) event() *cloudevents.Event {
	if v.made == nil {
		v.made = newView(v.message)
	}
	return v.made
}

// newTypeView returns an event of which filters that look at type alone see all they need.
func newTypeView(t runtime.TypeName) *cloudevents.Event {
	return &cloudevents.Event{Context: &cloudevents.EventContextV1{Type: string(t)}}
}
