package gateway

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Calls between gateways carry one header,
//
//	Evento-Signature: v1 <unix milliseconds> <nonce, 32 hex digits> <HMAC-SHA256, 64 hex digits>
//
// over "v1", the time, the nonce, the method, the host that is called, the
// request URI and the SHA-256 of the body, each ended by a newline. The host
// keeps a call from being repeated at another gateway, the nonce and the time
// from being repeated at the same one.
const internalSignatureHeader = "Evento-Signature"

// internalWindow is how far the clocks of two gateways may be apart, and how
// long nonces are remembered.
const internalWindow = 30 * time.Second

// internalMaxNonces bounds the memory of nonces, some 50 bytes each. Beyond it
// posts are refused, which delays answers but forgets none.
const internalMaxNonces = 500_000

var errInternalSignature = errors.New("not signed by a gateway of this installation")

// internalSigner signs and verifies calls between gateways. Without secrets it
// does neither, which is allowed on loopback alone ([HTTPConfig.Check]).
type internalSigner struct {
	secrets [][]byte // the first signs, each verifies: so they can be exchanged one gateway after the other
	now     func() time.Time

	mu   sync.Mutex
	old  map[[16]byte]struct{} // nonces of the window before
	seen map[[16]byte]struct{} // nonces of this window
	turn time.Time             // when seen becomes old
}

func newInternalSigner(secrets [][]byte, now func() time.Time) *internalSigner {
	return &internalSigner{secrets: secrets, now: now}
}

func (s *internalSigner) on() bool { return len(s.secrets) > 0 }

// sign adds the header to a request to another gateway, whose body is given.
func (s *internalSigner) sign(r *http.Request, body []byte) {
	if !s.on() {
		return
	}
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails: crypto/rand
	at, n := strconv.FormatInt(s.now().UnixMilli(), 10), hex.EncodeToString(nonce[:])
	mac := internalMAC(s.secrets[0], at, n, r.Method, r.URL.Host, r.URL.RequestURI(), body)
	r.Header.Set(internalSignatureHeader, "v1 "+at+" "+n+" "+hex.EncodeToString(mac))
}

// verify checks the header of a request from another gateway. The error says
// why for the log; the caller is told no more than that it is refused.
func (s *internalSigner) verify(r *http.Request, body []byte) error {
	if !s.on() {
		return nil
	}
	parts := strings.Split(r.Header.Get(internalSignatureHeader), " ")
	if len(parts) != 4 || parts[0] != "v1" || len(parts[2]) != 32 {
		return fmt.Errorf("%w: header %s is missing or malformed", errInternalSignature, internalSignatureHeader)
	}
	ms, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return fmt.Errorf("%w: its time %q is no number", errInternalSignature, parts[1])
	}
	nonce, err1 := hex.DecodeString(parts[2])
	mac, err2 := hex.DecodeString(parts[3])
	if err1 != nil || err2 != nil {
		return fmt.Errorf("%w: its nonce or code is not hex", errInternalSignature)
	}
	valid := false
	for _, secret := range s.secrets {
		if hmac.Equal(mac, internalMAC(secret, parts[1], parts[2], r.Method, r.Host, r.URL.RequestURI(), body)) {
			valid = true
		}
	}
	if !valid {
		return fmt.Errorf("%w: its code does not match any internal secret", errInternalSignature)
	}
	now := s.now()
	if off := now.Sub(time.UnixMilli(ms)); off > internalWindow || off < -internalWindow {
		return fmt.Errorf("%w: its time is %s away from ours, more than %s: compare the clocks", errInternalSignature, off, internalWindow)
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil // a read that is repeated does no harm, and there are many
	}
	return s.remember([16]byte(nonce), now)
}

// remember refuses a nonce for the second time. Two sets take turns, each of a
// span in which a time is accepted (the window before and after), so that a
// nonce is remembered for at least as long as its time is accepted.
func (s *internalSigner) remember(nonce [16]byte, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.After(s.turn) {
		s.old, s.seen = s.seen, make(map[[16]byte]struct{})
		s.turn = now.Add(2 * internalWindow)
	}
	_, inOld := s.old[nonce]
	_, inSeen := s.seen[nonce]
	switch {
	case inOld || inSeen:
		return fmt.Errorf("%w: its nonce was used before", errInternalSignature)
	case len(s.seen) >= internalMaxNonces:
		return fmt.Errorf("%w: more than %d calls in %s", errInternalSignature, internalMaxNonces, 2*internalWindow)
	}
	s.seen[nonce] = struct{}{}
	return nil
}

func internalMAC(secret []byte, at, nonce, method, host, uri string, body []byte) []byte {
	digest := sha256.Sum256(body)
	h := hmac.New(sha256.New, secret)
	for _, part := range []string{"v1", at, nonce, method, host, uri, hex.EncodeToString(digest[:])} {
		h.Write([]byte(part))
		h.Write([]byte{'\n'})
	}
	return h.Sum(nil)
}
