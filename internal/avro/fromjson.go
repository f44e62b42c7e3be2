package avro

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"unicode/utf8"
)

// MaxJSON is the greatest length in bytes of the JSON that [Catalogue.FromJSON] reads.
const MaxJSON = 1 << 20

// maxEncoded bounds what JSON grows to in bytes: a list of {} may stand for
// many times its length in defaults.
const maxEncoded = 4 * MaxJSON

// fromJSON reads JSON for the shape in one pass and returns its canonical
// encoding. Keys may come in any order; unknown and repeated ones are refused,
// missing ones take the field's default. The T of a nullable field may be
// plain or tagged as in Avro's JSON encoding: {"string": "x"}.
func fromJSON(s *shape, text []byte) ([]byte, error) {
	if len(text) > MaxJSON {
		return nil, &DataError{Type: s.name, Reason: fmt.Sprintf("the JSON has %d bytes, more than the limit of %d", len(text), MaxJSON)}
	}
	p := jsonReader{scanner: scanner{b: text}, out: make([]byte, 0, len(text)), spans: make([]span, 0, 2*len(s.fields)+8)}
	if p.value(s, 0) {
		if p.peek() == 0 && p.i >= len(text) {
			return p.out, nil
		}
		p.fail("there is more after the end of the JSON value")
	}
	return nil, &DataError{Type: s.name, Path: joinPath(p.path), Reason: p.reason}
}

// jsonReader appends the encoding of what it reads to out.
type jsonReader struct {
	scanner
	out   []byte
	spans []span // of the fields of the records that are open, in schema order
}

func (p *jsonReader) value(s *shape, depth int) bool {
	if depth >= maxDepth && (s.form == formRecord || s.form == formArray || s.form == formMap) {
		return p.fail(tooDeep)
	}
	switch s.form {
	case formRecord:
		return p.record(s, depth)
	case formString:
		text, ok := p.text("a string")
		if !ok {
			return false
		}
		if s.logical == "uuid" && !validUUID(text) {
			return p.fail("the text is not a UUID")
		}
		p.out = append(appendLong(p.out, int64(len(text))), text...)
		return true
	case formInt, formLong:
		return p.integer(s)
	case formOptional:
		if p.word("null") {
			p.out = append(p.out, 0)
			return true
		}
		p.out = append(p.out, 2)
		return p.branch(s.elem, depth)
	case formEnum:
		text, ok := p.text("a string, one of the enum's symbols,")
		if !ok {
			return false
		}
		ordinal, ok := s.ordinals[string(text)]
		if !ok {
			return p.fail(fmt.Sprintf("%s is no symbol of %s, which has %v", pathKey(string(text)), s.name, s.symbols))
		}
		p.out = appendLong(p.out, int64(ordinal))
		return true
	case formBoolean:
		switch {
		case p.word("true"):
			p.out = append(p.out, 1)
		case p.word("false"):
			p.out = append(p.out, 0)
		default:
			return p.unexpected("true or false")
		}
		return true
	case formArray:
		return p.array(s, depth)
	case formMap:
		return p.mapping(s, depth)
	case formFloat, formDouble:
		return p.float(s)
	}
	return p.binary(s)
}

// record reads an object. The fields' encodings are appended as they come, and
// put into the schema's order at the end if they came in another.
func (p *jsonReader) record(s *shape, depth int) bool {
	if !p.expect('{', "an object for "+s.name) {
		return false
	}
	base, mine := len(p.out), len(p.spans)
	for range s.fields {
		p.spans = append(p.spans, span{-1, -1})
	}
	inOrder, next := true, 0
	for first := true; ; first = false {
		if p.peek() == '}' && first {
			p.i++
			break
		}
		key, ok := p.text("a key")
		if !ok {
			return false
		}
		k, known := s.index[string(key)]
		if !known {
			p.fail("there is no such field in " + s.name)
			return p.at(pathName(string(key)))
		}
		name := s.fields[k].name
		if p.spans[mine+k].from >= 0 {
			p.fail("the key stands here twice")
			return p.at(name)
		}
		if !p.expect(':', "':'") {
			return p.at(name)
		}
		inOrder = inOrder && k == next
		next = k + 1
		from := len(p.out)
		if !p.value(s.fields[k].shape, depth+1) {
			return p.at(name)
		}
		p.spans[mine+k] = span{from, len(p.out)}
		if p.peek() == '}' {
			p.i++
			break
		}
		if !p.expect(',', "',' or '}'") {
			return false
		}
	}
	spans := p.spans[mine:]
	p.spans = p.spans[:mine]
	if inOrder && next == len(s.fields) {
		return true
	}
	end := len(p.out)
	for k, at := range spans {
		f := &s.fields[k]
		switch {
		case at.from >= 0:
			p.out = append(p.out, p.out[at.from:at.to]...)
		case f.preset != nil:
			p.out = append(p.out, f.preset...)
			if len(p.out) > maxEncoded {
				return p.fail("with its defaults the value takes more than 4 MiB")
			}
		default:
			p.fail("the field is missing and has no default")
			return p.at(f.name)
		}
	}
	p.out = append(p.out[:base], p.out[end:]...)
	return true
}

// pathName writes an unknown key as a part of a path.
func pathName(key string) string {
	for _, r := range key {
		if r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') || len(key) > 64 {
			return pathKey(key)
		}
	}
	if key == "" {
		return `[""]`
	}
	return key
}

// branch reads the T of a nullable field, plain or tagged.
func (p *jsonReader) branch(s *shape, depth int) bool {
	if p.peek() != '{' {
		return p.value(s, depth)
	}
	from := p.i
	if !p.tag(s) {
		p.i, p.reason = from, ""
		return p.value(s, depth)
	}
	if !p.value(s, depth) {
		return false
	}
	return p.expect('}', "'}' after the value of the union's branch")
}

// tag reads the beginning of a tagged value, {"<name of T>":, if this is one.
// A record's tag has a dot, which no field has. A map's tag could also be a key
// of the map: it counts as a tag where it is followed by an object that could
// not be a value of the map.
func (p *jsonReader) tag(s *shape) bool {
	if s.form == formMap && (s.elem.form == formMap || s.elem.form == formRecord || s.elem.form == formOptional) {
		return false
	}
	p.i++
	name, ok := p.text("")
	if !ok || string(name) != s.name || p.peek() != ':' {
		return false
	}
	p.i++
	return s.form != formMap || p.peek() == '{'
}

func (p *jsonReader) array(s *shape, depth int) bool {
	if !p.expect('[', "an array") {
		return false
	}
	base, count := len(p.out), 0
	if p.peek() == ']' {
		p.i++
		p.out = append(p.out, 0)
		return true
	}
	for {
		if !p.value(s.elem, depth+1) {
			return p.at("[" + strconv.Itoa(count) + "]")
		}
		count++
		if p.peek() == ']' {
			p.i++
			p.out = closeBlock(p.out, base, count)
			return true
		}
		if !p.expect(',', "',' or ']'") {
			return false
		}
	}
}

// mapping reads the entries as they come and sorts them by key at the end.
func (p *jsonReader) mapping(s *shape, depth int) bool {
	if !p.expect('{', "an object") {
		return false
	}
	if p.peek() == '}' {
		p.i++
		p.out = append(p.out, 0)
		return true
	}
	type keyed struct{ key, whole span }
	var entries []keyed
	base, sorted := len(p.out), true
	compare := func(x, y keyed) int { return bytes.Compare(p.out[x.key.from:x.key.to], p.out[y.key.from:y.key.to]) }
	for {
		key, ok := p.text("a key")
		if !ok {
			return false
		}
		from := len(p.out)
		p.out = append(appendLong(p.out, int64(len(key))), key...)
		e := keyed{key: span{len(p.out) - len(key), len(p.out)}}
		if !p.expect(':', "':'") || !p.value(s.elem, depth+1) {
			return p.at(pathKey(string(p.out[e.key.from:e.key.to])))
		}
		e.whole = span{from, len(p.out)}
		sorted = sorted && (len(entries) == 0 || compare(entries[len(entries)-1], e) < 0)
		entries = append(entries, e)
		if p.peek() == '}' {
			p.i++
			break
		}
		if !p.expect(',', "',' or '}'") {
			return false
		}
	}
	if !sorted {
		slices.SortFunc(entries, compare)
		end := len(p.out)
		for k, e := range entries {
			if k > 0 && compare(entries[k-1], e) == 0 {
				p.fail("the key stands here twice")
				return p.at(pathKey(string(p.out[e.key.from:e.key.to])))
			}
			p.out = append(p.out, p.out[e.whole.from:e.whole.to]...)
		}
		p.out = append(p.out[:base], p.out[end:]...)
	}
	p.out = closeBlock(p.out, base, len(entries))
	return true
}

func (p *jsonReader) integer(s *shape) bool {
	number, ok := p.number("a whole number")
	if !ok {
		return false
	}
	if bytes.ContainsAny(number, ".eE") {
		return p.fail("an " + s.name + " is written without fraction or exponent")
	}
	bits := 64
	if s.form == formInt {
		bits = 32
	}
	v, err := strconv.ParseInt(string(number), 10, bits)
	if err != nil {
		return p.fail("the number does not fit " + strconv.Itoa(bits) + " bits")
	}
	c := checker{}
	if !c.logicalRange(s, v) {
		return p.fail(c.reason)
	}
	p.out = appendLong(p.out, v)
	return true
}

// float reads a number, or "NaN", "Infinity" and "-Infinity" as Java writes them.
func (p *jsonReader) float(s *shape) bool {
	var v float64
	if p.peek() == '"' {
		text, ok := p.text("a number")
		if !ok {
			return false
		}
		switch string(text) {
		case "NaN":
			v = math.NaN()
		case "Infinity":
			v = math.Inf(1)
		case "-Infinity":
			v = math.Inf(-1)
		default:
			return p.fail(`found a string where a number, "NaN", "Infinity" or "-Infinity" is expected`)
		}
	} else {
		number, ok := p.number("a number")
		if !ok {
			return false
		}
		bits := 64
		if s.form == formFloat {
			bits = 32
		}
		var err error
		if v, err = strconv.ParseFloat(string(number), bits); err != nil {
			return p.fail("the number is too great for a " + s.name)
		}
	}
	if s.form == formFloat {
		p.out = binary.LittleEndian.AppendUint32(p.out, math.Float32bits(float32(v)))
	} else {
		p.out = binary.LittleEndian.AppendUint64(p.out, math.Float64bits(v))
	}
	return true
}

// binary reads bytes and fixed: a decimal as a number, all else as a string
// whose characters are bytes, U+0000 to U+00FF, as Avro's JSON encoding has it.
func (p *jsonReader) binary(s *shape) bool {
	var raw []byte
	if s.limit != nil {
		if p.peek() == '"' {
			// As bytes, "100.00" would be the number 54083036524592.
			return p.fail("a decimal is written as a number, without quotes")
		}
		number, ok := p.number("a number")
		if !ok {
			return false
		}
		var reason string
		if raw, reason = encodeDecimal(s, number); reason != "" {
			return p.fail(reason)
		}
	} else {
		text, ok := p.text("a string with one character for each byte")
		if !ok {
			return false
		}
		raw = make([]byte, 0, len(text))
		for len(text) > 0 {
			r, n := utf8.DecodeRune(text)
			if r > 0xff {
				return p.fail("a character beyond U+00FF is no byte")
			}
			raw = append(raw, byte(r))
			text = text[n:]
		}
	}
	if s.form == formBytes {
		p.out = appendLong(p.out, int64(len(raw)))
	} else if len(raw) != s.size {
		return p.fail(fmt.Sprintf("the string has %d characters, but %s has %d bytes", len(raw), s.name, s.size))
	}
	p.out = append(p.out, raw...)
	return true
}

// encodeDecimal turns a JSON number into the two's complement of the decimal,
// shortest for bytes, sign-extended for fixed. The number must have the
// decimal's value exactly. A reason that is not "" says why not.
func encodeDecimal(s *shape, number []byte) (raw []byte, reason string) {
	negative := number[0] == '-'
	if negative {
		number = number[1:]
	}
	mantissa, exponentText := number, []byte(nil)
	if k := bytes.IndexAny(number, "eE"); k >= 0 {
		mantissa, exponentText = number[:k], number[k+1:]
	}
	exponent := 0
	if exponentText != nil {
		var err error
		if exponent, err = strconv.Atoi(string(exponentText)); err != nil {
			return nil, "the exponent is out of range"
		}
	}
	digits := make([]byte, 0, len(mantissa))
	for k, c := range mantissa {
		if c == '.' {
			exponent -= len(mantissa) - k - 1
		} else {
			digits = append(digits, c)
		}
	}
	digits = bytes.TrimLeft(digits, "0")
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
		exponent++
	}
	unscaled := new(big.Int)
	if len(digits) > 0 {
		zeros := exponent + s.scale
		if zeros < 0 {
			return nil, fmt.Sprintf("the decimal has %d digits after its point, the number more", s.scale)
		}
		if zeros > s.precision || len(digits)+zeros > s.precision {
			return nil, fmt.Sprintf("the decimal has more than %d digits", s.precision)
		}
		unscaled.SetString(string(digits)+string(bytes.Repeat([]byte{'0'}, zeros)), 10)
	}
	if negative {
		unscaled.Neg(unscaled)
	}
	// One more bit than the number for its sign; of -128 it is the same byte.
	bits := unscaled.BitLen()
	if negative {
		bits = new(big.Int).Not(unscaled).BitLen()
	}
	size := bits/8 + 1
	if s.form == formFixed {
		if size > s.size {
			return nil, fmt.Sprintf("the decimal does not fit %d bytes", s.size)
		}
		size = s.size
	}
	if unscaled.Sign() < 0 {
		unscaled.Add(unscaled, new(big.Int).Lsh(big.NewInt(1), uint(size)*8))
	}
	return unscaled.FillBytes(make([]byte, size)), ""
}
