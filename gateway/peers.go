package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Limits of a question to another gateway.
const (
	peerTimeout = 5 * time.Second
	peerLimit   = 16 << 20 // bytes of its answer
)

// askPeer asks another gateway's internal listener and reads its JSON answer.
func (s *HTTPServer) askPeer(ctx context.Context, address, uri string, answer any) error {
	return s.callPeer(ctx, http.MethodGet, address, uri, answer)
}

// tellPeer is askPeer for what changes something there.
func (s *HTTPServer) tellPeer(ctx context.Context, address, uri string, answer any) error {
	return s.callPeer(ctx, http.MethodPost, address, uri, answer)
}

func (s *HTTPServer) callPeer(ctx context.Context, method, address, uri string, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, peerTimeout, fmt.Errorf("no answer within %s", peerTimeout))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+uri, nil)
	if err != nil {
		return err
	}
	s.signer.sign(r, nil)
	a, err := s.proxy.Do(r)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", a.Status)
	}
	if err := json.NewDecoder(io.LimitReader(a.Body, peerLimit)).Decode(answer); err != nil {
		return fmt.Errorf("its answer cannot be read: %w", err)
	}
	return nil
}
