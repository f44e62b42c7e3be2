package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// chainMax is how many links one answer has at most.
const chainMax = 1000

// Kinds of a link.
const (
	linkEvent       = "event"       // a record of an events topic, the platform's own included
	linkCommand     = "command"     // a record of the commands topic
	linkPublication = "publication" // the same, of an event from outside, as it was accepted
	linkHidden      = "hidden"      // of an aggregate that the principal may not read
)

// linkJSON is a message of a chain. Of a hidden one only the coordinates are
// shown, which the message after it names as well.
type linkJSON struct {
	Kind string `json:"kind"`
	eventJSON
}

// hiddenJSON is all that is shown of a hidden message.
type hiddenJSON struct {
	Kind        string `json:"kind"`
	Coordinates string `json:"coordinates"`
}

// causesJSON is a chain, newest first. Next is where the rest of a longer one
// begins; it is absent when the last link is the root.
type causesJSON struct {
	Links []any  `json:"links"`
	Next  string `json:"next,omitempty"`
}

// getCauses answers the chain of a message at coordinates.
func (s *HTTPServer) getCauses(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	// Joined and taken apart again, so that a path is read as everything else that is named so.
	text := r.PathValue("topic") + "/" + r.PathValue("partition") + "/" + r.PathValue("offset")
	at, err := runtime.ParseCoordinates(text)
	if err != nil {
		return fail(problemParameter, "the path: %s; an id with a '/' in it is written with %%2F", err).field("coordinates")
	}
	return s.writeChain(w, r, p, causeStart{At: at})
}

// getCausesOf answers the chain of an event or command that is named by its
// entity and id. Where it stands is asked of the aggregate's owner; the chain is
// followed here, where the principal's rights are known.
func (s *HTTPServer) getCausesOf(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	e, _, err := s.queryEntity(r, p)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if why := badID(id); why != "" {
		return fail(problemAttribute, "the id in the path %s", why).field("id")
	}
	source := p.Source
	if r.URL.Query().Has("source") {
		source = r.URL.Query().Get("source")
	}
	start, err := s.locate(r.Context(), e.Aggregate(), source, id)
	if err != nil {
		return err
	}
	return s.writeChain(w, r, p, start)
}

func (s *HTTPServer) writeChain(w http.ResponseWriter, r *http.Request, p *AuthPrincipal, start causeStart) error {
	if s.need.Causes == nil {
		return fail(problemUnavailable, "this gateway follows no causes")
	}
	limit, err := queryNumber(r, "limit", chainMax, chainMax)
	if err != nil {
		return err
	}
	// For who may not read the first message nothing behind it is read.
	start.Allow = func(first Recorded) error {
		if place, _ := s.need.Schemas.Place(first.Message.Subject); !p.May(RightRead, place.Aggregate) {
			return fail(problemForbidden, "principal %q lacks the right %q for what stands at %s", p.Name, RightRead, first.At)
		}
		return nil
	}
	chain, err := s.need.Causes.Chain(r.Context(), start, max(1, int(limit)))
	links := make([]any, len(chain.Links))
	for i, link := range chain.Links {
		links[i] = s.linkJSON(link, p)
	}
	if err != nil {
		return s.chainProblem(err, links, p)
	}
	return writeJSON(w, http.StatusOK, causesJSON{Links: links, Next: chain.Next.String()})
}

func (s *HTTPServer) linkJSON(link Recorded, p *AuthPrincipal) any {
	m := link.Message
	if place, _ := s.need.Schemas.Place(m.Subject); !p.May(RightRead, place.Aggregate) {
		return hiddenJSON{linkHidden, link.At.String()}
	}
	kind := linkEvent
	if m.Pos == 0 {
		kind = linkCommand
		if t, ok := s.need.Schemas.Version(m.Schema); ok && (t.Kind == avro.KindEvent || t.Kind == avro.KindFailure) {
			kind = linkPublication
		}
	}
	return linkJSON{kind, s.eventJSON(link)}
}

// chainProblem turns an error of [Causes.Chain] into a problem that shows what
// was found before it.
func (s *HTTPServer) chainProblem(err error, links []any, p *AuthPrincipal) error {
	var missing *MissingCause
	var refused *problem
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &missing):
		kind := problemNoCause
		if missing.Late {
			kind = problemUnavailable
		}
		of, _ := s.need.Schemas.Place(missing.Of.Message.Subject)
		out := fail(kind, "the cause of the message at %s is not found", missing.Of.At)
		if p.May(RightRead, of.Aggregate) {
			out = fail(kind, "%s", missing).with("id", missing.ID)
		}
		if missing.Late {
			out.after(10 * time.Second)
		}
		return out.with("links", links).because(err)
	case errors.Is(err, ErrCauseLoop):
		return fail(problemCauseLoop, "%s; somebody wrote to the topics", ErrCauseLoop).with("links", links).because(err)
	case errors.Is(err, ErrNoTopic):
		return fail(problemNoMessage, "%s", err)
	case errors.Is(err, ErrNoMessage):
		return fail(problemNoMessage, "%s; it may be of a transaction that did not commit, or not yet", err)
	case errors.Is(err, ErrManyChains):
		return fail(problemOverloaded, "%s", ErrManyChains).because(err).after(5 * time.Second)
	case errors.Is(err, context.Canceled):
		return err
	}
	return fail(problemUnavailable, "the messages could not be read from Kafka").because(err).after(2 * time.Second)
}

// locatePath is where a gateway is asked for the places of what it owns.
const locatePath = "/internal/v1/places/{entity}/{key}"

// placesJSON is where a command and its outcome stand.
type placesJSON struct {
	Command string            `json:"command"` // coordinates; "" when they are not known
	Events  map[string]string `json:"events"`  // coordinates by event id
	Since   time.Time         `json:"since"`   // when the outcome was recorded; zero when there is none
}

// locate asks the owner of an aggregate where a message stands. Errors are problems.
func (s *HTTPServer) locate(ctx context.Context, a runtime.AggregateID, source, id string) (causeStart, error) {
	notFound := fail(problemNoMessage, "aggregate %q has no event with the id %q, and has seen no command with it from the source %q; ?source= names another", a, id, source).
		with("id", id).with("source", source)
	if key, _, ok := runtime.ParseEventID(id); ok {
		places, found, err := s.places(ctx, a, key)
		if err != nil {
			return causeStart{}, err
		}
		if text, has := places.Events[id]; found && has {
			at, err := runtime.ParseCoordinates(text)
			return causeStart{At: at, ID: id, Since: places.Since}, err
		}
	}
	// A client may choose an id for its command that looks like an event's.
	key := runtime.NewCommandKey(source, a, id)
	places, found, err := s.places(ctx, a, key)
	switch {
	case err != nil:
		return causeStart{}, err
	case !found || places.Command == "":
		return causeStart{}, notFound
	}
	at, err := runtime.ParseCoordinates(places.Command)
	return causeStart{At: at, ID: id, Key: &key, Since: places.Since}, err
}

// places asks the owner, which may be this gateway. Errors are problems.
func (s *HTTPServer) places(ctx context.Context, a runtime.AggregateID, key runtime.CommandKey) (places placesJSON, found bool, err error) {
	address, self, err := s.need.Reader.Owner(ctx, a)
	switch {
	case err != nil:
		return places, false, s.ownerProblem(err)
	case self:
		return s.placesHere(ctx, a, key)
	}
	uri := "/internal/v1/places/" + url.PathEscape(string(a)) + "/" + key.String()
	var answer struct {
		placesJSON
		Found bool `json:"found"`
	}
	if err := s.askPeer(ctx, address, uri, &answer); err != nil {
		return places, false, fail(problemOwnerUnreachable, "the gateway that owns the aggregate does not answer; ask again").because(err).after(time.Second)
	}
	return answer.placesJSON, answer.Found, nil
}

func (s *HTTPServer) placesHere(ctx context.Context, a runtime.AggregateID, key runtime.CommandKey) (placesJSON, bool, error) {
	o, err := s.need.Reader.Outcome(ctx, a, key)
	if errors.Is(err, ErrNotFound) {
		return placesJSON{}, false, nil
	}
	if err != nil {
		return placesJSON{}, false, s.readProblem(err, nil)
	}
	places := placesJSON{Command: o.At.String(), Events: map[string]string{}, Since: s.now()}
	for _, e := range o.Events {
		places.Events[e.Message.ID] = e.At.String()
		places.Since = e.Message.RecordedTime
	}
	return places, true, nil
}

// getPlacesHere answers another gateway's places.
func (s *HTTPServer) getPlacesHere(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	e, err := runtime.ParseEntity(r.PathValue("entity"))
	if err != nil {
		return fail(problemAttribute, "%s", err)
	}
	key, _, ok := runtime.ParseEventID(r.PathValue("key") + "-1")
	if !ok {
		return fail(problemAttribute, "%s is no key of a command", strconv.Quote(r.PathValue("key")))
	}
	places, found, err := s.placesHere(r.Context(), e.Aggregate(), key)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"found": found, "command": places.Command, "events": places.Events, "since": places.Since})
}
