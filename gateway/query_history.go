package gateway

import (
	"net/http"

	"github.com/evento-oss/evento/runtime"
)

// Pages of a history: how many events when the client says nothing, and at most.
const (
	eventsDefault = 100
	eventsMax     = 1000
)

// eventsJSON is a page of a history. Next is the after of the next page,
// absent when there is none.
type eventsJSON struct {
	Events []eventJSON `json:"events"`
	Next   uint64      `json:"next,omitempty"`
}

// getEvents answers a page of the aggregate's history. Of an entity inside the
// aggregate it shows the aggregate's: order is the aggregate's, and so are versions.
func (s *HTTPServer) getEvents(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	e, _, err := s.queryEntity(r, p)
	if err != nil {
		return err
	}
	after, err := queryNumber(r, "after", 0, 1<<63)
	if err != nil {
		return err
	}
	limit, err := queryNumber(r, "limit", eventsDefault, eventsMax)
	if err != nil {
		return err
	}
	here, err := s.ownedHere(w, r, e.Aggregate())
	if err != nil || !here {
		return err
	}
	events, more, err := s.need.Reader.Events(r.Context(), e.Aggregate(), after, max(1, int(limit)))
	if err != nil {
		return s.readProblem(err, fail(problemNoAggregate, "aggregate %q has no events", e.Aggregate()))
	}
	page := eventsJSON{Events: make([]eventJSON, len(events))}
	for i, recorded := range events {
		page.Events[i] = s.eventJSON(recorded)
	}
	if more && len(events) > 0 {
		page.Next = events[len(events)-1].Message.Sequence
	}
	return writeJSON(w, http.StatusOK, page)
}

// getCommand answers how a command stands, for ever. It is always 200: the
// outcome is what is asked for, whatever it is.
func (s *HTTPServer) getCommand(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	e, _, err := s.queryEntity(r, p)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if why := badID(id); why != "" {
		return fail(problemAttribute, "the id in the path %s", why).field("id")
	}
	source := r.URL.Query().Get("source")
	if !r.URL.Query().Has("source") {
		source = p.Source
	}
	a := e.Aggregate()
	// The owner does not know the principal, so it is told the source.
	here, err := s.ownedHere(w, withSource(r, source), a)
	if err != nil || !here {
		return err
	}
	o, err := s.need.Reader.Outcome(r.Context(), a, runtime.NewCommandKey(source, a, id))
	if err != nil {
		return s.readProblem(err, fail(problemNoCommand, "aggregate %q has seen no command with the id %q from the source %q", a, id, source).with("id", id).with("source", source))
	}
	w.Header().Set("Cache-Control", "no-cache")
	return writeJSON(w, http.StatusOK, s.outcomeJSON(o))
}

// withSource returns r with the source in its query.
func withSource(r *http.Request, source string) *http.Request {
	u := *r.URL
	q := u.Query()
	q.Set("source", source)
	u.RawQuery = q.Encode()
	out := *r
	out.URL = &u
	return &out
}
