package runtime

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// The JSON form of the protocol is for people with curl, not for machines: one
// invocation as an object, or several as {"items": [...]}. Data and state are
// JSON of gogen-avro (a value of a union is {"branch": value}), or a string of
// base64 that holds Avro. What is left out is taken from what is there.

type jsonRequest struct {
	Built string           `json:"built"`
	Items []jsonInvocation `json:"items"`
	jsonInvocation
}

type jsonInvocation struct {
	ID        string          `json:"id"`
	Kind      string          `json:"kind"`
	Aggregate AggregateID     `json:"aggregate"`
	Version   uint64          `json:"version"`
	State     json.RawMessage `json:"state"`
	Messages  []jsonMessage   `json:"messages"`
}

type jsonMessage struct {
	ID            string          `json:"id,omitempty"`
	Type          TypeName        `json:"type"`
	Source        string          `json:"source,omitempty"`
	Subject       Entity          `json:"subject,omitempty"`
	Time          *time.Time      `json:"time,omitempty"`
	Sequence      uint64          `json:"sequence,omitempty"`
	CausationID   string          `json:"causation_id,omitempty"`
	CorrelationID string          `json:"correlation_id,omitempty"`
	TraceParent   string          `json:"traceparent,omitempty"`
	Data          json.RawMessage `json:"data"`
}

type jsonResult struct {
	ID      string          `json:"id"`
	Steps   []jsonStep      `json:"steps"`
	State   json.RawMessage `json:"state,omitempty"`
	Failure *jsonFailure    `json:"failure,omitempty"`
}

type jsonStep struct {
	Events []jsonMessage `json:"events"`
}

type jsonFailure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Trace   string `json:"trace,omitempty"`
}

func (s *Server) answerJSON(w http.ResponseWriter, req *http.Request, body []byte) {
	q, err := s.decodeJSON(body)
	if err != nil {
		s.refuse(w, outcomeMalformed, err.Error())
		return
	}
	results, ok := s.results(w, req, q)
	if !ok {
		return
	}
	answer := struct {
		Built Fingerprint  `json:"built"`
		Items []jsonResult `json:"items"`
	}{Built: s.built, Items: make([]jsonResult, len(results))}
	for i, r := range results {
		if answer.Items[i], err = s.encodeJSON(r); err != nil {
			s.refuse(w, outcomeBroken, err.Error())
			return
		}
	}
	text, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		s.refuse(w, outcomeBroken, err.Error())
		return
	}
	s.write(w, statusOf(results), "application/json", typeResults, append(text, '\n'))
}

func (s *Server) decodeJSON(body []byte) (request, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	var j jsonRequest
	if err := dec.Decode(&j); err != nil {
		return request{}, fmt.Errorf("the body is no invocation in JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return request{}, fmt.Errorf("something follows the invocation")
	}
	if j.Kind != "" {
		j.Items = append(j.Items, j.jsonInvocation)
	}
	q := request{built: Fingerprint(j.Built)}
	for i, in := range j.Items {
		inv, err := s.invocation(in)
		if err != nil {
			return request{}, fmt.Errorf("invocation %d: %w", i+1, err)
		}
		q.items = append(q.items, inv)
	}
	return q, nil
}

func (s *Server) invocation(in jsonInvocation) (Invocation, error) {
	out := Invocation{ID: in.ID, Aggregate: in.Aggregate, Version: in.Version}
	for k := KindHandle; k <= KindDispatch; k++ {
		if k.String() == in.Kind {
			out.Kind = k
		}
	}
	if out.Kind == 0 {
		return out, fmt.Errorf("the kind %q is none of handle, apply, execute, dispatch", in.Kind)
	}
	if root := s.run.f.root; root != nil && len(in.State) > 0 && string(in.State) != "null" {
		data, err := root.fromJSON(in.State)
		if err != nil {
			return out, fmt.Errorf("state: %w", err)
		}
		out.StateSchema, out.State = root.Schema(), data
	}
	for i, m := range in.Messages {
		msg := &Message{
			ID: m.ID, Type: m.Type, Source: m.Source, Subject: m.Subject, Sequence: m.Sequence,
			CausationID: m.CausationID, CorrelationID: m.CorrelationID, TraceParent: m.TraceParent,
		}
		if m.Time != nil {
			msg.Time = m.Time.UTC().Truncate(time.Millisecond)
		}
		if msg.Subject == "" {
			msg.Subject = in.Aggregate.Root()
		}
		codec := s.run.f.codecs[m.Type]
		if codec == nil {
			return out, fmt.Errorf("message %d: the function has no type %q", i+1, m.Type)
		}
		data, err := codec.fromJSON(m.Data)
		if err != nil {
			return out, fmt.Errorf("message %d: %w", i+1, err)
		}
		msg.Schema, msg.Data = codec.Schema(), data
		out.Messages = append(out.Messages, msg)
	}
	return out, nil
}

// fromJSON makes Avro of the JSON form of a value. gogen-avro reads JSON laxly,
// so this is for debugging alone.
func (c *Codec) fromJSON(text json.RawMessage) (data []byte, err error) {
	if len(text) > 0 && text[0] == '"' {
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, err
		}
		return base64.StdEncoding.DecodeString(s)
	}
	r := c.new()
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%q: %w", c.name, err)
	}
	defer func() {
		if v := recover(); v != nil {
			data, err = nil, fmt.Errorf("%q: %v", c.name, v)
		}
	}()
	return c.Encode(r)
}

func (c *Codec) toJSON(data []byte) (json.RawMessage, error) {
	r, err := c.Decode(data)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

func (s *Server) encodeJSON(r Result) (jsonResult, error) {
	out := jsonResult{ID: r.ID, Steps: []jsonStep{}}
	for _, step := range r.Steps {
		events := []jsonMessage{}
		for _, e := range step.Events {
			data, err := s.run.f.codecs[e.Type].toJSON(e.Data)
			if err != nil {
				return out, err
			}
			m := jsonMessage{Type: e.Type, Subject: e.Subject, Data: data}
			if !e.Time.IsZero() {
				m.Time = &e.Time
			}
			events = append(events, m)
		}
		out.Steps = append(out.Steps, jsonStep{Events: events})
	}
	if r.StateSchema != "" {
		state, err := s.run.f.root.toJSON(r.State)
		if err != nil {
			return out, err
		}
		out.State = state
	}
	if f := r.Failure; f != nil {
		out.Failure = &jsonFailure{Code: f.Code.String(), Message: f.Message, Trace: f.Trace}
	}
	return out, nil
}
