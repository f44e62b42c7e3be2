package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// httpRoute is one row of the table of what the gateway answers. The OpenAPI
// document describes the same rows; a test holds the two against each other.
type httpRoute struct {
	method, path string
	// open: no authentication. Otherwise the principal is known, and needs the
	// right "admin" where admin is set; other rights depend on the aggregate
	// and are checked where that is known.
	open, admin bool
	// owned: the answer is the owning gateway's; the internal listener has the route too.
	owned  bool
	params []string // query parameters that are taken; any other is refused
	handle func(s *HTTPServer, w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error
}

// httpRoutes is the table. A child entity is written in a path with %2F:
// /v1/aggregates/credit:77%2Fcard:7f3a.
func httpRoutes() []httpRoute {
	return []httpRoute{
		{method: "POST", path: "/{$}", handle: (*HTTPServer).postIngress},
		{method: "POST", path: "/v1/commands", handle: (*HTTPServer).postCommand},
		{method: "POST", path: "/v1/events", handle: (*HTTPServer).postEvent},
		{method: "GET", path: "/v1/events", params: []string{"type", "entity", "aggregate", "from"}, handle: (*HTTPServer).getStream},

		{method: "GET", path: "/v1/aggregates/{entity}", owned: true, params: []string{"min-version"}, handle: (*HTTPServer).getAggregate},
		{method: "GET", path: "/v1/aggregates/{entity}/events", owned: true, params: []string{"after", "limit"}, handle: (*HTTPServer).getEvents},
		{method: "GET", path: "/v1/aggregates/{entity}/commands/{id}", owned: true, params: []string{"source"}, handle: (*HTTPServer).getCommand},

		{method: "GET", path: "/v1/causes/{topic}/{partition}/{offset}", params: []string{"limit"}, handle: (*HTTPServer).getCauses},
		{method: "GET", path: "/v1/causes/{entity}/{id}", params: []string{"source", "limit"}, handle: (*HTTPServer).getCausesOf},

		{method: "GET", path: "/v1/parked", admin: true, params: parkedParams, handle: (*HTTPServer).getParked},
		{method: "POST", path: "/v1/parked/retry", admin: true, params: parkedParams, handle: (*HTTPServer).postParkedRetryAll},
		{method: "POST", path: "/v1/parked/reissue", admin: true, params: parkedParams, handle: (*HTTPServer).postParkedReissueAll},
		{method: "GET", path: "/v1/parked/{partition}/{offset}", admin: true, handle: (*HTTPServer).getParkedOne},
		{method: "GET", path: "/v1/parked/{topic}/{partition}/{offset}", admin: true, handle: (*HTTPServer).getParkedOne},
		{method: "POST", path: "/v1/parked/{partition}/{offset}/retry", admin: true, handle: (*HTTPServer).postParkedRetry},
		{method: "POST", path: "/v1/parked/{partition}/{offset}/drop", admin: true, handle: (*HTTPServer).postParkedDrop},
		{method: "POST", path: "/v1/parked/{partition}/{offset}/reissue", admin: true, handle: (*HTTPServer).postParkedReissue},

		{method: "POST", path: "/v1/parked/{topic}/{partition}/{offset}/retry", admin: true, params: []string{"dispatcher"}, handle: (*HTTPServer).postParkedRetry},
		{method: "POST", path: "/v1/parked/{topic}/{partition}/{offset}/drop", admin: true, params: []string{"dispatcher"}, handle: (*HTTPServer).postParkedDrop},
		{method: "POST", path: "/v1/parked/{topic}/{partition}/{offset}/reissue", admin: true, handle: (*HTTPServer).postParkedReissue},

		{method: "GET", path: "/v1/schemas", handle: (*HTTPServer).getSchemas},
		{method: "POST", path: "/v1/schemas", admin: true, params: []string{"dry-run"}, handle: (*HTTPServer).postSchema},
		{method: "GET", path: "/v1/schemas/{name}", handle: (*HTTPServer).getSchema},
		{method: "GET", path: "/v1/schemas/{name}/{fingerprint}", handle: (*HTTPServer).getSchema},
		{method: "GET", path: "/v1/triggers", admin: true, handle: (*HTTPServer).getTriggers},
		{method: "POST", path: "/v1/triggers/{namespace}/{name}/replay", admin: true, handle: (*HTTPServer).postReplay},

		{method: "GET", path: "/healthz", open: true, handle: (*HTTPServer).getHealth},
		{method: "GET", path: "/readyz", open: true, handle: (*HTTPServer).getReady},
		{method: "GET", path: "/metrics", admin: true, handle: (*HTTPServer).getMetrics},
		{method: "GET", path: "/openapi.json", open: true, handle: (*HTTPServer).getOpenAPI},
	}
}

// pattern is the path as people and metrics write it.
func (t httpRoute) pattern() string { return strings.TrimSuffix(t.path, "{$}") }

// newMux makes a mux of the routes, each through wrap. A path with another
// method gets 405, any other path 404, as problems.
func newMux(routes []httpRoute, wrap func(httpRoute) http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	methods := []string{"HEAD"} // which ServeMux takes for GET
	for _, t := range routes {
		mux.Handle(t.method+" "+t.path, wrap(t))
		methods = append(methods, t.method)
	}
	slices.Sort(methods)
	methods = slices.Compact(methods)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range methods {
			if _, pattern := mux.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host}); pattern != "/" {
				allowed = append(allowed, method)
			}
		}
		if allow := strings.Join(allowed, ", "); allow != "" {
			fail(problemMethod, "%s takes %s", r.URL.Path, allow).header("Allow", allow).write(w)
			return
		}
		p := fail(problemNoRoute, "there is nothing at %s; /openapi.json lists what there is", r.URL.Path)
		if rest, ok := strings.CutPrefix(r.URL.Path, "/v1/aggregates/"); ok && strings.Count(rest, ":") > 1 {
			p.detail += "; an entity inside an aggregate is written with %2F for its '/', as in /v1/aggregates/credit:77%2Fcard:7f3a"
		}
		p.write(w)
	})
	return mux
}

// checkParams refuses query parameters that the route does not take, or that
// are given twice: an answer that silently ignores one would be a wrong answer.
func checkParams(r *http.Request, allowed []string) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fail(problemParameter, "the query cannot be read: %s", err)
	}
	for name, values := range query {
		if !slices.Contains(allowed, name) {
			return fail(problemParameter, "the query parameter %q is not known here", name).field(name)
		}
		if len(values) != 1 {
			return fail(problemParameter, "the query parameter %q is given %d times", name, len(values)).field(name)
		}
	}
	return nil
}
