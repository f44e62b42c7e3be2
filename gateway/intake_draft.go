package gateway

import (
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/evento-oss/evento/runtime"
)

// intakeForm says how a message came in, which decides by what names its
// attributes are called in an error.
type intakeForm uint8

const (
	formPlain      intakeForm = iota + 1 // the plain JSON of DESIGN 4: entity, command_type, payload
	formBinary                           // CloudEvent in headers and body
	formStructured                       // CloudEvent in one JSON object, alone or in a batch
)

// intakeWants says what the route takes.
type intakeWants uint8

const (
	wantAny intakeWants = iota // the Knative ingress
	wantCommand
	wantEvent
)

// draft is a message as it came in: read, but not yet classified or validated.
type draft struct {
	form   intakeForm
	wants  intakeWants
	id     string // "" when there is none and one may be generated
	typ    string
	source string // "" when there is none and the default may be taken
	entity string
	time   time.Time // zero when there is none
	trace  string    // traceparent
	schema string    // dataschema; "" when there is none
	data   []byte
	isAvro bool // data is an Avro value; otherwise JSON text
}

// name returns what the sender calls an attribute.
func (d *draft) name(attribute string) string {
	switch d.form {
	case formPlain:
		switch attribute {
		case "subject":
			return "entity"
		case "type":
			if d.wants == wantEvent {
				return "event_type"
			}
			return "command_type"
		case "data":
			return "payload"
		}
	case formBinary:
		if attribute == "data" {
			return "body"
		}
		return "ce-" + attribute
	}
	return attribute
}

// maxSourceLength is the greatest length of a source in bytes.
const maxSourceLength = 256

// badSource returns what is wrong with a source as a CloudEvents URI
// reference, and "" when nothing is. NUL and other control characters are
// refused here, on which [runtime.NewCommandKey] relies.
func badSource(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > maxSourceLength:
		return "is longer than the limit of 256 bytes"
	case !printable(s):
		return "has control characters or is not valid UTF-8"
	case platformSource(s):
		return "begins with /evento, which only the platform uses"
	}
	if _, err := url.Parse(s); err != nil {
		return "is not a URI reference"
	}
	return ""
}

// platformSource says whether a source would be taken for the platform's own.
func platformSource(s string) bool {
	s = strings.ToLower(s)
	return s == "/evento" || strings.HasPrefix(s, "/evento/") || strings.HasPrefix(s, "/evento?") || strings.HasPrefix(s, "/evento#")
}

// badID returns what is wrong with a message id, and "" when nothing is. The
// dots are refused because the id is a path segment in Location.
func badID(id string) string {
	switch {
	case id == "":
		return "is empty"
	case len(id) > runtime.MaxIDLength:
		return "is longer than the limit of 128 bytes"
	case !printable(id):
		return "has control characters or is not valid UTF-8"
	case id == "." || id == "..":
		return "is a path of dots"
	}
	return ""
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029'
	})
}

// traceParent returns s when it is a W3C traceparent, and "" otherwise: as the
// specification (trace-context 2.2.1) wants it, a malformed one is ignored.
func traceParent(s string) string {
	if len(s) != 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" {
		return ""
	}
	for _, part := range []string{s[:2], s[3:35], s[36:52], s[53:]} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return ""
		}
	}
	if strings.Trim(s[3:35], "0") == "" || strings.Trim(s[36:52], "0") == "" {
		return ""
	}
	return s
}
