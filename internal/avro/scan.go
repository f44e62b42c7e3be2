package avro

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON (RFC 8259) strictly and without building a tree. Methods
// that return false have noted the reason.
type scanner struct {
	b       []byte
	i       int
	scratch []byte // of the last string with escapes
	reason  string
	path    []string // innermost first
}

func (p *scanner) fail(reason string) bool {
	p.reason = reason
	return false
}

func (p *scanner) at(part string) bool {
	p.path = append(p.path, part)
	return false
}

// peek skips white space and returns the next byte, 0 at the end.
func (p *scanner) peek() byte {
	for p.i < len(p.b) {
		switch c := p.b[p.i]; c {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return c
		}
	}
	return 0
}

// expect skips white space and one byte.
func (p *scanner) expect(c byte, what string) bool {
	if p.peek() != c {
		return p.unexpected(what)
	}
	p.i++
	return true
}

// unexpected says what stands where something else should.
func (p *scanner) unexpected(wanted string) bool {
	found := "the end of the JSON"
	switch c := p.peek(); {
	case c == 0 && p.i >= len(p.b):
	case c == '{':
		found = "an object"
	case c == '[':
		found = "an array"
	case c == '"':
		found = "a string"
	case c == 't' || c == 'f':
		found = "a boolean"
	case c == 'n':
		found = "null"
	case c == '-' || c >= '0' && c <= '9':
		found = "a number"
	default:
		found = strconv.QuoteRune(rune(c))
		if c >= utf8.RuneSelf {
			found = "a byte that is not JSON"
		}
	}
	return p.fail("found " + found + " where " + wanted + " is expected")
}

// word reads a literal if it stands here as a whole.
func (p *scanner) word(w string) bool {
	p.peek()
	if len(p.b)-p.i < len(w) || string(p.b[p.i:p.i+len(w)]) != w {
		return false
	}
	p.i += len(w)
	return true
}

// number reads a number and returns its text, which is valid until the input changes.
func (p *scanner) number(wanted string) ([]byte, bool) {
	p.peek()
	from := p.i
	digits := func() bool {
		start := p.i
		for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
			p.i++
		}
		return p.i > start
	}
	if p.i < len(p.b) && p.b[p.i] == '-' {
		p.i++
	}
	start := p.i
	if !digits() {
		p.i = from
		return nil, p.unexpected(wanted)
	}
	if p.b[start] == '0' && p.i > start+1 {
		return nil, p.fail("a number must not begin with 0")
	}
	if p.i < len(p.b) && p.b[p.i] == '.' {
		p.i++
		if !digits() {
			return nil, p.fail("a number has no digit after its point")
		}
	}
	if p.i < len(p.b) && p.b[p.i]|0x20 == 'e' {
		p.i++
		if p.i < len(p.b) && (p.b[p.i] == '+' || p.b[p.i] == '-') {
			p.i++
		}
		if !digits() {
			return nil, p.fail("a number has no digit in its exponent")
		}
	}
	return p.b[from:p.i], true
}

// text reads a string. What it returns is valid until the next string is read.
func (p *scanner) text(wanted string) ([]byte, bool) {
	if p.peek() != '"' {
		return nil, p.unexpected(wanted)
	}
	p.i++
	from := p.i
	for p.i < len(p.b) {
		switch c := p.b[p.i]; {
		case c == '"':
			raw := p.b[from:p.i]
			p.i++
			if !utf8.Valid(raw) {
				return nil, p.fail("a string is not valid UTF-8")
			}
			return raw, true
		case c == '\\':
			return p.escaped(from)
		case c < ' ':
			return nil, p.fail("a string has a control character that is not escaped")
		}
		p.i++
	}
	return nil, p.fail("a string does not end")
}

// escaped goes on with a string that began at from and has its first backslash here.
func (p *scanner) escaped(from int) ([]byte, bool) {
	out := append(p.scratch[:0], p.b[from:p.i]...)
	for p.i < len(p.b) {
		c := p.b[p.i]
		p.i++
		switch {
		case c == '"':
			p.scratch = out
			if !utf8.Valid(out) {
				return nil, p.fail("a string is not valid UTF-8")
			}
			return out, true
		case c < ' ':
			return nil, p.fail("a string has a control character that is not escaped")
		case c != '\\':
			out = append(out, c)
			continue
		}
		r, ok := p.escape()
		if !ok {
			return nil, false
		}
		out = utf8.AppendRune(out, r)
	}
	return nil, p.fail("a string does not end")
}

func (p *scanner) escape() (rune, bool) {
	if p.i >= len(p.b) {
		return 0, p.fail("a string does not end")
	}
	c := p.b[p.i]
	p.i++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		r, ok := p.hex4()
		if !ok || !utf16.IsSurrogate(r) {
			return r, ok
		}
		if p.i+1 < len(p.b) && p.b[p.i] == '\\' && p.b[p.i+1] == 'u' {
			p.i += 2
			low, ok := p.hex4()
			if !ok {
				return 0, false
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, true
			}
		}
		return 0, p.fail("a string has half of a surrogate pair, which is no character")
	}
	return 0, p.fail("a string has an escape that JSON does not know")
}

func (p *scanner) hex4() (rune, bool) {
	if p.i+4 <= len(p.b) {
		if v, err := strconv.ParseUint(string(p.b[p.i:p.i+4]), 16, 16); err == nil {
			p.i += 4
			return rune(v), true
		}
	}
	return 0, p.fail(`a string has \u without four hex digits`)
}
