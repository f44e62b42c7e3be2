package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// What only the owner of an aggregate knows is asked of the owner. A read that
// comes to another gateway is passed on to the owner's internal listener, once:
// what comes in there is never passed on ([HTTPServer.InternalHandler]).

// proxyTimeout is for the answer of the owner beyond what the client waits for itself.
const proxyTimeout = 10 * time.Second

// proxyRequestHeaders are the headers that are passed on to the owner, and
// proxyAnswerHeaders those that are passed back. Credentials are not.
var (
	proxyRequestHeaders = [...]string{"Accept", "If-None-Match", "Prefer", "Traceparent"}
	proxyAnswerHeaders  = [...]string{"Content-Type", "Etag", "Vary", "Cache-Control", "Retry-After", "Preference-Applied", headerDataSchema}
)

// ownedHere says whether this gateway owns the aggregate. When another does,
// the request is passed on to it and answered. Errors are problems.
func (s *HTTPServer) ownedHere(w http.ResponseWriter, r *http.Request, a runtime.AggregateID) (bool, error) {
	address, self, err := s.need.Reader.Owner(r.Context(), a)
	switch {
	case err != nil:
		return false, s.ownerProblem(err)
	case self:
		return true, nil
	case passedOn(r.Context()):
		return false, s.ownerProblem(fmt.Errorf("%w: it has just moved", ErrNoOwner))
	}
	return false, s.passOn(w, r, address)
}

// ownerProblem is the answer while nobody is known to own an aggregate.
func (s *HTTPServer) ownerProblem(err error) error {
	s.need.Metrics.ownerProxied.WithLabelValues("no-owner").Inc()
	return fail(problemOwnerUnknown, "its partition is being handed over; ask again").because(err).after(time.Second)
}

func (s *HTTPServer) passOn(w http.ResponseWriter, r *http.Request, address string) error {
	wait, given := parsePrefer(r.Header.Values("Prefer"), s.config.MaxWait)
	if !given {
		wait = s.config.ReadWait
	}
	limit := wait + proxyTimeout
	ctx, cancel := context.WithTimeoutCause(r.Context(), limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	out, err := http.NewRequestWithContext(ctx, r.Method, "http://"+address+r.URL.RequestURI(), nil)
	if err != nil {
		return err
	}
	for _, name := range proxyRequestHeaders {
		if values := r.Header.Values(name); len(values) > 0 {
			out.Header[name] = values
		}
	}
	s.signer.sign(out, nil)
	answer, err := s.proxy.Do(out)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(err, cause)
		}
		s.need.Metrics.ownerProxied.WithLabelValues("unreachable").Inc()
		return fail(problemOwnerUnreachable, "the gateway that owns the aggregate does not answer; ask again").because(err).after(time.Second)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusUnauthorized {
		s.need.Metrics.ownerProxied.WithLabelValues("unreachable").Inc()
		return fail(problemOwnerUnreachable, "the gateway that owns the aggregate refuses this one; compare %s of both, and their clocks", settingInternalKeys).after(10 * time.Second)
	}
	s.need.Metrics.ownerProxied.WithLabelValues("answered").Inc()
	for _, name := range proxyAnswerHeaders {
		if values := answer.Header.Values(name); len(values) > 0 {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(w, answer.Body); err != nil {
		s.need.Log.Debug("an owner's answer was not passed on to its end", "gateway", address, "err", err)
		panic(http.ErrAbortHandler) // so that the client sees that it is cut
	}
	return nil
}
