package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// read reads an answer whole, within its limit. An answer that is too long is a
// [*CallError]; any other error is one of the way.
func (c *Client) read(ctx context.Context, function string, res *http.Response) ([]byte, error) {
	limit := c.opts.MaxAnswer
	if res.Header.Get("ce-type") == "" {
		limit = min(limit, maxProblem) // of which the beginning is enough
		return io.ReadAll(io.LimitReader(res.Body, limit))
	}
	tooLong := func() error {
		return failed(res.StatusCode, fmt.Errorf("the answer of %s is longer than the limit of %d bytes", res.Request.URL, limit))
	}
	if res.ContentLength > limit {
		return nil, tooLong()
	}
	if res.ContentLength >= 0 && res.ContentLength <= largeAnswer {
		answer := make([]byte, res.ContentLength)
		_, err := io.ReadFull(res.Body, answer)
		return answer, err
	}
	first, err := io.ReadAll(io.LimitReader(res.Body, min(limit+1, largeAnswer)))
	switch n := int64(len(first)); {
	case err != nil:
		return nil, err
	case n > limit:
		return nil, tooLong()
	case n < largeAnswer:
		return first, nil
	}
	release, err := c.large.take(ctx, function)
	if err != nil {
		return nil, err
	}
	defer release()
	pieces := [][]byte{first} // rather than one buffer that is copied each time it grows
	for n := int64(largeAnswer); n <= limit; {
		want := min(limit+1-n, largeAnswer)
		piece := bytes.NewBuffer(make([]byte, 0, want+bytes.MinRead))
		more, err := piece.ReadFrom(io.LimitReader(res.Body, want))
		if err != nil {
			return nil, err
		}
		pieces, n = append(pieces, piece.Bytes()), n+more
		if more < want {
			return bytes.Join(pieces, nil), nil
		}
	}
	return nil, tooLong()
}

// largeAnswers lets a few large answers of each function be read at a time.
type largeAnswers struct {
	mu sync.Mutex
	by map[string]*answerTurns // guarded by mu; those functions alone that somebody reads of
}

type answerTurns struct {
	turns chan struct{} // as many as may read
	users int           // who have one or wait; guarded by largeAnswers.mu
}

// take waits for a turn, which release gives back.
func (l *largeAnswers) take(ctx context.Context, function string) (release func(), err error) {
	l.mu.Lock()
	if l.by == nil {
		l.by = map[string]*answerTurns{}
	}
	t := l.by[function]
	if t == nil {
		t = &answerTurns{turns: make(chan struct{}, largeAtATime)}
		l.by[function] = t
	}
	t.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(l.by, function)
		}
	}
	select {
	case t.turns <- struct{}{}:
		return func() { <-t.turns; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("%d other large answers of it were being read: %w", largeAtATime, ctx.Err())
	}
}
