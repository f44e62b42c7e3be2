package gateway

import (
	"errors"
	"net/http"
	"slices"

	"github.com/evento-oss/evento/runtime"
)

// parkedOneJSON shows all of a parked command or event.
type parkedOneJSON struct {
	// Parked is the entry of the list; of an event one for each dispatcher that has
	// parked it.
	Parked []parkedJSON `json:"parked"`
	// Message is the command or event itself, in the schema that it was written
	// with. It is absent when Kafka does not have it any more.
	Message *parkedMessageJSON `json:"message,omitempty"`
	Outcome *eventJSON         `json:"outcome,omitempty"` // parked: its CommandParked
}

// parkedMessageJSON is a message with what only who looks closely wants to know.
type parkedMessageJSON struct {
	eventJSON
	ExpectedVersion *uint64 `json:"expected_version,omitempty"`
	TraceParent     string  `json:"traceparent,omitempty"`
}

// getParkedOne shows one entry of the list with its whole content.
func (s *HTTPServer) getParkedOne(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	at, err := parkedPath(r)
	if err != nil {
		return err
	}
	_, events := s.need.Topics.IsEvents(at.Topic)
	list, missing, err := s.parkedEverywhere(r.Context(), ParkedFilter{At: &at})
	if err != nil {
		return err
	}
	list.Parked = slices.DeleteFunc(list.Parked, func(c ParkedCommand) bool {
		return events != (c.Dispatcher != "") || at.Topic != "" && at.Topic != c.At.Topic
	})
	if len(list.Parked) == 0 {
		return s.noParked(missing, at, events, "nothing is set aside or parked at partition %d, offset %d; GET /v1/parked lists what is", at.Partition, at.Offset)
	}
	first := &list.Parked[0]
	if place, _ := s.need.Schemas.Place(first.Entity); !p.May(RightRead, place.Aggregate) {
		return fail(problemForbidden, "principal %q lacks the right %q for what stands at %s", p.Name, RightRead, first.At)
	}
	out := parkedOneJSON{Parked: []parkedJSON{}}
	for i := range list.Parked {
		out.Parked = append(out.Parked, parkedItem(&list.Parked[i]))
	}
	message, err := s.parkedMessage(r, first.At)
	if err != nil {
		return err
	}
	if message != nil {
		out.Message = &parkedMessageJSON{s.eventJSON(Recorded{Message: message, At: first.At}), message.Expect, message.TraceParent}
	}
	if first.Status == OutcomeParked && first.Dispatcher == "" && first.Outcome.Topic != "" {
		outcome, err := s.parkedMessage(r, first.Outcome)
		if err != nil {
			return err
		}
		// Offsets are hints: in a topic that was restored something else may stand there.
		if outcome != nil && message != nil && outcome.CausationID == message.ID {
			e := s.eventJSON(Recorded{Message: outcome, At: first.Outcome})
			out.Outcome = &e
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// parkedMessage reads a message, nil when there is none any more. Errors are problems.
func (s *HTTPServer) parkedMessage(r *http.Request, at runtime.Coordinates) (*runtime.Message, error) {
	m, err := s.need.Reader.Command(r.Context(), at)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fail(problemUnavailable, "what stands at %s cannot be read; ask again", at).because(err)
	}
	return m, nil
}
