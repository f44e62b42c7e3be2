package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// maxAnswer is the greatest answer that is read, in bytes: a page of events with large payloads fits.
const maxAnswer = 64 << 20

// client talks to the HTTP API of one gateway.
type client struct {
	base  string // without a slash at its end
	token string
	http  *http.Client
}

func newClient(gateway, token string) (*client, error) {
	u, err := url.Parse(gateway)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, usagef("--gateway %q is no URL; write it as %s", gateway, defaultGateway)
	}
	if token != "" && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return nil, usagef("--gateway %q: a token is sent over https only, or to this machine; write https://%s", gateway, u.Host)
	}
	return &client{
		base: strings.TrimRight(gateway, "/"), token: token,
		http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// request is one call of the API.
type request struct {
	method string
	path   string // escaped
	query  url.Values
	header http.Header
	body   any // marshalled as JSON; []byte is sent as it is; nil: none
	wait   time.Duration
}

// answer is a successful answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// awayError says that the gateway could not be asked.
type awayError struct {
	gateway string
	err     error
}

func (e *awayError) Error() string {
	var opErr *net.OpError
	if errors.Is(e.err, syscall.ECONNREFUSED) {
		return fmt.Sprintf("nothing listens on %s; start everything with `evento dev`, or say where the gateway is with --gateway", e.gateway)
	}
	if errors.As(e.err, &opErr) && opErr.Op == "dial" {
		return fmt.Sprintf("cannot reach %s: %v; say where the gateway is with --gateway", e.gateway, opErr.Err)
	}
	return fmt.Sprintf("asking %s: %v", e.gateway, e.err)
}

func (e *awayError) Unwrap() error { return e.err }

// sent says whether the gateway may have received the call.
func (e *awayError) sent() bool {
	var opErr *net.OpError
	return !errors.As(e.err, &opErr) || opErr.Op != "dial"
}

// callLimit is how long a call may take beside the time that it is asked to wait.
const callLimit = 30 * time.Second

// do makes one call. An answer that is not 2xx becomes a [*problem]; no answer an [*awayError].
func (c *client) do(ctx context.Context, r request) (*answer, error) {
	limit := r.wait + callLimit
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	switch b := r.body.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, &awayError{gateway: c.base, err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, &awayError{gateway: c.base, err: fmt.Errorf("reading the answer: %w", err)}
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("the answer of %s is greater than %d bytes; ask for less with --limit", c.base, maxAnswer)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, readProblem(resp, text)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: text}, nil
}

// get asks for path and decodes the JSON answer into out.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) (*answer, error) {
	a, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return nil, err
	}
	return a, a.decode(out)
}

func (a *answer) decode(out any) error {
	if err := json.Unmarshal(a.body, out); err != nil {
		return fmt.Errorf("the answer is not what this version of evento understands (%w): %s", err, short(string(a.body), 200))
	}
	return nil
}

// problem is an RFC 9457 problem document, or what can be said of another answer that is no success.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`

	// Version is that of the aggregate, where a problem tells it.
	Version uint64 `json:"version"`

	retryAfter string
	id         string            // of the command, where the problem names it
	more       []string          // further members, a line or more each
	next       []string          // what to type next, beside [problem.hint]
	links      []json.RawMessage // of a chain of causes: what was found
}

func readProblem(resp *http.Response, text []byte) *problem {
	p := &problem{}
	members := make(map[string]any)
	if json.Unmarshal(text, p) != nil || json.Unmarshal(text, &members) != nil || p.Title+p.Detail == "" {
		p = &problem{Detail: short(strings.TrimSpace(string(text)), 300)}
		members = nil
	}
	p.Status = resp.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	p.retryAfter = resp.Header.Get("Retry-After")
	for name, v := range members {
		switch name {
		case "type", "title", "status", "detail", "instance":
		case "outcome": // of the command that the id belongs to; `evento get --command` shows it
		case "links":
			found := linkList{}
			_ = json.Unmarshal(text, &found) // the problem is shown in any case
			p.links = found.Links
		case "id":
			p.id, _ = v.(string)
		default:
			p.more = append(p.more, memberText(name, v))
		}
	}
	slices.Sort(p.more)
	return p
}

// memberText shows a further member of a problem: lists of texts line by line, the rest as JSON.
func memberText(name string, v any) string {
	if text, ok := v.(string); ok {
		return name + ": " + text
	}
	if list, ok := v.([]any); ok && len(list) > 0 {
		lines := name + ":"
		for _, item := range list {
			text, ok := item.(string)
			if !ok {
				text = jsonText(item)
			}
			lines += "\n  - " + text
		}
		return lines
	}
	return name + ": " + jsonText(v)
}

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// Error shows the problem to a person: what, the details, and what to do when that is known.
func (p *problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d)", p.Title, p.Status)
	if p.Detail != "" && p.Detail != p.Title {
		b.WriteString("\n  " + strings.ReplaceAll(p.Detail, "\n", "\n  "))
	}
	for _, m := range p.more {
		b.WriteString("\n  " + strings.ReplaceAll(m, "\n", "\n  "))
	}
	if hint := p.hint(); hint != "" {
		b.WriteString("\n  " + hint)
	}
	next := p.next
	if step, ok := nextSteps[strings.TrimPrefix(p.Type, problemPrefix)]; ok {
		next = append(next[:len(next):len(next)], step)
	}
	for _, step := range next {
		b.WriteString("\n  " + step)
	}
	return b.String()
}

func (p *problem) hint() string {
	switch p.Status {
	case http.StatusUnauthorized:
		return "give a token: export EVENTO_TOKEN=..."
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		hint := "try again"
		if p.retryAfter != "" {
			hint += " in " + p.retryAfter + " s"
		}
		if p.id != "" {
			hint += " with --id " + p.id + ", so that it cannot happen twice"
		}
		return hint
	}
	if p.id != "" {
		return "id: " + p.id
	}
	return ""
}

// preferWait is the value of Prefer that asks for a wait: whole seconds, as RFC
// 7240 has them, rounded up, so that 500ms still waits.
func preferWait(d time.Duration) string {
	return fmt.Sprintf("wait=%d", (d+time.Second-1)/time.Second)
}

// short cuts a text that may be anything to a length that can be shown.
func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
