package avro

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// toJSON appends the value that begins at i as plain JSON: fields in the order
// of the schema, nullable values without a tag, timestamps and dates as their
// numbers, decimals as numbers with all digits of their scale, bytes as Avro's
// JSON encoding has them. The value must have been checked. What it writes,
// fromJSON reads back to the same value.
func toJSON(dst []byte, s *shape, b []byte, i int) ([]byte, int) {
	switch s.form {
	case formRecord:
		separator := byte('{')
		for k := range s.fields {
			f := &s.fields[k]
			// A name is letters, digits and '_': there is nothing to escape.
			dst = append(append(append(dst, separator, '"'), f.name...), '"', ':')
			dst, i = toJSON(dst, f.shape, b, i)
			separator = ','
		}
		return append(dst, '}'), i
	case formString:
		n, i := long(b, i)
		return appendQuoted(dst, b[i:i+int(n)]), i + int(n)
	case formInt, formLong:
		v, i := long(b, i)
		return strconv.AppendInt(dst, v, 10), i
	case formOptional:
		if b[i] == 0 {
			return append(dst, "null"...), i + 1
		}
		return toJSON(dst, s.elem, b, i+1)
	case formEnum:
		v, i := long(b, i)
		return append(append(append(dst, '"'), s.symbols[v]...), '"'), i
	case formBoolean:
		return strconv.AppendBool(dst, b[i] == 1), i + 1
	case formFloat:
		return appendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))), 32), i + 4
	case formDouble:
		return appendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(b[i:])), 64), i + 8
	case formBytes:
		n, i := long(b, i)
		return appendBytes(dst, s, b[i:i+int(n)]), i + int(n)
	case formFixed:
		return appendBytes(dst, s, b[i:i+s.size]), i + s.size
	}
	begin, end := byte('['), byte(']')
	if s.form == formMap {
		begin, end = '{', '}'
	}
	dst = append(dst, begin)
	for first := true; ; {
		count, next := block(b, i)
		i = next
		if count == 0 {
			return append(dst, end), i
		}
		for range count {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			if s.form == formMap {
				n, from := long(b, i)
				i = from + int(n)
				dst = append(appendQuoted(dst, b[from:i]), ':')
			}
			dst, i = toJSON(dst, s.elem, b, i)
		}
	}
}

func appendFloat(dst []byte, v float64, bits int) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Infinity"`...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, bits)
}

// appendBytes appends a decimal as a number, other bytes as a string with one
// character for each.
func appendBytes(dst []byte, s *shape, raw []byte) []byte {
	if s.limit == nil {
		text := make([]byte, 0, len(raw))
		for _, x := range raw {
			text = utf8.AppendRune(text, rune(x))
		}
		return appendQuoted(dst, text)
	}
	unscaled := decimalOf(raw)
	if unscaled.Sign() < 0 {
		dst = append(dst, '-')
		unscaled.Neg(unscaled)
	}
	digits := unscaled.String()
	if s.scale == 0 {
		return append(dst, digits...)
	}
	if missing := s.scale + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) - s.scale
	return append(append(append(dst, digits[:point]...), '.'), digits[point:]...)
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends valid UTF-8 as a JSON string. It also escapes what
// HTML and JavaScript would read as something else: '<', '>', '&', U+2028 and U+2029.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' && c != 0x7f && c != 0xe2 {
			continue
		}
		if c == 0xe2 {
			// U+2028 and U+2029 are E2 80 A8 and E2 80 A9.
			if i+2 < len(text) && text[i+1] == 0x80 && text[i+2]&^1 == 0xa8 {
				dst = append(append(dst, text[from:i]...), `\u202`...)
				dst = append(dst, hexDigits[8+text[i+2]&1])
				i += 2
				from = i + 1
			}
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, text[from:]...), '"')
}
