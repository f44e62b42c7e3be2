package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Where other gateways are told what to do with an event that a dispatcher has parked.
const (
	dispatchRetryPath = "/internal/v1/dispatch/retry"
	dispatchDropPath  = "/internal/v1/dispatch/drop"
)

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
	retried, err := s.tellHolders(r, at, dispatchRetryPath, nil)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, retriedJSON{retried})
}

// dropEvent ends an event for the dispatchers that have parked it.
func (s *HTTPServer) dropEvent(w http.ResponseWriter, r *http.Request, p *AuthPrincipal, at runtime.Coordinates, reason string) error {
	by := "an operator"
	if who := operator(p.Source); who != "" {
		by += ", " + who
	}
	dropped, err := s.tellHolders(r, at, dispatchDropPath, url.Values{"reason": {"dropped by " + by + ": " + reason}})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"dropped": dropped})
}

// tellHolders does something with an event for all dispatchers that have parked it,
// or for the one that the request names, and returns which those are.
func (s *HTTPServer) tellHolders(r *http.Request, at runtime.Coordinates, path string, more url.Values) ([]string, error) {
	list, missing, err := s.parkedEverywhere(r.Context(), ParkedFilter{At: &at, Function: r.URL.Query().Get("dispatcher")})
	if err != nil {
		return nil, err
	}
	told := []string{}
	for _, p := range list.Parked {
		taken, err := s.tellHolder(r.Context(), path, &p, more)
		if err != nil {
			return nil, err
		}
		if taken {
			told = append(told, p.Dispatcher)
		}
	}
	if len(told) == 0 {
		return nil, s.noParked(missing, at, true, "no dispatcher has parked the event at %s, or it is being asked about it now; GET /v1/parked lists those that are", at)
	}
	return told, nil
}

// tellHolder has the gateway that holds an event for a dispatcher do something
// with it. It returns false when the event is not parked there any more, or is
// being asked about.
func (s *HTTPServer) tellHolder(ctx context.Context, path string, p *ParkedCommand, more url.Values) (bool, error) {
	if p.Dispatcher == "" || p.Status != OutcomeParked || s.need.Dispatching == nil {
		return false, nil
	}
	query := coordinateQuery(p.At)
	query.Set("dispatcher", p.Dispatcher)
	maps.Copy(query, more)
	if taken, err := s.holdsEvent(ctx, path, query); taken || err != nil {
		return taken, err
	}
	others, err := s.others(ctx)
	if err != nil {
		return false, s.ownerProblem(err)
	}
	for _, address := range others {
		var answer retriedJSON
		if err := s.tellPeer(ctx, address, path+"?"+query.Encode(), &answer); err != nil {
			return false, fail(problemOwnerUnreachable, "a gateway does not answer for its partitions; ask again").because(err).after(time.Second)
		}
		if len(answer.Retried) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// holdsEvent does at this gateway what tellHolder asks for.
func (s *HTTPServer) holdsEvent(ctx context.Context, path string, query url.Values) (bool, error) {
	at, err := queryCoordinates(query)
	if err != nil {
		return false, err
	}
	if s.need.Dispatching == nil {
		return false, nil
	}
	if path == dispatchRetryPath {
		return s.need.Dispatching.Retry(query.Get("dispatcher"), at), nil
	}
	dropped, err := s.need.Dispatching.Drop(ctx, query.Get("dispatcher"), at, query.Get("reason"))
	if err != nil {
		return false, fail(problemUncertain, "it is not known whether the event at %s is dropped; GET /v1/parked shows it, and doing it again is safe", at).because(err).after(time.Second)
	}
	return dropped, nil
}

type retriedJSON struct {
	Retried []string `json:"retried"` // dispatchers
}

// postHeldEvent answers another gateway's tellHolder.
func (s *HTTPServer) postHeldEvent(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	query := r.URL.Query()
	answer := retriedJSON{[]string{}}
	taken, err := s.holdsEvent(r.Context(), r.URL.Path, query)
	if taken {
		answer.Retried = append(answer.Retried, query.Get("dispatcher"))
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// latest is after all that is there, whoever's clock recorded it, and the same time
// whenever it is asked for. In milliseconds, which Kafka counts in, it is a number.
var latest = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

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
		at = latest
	default:
		if at, err = time.Parse(time.RFC3339, from); err != nil || at.Year() < 1970 {
			return fail(problemAttribute, `"from" is %q; it is "earliest", "latest", or a time such as 2026-01-31T12:00:00Z`, from).field("from")
		}
	}
	if s.need.Dispatching == nil {
		return fail(problemUnavailable, "this gateway runs no dispatchers")
	}
	name := r.PathValue("namespace") + "/" + r.PathValue("name")
	expect, err := parseIfMatch(r.Header.Values("If-Match"))
	if err != nil {
		return err
	}
	epoch, err := s.need.Dispatching.Replay(r.Context(), name, at, expect)
	switch {
	case errors.Is(err, ErrEpoch):
		return fail(problemVersionMismatch, "%s is in replay epoch %d, and not in %d: somebody else has sent it elsewhere since; GET /v1/triggers shows the epoch", name, epoch, *expect).with("version", epoch)
	case errors.Is(err, ErrNotFound):
		return fail(problemNoTrigger, "no dispatcher Trigger is named %q; GET /v1/triggers lists what there is", name)
	case err != nil:
		return fail(problemUncertain, "it is not known whether the order was kept; with If-Match it is safe to repeat it, and GET /v1/triggers shows the replay epoch").because(err).after(time.Second)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"dispatcher": name, "epoch": epoch, "from": from})
}
