package runtime

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pathDescribe follows a function's URL to ask for its description.
const pathDescribe = "/.evento/describe"

// Limits of what the client reads and of how it connects.
const (
	maxResponse    = 64 << 20 // bytes of an answer, unless ClientOptions say less
	largeAnswer    = 1 << 20  // bytes from which on an answer is large
	largeAtATime   = 2        // large answers of one function that are read at the same time
	maxProblem     = 4 << 10  // bytes of an answer that is an error, for its message
	idlePerHost    = 256      // connections kept to one function
	connectTimeout = 5 * time.Second
	callTimeout    = time.Minute // of a call whose context has no deadline
)

// ClientOptions are what a [Client] may be told. The zero value is fine.
type ClientOptions struct {
	// Keys sign the calls: the first one. None: calls are not signed.
	Keys []Key
	// Source is the CloudEvents source of calls; default "/evento".
	Source string
	// Transport sends the requests; default: HTTP/1.1 with keep-alive and many
	// idle connections a host, no proxy, no redirect.
	Transport http.RoundTripper
	// Now is the clock that signs; default time.Now.
	Now func() time.Time
	// MaxAnswer is how many bytes an answer may have; default 64 MiB. A longer one
	// is not read to its end, and the call has failed. Of one function, only a few
	// answers beyond 1 MiB are read at the same time; the next one waits, at most
	// until its call's deadline. So one function that sends without end cannot take
	// the caller's memory.
	MaxAnswer int64
}

// Client calls functions. It is safe for concurrent use. Each method takes the
// function's URL (its base: "http://host/function/checking-handler").
type Client struct {
	http  *http.Client
	opts  ClientOptions
	wire  *wire
	large largeAnswers
}

// NewClient returns a client. Nothing is opened until the first call.
func NewClient(opts ClientOptions) *Client {
	if opts.Source == "" {
		opts.Source = "/evento"
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.MaxAnswer <= 0 {
		opts.MaxAnswer = maxResponse
	}
	if opts.Transport == nil {
		opts.Transport = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext,
			MaxIdleConnsPerHost: idlePerHost,
			IdleConnTimeout:     90 * time.Second,
			TLSHandshakeTimeout: connectTimeout,
			DisableCompression:  true,
		}
	}
	return &Client{
		opts: opts,
		wire: newWire(),
		http: &http.Client{
			Transport: opts.Transport,
			// A redirected POST would become a GET, and the signature is for one audience.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// CloseIdleConnections closes the connections that no call is using.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Invoke calls a function with one or more invocations and returns their
// results in the same order, and the hash of the function's description.
//
// built is the hash of the description that the data was encoded for; "" when
// it is unknown. When the function has another, it runs nothing and the error is
// a [*DescriptionChanged]. Any other error is a [*CallError]: then the function
// may have run or not, and calling again is always right. The deadline of ctx
// travels with the call; without one it is a minute, and the function's own limit holds.
func (c *Client) Invoke(ctx context.Context, url string, built Fingerprint, in []Invocation) ([]Result, Fingerprint, error) {
	q := request{built: built, items: in}
	if deadline, ok := ctx.Deadline(); ok {
		q.timeout = max(time.Until(deadline), time.Millisecond)
	}
	body, err := c.wire.encodeRequest(q)
	if err != nil {
		return nil, "", failed(0, fmt.Errorf("encode the call of %s: %w", url, err))
	}
	res, answer, err := c.send(ctx, http.MethodPost, url, body, func(h http.Header) {
		h.Set("Content-Type", ContentTypeAvro)
		h.Set("ce-specversion", "1.0")
		h.Set("ce-id", rand.Text())
		h.Set("ce-source", c.opts.Source)
		h.Set("ce-type", typeInvocations)
		if len(in) > 0 && len(in[0].Messages) > 0 {
			if t := in[0].Messages[0].TraceParent; t != "" {
				// One request has one trace; each message carries its own inside.
				h.Set("traceparent", t)
			}
		}
	})
	if err != nil {
		return nil, "", err
	}
	switch res.Header.Get("ce-type") {
	case typeResults:
		r, err := c.wire.decodeResponse(answer)
		if err != nil {
			return nil, "", failed(res.StatusCode, fmt.Errorf("answer of %s: %w", url, err))
		}
		if err := matches(in, r.items); err != nil {
			return nil, "", failed(res.StatusCode, fmt.Errorf("answer of %s: %w", url, err))
		}
		return r.items, r.built, nil
	case typeDescription:
		d, err := readDescription(answer)
		if err != nil {
			return nil, "", failed(res.StatusCode, fmt.Errorf("description of %s: %w", url, err))
		}
		return nil, d.Hash, &DescriptionChanged{Description: d}
	}
	return nil, "", problem(url, res, answer)
}

// Describe asks a function what it is: GET <url>/.evento/describe. The error is a [*CallError].
func (c *Client) Describe(ctx context.Context, url string) (Description, error) {
	res, answer, err := c.send(ctx, http.MethodGet, strings.TrimRight(url, "/")+pathDescribe, nil, func(h http.Header) {
		h.Set("Accept", "application/json")
	})
	if err != nil {
		return Description{}, err
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("ce-type") != typeDescription {
		return Description{}, problem(url, res, answer)
	}
	d, err := readDescription(answer)
	if err != nil {
		return Description{}, failed(res.StatusCode, fmt.Errorf("description of %s: %w", url, err))
	}
	return d, nil
}

// send makes one request and reads its answer whole.
func (c *Client) send(ctx context.Context, method, target string, body []byte, header func(http.Header)) (*http.Response, []byte, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, nil, failed(0, err)
	}
	header(req.Header)
	if len(c.opts.Keys) > 0 {
		req.Header.Set(headerSignature, sign(c.opts.Keys[0], method, Audience(req.URL), c.opts.Now(), body))
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	defer res.Body.Close()
	answer, err := c.read(ctx, req.URL.Host+req.URL.Path, res)
	var call *CallError
	switch {
	case errors.As(err, &call):
		return nil, nil, err
	case err != nil:
		return nil, nil, unavailable(err)
	}
	return res, answer, nil
}

// matches checks that the results answer the invocations one by one.
func matches(in []Invocation, out []Result) error {
	if len(out) != len(in) {
		return fmt.Errorf("%d results for %d invocations", len(out), len(in))
	}
	for i := range in {
		if in[i].ID != out[i].ID {
			return fmt.Errorf("result %d is for %q, not for %q", i+1, out[i].ID, in[i].ID)
		}
		if n := len(out[i].Steps); n > max(1, len(in[i].Messages)) {
			return fmt.Errorf("result %d has %d steps for %d messages", i+1, n, len(in[i].Messages))
		}
	}
	return nil
}

// readDescription reads a description and checks it against its own hash, which
// decides what bytes the function gets.
func readDescription(body []byte) (Description, error) {
	var d Description
	if err := json.Unmarshal(body, &d); err != nil {
		return Description{}, err
	}
	if want := d.hash(); d.Hash != want {
		return Description{}, fmt.Errorf("its hash is %q, its content has %q", d.Hash, want)
	}
	return d, nil
}

// problem makes an error of an answer that holds no results.
func problem(target string, res *http.Response, body []byte) error {
	e := &CallError{Kind: kindOfStatus(res.StatusCode), Status: res.StatusCode, RetryAfter: retryAfter(res.Header)}
	text := strings.TrimSpace(string(body[:min(len(body), 512)]))
	if media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); media == "application/json" || media == "application/problem+json" {
		var p problemBody
		if json.Unmarshal(body, &p) == nil && p.Detail != "" {
			text = p.Detail
		}
	}
	e.Reason = fmt.Sprintf("%s answered %d", target, res.StatusCode)
	if res.StatusCode == http.StatusOK {
		e.Kind = CallFailed
		e.Reason += ", but not with results of this protocol; is it an Evento function?"
	}
	if text != "" {
		e.Reason += ": " + strconv.QuoteToGraphic(text)
	}
	return e
}

// retryAfter reads the seconds of a Retry-After header. A date is not used by
// those who stand between us and a function.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}

func failed(status int, err error) error {
	return &CallError{Kind: CallFailed, Status: status, Reason: err.Error(), Err: err}
}

// unavailable is the error of a request that has no whole answer. Without the
// URL of url.Error a reason is the same text each time, but for the function.
func unavailable(err error) error {
	reason := err.Error()
	var ue *url.Error
	if errors.As(err, &ue) && errors.Is(err, context.DeadlineExceeded) {
		reason = ue.URL + " did not answer in time"
	}
	return &CallError{Kind: CallUnavailable, Reason: reason, Err: err}
}

// sortedNames returns the types of a description in order.
func (d *Description) sortedNames() []TypeName {
	names := make([]TypeName, 0, len(d.Schemas))
	for n := range d.Schemas {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
