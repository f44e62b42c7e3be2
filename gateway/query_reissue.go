package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/evento-oss/evento/runtime"
)

// postParkedReissue sends a parked command again, as a new one whose cause is
// the CommandParked of the first, and takes the first off the list. It is
// answered when Kafka has the new command.
//
// The new id is made of the old command's, so that a re-issue that is sent
// twice, or whose second half did not succeed, is a repeat and takes effect once.
func (s *HTTPServer) postParkedReissue(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	if err := s.emptyBody(w, r, "a re-issue"); err != nil {
		return err
	}
	found, err := s.findParked(r)
	if err != nil {
		return err
	}
	if found.Status != OutcomeParked {
		return fail(problemNoParked, "the command at %s is %s: it has no outcome yet, so it cannot be sent again; POST .../retry or .../drop", found.At, found.Status)
	}
	q := intakeRequest{principal: p, wants: wantCommand, begin: s.now(), trace: traceParent(r.Header.Get("Traceparent"))}
	again, err := s.reissue(r.Context(), q, found)
	if err != nil {
		return err
	}
	location := s.location(again, p)
	w.Header().Set("Location", location)
	return writeJSON(w, http.StatusAccepted, pendingJSON(again, location))
}

// reissue sends a parked command again. Errors are problems.
func (s *HTTPServer) reissue(ctx context.Context, q intakeRequest, found *ParkedCommand) (*runtime.Message, error) {
	old, err := s.need.Reader.Command(ctx, found.At)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, fail(problemNoParked, "the command at %s is not in Kafka any more", found.At).because(err)
	case err != nil:
		return nil, fail(problemUnavailable, "the command at %s cannot be read; ask again", found.At).because(err)
	}
	parked := old.Key().EventID(1)
	again := &runtime.Message{
		ID: "reissue-" + parked, Type: old.Type, Source: old.Source, Subject: old.Subject, Schema: old.Schema, Data: old.Data,
		Expect: old.Expect, Time: s.now().UTC().Truncate(1e6), TraceParent: q.trace,
		CausationID: parked, CorrelationID: cmp.Or(old.CorrelationID, old.ID), Cause: found.Outcome,
	}
	if _, err := s.deliver(ctx, q, again); err != nil {
		return nil, err
	}
	// From here on the new command is accepted. Should the old one stay on the
	// list, somebody sends it again, which is a repeat.
	drop, err := s.parkedOrder(q, found, runtime.TypeDropCommand, map[string]any{"reason": "re-issued as " + again.ID})
	if err == nil {
		_, err = s.deliver(ctx, q, drop)
	}
	if err != nil {
		s.need.Log.Warn("a command was re-issued, and its parked one stays on the list", "entity", string(found.Entity), "command_id", again.ID, "err", err)
	}
	return again, nil
}
