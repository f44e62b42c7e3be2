package gateway

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/runtime"
)

// The JSON that people see. The names are the same in every answer.

// eventJSON shows an event, or a record of the platform.
type eventJSON struct {
	ID               string          `json:"id"`
	Type             string          `json:"type"`
	Entity           string          `json:"entity"`
	Version          uint64          `json:"version,omitempty"` // absent in a record of the platform
	Coordinates      string          `json:"coordinates,omitempty"`
	Time             timeJSON        `json:"time,omitzero"`
	RecordedTime     timeJSON        `json:"recorded_time,omitzero"`
	Cause            string          `json:"cause,omitempty"` // id of the direct cause
	CauseCoordinates string          `json:"cause_coordinates,omitempty"`
	Correlation      string          `json:"correlation,omitempty"` // id of the root cause
	Source           string          `json:"source,omitempty"`
	Schema           string          `json:"schema,omitempty"`
	By               string          `json:"by,omitempty"`
	Payload          json.RawMessage `json:"payload,omitempty"`
	// PayloadAvro stands for the payload where it cannot be shown as JSON,
	// because its schema is not known to this gateway: the Avro value in base64.
	PayloadAvro []byte `json:"payload_avro,omitempty"`
}

// outcomeJSON shows how a command stands.
type outcomeJSON struct {
	Command  string      `json:"command"`
	Status   string      `json:"status"`
	Version  uint64      `json:"version,omitempty"`
	Entity   string      `json:"entity"`
	Type     string      `json:"type,omitempty"`
	Source   string      `json:"source"`
	Events   []eventJSON `json:"events"`
	Code     string      `json:"code,omitempty"`
	Reason   string      `json:"reason,omitempty"`
	Attempts int         `json:"attempts,omitempty"`
	NextTry  timeJSON    `json:"next_try,omitzero"`
	Location string      `json:"location,omitempty"`
}

// timeJSON is written as RFC 3339 in UTC with milliseconds, as times are stored.
type timeJSON struct{ time.Time }

// MarshalJSON implements [json.Marshaler].
func (t timeJSON) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

func (s *HTTPServer) eventJSON(r Recorded) eventJSON {
	m := r.Message
	e := eventJSON{
		ID: m.ID, Type: string(m.Type), Entity: string(m.Subject), Version: m.Sequence, Coordinates: r.At.String(),
		Time: timeJSON{m.Time}, RecordedTime: timeJSON{m.RecordedTime}, Cause: m.CausationID,
		CauseCoordinates: m.Cause.String(), Correlation: m.CorrelationID, Source: m.Source, Schema: string(m.Schema), By: m.By,
	}
	payload, err := s.need.Schemas.ToJSON(m.Schema, m.Data)
	if err != nil {
		e.PayloadAvro = m.Data
		s.need.Log.Warn("an event cannot be shown as JSON", "entity", m.Subject, "event_id", m.ID, "err", err)
	} else {
		e.Payload = payload
	}
	return e
}

func (s *HTTPServer) outcomeJSON(o *Outcome) *outcomeJSON {
	out := &outcomeJSON{
		Command: o.Command, Status: string(o.Status), Version: o.Version, Entity: string(o.Entity), Type: string(o.Type),
		Source: o.Source, Events: make([]eventJSON, len(o.Events)), Code: o.Code, Reason: o.Reason, Attempts: o.Attempts,
		NextTry: timeJSON{o.NextTry},
	}
	for i, e := range o.Events {
		out.Events[i] = s.eventJSON(e)
	}
	return out
}

// location is where a command's outcome can be fetched for ever. The source is
// part of it when the reader's own is another.
func (s *HTTPServer) location(m *runtime.Message, p *AuthPrincipal) string {
	l := "/v1/aggregates/" + url.PathEscape(string(m.Subject)) + "/commands/" + url.PathEscape(m.ID)
	if m.Source != p.Source {
		l += "?source=" + url.QueryEscape(m.Source)
	}
	return l
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return writeAnswer(w, status, append(body, '\n'))
}

// writeAnswer answers with a body, within the limit of all answers that clients
// have not taken yet. w is that of a route ([HTTPServer.measured]).
func writeAnswer(w http.ResponseWriter, status int, body []byte) error {
	if crash.On {
		// An answer that is flushed before its end is whole then: crash.IntakeAnswered.
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	answers := w.(*statusWriter).answers
	if err := answers.Write(w, status, body); err != nil {
		return fail(problemOverloaded, "the answers of all requests together have reached the limit of %d bytes that is set by %s", answers.Total, settingMaxBuffered).
			limit(settingMaxBuffered, answers.Total).because(err).after(time.Second)
	}
	return nil
}
