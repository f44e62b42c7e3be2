package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// headerDataSchema names the schema of an Avro answer.
const headerDataSchema = "Evento-Dataschema"

// aggregateJSON shows an aggregate, or an entity inside one.
type aggregateJSON struct {
	Entity       string          `json:"entity"`
	Type         string          `json:"type"`
	Version      uint64          `json:"version"` // of the aggregate, also for an entity inside it
	RecordedTime timeJSON        `json:"recorded_time,omitzero"`
	State        json.RawMessage `json:"state"`
}

// getAggregate answers the state. For an entity inside the aggregate it is the
// entity's own part, found by the schema; where the schema does not show where
// entities of its type are, it is 404 with that reason. As Avro the root alone
// can be had: the bytes are the root's.
func (s *HTTPServer) getAggregate(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	e, place, err := s.queryEntity(r, p)
	if err != nil {
		return err
	}
	asAvro, err := acceptsAvro(r.Header.Values("Accept"))
	if err != nil {
		return err
	}
	if asAvro && !e.IsRoot() {
		return fail(problemNotAcceptable, "an entity inside an aggregate is answered as JSON; as Avro ask for %q", e.Aggregate())
	}
	minVersion, err := queryNumber(r, "min-version", 0, 1<<63)
	if err != nil {
		return err
	}
	q := aggregateQuery{e, place, asAvro, minVersion}
	if answered, err := s.answerCached(w, r, q); answered || err != nil {
		return err
	}
	here, err := s.ownedHere(w, r, e.Aggregate())
	if err != nil || !here {
		return err
	}
	state, recorded, err := s.readState(r, e.Aggregate(), minVersion)
	if err != nil {
		return err
	}
	answer, err := s.showAggregate(q, state, recorded)
	if err != nil {
		return err
	}
	return answer.write(w, r)
}

// aggregateQuery is what a GET of an aggregate asks for.
type aggregateQuery struct {
	entity     runtime.Entity
	place      EntityPlace
	asAvro     bool
	minVersion uint64
}

// aggregateAnswer is a state as it is shown.
type aggregateAnswer struct {
	version     uint64
	contentType string
	schema      runtime.DataSchema // of an Avro answer
	body        []byte
}

// showAggregate makes the answer to a query of a state. Errors are problems.
func (s *HTTPServer) showAggregate(q aggregateQuery, state shard.State, recorded time.Time) (aggregateAnswer, error) {
	if q.asAvro {
		return aggregateAnswer{state.Version, runtime.ContentTypeAvro, state.Schema, state.Data}, nil
	}
	shown, err := s.aggregateJSON(q.entity, q.place, state, recorded)
	if err != nil {
		return aggregateAnswer{}, err
	}
	body, err := json.Marshal(shown)
	return aggregateAnswer{version: state.Version, contentType: "application/json", body: append(body, '\n')}, err
}

// write answers with the state, or that it is what the client has already.
func (a aggregateAnswer) write(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Etag", versionTag(a.version))
	h.Set("Vary", "Accept")
	h.Set("Cache-Control", "no-cache") // keep it, but ask each time whether it is still so
	if matchesTag(r.Header.Values("If-None-Match"), versionTag(a.version)) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", a.contentType)
	if a.schema != "" {
		h.Set(headerDataSchema, string(a.schema))
	}
	return writeAnswer(w, http.StatusOK, a.body)
}

// readState reads the state, waiting for minVersion when it is asked for.
func (s *HTTPServer) readState(r *http.Request, a runtime.AggregateID, minVersion uint64) (shard.State, time.Time, error) {
	wait, given := parsePrefer(r.Header.Values("Prefer"), s.config.MaxWait)
	if !given || minVersion == 0 {
		wait = s.config.ReadWait
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	state, recorded, err := s.need.Reader.State(ctx, a, minVersion)
	switch {
	case err == nil:
		return state, recorded, nil
	case errors.Is(err, ErrBehind):
		return state, recorded, fail(problemBehind, "the aggregate is at version %d after waiting %s, not yet at %d", state.Version, wait, minVersion).
			with("version", state.Version).because(err).after(time.Second)
	case ctx.Err() != nil && r.Context().Err() == nil:
		return state, recorded, fail(problemUnavailable, "the aggregate could not be loaded within %s", wait).because(err).after(time.Second)
	}
	missing := fail(problemNoAggregate, "aggregate %q has no events", a)
	if state.Version > 0 {
		// Refused from the first command on, for example.
		missing = fail(problemNoAggregate, "aggregate %q has no state: none of its records so far, up to version %d, has made one", a, state.Version).with("version", state.Version)
	}
	return state, recorded, s.readProblem(err, missing)
}

func (s *HTTPServer) aggregateJSON(e runtime.Entity, place EntityPlace, state shard.State, recorded time.Time) (aggregateJSON, error) {
	text, err := s.need.Schemas.ToJSON(state.Schema, state.Data)
	if err != nil {
		return aggregateJSON{}, err
	}
	name, _, err := state.Schema.Parse()
	if err != nil {
		return aggregateJSON{}, err
	}
	if !e.IsRoot() {
		if text, err = childState(text, e, place, s.need.Schemas.Path(e)); err != nil {
			return aggregateJSON{}, err
		}
		name = runtime.TypeName(place.Aggregate + "." + place.Type)
	}
	return aggregateJSON{
		Entity: string(e), Type: string(name), Version: state.Version, RecordedTime: timeJSON{recorded}, State: text,
	}, nil
}

// childState takes the part of a child entity out of the root's JSON.
func childState(text []byte, e runtime.Entity, place EntityPlace, path []EntityStep) ([]byte, error) {
	if path == nil {
		return nil, fail(problemNoEntity, "the schema of %q has no array of entities of type %q with an id field, so %q cannot be shown alone; ask for %q", place.Aggregate, place.Type, e, e.Aggregate())
	}
	_, children, _ := strings.Cut(string(e), "/")
	for i, segment := range strings.Split(children, "/") {
		step := path[i]
		var parent map[string]json.RawMessage
		var elements []json.RawMessage
		if json.Unmarshal(text, &parent) != nil || json.Unmarshal(parent[step.Field], &elements) != nil {
			return nil, fail(problemNoEntity, "%q has no entity %q", e.Aggregate(), e)
		}
		if text = findChild(elements, step.IDField, segment); text == nil {
			return nil, fail(problemNoEntity, "%q has no entity %q", e.Aggregate(), e)
		}
	}
	return text, nil
}

// findChild returns the element whose id is that of the segment "card:7f3a",
// with or without the prefix; nil when there is none.
func findChild(elements []json.RawMessage, idField, segment string) json.RawMessage {
	_, bare, _ := strings.Cut(segment, ":")
	for _, element := range elements {
		var fields map[string]json.RawMessage
		if json.Unmarshal(element, &fields) != nil {
			continue
		}
		raw := bytes.TrimSpace(fields[idField])
		var id string
		if json.Unmarshal(raw, &id) != nil {
			id = string(raw) // a number
		}
		if id == segment || id == bare {
			return element
		}
	}
	return nil
}

// acceptsAvro says whether the client prefers Avro to JSON, the default; JSON
// wins a tie. The error is a problem when it takes neither (RFC 9110, 12.5.1).
func acceptsAvro(headers []string) (bool, error) {
	if len(headers) == 0 {
		return false, nil
	}
	jsonQ, avroQ, jsonRank, avroRank := 0.0, 0.0, -1, -1
	for _, h := range headers {
		for candidate := range strings.SplitSeq(h, ",") {
			media, params, err := mime.ParseMediaType(candidate)
			if err != nil {
				continue
			}
			q := 1.0
			if text, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil {
					continue
				}
			}
			// The most specific range that fits decides.
			switch rank := map[string]int{"*/*": 0, "application/*": 1, "application/json": 2, runtime.ContentTypeAvro: 2}; {
			case media == "application/json":
				jsonQ, jsonRank = q, rank[media]
			case media == runtime.ContentTypeAvro:
				avroQ, avroRank = q, rank[media]
			case media == "*/*" || media == "application/*":
				if rank[media] > jsonRank {
					jsonQ, jsonRank = q, rank[media]
				}
				if rank[media] > avroRank {
					avroQ, avroRank = q, rank[media]
				}
			}
		}
	}
	if jsonQ <= 0 && avroQ <= 0 {
		return false, fail(problemNotAcceptable, "the answer is application/json or %s", runtime.ContentTypeAvro).field("Accept")
	}
	return avroQ > jsonQ, nil
}
