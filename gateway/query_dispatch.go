package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/evento-oss/evento/runtime"
)

const dispatchRetryPath = "/internal/v1/dispatch/retry"

// parkedHere lists what waits at this gateway: commands of its partitions, and
// events that dispatchers have parked in theirs.
func (s *HTTPServer) parkedHere(ctx context.Context, f ParkedFilter) ([]ParkedCommand, error) {
	list, err := s.need.Reader.Parked(ctx, f)
	if err != nil || s.need.Dispatching == nil {
		return list, err
	}
	for _, e := range s.need.Dispatching.Parked() {
		switch {
		case f.Aggregate != "" && e.Entity.Aggregate() != f.Aggregate,
			f.Status != "" && e.Status != f.Status,
			f.At != nil && *f.At != e.At: // with the topic: the numbers alone are a command's
			continue
		}
		list = append(list, ParkedCommand{
			At: e.At, Aggregate: e.Entity.Aggregate(), Entity: e.Entity, Event: e.Event, Dispatcher: e.Dispatcher, Type: e.Type,
			Status: e.Status, Attempts: e.Attempts, Reason: e.Reason, Function: e.Dispatcher, Since: e.Since,
		})
	}
	return list, nil
}

// others are the internal listeners of the other gateways: who owns partitions of
// commands, and who holds some for a dispatcher.
func (s *HTTPServer) others(ctx context.Context) ([]string, error) {
	addresses, err := s.need.Reader.Others(ctx)
	if err != nil || s.need.Dispatching == nil {
		return addresses, err
	}
	holders, err := s.need.Dispatching.Others(ctx)
	if err != nil {
		return nil, errors.Join(ErrNoOwner, err)
	}
	addresses = slices.Concat(addresses, holders)
	slices.Sort(addresses)
	return slices.Compact(addresses), nil
}

// retryEvent has dispatchers asked again about an event that they have parked,
// wherever it is.
func (s *HTTPServer) retryEvent(w http.ResponseWriter, r *http.Request, at runtime.Coordinates) error {
	found, err := s.parkedEverywhere(r.Context(), ParkedFilter{At: &at})
	if err != nil {
		return err
	}
	only := r.URL.Query().Get("dispatcher")
	others, err := s.others(r.Context())
	if err != nil {
		return s.ownerProblem(err)
	}
	retried := []string{}
	for _, p := range found {
		if p.Dispatcher == "" || only != "" && p.Dispatcher != only || p.Status != OutcomeParked {
			continue
		}
		if s.need.Dispatching != nil && s.need.Dispatching.Retry(p.Dispatcher, at) {
			retried = append(retried, p.Dispatcher)
			continue
		}
		query := url.Values{
			"dispatcher": {p.Dispatcher}, "topic": {at.Topic},
			"partition": {strconv.FormatInt(int64(at.Partition), 10)}, "offset": {strconv.FormatInt(at.Offset, 10)},
		}
		for _, address := range others {
			var answer retriedJSON
			if err := s.tellPeer(r.Context(), address, dispatchRetryPath+"?"+query.Encode(), &answer); err != nil {
				return fail(problemOwnerUnreachable, "a gateway does not answer for its partitions; ask again").because(err).after(time.Second)
			}
			if len(answer.Retried) > 0 {
				retried = append(retried, p.Dispatcher)
				break
			}
		}
	}
	if len(retried) == 0 {
		return fail(problemNoParked, "no dispatcher has parked the event at %s, or it is being asked about it now; GET /v1/parked lists those that are", at)
	}
	return writeJSON(w, http.StatusOK, retriedJSON{retried})
}

type retriedJSON struct {
	Retried []string `json:"retried"` // dispatchers
}

// postRetryHere answers another gateway's retryEvent.
func (s *HTTPServer) postRetryHere(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	query := r.URL.Query()
	partition, err1 := strconv.ParseInt(query.Get("partition"), 10, 32)
	offset, err2 := strconv.ParseInt(query.Get("offset"), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return fail(problemParameter, "partition and offset are numbers").because(err)
	}
	at := runtime.Coordinates{Topic: query.Get("topic"), Partition: int32(partition), Offset: offset}
	answer := retriedJSON{[]string{}}
	if d := query.Get("dispatcher"); s.need.Dispatching != nil && s.need.Dispatching.Retry(d, at) {
		answer.Retried = append(answer.Retried, d)
	}
	return writeJSON(w, http.StatusOK, answer)
}

// postReplay sends a dispatcher back. The order is kept in Kafka, and each gateway
// follows it there.
func (s *HTTPServer) postReplay(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	body, release, err := s.bodies.read(w, r)
	if err != nil {
		return err
	}
	defer release()
	from := ""
	if err := walkJSONObject(body, func(key string, value []byte) error {
		if key != "from" {
			return fail(problemAttribute, "unknown key %q; a replay takes \"from\"", key).field(key)
		}
		if json.Unmarshal(value, &from) != nil {
			return fail(problemAttribute, "\"from\" is not a string").field(key)
		}
		return nil
	}); err != nil {
		return err
	}
	var at time.Time
	switch from {
	case "earliest":
	case "latest":
		at = time.Now().Add(time.Hour) // after all that is there, whoever's clock recorded it
	default:
		if at, err = time.Parse(time.RFC3339, from); err != nil || at.Year() < 1970 {
			return fail(problemAttribute, `"from" is %q; it is "earliest", "latest", or a time such as 2026-01-31T12:00:00Z`, from).field("from")
		}
	}
	if s.need.Dispatching == nil {
		return fail(problemUnavailable, "this gateway runs no dispatchers")
	}
	name := r.PathValue("namespace") + "/" + r.PathValue("name")
	epoch, err := s.need.Dispatching.Replay(r.Context(), name, at)
	switch {
	case errors.Is(err, ErrNotFound):
		return fail(problemNoTrigger, "no dispatcher Trigger is named %q; GET /v1/triggers lists what there is", name)
	case err != nil:
		return fail(problemUncertain, "it is not known whether the order was kept; GET /v1/triggers shows the replay epoch").because(err).after(time.Second)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"dispatcher": name, "epoch": epoch, "from": from})
}
