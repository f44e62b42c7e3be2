package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Limits of a stream.
const (
	followSilence = 45 * time.Second // the gateway gives a sign of life every 15 s
	followBreak   = 500 * time.Millisecond
	followLongest = 15 * time.Second // between tries
	followLine    = 16 << 20         // bytes of an event's line at most
)

// streamEnd is the last word of a stream.
type streamEnd struct {
	Reason string `json:"reason"` // slow, crowded, stopping or failed
	Detail string `json:"detail"`
}

// follow shows events as they come, until ctx ends. When a stream breaks, another
// one goes on from its last event; notes about that go to notes. The error is one
// that another try does not help.
func follow(ctx context.Context, c *client, query url.Values, notes io.Writer, do func(json.RawMessage) error) error {
	last, wait, begun := "", followBreak, false
	for {
		s := stream{client: c, query: query, last: last, do: do}
		err := s.read(ctx)
		if ctx.Err() != nil {
			return nil // stopped by the user
		}
		if last = s.last; s.alive {
			wait, begun = followBreak, true
		}
		var p *problem
		var final *finalError
		var away *awayError
		switch {
		case errors.As(err, &final):
			return final.err
		case errors.As(err, &p) && p.Status != http.StatusServiceUnavailable && p.Status != http.StatusTooManyRequests && p.Status != http.StatusBadGateway && p.Status != http.StatusGatewayTimeout:
			return err
		case errors.As(err, &away) && !begun:
			return err // nothing has ever been there: the address is wrong, rather than the gateway away
		}
		// The first line says what; the rest is for errors that end.
		what, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(notes, "evento: %s; going on from the last event\n", what)
		if !pause(ctx, wait) {
			return nil
		}
		wait = min(2*wait, followLongest)
	}
}

// pause waits, or returns false when ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// finalError is one of the caller, not of the stream.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }

// stream is one connection.
type stream struct {
	client *client
	query  url.Values
	last   string // id of the last message that was done
	do     func(json.RawMessage) error
	alive  bool // something came
}

// read reads until the stream breaks; it never returns nil.
func (s *stream) read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(followSilence, func() { cancel(fmt.Errorf("nothing came for %s", followSilence)) })
	defer silence.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.client.base+"/v1/events?"+s.query.Encode(), nil)
	if err != nil {
		return &finalError{err}
	}
	r.Header.Set("Accept", "text/event-stream")
	if s.last != "" {
		r.Header.Set("Last-Event-ID", s.last)
	}
	if s.client.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.client.token)
	}
	resp, err := s.client.http.Do(r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return &awayError{gateway: s.client.base, err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return readProblem(resp, text)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, followLine)
	id, name, data := "", "", ""
	for lines.Scan() {
		silence.Reset(followSilence)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if err := s.message(name, data); err != nil {
				return err
			}
			if s.alive = true; id != "" {
				s.last = id
			}
			id, name, data = "", "", ""
		case field == "id":
			id = value
		case field == "event":
			name = value
		case field == "data":
			data = value
		}
	}
	err = lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return &finalError{fmt.Errorf("an event is greater than %d bytes; leave it out with --type, or read it with evento events <entity>", followLine)}
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case err == nil:
		err = io.ErrUnexpectedEOF
	}
	var netErr *net.OpError
	if errors.As(err, &netErr) {
		err = netErr.Err
	}
	return fmt.Errorf("the connection broke: %w", err)
}

// message does what a whole message asks for.
func (s *stream) message(name, data string) error {
	switch {
	case data == "":
		return nil // a sign of life
	case name == "end":
		var end streamEnd
		if json.Unmarshal([]byte(data), &end) != nil || end.Detail == "" {
			end.Detail = short(data, 200)
		}
		return fmt.Errorf("the gateway ended the stream: %s", end.Detail)
	case name != "":
		return nil // of a newer gateway
	}
	if err := s.do(json.RawMessage(data)); err != nil {
		return &finalError{err}
	}
	return nil
}
