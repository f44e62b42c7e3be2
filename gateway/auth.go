package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// AuthRight is something that a principal may do.
type AuthRight string

// The rights. Send, publish and read are given by aggregate type; admin is
// about the installation and is given for all ("*").
const (
	RightSend    AuthRight = "send"    // send commands
	RightPublish AuthRight = "publish" // publish events from outside
	RightRead    AuthRight = "read"    // read state, history and outcomes
	RightAdmin   AuthRight = "admin"   // register schemas; list, retry and drop parked commands; list Triggers; metrics
)

// AuthPrincipal is who sends a request.
type AuthPrincipal struct {
	Name string
	// Source is the CloudEvents source of what the principal sends, a URI
	// reference. A source that it claims must be this one or begin with it and
	// a '/', or with one of Sources.
	Source  string
	Sources []string // further prefixes that may be claimed; "*" is any
	// Rights has for each right the names of the aggregates, or "*" for all.
	Rights map[AuthRight][]string
	// anonymous is true without authentication: all rights, any source.
	anonymous bool
}

// May says whether the principal has the right for an aggregate type.
func (p *AuthPrincipal) May(right AuthRight, aggregate string) bool {
	if p.anonymous {
		return true
	}
	granted := p.Rights[right]
	return slices.Contains(granted, "*") || aggregate != "" && slices.Contains(granted, aggregate)
}

// mayClaim says whether the principal may send under a source.
func (p *AuthPrincipal) mayClaim(source string) bool {
	if p.anonymous || source == p.Source || strings.HasPrefix(source, p.Source+"/") {
		return true
	}
	return slices.ContainsFunc(p.Sources, func(prefix string) bool {
		return prefix == "*" || strings.HasPrefix(source, prefix)
	})
}

// ErrUnauthenticated is returned by an [Authenticator] when a request carries
// no credentials, or none that are valid.
var ErrUnauthenticated = errors.New("a valid bearer token is needed")

// Authenticator finds out who sends a request. It must be safe for concurrent use.
type Authenticator interface {
	// Authenticate returns the principal. Errors wrap [ErrUnauthenticated];
	// another error means that it cannot be found out at the moment.
	Authenticate(r *http.Request) (*AuthPrincipal, error)
}

// AuthTokens are static bearer tokens, known by their SHA-256 alone.
type AuthTokens struct {
	byHash map[[sha256.Size]byte]*AuthPrincipal
}

// authTokenEntry is one entry of a token file.
type authTokenEntry struct {
	Principal string                 `json:"principal"`
	SHA256    string                 `json:"sha256"` // of the token, 64 hex digits
	Source    string                 `json:"source"` // default "/clients/<principal>"
	Sources   []string               `json:"sources"`
	Rights    map[AuthRight][]string `json:"rights"`
}

// ParseAuthTokens reads a token file: a JSON array of
//
//	{"principal": "shop", "sha256": "<64 hex digits of the token's SHA-256>",
//	 "source": "/clients/shop", "sources": ["/orders/"],
//	 "rights": {"send": ["CheckingAccount"], "read": ["*"]}}
//
// Tokens must be random and long (32 bytes from a random source), as a plain
// hash does not slow down who guesses. All problems are reported at once.
func ParseAuthTokens(file io.Reader) (*AuthTokens, error) {
	var entries []authTokenEntry
	dec := json.NewDecoder(file)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&entries); err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	if dec.More() {
		return nil, errors.New("token file: something follows the array")
	}
	tokens := &AuthTokens{byHash: make(map[[sha256.Size]byte]*AuthPrincipal, len(entries))}
	var errs []error
	for i, e := range entries {
		if err := tokens.add(e); err != nil {
			errs = append(errs, fmt.Errorf("token file: entry %d (principal %q): %w", i, e.Principal, err))
		}
	}
	if len(entries) == 0 {
		errs = append(errs, errors.New("token file: it has no entry, so nobody could do anything"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return tokens, nil
}

func (t *AuthTokens) add(e authTokenEntry) error {
	raw, err := hex.DecodeString(e.SHA256)
	if err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("sha256 %q is not 64 hex digits", e.SHA256)
	}
	hash := [sha256.Size]byte(raw)
	if e.Principal == "" {
		return errors.New("principal is empty")
	}
	if e.Source == "" {
		e.Source = "/clients/" + e.Principal
	}
	if why := badSource(e.Source); why != "" {
		return fmt.Errorf("source %q %s", e.Source, why)
	}
	for right, aggregates := range e.Rights {
		switch right {
		case RightSend, RightPublish, RightRead:
		case RightAdmin:
			if !slices.Equal(aggregates, []string{"*"}) {
				return errors.New(`right "admin" is given for all: write ["*"]`)
			}
		default:
			return fmt.Errorf("right %q is none of send, publish, read, admin", right)
		}
	}
	if other, ok := t.byHash[hash]; ok {
		return fmt.Errorf("the token is already that of principal %q", other.Name)
	}
	t.byHash[hash] = &AuthPrincipal{Name: e.Principal, Source: e.Source, Sources: e.Sources, Rights: e.Rights}
	return nil
}

// Authenticate implements [Authenticator]. What is looked up is the token's
// hash, so that the time it takes tells nothing about the tokens.
func (t *AuthTokens) Authenticate(r *http.Request) (*AuthPrincipal, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return nil, fmt.Errorf("%w: the request has no Authorization header", ErrUnauthenticated)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, fmt.Errorf("%w: the Authorization header is not one \"Bearer <token>\"", ErrUnauthenticated)
	}
	p, ok := t.byHash[sha256.Sum256([]byte(strings.TrimSpace(token)))]
	if !ok {
		return nil, fmt.Errorf("%w: the token is not known", ErrUnauthenticated)
	}
	return p, nil
}

// authAnonymous is used where no authentication is configured, which is
// allowed on loopback alone ([HTTPConfig.Check]).
type authAnonymous struct{ source string }

func (a authAnonymous) Authenticate(*http.Request) (*AuthPrincipal, error) {
	return &AuthPrincipal{Name: "anonymous", Source: a.source, anonymous: true}, nil
}
