package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/evento-oss/evento/runtime/httplimit"
)

// maxItems is how many invocations one request may carry.
const maxItems = 4096

// busyRetry is the Retry-After of a function that is full, in seconds: the
// least that the header can say.
const busyRetry = "1"

// Server is the HTTP face of a [Function]. It answers:
//
//	POST  any path               invocations, Avro or JSON
//	GET   .../.evento/describe   the [Description], JSON
//	GET   /_/health              200 while the process serves, 503 when it stops
//	GET   /_/ready               the same, and 429 when it is full
//
// It is an [http.Handler], and plugs into any server. [Serve] runs it as
// OpenFaaS and Knative want it.
type Server struct {
	config   Config
	wire     *wire
	run      runner
	describe []byte      // JSON of the description
	built    Fingerprint // hash of the description
	bodies   *httplimit.Bodies
	answers  *httplimit.Answers
	stopping atomic.Bool
	inflight atomic.Int64 // invocations of the protocol under way
}

// NewServer returns the HTTP face of a function. Of the configuration it uses
// the limits, keys, names and image, and whether states are kept: only by a
// function that makes them. A handler alone never sees the state that follows,
// so what it kept would not be asked for again. The logger takes a line for each call that
// failed, without payload.
func NewServer(f *Function, config Config, log *slog.Logger) (*Server, error) {
	config = config.withDefaults()
	d := f.Description()
	d.Image = config.Image
	run := runner{f: f, log: log, now: time.Now, drill: drill(config.Drill)}
	if config.StateCache > 0 && d.HasRole(RoleAggregator) {
		run.states = newStateCache(config.StateCache)
		d.Caches = true
		d.Hash = d.hash()
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("describe the function: %w", err)
	}
	for name, c := range f.codecs {
		if _, err := c.compile(); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
	}
	return &Server{
		config:   config,
		wire:     newWire(),
		run:      run,
		describe: text,
		built:    d.Hash,
		bodies:   &httplimit.Bodies{Max: config.MaxBody, Total: config.MaxBuffered},
		answers:  &httplimit.Answers{Total: config.MaxBuffered, Time: config.WriteTimeout},
	}, nil
}

// Stop makes both probes answer 503, so that no new calls are sent here. Calls
// are still answered.
func (s *Server) Stop() { s.stopping.Store(true) }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch {
	case req.URL.Path == "/_/health" && req.Method == http.MethodGet:
		s.probe(w, false)
	case req.URL.Path == "/_/ready" && req.Method == http.MethodGet:
		s.probe(w, true)
	case strings.HasSuffix(req.URL.Path, pathDescribe) && (req.Method == http.MethodGet || req.Method == http.MethodHead):
		s.described(w, req)
	case req.Method == http.MethodPost:
		s.invoked(w, req)
	default:
		w.Header().Set("Allow", http.MethodPost)
		s.refuse(w, outcomeMethod, fmt.Sprintf("this is the Evento function %q; POST invocations, or GET %s", s.run.f.name(), pathDescribe))
	}
}

func (s *Server) probe(w http.ResponseWriter, ready bool) {
	switch {
	case s.stopping.Load():
		s.refuse(w, outcomeUnavailable, "the function stops")
	case ready && s.full():
		s.refuse(w, outcomeBusy, "the function is full")
	default:
		w.WriteHeader(http.StatusOK)
	}
}

func (s *Server) full() bool {
	return s.config.MaxInflight > 0 && s.inflight.Load() >= int64(s.config.MaxInflight)
}

func (s *Server) described(w http.ResponseWriter, req *http.Request) {
	if !s.trusted(w, req, nil) {
		return
	}
	s.write(w, http.StatusOK, "application/json", typeDescription, s.describe)
}

// trusted verifies a signature where there is a key, and refuses the request otherwise.
func (s *Server) trusted(w http.ResponseWriter, req *http.Request, body []byte) bool {
	if len(s.config.Keys) == 0 {
		return true
	}
	err := verify(s.config.Keys, req.Header.Get(headerSignature), req.Method, s.config.Audience, s.run.now(), body)
	if err != nil {
		s.run.log.Warn("a call was not trusted", "err", err.Error(), "remote", req.RemoteAddr)
		s.refuse(w, outcomeUntrusted, err.Error())
	}
	return err == nil
}

func (s *Server) invoked(w http.ResponseWriter, req *http.Request) {
	if s.config.MaxInflight > 0 && s.inflight.Add(1) > int64(s.config.MaxInflight) {
		s.inflight.Add(-1)
		w.Header().Set("Retry-After", busyRetry)
		s.refuse(w, outcomeBusy, fmt.Sprintf("%d calls are under way, which is max_inflight", s.config.MaxInflight))
		return
	} else if s.config.MaxInflight <= 0 {
		s.inflight.Add(1)
	}
	defer s.inflight.Add(-1)

	media, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if media != ContentTypeAvro && media != "application/json" {
		s.refuse(w, outcomeMedia, fmt.Sprintf("the content type is %q; the protocol is %s, or application/json by hand", media, ContentTypeAvro))
		return
	}
	if t := req.Header.Get("ce-type"); t != "" && t != typeInvocations {
		s.refuse(w, outcomeMedia, fmt.Sprintf("the CloudEvent has the type %q; this function speaks %q", t, typeInvocations))
		return
	}
	// What is small here and huge once it is unpacked would pass every limit.
	if coding := req.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		w.Header().Set("Accept-Encoding", "identity")
		s.refuse(w, outcomeMedia, fmt.Sprintf("the content encoding is %q; bodies are taken as they are, not packed", coding))
		return
	}
	body, problem := s.body(w, req)
	if problem != nil {
		s.refuse(w, problem.outcome, problem.detail)
		return
	}
	defer body.Release()
	if !s.trusted(w, req, body.Bytes) {
		return
	}
	answer := s.answerAvro
	if media == "application/json" {
		answer = s.answerJSON
	}
	answer(w, req, body.Bytes)
}

// refusal is a request that ends before anything is run.
type refusal struct {
	outcome outcome
	detail  string
}

// body reads a request's body within the limits.
func (s *Server) body(w http.ResponseWriter, req *http.Request) (*httplimit.Body, *refusal) {
	body, err := s.bodies.Read(w, req)
	switch {
	case err == nil:
		return body, nil
	case errors.Is(err, httplimit.ErrTooLarge) && req.ContentLength >= 0:
		return nil, &refusal{outcomeTooLarge, fmt.Sprintf("the body has %d bytes, more than the limit of %d", req.ContentLength, s.bodies.Max)}
	case errors.Is(err, httplimit.ErrTooLarge):
		return nil, &refusal{outcomeTooLarge, fmt.Sprintf("the body has more bytes than the limit of %d", s.bodies.Max)}
	case errors.Is(err, httplimit.ErrFull):
		w.Header().Set("Retry-After", busyRetry)
		return nil, &refusal{outcomeBusy, fmt.Sprintf("all bodies together have more bytes than the limit of %d (EVENTO_MAX_BUFFERED), and this one was on its way for the longest", s.bodies.Total)}
	}
	return nil, &refusal{outcomeLate, "the body did not arrive: " + err.Error()}
}

func (s *Server) answerAvro(w http.ResponseWriter, req *http.Request, body []byte) {
	q, err := s.wire.decodeRequest(body)
	if err != nil {
		s.refuse(w, outcomeMalformed, "the body is no invocations of this protocol: "+err.Error())
		return
	}
	results, ok := s.results(w, req, q)
	if !ok {
		return
	}
	answer, err := s.wire.encodeResponse(response{built: s.built, image: s.config.Image, items: results})
	if err != nil {
		s.refuse(w, outcomeBroken, "encode the answer: "+err.Error())
		return
	}
	s.write(w, statusOf(results), ContentTypeAvro, typeResults, answer)
}

// results runs a request, or refuses it.
func (s *Server) results(w http.ResponseWriter, req *http.Request, q request) ([]Result, bool) {
	if q.built != "" && q.built != s.built {
		s.write(w, outcomeChanged.status(), "application/json", typeDescription, s.describe)
		return nil, false
	}
	if len(q.items) == 0 || len(q.items) > maxItems {
		s.refuse(w, outcomeMalformed, fmt.Sprintf("the body has %d invocations; from 1 to %d are taken", len(q.items), maxItems))
		return nil, false
	}
	timeout := s.config.ExecTimeout
	if q.timeout > 0 {
		timeout = min(timeout, q.timeout)
	}
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	defer cancel()
	run := s.run
	run.log = run.log.With(callAttributes(req)...)
	return run.all(ctx, q.items), true
}

// callAttributes are what a log line needs to be found again from the outside.
func callAttributes(req *http.Request) (attributes []any) {
	for _, h := range [][2]string{{"X-Call-Id", "call_id"}, {"Traceparent", "traceparent"}} {
		if v := req.Header.Get(h[0]); v != "" {
			attributes = append(attributes, h[1], v)
		}
	}
	return attributes
}

// statusOf gives an answer to one invocation the status of its failure.
func statusOf(results []Result) int {
	if len(results) == 1 && results[0].Failure != nil {
		return failures[results[0].Failure.Code].status
	}
	return outcomeAnswered.status()
}

// refuse answers with a problem document of RFC 9457.
func (s *Server) refuse(w http.ResponseWriter, o outcome, detail string) {
	status := o.status()
	body, err := json.Marshal(problemBody{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: clip(detail, maxMessage)})
	if err != nil {
		http.Error(w, http.StatusText(status), status)
		return
	}
	s.write(w, status, "application/problem+json", "", body)
}

func (s *Server) write(w http.ResponseWriter, status int, media, ceType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", media)
	if ceType != "" {
		h.Set("ce-type", ceType)
	}
	// Author's code had its own time; the answer has its own, too.
	if err := s.answers.Write(w, status, body); err != nil {
		h.Del("ce-type")
		w.Header().Set("Retry-After", busyRetry)
		s.refuse(w, outcomeBusy, fmt.Sprintf("all answers together have more bytes than the limit of %d (EVENTO_MAX_BUFFERED)", s.answers.Total))
	}
}
