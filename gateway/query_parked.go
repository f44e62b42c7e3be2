package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// parkedMax is how many parked commands one answer lists at most.
const parkedMax = 1000

// parkedJSON shows a command that is set aside or parked.
type parkedJSON struct {
	Coordinates string   `json:"coordinates"` // of the command, or of the event
	Entity      string   `json:"entity"`
	Command     string   `json:"command,omitempty"`
	Source      string   `json:"source,omitempty"`
	Event       string   `json:"event,omitempty"`      // id of an event that a dispatcher has parked
	Dispatcher  string   `json:"dispatcher,omitempty"` // that dispatcher
	Type        string   `json:"type"`
	Status      string   `json:"status"`
	Attempts    int      `json:"attempts"`
	NextTry     timeJSON `json:"next_try,omitzero"`
	Reason      string   `json:"reason"`
	Function    string   `json:"function,omitempty"`
	Image       string   `json:"image,omitempty"` // what the function ran at the last attempt
	Since       timeJSON `json:"since,omitzero"`
	Failing     timeJSON `json:"failing_since,omitzero"`
	Outcome     string   `json:"outcome,omitempty"` // parked: coordinates of its CommandParked
}

func parkedItem(c *ParkedCommand) parkedJSON {
	out := parkedJSON{
		Coordinates: c.At.String(), Entity: string(c.Entity), Command: c.Command, Source: c.Source, Event: c.Event, Dispatcher: c.Dispatcher, Type: string(c.Type),
		Status: string(c.Status), Attempts: c.Attempts, NextTry: timeJSON{c.NextTry}, Reason: c.Reason, Function: c.Function, Image: c.Image,
		Since: timeJSON{c.Since}, Failing: timeJSON{c.Failing},
	}
	if c.Status == OutcomeParked {
		out.Outcome = c.Outcome.String()
	}
	return out
}

// parkedListJSON is a page of the list.
type parkedListJSON struct {
	Parked     []parkedJSON `json:"parked"`
	Next       string       `json:"next,omitempty"` // where the next page begins
	Incomplete *missingJSON `json:"incomplete,omitempty"`
}

func (s *HTTPServer) getParked(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	filter, err := parkedFilter(r)
	if err != nil {
		return err
	}
	list, missing, err := s.parkedEverywhere(r.Context(), filter)
	if err != nil {
		return err
	}
	page := parkedListJSON{Parked: make([]parkedJSON, len(list.Parked)), Next: list.next(), Incomplete: missing}
	for i := range list.Parked {
		page.Parked[i] = parkedItem(&list.Parked[i])
	}
	return writeJSON(w, http.StatusOK, page)
}

// parkedParams are the query parameters of parkedFilter.
var parkedParams = []string{"aggregate", "status", "type", "function", "after", "limit"}

// parkedFilter reads what a request asks of the list. Errors are problems.
func parkedFilter(r *http.Request) (filter ParkedFilter, err error) {
	query := r.URL.Query()
	if text := query.Get("aggregate"); text != "" {
		e, err := runtime.ParseEntity(text)
		if err != nil {
			return filter, fail(problemParameter, "aggregate: %s", err).field("aggregate")
		}
		filter.Aggregate = e.Aggregate()
	}
	switch filter.Status = OutcomeStatus(query.Get("status")); filter.Status {
	case "", OutcomeRetrying, OutcomeHeld, OutcomeParked:
	default:
		return filter, fail(problemParameter, "status is %q; it is retrying, held or parked", filter.Status).field("status")
	}
	filter.Type, filter.Function = query.Get("type"), query.Get("function")
	if query.Has("after") {
		if filter.After, err = parseParkedKey(query.Get("after")); err != nil {
			return filter, fail(problemParameter, "after is %q, not what the page before says as next: %s", query.Get("after"), err).field("after")
		}
	}
	limit, err := queryNumber(r, "limit", parkedMax, parkedMax)
	filter.Limit = max(1, int(limit))
	return filter, err
}

func (s *HTTPServer) postParkedRetry(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	if err := s.emptyBody(w, r, "a retry"); err != nil {
		return err
	}
	at, err := parkedPath(r)
	if err != nil {
		return err
	}
	if _, events := s.need.Topics.IsEvents(at.Topic); events {
		return s.retryEvent(w, r, at)
	}
	if r.URL.Query().Has("dispatcher") {
		return fail(problemParameter, "a dispatcher parks events, and %s holds none", at.Topic).field("dispatcher")
	}
	return s.orderParked(w, r, p, runtime.TypeRetryNow, map[string]any{})
}

// emptyBody refuses a body that says anything.
func (s *HTTPServer) emptyBody(w http.ResponseWriter, r *http.Request, what string) error {
	body, release, err := s.bodies.read(w, r)
	if err != nil {
		return err
	}
	defer release()
	if len(body) == 0 {
		return nil
	}
	return walkJSONObject(body, func(key string, _ []byte) error {
		return fail(problemAttribute, "unknown key %q; %s takes none", key, what).field(key)
	})
}

func (s *HTTPServer) postParkedDrop(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	body, release, err := s.bodies.read(w, r)
	if err != nil {
		return err
	}
	defer release()
	reason := ""
	err = walkJSONObject(body, func(key string, value []byte) error {
		if key != "reason" {
			return fail(problemAttribute, "unknown key %q; a drop takes \"reason\"", key).field(key)
		}
		if json.Unmarshal(value, &reason) != nil {
			return fail(problemAttribute, "\"reason\" is not a string").field(key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if reason == "" || len(reason) > 1000 {
		return fail(problemAttribute, `"reason" is missing, or longer than 1000 bytes: it stays in the command's outcome for ever`).field("reason")
	}
	at, err := parkedPath(r)
	if err != nil {
		return err
	}
	if _, events := s.need.Topics.IsEvents(at.Topic); events {
		return s.dropEvent(w, r, p, at, reason)
	}
	if r.URL.Query().Has("dispatcher") {
		return fail(problemParameter, "a dispatcher parks events, and %s holds none", at.Topic).field("dispatcher")
	}
	return s.orderParked(w, r, p, runtime.TypeDropCommand, map[string]any{"reason": reason})
}

// orderParked sends an order about a command that is set aside to its
// aggregate: it passes the single writer, and is answered like a command.
func (s *HTTPServer) orderParked(w http.ResponseWriter, r *http.Request, p *AuthPrincipal, order runtime.TypeName, fields map[string]any) error {
	found, err := s.findParked(r)
	if err != nil {
		return err
	}
	if found.Status == OutcomeParked && order == runtime.TypeRetryNow {
		return fail(problemNoParked, "the command at %s is parked, which is its outcome for ever; POST .../reissue sends it again as a new one, .../drop takes it off the list", found.At)
	}
	if found.Misplaced {
		return fail(problemNoParked, "the command at %s stands in the wrong partition and takes no orders there; it is forwarded as soon as Kafka takes it: %s", found.At, found.Reason)
	}
	q := intakeRequest{principal: p, wants: wantCommand, begin: s.now(), trace: traceParent(r.Header.Get("Traceparent"))}
	q.wait, _ = parsePrefer(r.Header.Values("Prefer"), s.config.MaxWait)
	m, err := s.parkedOrder(q, found, order, fields)
	if err != nil {
		return err
	}
	return s.intakeOne(w, r, q, m)
}

// findParked returns the command that the path names. Errors are problems.
func (s *HTTPServer) findParked(r *http.Request) (*ParkedCommand, error) {
	at, err := parkedPath(r)
	if err != nil {
		return nil, err
	}
	list, missing, err := s.parkedEverywhere(r.Context(), ParkedFilter{At: &at})
	if err != nil {
		return nil, err
	}
	for i, c := range list.Parked {
		if c.Dispatcher != "" {
			return nil, fail(problemNoParked, "at %s stands an event that a dispatcher has parked; it can be asked about again or dropped, and nothing else", at)
		}
		if at.Topic == "" || at.Topic == c.At.Topic {
			return &list.Parked[i], nil
		}
	}
	return nil, s.noParked(missing, at, false, "no command is set aside or parked at partition %d, offset %d; GET /v1/parked lists those that are", at.Partition, at.Offset)
}

// noParked is the problem of something that is not in the list: it is not there,
// or its partition is being taken over and it cannot be told.
func (s *HTTPServer) noParked(missing *missingJSON, at runtime.Coordinates, events bool, format string, args ...any) error {
	if why := missing.at(at, events); why != "" {
		return fail(problemOwnerUnknown, "%s is being taken over, so what waits there is not known; ask again", why).after(time.Second)
	}
	return fail(problemNoParked, format, args...)
}

// parkedOrder is an order about a command.
func (s *HTTPServer) parkedOrder(q intakeRequest, c *ParkedCommand, order runtime.TypeName, fields map[string]any) (*runtime.Message, error) {
	fields["offset"] = c.At.Offset
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	data, schema, err := s.need.Schemas.FromJSON(order, text)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", order, err)
	}
	return &runtime.Message{
		ID: newMessageID(s.now()), Type: order, Source: q.principal.Source, Subject: c.Aggregate.Root(),
		Schema: schema, Time: s.now().UTC().Truncate(1e6), Data: data, TraceParent: q.trace,
	}, nil
}

func parkedPath(r *http.Request) (runtime.Coordinates, error) {
	partition, err1 := strconv.ParseInt(r.PathValue("partition"), 10, 32)
	offset, err2 := strconv.ParseInt(r.PathValue("offset"), 10, 64)
	if err1 != nil || err2 != nil || partition < 0 || offset < 0 {
		return runtime.Coordinates{}, fail(problemParameter, "partition and offset in the path are numbers from 0")
	}
	return runtime.Coordinates{Topic: r.PathValue("topic"), Partition: int32(partition), Offset: offset}, nil
}
