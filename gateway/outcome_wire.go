package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// What goes over the internal listener to POST /internal/v1/outcomes: JSON, so
// that it can be read in a trace, with short names of its own, so that a field
// of the vocabulary can be renamed while gateways of two versions run.

// outcomeBatch is the body of a post.
type outcomeBatch struct {
	Outcomes []outcomeWire `json:"outcomes"`
}

// outcomeWire is an outcome and the nonce of who waits for it.
type outcomeWire struct {
	Nonce    string        `json:"nonce"`
	Command  string        `json:"command"`
	Source   string        `json:"source"`
	Entity   string        `json:"entity"`
	Type     string        `json:"type,omitempty"`
	Status   OutcomeStatus `json:"status"`
	Version  uint64        `json:"version,omitempty"`
	Events   []recordWire  `json:"events,omitempty"`
	Code     string        `json:"code,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Attempts int           `json:"attempts,omitempty"`
}

// recordWire has what an answer shows of an event, and no more.
type recordWire struct {
	ID          string `json:"id"`
	Type        string `json:"type"`
	Source      string `json:"source"`
	Subject     string `json:"subject"`
	Schema      string `json:"schema"`
	Time        int64  `json:"time"` // Unix milliseconds
	Data        []byte `json:"data"`
	Causation   string `json:"causation,omitempty"`
	Correlation string `json:"correlation,omitempty"`
	Cause       string `json:"cause,omitempty"`
	Sequence    uint64 `json:"sequence,omitempty"`
	Recorded    int64  `json:"recorded,omitempty"` // Unix milliseconds
	By          string `json:"by,omitempty"`
	At          string `json:"at,omitempty"`
}

func toOutcomeWire(nonce string, o *Outcome) outcomeWire {
	w := outcomeWire{
		Nonce: nonce, Command: o.Command, Source: o.Source, Entity: string(o.Entity), Type: string(o.Type),
		Status: o.Status, Version: o.Version, Code: o.Code, Reason: o.Reason, Attempts: o.Attempts,
	}
	for _, e := range o.Events {
		m := e.Message
		w.Events = append(w.Events, recordWire{
			ID: m.ID, Type: string(m.Type), Source: m.Source, Subject: string(m.Subject), Schema: string(m.Schema),
			Time: unixMilli(m.Time), Data: m.Data, Causation: m.CausationID, Correlation: m.CorrelationID,
			Cause: m.Cause.String(), Sequence: m.Sequence, Recorded: unixMilli(m.RecordedTime), By: m.By, At: e.At.String(),
		})
	}
	return w
}

func (w outcomeWire) outcome() (*Outcome, error) {
	entity, err := runtime.ParseEntity(w.Entity)
	if err != nil {
		return nil, err
	}
	if !w.Status.Final() {
		return nil, fmt.Errorf("status %q is not final", w.Status)
	}
	o := &Outcome{
		Command: w.Command, Source: w.Source, Entity: entity, Type: runtime.TypeName(w.Type),
		Status: w.Status, Version: w.Version, Code: w.Code, Reason: w.Reason, Attempts: w.Attempts,
	}
	for _, e := range w.Events {
		m := &runtime.Message{
			ID: e.ID, Type: runtime.TypeName(e.Type), Source: e.Source, Subject: runtime.Entity(e.Subject),
			Schema: runtime.DataSchema(e.Schema), Time: fromUnixMilli(e.Time), Data: e.Data,
			CausationID: e.Causation, CorrelationID: e.Correlation, Sequence: e.Sequence,
			RecordedTime: fromUnixMilli(e.Recorded), By: e.By,
		}
		r := Recorded{Message: m}
		if m.Cause, err = parseOptionalCoordinates(e.Cause); err != nil {
			return nil, err
		}
		if r.At, err = parseOptionalCoordinates(e.At); err != nil {
			return nil, err
		}
		o.Events = append(o.Events, r)
	}
	return o, nil
}

// parseOutcomeBatch reads the body of a post. An outcome that cannot be read is
// nil and in the error, and the others are good: whose answers happen to share
// a post must not depend on each other. Both are nil when the body is no batch.
func parseOutcomeBatch(body []byte) ([]outcomeWire, []*Outcome, error) {
	var batch outcomeBatch
	if err := json.Unmarshal(body, &batch); err != nil {
		return nil, nil, err
	}
	outcomes := make([]*Outcome, len(batch.Outcomes))
	var errs []error
	for i, w := range batch.Outcomes {
		o, err := w.outcome() // nil with an error
		if err != nil {
			errs = append(errs, fmt.Errorf("outcome %d: %w", i, err))
		}
		outcomes[i] = o
	}
	return batch.Outcomes, outcomes, errors.Join(errs...)
}

func parseOptionalCoordinates(s string) (runtime.Coordinates, error) {
	if s == "" {
		return runtime.Coordinates{}, nil
	}
	return runtime.ParseCoordinates(s)
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromUnixMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
