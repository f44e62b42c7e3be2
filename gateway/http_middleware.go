package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evento-oss/evento/runtime/httplimit"
)

// PublicHandler answers clients.
func (s *HTTPServer) PublicHandler() http.Handler {
	mux := newMux(httpRoutes(), func(t httpRoute) http.Handler {
		return s.measured(t.pattern(), func(w http.ResponseWriter, r *http.Request) error {
			return s.guarded(t, w, r)
		})
	})
	// Refuses what a web page of another origin sends: a gateway without
	// authentication would do what the page wants.
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail(problemOrigin, "the request comes from a web page of the origin %q", r.Header.Get("Origin")).field("Origin").write(w)
	}))
	return protection.Handler(mux)
}

// guarded does what stands before every public route: limits, host, who sends, parameters.
func (s *HTTPServer) guarded(t httpRoute, w http.ResponseWriter, r *http.Request) error {
	if t.open {
		return t.handle(s, w, r, nil)
	}
	if !s.inflight.take(1) {
		return fail(problemOverloaded, "%d requests are being answered, the limit that is set by %s", s.inflight.limit, settingMaxInflight).
			limit(settingMaxInflight, s.inflight.limit).after(time.Second)
	}
	defer s.inflight.give(1)
	if err := s.checkHost(r); err != nil {
		return err
	}
	p, err := s.auth.Authenticate(r)
	switch {
	case errors.Is(err, ErrUnauthenticated):
		return fail(problemUnauthenticated, "%s", err).header("WWW-Authenticate", `Bearer realm="evento"`)
	case err != nil:
		return fail(problemUnavailable, "it cannot be found out who sends the request").because(err).after(time.Second)
	case t.admin && !p.May(RightAdmin, ""):
		return fail(problemForbidden, "principal %q lacks the right %q", p.Name, RightAdmin)
	}
	if err := checkParams(r, t.params); err != nil {
		return err
	}
	return t.handle(s, w, r, p)
}

// checkHost refuses a name that is not ours, where there is no authentication:
// a page whose own name was made to point at loopback is of the same origin
// and would be answered.
func (s *HTTPServer) checkHost(r *http.Request) error {
	if s.config.Auth != nil {
		return nil
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	host = strings.Trim(host, "[]")
	if loopbackHost(host) || slices.Contains(s.config.Hosts, host) {
		return nil
	}
	return fail(problemHost, "without authentication the gateway answers under loopback names alone, not %q", host)
}

// Limits of the internal listener that are nobody's to set.
const (
	internalMaxConns    = 2_000     // open connections: other gateways use a few each
	internalMaxInflight = 10_000    // reads that other gateways ask for; outcomes are bounded by their bodies
	internalMaxBuffered = 128 << 20 // bytes of the bodies of all outcomes that are being read
)

// InternalHandler answers other gateways, and probes and metrics without
// authentication. A read that comes here has been passed on once: it is
// answered or refused, never passed on again, so that no loop can be.
func (s *HTTPServer) InternalHandler() http.Handler {
	inflight := &limitGauge{limit: internalMaxInflight}
	routes := []httpRoute{
		{method: "POST", path: outcomePostPath, handle: (*HTTPServer).postOutcomes},
		{method: "GET", path: parkedInternalPath, params: slices.Concat(parkedParams, coordinateParams), handle: (*HTTPServer).getParkedHere},
		{method: "POST", path: dispatchRetryPath, params: append([]string{"dispatcher"}, coordinateParams...), handle: (*HTTPServer).postHeldEvent},
		{method: "POST", path: dispatchDropPath, params: append([]string{"dispatcher", "reason"}, coordinateParams...), handle: (*HTTPServer).postHeldEvent},
		{method: "GET", path: locatePath, handle: (*HTTPServer).getPlacesHere},
		{method: "GET", path: crowdedPath, handle: (*HTTPServer).getCrowdedHere},
	}
	for _, t := range httpRoutes() {
		if t.owned || t.open || t.path == "/metrics" {
			routes = append(routes, t)
		}
	}
	return newMux(routes, func(t httpRoute) http.Handler {
		return s.measured("internal "+t.pattern(), func(w http.ResponseWriter, r *http.Request) error {
			if t.open || t.path == "/metrics" {
				return t.handle(s, w, r, nil)
			}
			if !inflight.take(1) {
				return fail(problemOverloaded, "%d requests of other gateways are being answered", inflight.limit).after(time.Second)
			}
			defer inflight.give(1)
			if t.path != outcomePostPath { // which verifies with its body
				if err := s.signer.verify(r, nil); err != nil {
					return fail(problemUnauthenticated, "%s", errInternalSignature).because(err)
				}
			}
			if err := checkParams(r, t.params); err != nil {
				return err
			}
			// The gateway that passed it on has checked the client's rights.
			p := &AuthPrincipal{Name: "gateway", Source: s.config.anonymousSource(), anonymous: true}
			return t.handle(s, w, r.WithContext(context.WithValue(r.Context(), passedOnKey{}, true)), p)
		})
	})
}

// passedOnKey marks in a context that another gateway has passed the read on.
type passedOnKey struct{}

func passedOn(ctx context.Context) bool { return ctx.Value(passedOnKey{}) != nil }

// measured counts and times a route, writes its problem, and turns a panic
// into one: one request that fails must not fail the others.
func (s *HTTPServer) measured(route string, handle func(http.ResponseWriter, *http.Request) error) http.Handler {
	m := s.need.Metrics
	seconds := m.httpSeconds.WithLabelValues(route)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := s.now()
		m.httpInflight.Inc()
		sw := &statusWriter{ResponseWriter: w, answers: s.answers}
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v) // net/http knows what to do
				}
				s.need.Log.Error("request failed by a panic", "route", route, "panic", v, "trace", string(debug.Stack()))
				if sw.status == 0 {
					fail(problemInternal, "the request could not be handled; the gateway's log says why").write(sw)
				}
			}
			m.httpInflight.Dec()
			seconds.Observe(s.now().Sub(begin).Seconds())
			m.httpRequests.WithLabelValues(route, r.Method, strconv.Itoa(sw.status)).Inc()
		}()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := handle(sw, r); err != nil {
			s.writeError(sw, r, route, err)
		}
		if sw.status == 0 {
			sw.status = http.StatusOK // as net/http does after the handler
		}
	})
}

// writeError ends every error of a handler: here it is logged, and nowhere before.
func (s *HTTPServer) writeError(w *statusWriter, r *http.Request, route string, err error) {
	var p *problem
	if !errors.As(err, &p) {
		p = fail(problemInternal, "the request could not be handled; the gateway's log says why").because(err)
	}
	switch {
	case r.Context().Err() != nil: // the client is gone, which is nobody's fault here
		s.need.Log.Debug("request not finished", "route", route, "problem", p.kind.name, "err", p)
	case p.kind.status >= 500:
		s.need.Log.Warn("request not fulfilled", "route", route, "problem", p.kind.name, "err", p)
	default:
		s.need.Log.Debug("request refused", "route", route, "problem", p.kind.name, "err", p)
	}
	if w.status == 0 && r.Context().Err() == nil {
		p.write(w)
	}
}

// statusWriter remembers the status that was written.
type statusWriter struct {
	http.ResponseWriter
	status  int // 0 until it is written
	answers *httplimit.Answers
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
