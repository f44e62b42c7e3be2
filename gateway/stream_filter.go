package gateway

import (
	"net/http"
	"slices"
	"strings"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// streamFilter says which events a stream shows.
type streamFilter struct {
	types      []string // full names, or names within any aggregate; none: all but the platform's
	entity     string   // the entity itself and those inside it; "" for all
	prefix     bool     // entity is the beginning of references instead
	aggregates []string // types of aggregates; none: all
	principal  *AuthPrincipal
	schemas    Schemas
}

// streamFilter reads the filter of a request. Errors are problems.
func (s *HTTPServer) streamFilter(r *http.Request, p *AuthPrincipal) (streamFilter, error) {
	q := r.URL.Query()
	f := streamFilter{principal: p, schemas: s.need.Schemas}
	known, aggregates := map[string]bool{}, map[string]bool{}
	for _, t := range f.schemas.Types() {
		known[string(t.Name)], known[t.Name.Name()] = true, true
		aggregates[t.Aggregate] = true
	}
	for _, name := range splitList(q.Get("type")) {
		if !known[name] && !strings.HasPrefix(name, "evento.") {
			return f, fail(problemParameter, "type %q is not registered; GET /v1/schemas lists what is", name).field("type")
		}
		f.types = append(f.types, name)
	}
	for _, name := range splitList(q.Get("aggregate")) {
		if !aggregates[name] {
			return f, fail(problemParameter, "aggregate %q is not the name of a registered type of aggregate; for one aggregate use entity=", name).field("aggregate")
		}
		if !p.May(RightRead, name) {
			return f, fail(problemForbidden, "principal %q lacks the right %q for %q", p.Name, RightRead, name)
		}
		f.aggregates = append(f.aggregates, name)
	}
	f.entity, f.prefix = strings.CutSuffix(q.Get("entity"), "*")
	if f.entity == "" || f.prefix {
		if len(f.aggregates) == 0 && !f.mayReadSome(aggregates) {
			return f, fail(problemForbidden, "principal %q lacks the right %q for every type of aggregate", p.Name, RightRead)
		}
		return f, nil
	}
	e, err := runtime.ParseEntity(f.entity)
	if err != nil {
		return f, fail(problemParameter, "entity: %s; a '*' at the end makes it a beginning", err).field("entity")
	}
	place, ok := f.schemas.Place(e)
	if !p.May(RightRead, place.Aggregate) {
		return f, fail(problemForbidden, "principal %q lacks the right %q for %q", p.Name, RightRead, e)
	}
	if !ok {
		return f, fail(problemParameter, "entity %q: no registered entity type has these prefixes", e).field("entity")
	}
	return f, nil
}

func (f *streamFilter) mayReadSome(aggregates map[string]bool) bool {
	if f.principal.May(RightRead, "") {
		return true
	}
	for name := range aggregates {
		if f.principal.May(RightRead, name) {
			return true
		}
	}
	return false
}

func splitList(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// places returns the partitions where the wanted events can be: one, for one aggregate.
func (f *streamFilter) places(s *Streams) []kafka.Place {
	if f.entity == "" || f.prefix {
		return s.places(f.aggregates)
	}
	e := runtime.Entity(f.entity)
	place, _ := f.schemas.Place(e)
	return []kafka.Place{{Topic: s.Topics.Events(place.Aggregate), Partition: kafka.Partition(string(e.Aggregate()), s.Partitions)}}
}

// wants says whether the stream shows an event. The platform's own records are
// shown when their type is asked for.
func (f *streamFilter) wants(m *runtime.Message) bool {
	switch {
	case len(f.types) == 0 && m.Platform():
		return false
	case len(f.types) > 0 && !slices.Contains(f.types, string(m.Type)) && (m.Platform() || !slices.Contains(f.types, m.Type.Name())):
		return false
	case f.prefix && !strings.HasPrefix(string(m.Subject), f.entity):
		return false
	case !f.prefix && f.entity != "" && string(m.Subject) != f.entity && !strings.HasPrefix(string(m.Subject), f.entity+"/"):
		return false
	}
	place, _ := f.schemas.Place(m.Subject)
	return (len(f.aggregates) == 0 || slices.Contains(f.aggregates, place.Aggregate)) && f.principal.May(RightRead, place.Aggregate)
}
