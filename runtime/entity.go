package runtime

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxEntityLength is the greatest length of an [Entity] in bytes. It keeps a
// Kafka key, a Redis key and an HTTP path segment comfortably small.
const MaxEntityLength = 256

// MaxIDLength is the greatest length of a message id in bytes.
const MaxIDLength = 128

// ErrEntity is returned, wrapped with the reason, when a text is not an entity reference.
var ErrEntity = errors.New("not an entity reference")

// Entity names a thing with identity: "type:id" for the root of an aggregate
// ("checking:54321-90"), and the path through its root for an entity that lives
// inside one ("credit:77/card:7f3a").
type Entity string

// AggregateID names an aggregate by its root entity ("credit:77"). It is the
// key of every Kafka record about the aggregate, and so decides its partition.
type AggregateID string

// ParseEntity checks that s is a reference: one or more "prefix:id" segments
// joined by '/'. A prefix is a lower-case letter followed by lower-case
// letters, digits, '-' or '_'. An id is printable ASCII without '/', ':' , '#',
// '?', '%', quotes, backslash or space. The error wraps [ErrEntity].
func ParseEntity(s string) (Entity, error) {
	switch {
	case s == "":
		return "", fmt.Errorf("%w: it is empty; write it as type:id, for example checking:54321-90", ErrEntity)
	case len(s) > MaxEntityLength:
		return "", fmt.Errorf("%w: %d bytes, more than the limit of %d", ErrEntity, len(s), MaxEntityLength)
	case !utf8.ValidString(s):
		return "", fmt.Errorf("%w: it is not valid UTF-8", ErrEntity)
	}
	for segment := range strings.SplitSeq(s, "/") {
		prefix, id, ok := strings.Cut(segment, ":")
		if !ok {
			return "", fmt.Errorf("%w: %q in %q has no ':'; write it as type:id", ErrEntity, segment, s)
		}
		if !ValidPrefix(prefix) {
			return "", fmt.Errorf("%w: %q in %q is no type prefix (a lower-case letter, then lower-case letters, digits, '-' or '_')", ErrEntity, prefix, s)
		}
		if id == "" {
			return "", fmt.Errorf("%w: %q in %q has no id after ':'", ErrEntity, segment, s)
		}
		for i := range len(id) {
			if !validIDByte(id[i]) {
				return "", fmt.Errorf("%w: the id in %q has the character %q, which is not allowed", ErrEntity, s, rune(id[i]))
			}
		}
	}
	return Entity(s), nil
}

// ValidPrefix says whether p can stand before the ':' of an entity reference.
func ValidPrefix(p string) bool {
	for i := range len(p) {
		c := p[i]
		switch {
		case c >= 'a' && c <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return p != ""
}

func validIDByte(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`/:#?%"'\`, rune(c))
}

// Aggregate returns the id of the aggregate that e belongs to: its first segment.
func (e Entity) Aggregate() AggregateID {
	root, _, _ := strings.Cut(string(e), "/")
	return AggregateID(root)
}

// IsRoot says whether e is the root of its aggregate.
func (e Entity) IsRoot() bool { return !strings.Contains(string(e), "/") }

// Prefix returns the type prefix of the entity itself: of its last segment
// ("card" for "credit:77/card:7f3a").
func (e Entity) Prefix() string {
	s := string(e)
	prefix, _, _ := strings.Cut(s[strings.LastIndexByte(s, '/')+1:], ":")
	return prefix
}

// ID returns the id of the entity itself: of its last segment ("7f3a" for
// "credit:77/card:7f3a").
func (e Entity) ID() string {
	s := string(e)
	_, id, _ := strings.Cut(s[strings.LastIndexByte(s, '/')+1:], ":")
	return id
}

// Prefix returns the type prefix of the aggregate's root ("credit" for "credit:77").
func (a AggregateID) Prefix() string {
	prefix, _, _ := strings.Cut(string(a), ":")
	return prefix
}

// Root returns the aggregate's root entity.
func (a AggregateID) Root() Entity { return Entity(a) }
