package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// queryEntity reads the entity of the path and checks the right to read it.
// Errors are problems.
func (s *HTTPServer) queryEntity(r *http.Request, p *AuthPrincipal) (runtime.Entity, EntityPlace, error) {
	e, err := runtime.ParseEntity(r.PathValue("entity"))
	if err != nil {
		return "", EntityPlace{}, fail(problemAttribute, "the entity in the path: %s", err).field("entity")
	}
	place, known := s.need.Schemas.Place(e)
	if !p.May(RightRead, place.Aggregate) {
		return "", EntityPlace{}, fail(problemForbidden, "principal %q lacks the right %q for %q", p.Name, RightRead, e)
	}
	if !known {
		return "", EntityPlace{}, fail(problemNoAggregate, "%q: no registered entity type has these prefixes", e).field("entity")
	}
	return e, place, nil
}

// queryNumber reads a query parameter, or returns without. Errors are problems.
func queryNumber(r *http.Request, name string, without, max uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" && !r.URL.Query().Has(name) {
		return without, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > max {
		return 0, fail(problemParameter, "%s is %q, not a number from 0 to %d", name, text, max).field(name).with("limit", max)
	}
	return n, nil
}

// readProblem turns an error of a [Reader] into a problem.
func (s *HTTPServer) readProblem(err error, notFound *problem) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return notFound
	case errors.Is(err, ErrNoOwner):
		return s.ownerProblem(err)
	case errors.Is(err, ErrBroken):
		return fail(problemBroken, "events of the aggregate are missing in the log, so nothing is done with it until somebody has looked; its commands are kept, see GET /v1/parked and the log of its gateway").because(err)
	case errors.Is(err, ErrKafkaAway):
		return fail(problemUnavailable, "Kafka is away, and what is in memory does not answer this").because(err).after(2 * time.Second)
	}
	return err
}
