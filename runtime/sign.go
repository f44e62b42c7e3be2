package runtime

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// headerSignature carries "v1 <unix seconds> <audience> <hex HMAC-SHA256>". The
// code is over method, audience, time and the SHA-256 of the body, a line each
// (so none of them can run into the next).
const headerSignature = "Evento-Signature"

// signatureWindow is how far the clocks of both ends may be apart, and so how
// long a recorded call can be sent again. Functions have no state, so a call
// that is sent again changes nothing; it only costs.
const signatureWindow = 5 * time.Minute

// MinKeyLength is the least length of a signing key in bytes.
const MinKeyLength = 16

// Key is a secret that gateway and functions share. It does not print itself.
type Key []byte

// String hides the key.
func (Key) String() string { return "(key)" }

// GoString hides the key.
func (Key) GoString() string { return "(key)" }

// ParseKeys reads the text of a secret: one key a line, the first one signs and
// all of them verify, so that a key can be changed without a stop. An empty text
// or a key shorter than [MinKeyLength] is an error.
func ParseKeys(text []byte) ([]Key, error) {
	var keys []Key
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(line) < MinKeyLength {
			return nil, fmt.Errorf("a signing key has %d bytes, fewer than %d", len(line), MinKeyLength)
		}
		keys = append(keys, Key(line))
	}
	if len(keys) == 0 {
		return nil, errors.New("the signing key is empty")
	}
	return keys, nil
}

// Audience returns the name of the function that a URL calls, as both ends see
// it: what follows /function/ on an OpenFaaS gateway (without the namespace
// behind a dot), else the first label of the host, as Knative names it, else
// host and port.
func Audience(u *url.URL) string {
	segments := strings.Split(strings.Trim(u.Path, "/"), "/")
	for i, s := range segments[:len(segments)-1] {
		if s == "function" {
			name, _, _ := strings.Cut(segments[i+1], ".")
			return name
		}
	}
	host := u.Hostname()
	if label, _, ok := strings.Cut(host, "."); ok && net.ParseIP(host) == nil {
		return label
	}
	if net.ParseIP(host) != nil {
		return u.Host
	}
	return host
}

func sign(k Key, method, audience string, at time.Time, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	return "v1 " + seconds + " " + url.QueryEscape(audience) + " " + hex.EncodeToString(mac(k, method, audience, seconds, body))
}

func mac(k Key, method, audience, seconds string, body []byte) []byte {
	sum := sha256.Sum256(body)
	h := hmac.New(sha256.New, k)
	h.Write([]byte("evento v1\n" + method + "\n" + audience + "\n" + seconds + "\n" + hex.EncodeToString(sum[:])))
	return h.Sum(nil)
}

// verify says why a request is not to be trusted, or nil. An empty audience of
// ours means that we do not know our name: then any is accepted.
func verify(keys []Key, header, method, audience string, now time.Time, body []byte) error {
	if header == "" {
		return fmt.Errorf("the call has no %s header, and this function has a key", headerSignature)
	}
	parts := strings.Split(header, " ")
	if len(parts) != 4 || parts[0] != "v1" {
		return fmt.Errorf("the %s header is not \"v1 <seconds> <audience> <hex>\"", headerSignature)
	}
	seconds, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return fmt.Errorf("the time in %s is no number", headerSignature)
	}
	theirs, err := url.QueryUnescape(parts[2])
	if err != nil {
		return fmt.Errorf("the audience in %s is not escaped rightly", headerSignature)
	}
	got, err := hex.DecodeString(parts[3])
	if err != nil {
		return fmt.Errorf("the code in %s is no hex", headerSignature)
	}
	ok := false
	for _, k := range keys {
		// All keys are tried, so that time does not tell which one fits.
		ok = hmac.Equal(got, mac(k, method, theirs, parts[1], body)) || ok
	}
	switch {
	case !ok:
		return errors.New("the signature is wrong: caller and function have different keys, or the body was changed on the way")
	case audience != "" && theirs != audience:
		return fmt.Errorf("the call is signed for %q, this is %q; where its URL has another name than it, set EVENTO_FUNCTION", theirs, audience)
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > signatureWindow || age < -signatureWindow {
		return fmt.Errorf("the call was signed %s ago by the caller's clock, outside %s; set both clocks", age.Truncate(time.Second), signatureWindow)
	}
	return nil
}
