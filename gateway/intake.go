package gateway

import (
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// Step 1 of a command's way: HTTP in, the commands topic out. A message is
// read (intake_plain, intake_cloudevents), classified and validated (classify),
// written, and answered: 202 as soon as Kafka has it, or its outcome when the
// client prefers to wait (intake_deliver).

// postIngress is the Knative Broker ingress: any CloudEvent of a registered type.
func (s *HTTPServer) postIngress(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	return s.intake(w, r, p, wantAny)
}

func (s *HTTPServer) postCommand(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	return s.intake(w, r, p, wantCommand)
}

func (s *HTTPServer) postEvent(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	return s.intake(w, r, p, wantEvent)
}

// intakeRequest is what the headers of a request say about its messages.
type intakeRequest struct {
	principal *AuthPrincipal
	wants     intakeWants
	begin     time.Time
	wait      time.Duration // 0: do not wait
	expect    *uint64
	trace     string // traceparent of the request
	// written gives the body's bytes back, once Kafka has what was in it: who waits
	// for an outcome must not keep others from sending.
	written func()
}

func (s *HTTPServer) intake(w http.ResponseWriter, r *http.Request, p *AuthPrincipal, wants intakeWants) error {
	q := intakeRequest{principal: p, wants: wants, begin: s.now(), trace: traceParent(r.Header.Get("Traceparent"))}
	var err error
	if q.expect, err = parseIfMatch(r.Header.Values("If-Match")); err != nil {
		return err
	}
	q.wait, _ = parsePrefer(r.Header.Values("Prefer"), s.config.MaxWait)
	media, err := intakeMedia(r.Header)
	if err != nil {
		return err
	}
	if media == mediaBatch && q.expect != nil {
		return fail(problemParameter, "If-Match is about one message, not about a batch").field("If-Match")
	}
	body, release, err := s.bodies.read(w, r)
	if err != nil {
		return err
	}
	defer release()
	q.written = release
	if media == mediaBatch {
		return s.intakeBatch(w, r, q, body)
	}
	m, err := s.readMessage(r.Header, media, body, q)
	if err != nil {
		return err
	}
	return s.intakeOne(w, r, q, m)
}

// intakeMedia returns the media type of a request, "" when it has none, and
// refuses headers that mix two encodings.
func intakeMedia(h http.Header) (string, error) {
	types := h.Values("Content-Type")
	if len(types) > 1 {
		return "", fail(problemDuplicate, "the header content-type is given %d times", len(types)).field("content-type")
	}
	if len(types) == 0 {
		return "", nil
	}
	media, _, err := mime.ParseMediaType(types[0])
	if err != nil {
		return "", fail(problemMediaType, "content-type %q cannot be read", types[0]).field("content-type")
	}
	if !strings.HasPrefix(media, "application/cloudevents") {
		return media, nil
	}
	for name := range h {
		if strings.HasPrefix(strings.ToLower(name), "ce-") {
			return "", fail(problemMixed, "content-type is %s, but there is the header %s too", media, strings.ToLower(name)).field(strings.ToLower(name))
		}
	}
	if media != mediaStructured && media != mediaBatch {
		return "", fail(problemMediaType, "CloudEvents are taken as %s, as %s or in binary mode, not as %s", mediaStructured, mediaBatch, media).field("content-type")
	}
	return media, nil
}

// readMessage reads, classifies and validates the one message of a request.
func (s *HTTPServer) readMessage(h http.Header, media string, body []byte, q intakeRequest) (*runtime.Message, error) {
	d, err := parseMessage(h, media, body, q)
	if err != nil {
		s.countIntake("unknown", "refused")
		return nil, err
	}
	return s.classifyMessage(d, q)
}

func (s *HTTPServer) classifyMessage(d *draft, q intakeRequest) (*runtime.Message, error) {
	m, err := s.classify.classify(d, q.principal)
	if err != nil {
		s.countIntake("unknown", "refused")
		return nil, err
	}
	m.Expect = q.expect
	return m, nil
}

// parseMessage reads the one message of a request, in whichever form it comes.
func parseMessage(h http.Header, media string, body []byte, q intakeRequest) (*draft, error) {
	switch {
	case media == mediaStructured:
		return parseStructured(body, q.wants, q.trace)
	case isCloudEvent(h, media):
		return parseBinary(h, body, q.wants)
	case q.wants == wantAny:
		return nil, fail(problemMediaType, "this takes CloudEvents 1.0: %s, %s, or binary mode with ce- headers; plain JSON goes to /v1/commands or /v1/events", mediaStructured, mediaBatch).field("content-type")
	case media == "application/json":
		for name := range h {
			if strings.HasPrefix(strings.ToLower(name), "ce-") {
				return nil, fail(problemMixed, "the header %s is there, but neither ce-specversion nor ce-id", strings.ToLower(name)).field(strings.ToLower(name))
			}
		}
		d, err := parsePlain(body, q.wants)
		if err != nil {
			return nil, err
		}
		d.trace = q.trace
		return d, nil
	}
	return nil, fail(problemMediaType, "content-type is %q; plain JSON is taken as application/json, and CloudEvents", media).field("content-type")
}

func (s *HTTPServer) countIntake(kind, result string) {
	s.need.Metrics.intakeMessages.WithLabelValues(kind, result).Inc()
}

// kindOf is the label of a message's kind.
func (s *HTTPServer) kindOf(m *runtime.Message) string {
	if t, ok := s.need.Schemas.Version(m.Schema); ok && t.Kind != avro.KindCommand {
		return "event"
	}
	return "command"
}
