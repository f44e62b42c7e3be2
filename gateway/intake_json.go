package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// The outermost layer of JSON that comes in. The text is checked by
// encoding/json first; it is taken apart by hand, as its decoder takes duplicate
// keys silently and, token by token, allocates 40 times for a command.

// maxJSONKeys bounds the keys of the outer object: an envelope has a few.
const maxJSONKeys = 64

// checkJSON checks that body is one JSON value in UTF-8 and nothing more.
// Errors are problems.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return fail(problemMalformed, "the body is not valid UTF-8")
	}
	if json.Valid(body) {
		return nil
	}
	var value json.RawMessage
	err := json.Unmarshal(body, &value)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fail(problemMalformed, "the body is not JSON: %s (at byte %d)", syntax, syntax.Offset)
	}
	return fail(problemMalformed, "the body is not JSON: %v", err)
}

// walkJSONObject calls visit for each member of the one object that body is,
// in order. Duplicate keys and anything after the object are refused. What
// visit returns ends the walk. The value is part of body. Errors are problems.
func walkJSONObject(body []byte, visit func(key string, value []byte) error) error {
	if err := checkJSON(body); err != nil {
		return err
	}
	p := jsonParts{b: body}
	if p.space(); p.b[p.i] != '{' {
		return fail(problemMalformed, "the body is not a JSON object")
	}
	var few [16]string
	seen := few[:0]
	for p.next('}') {
		key, _ := jsonText(p.value())
		p.next(0) // the colon
		value := p.value()
		for _, other := range seen {
			if other == key {
				return fail(problemDuplicate, "the key %q is given more than once", key).field(key)
			}
		}
		if len(seen) == maxJSONKeys {
			return fail(problemMalformed, "the object has more than %d keys", maxJSONKeys)
		}
		seen = append(seen, key)
		if err := visit(key, value); err != nil {
			return err
		}
	}
	return nil
}

// splitJSONArray returns the elements of the one array that body is.
func splitJSONArray(body []byte, limit int) ([][]byte, error) {
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	p := jsonParts{b: body}
	if p.space(); p.b[p.i] != '[' {
		return nil, fail(problemMalformed, "the body of a batch is not a JSON array")
	}
	var items [][]byte
	for p.next(']') {
		if len(items) == limit {
			return nil, fail(problemTooLarge, "the batch has more than %d items, the limit that is set by %s", limit, settingBatch).limit(settingBatch, int64(limit))
		}
		items = append(items, p.value())
	}
	return items, nil
}

// jsonText returns the text of a JSON string; false for any other value.
func jsonText(value []byte) (string, bool) {
	if value[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), true
	}
	var text string
	return text, json.Unmarshal(value, &text) == nil
}

// jsonParts takes JSON apart that is known to be valid.
type jsonParts struct {
	b []byte
	i int
}

func (p *jsonParts) space() {
	for p.i < len(p.b) && (p.b[p.i] == ' ' || p.b[p.i] == '\n' || p.b[p.i] == '\t' || p.b[p.i] == '\r') {
		p.i++
	}
}

// next steps over the opening, comma or colon that stands here and says
// whether a value follows, which is not so before the end.
func (p *jsonParts) next(end byte) bool {
	if p.b[p.i] == end {
		return false
	}
	p.i++
	p.space()
	return p.b[p.i] != end
}

// value returns the value that begins here, and steps to what follows it.
func (p *jsonParts) value() []byte {
	from := p.i
	depth := 0
	for {
		switch p.b[p.i] {
		case '"':
			p.text()
		case '{', '[':
			depth++
			p.i++
		case '}', ']':
			depth--
			p.i++
		case ' ', '\n', '\t', '\r', ',', ':':
			p.i++ // inside: outside a value has ended before
		default:
			p.scalar()
		}
		if depth == 0 {
			break
		}
	}
	value := p.b[from:p.i]
	p.space()
	return value
}

// text steps over a string.
func (p *jsonParts) text() {
	for p.i++; p.b[p.i] != '"'; p.i++ {
		if p.b[p.i] == '\\' {
			p.i++
		}
	}
	p.i++
}

// scalar steps over a number, true, false or null.
func (p *jsonParts) scalar() {
	for p.i < len(p.b) && strings.IndexByte(" \n\t\r,:]}", p.b[p.i]) < 0 {
		p.i++
	}
}
