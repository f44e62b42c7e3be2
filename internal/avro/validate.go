package avro

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// check reads one value of the shape from data and refuses whatever a strict
// reader must refuse: bytes that are missing or left over, lengths and counts
// that the input cannot hold, numbers out of range or not in their shortest
// form, text that is not UTF-8, a block whose byte size is wrong, a key that a
// map has twice. It allocates nothing for a good value without maps, takes time
// linear in the input and stack bounded by [maxDepth].
func check(s *shape, data []byte) error {
	c := checker{b: data}
	if c.value(s, 0) {
		if c.i == len(data) {
			return nil
		}
		c.reason = fmt.Sprintf("%d bytes are left over after the value", len(data)-c.i)
	}
	return &DataError{Type: s.name, Path: joinPath(c.path), Reason: c.reason}
}

// checker is the state of one check. Methods return false after noting the
// reason; callers on the way out add their part of the path.
type checker struct {
	b      []byte
	i      int
	reason string
	path   []string // innermost first
}

func (c *checker) fail(reason string) bool {
	c.reason = reason
	return false
}

func (c *checker) at(part string) bool {
	c.path = append(c.path, part)
	return false
}

const truncated = "the bytes end in the middle of the value"

func (c *checker) value(s *shape, depth int) bool {
	switch s.form {
	case formRecord:
		if depth >= maxDepth {
			return c.fail(tooDeep)
		}
		for i := range s.fields {
			if f := &s.fields[i]; !c.value(f.shape, depth+1) {
				return c.at(f.name)
			}
		}
		return true
	case formString:
		text, ok := c.chunk()
		if !ok {
			return false
		}
		if !utf8.Valid(text) {
			return c.fail("the text is not valid UTF-8")
		}
		if s.logical == "uuid" && !validUUID(text) {
			return c.fail("the text is not a UUID")
		}
		return true
	case formLong:
		v, ok := c.long()
		return ok && c.logicalRange(s, v)
	case formInt:
		v, ok := c.long()
		if ok && (v < math.MinInt32 || v > math.MaxInt32) {
			return c.fail("the number does not fit an int")
		}
		return ok && c.logicalRange(s, v)
	case formOptional:
		v, ok := c.long()
		if !ok {
			return false
		}
		switch v {
		case 0:
			return true
		case 1:
			return c.value(s.elem, depth)
		}
		return c.fail("the union has no branch " + strconv.FormatInt(v, 10))
	case formEnum:
		v, ok := c.long()
		if ok && (v < 0 || v >= int64(len(s.symbols))) {
			return c.fail("the enum has no symbol number " + strconv.FormatInt(v, 10))
		}
		return ok
	case formBoolean:
		if c.i >= len(c.b) {
			return c.fail(truncated)
		}
		if c.b[c.i] > 1 {
			return c.fail("a boolean is a byte 0 or 1")
		}
		c.i++
		return true
	case formBytes:
		raw, ok := c.chunk()
		return ok && (s.limit == nil || c.decimal(s, raw))
	case formFixed:
		raw, ok := c.take(s.size)
		return ok && (s.limit == nil || c.decimal(s, raw))
	case formFloat:
		_, ok := c.take(4)
		return ok
	case formDouble:
		_, ok := c.take(8)
		return ok
	case formArray:
		return c.array(s, depth)
	case formMap:
		return c.mapping(s, depth)
	}
	return c.fail("the schema has a form that is not known") // not reached: compile makes no other
}

const tooDeep = "the value nests more than 256 levels deep"

func (c *checker) take(n int) ([]byte, bool) {
	if n > len(c.b)-c.i {
		return nil, c.fail(truncated)
	}
	c.i += n
	return c.b[c.i-n : c.i], true
}

// chunk reads a length and that many bytes.
func (c *checker) chunk() ([]byte, bool) {
	n, ok := c.long()
	if !ok {
		return nil, false
	}
	if n < 0 || n > int64(len(c.b)-c.i) {
		return nil, c.fail("the length " + strconv.FormatInt(n, 10) + " is not in the remaining " + strconv.Itoa(len(c.b)-c.i) + " bytes")
	}
	c.i += int(n)
	return c.b[c.i-int(n) : c.i], true
}

// long reads a zigzag varint in its shortest form.
func (c *checker) long() (int64, bool) {
	var u uint64
	for shift := uint(0); ; shift += 7 {
		if c.i >= len(c.b) {
			return 0, c.fail(truncated)
		}
		x := c.b[c.i]
		c.i++
		if shift == 63 && x > 1 {
			return 0, c.fail("the number does not fit 64 bits")
		}
		u |= uint64(x&0x7f) << shift
		if x < 0x80 {
			if x == 0 && shift > 0 {
				return 0, c.fail("the number is not in its shortest form")
			}
			return int64(u>>1) ^ -int64(u&1), true
		}
	}
}

func (c *checker) logicalRange(s *shape, v int64) bool {
	var day int64
	switch s.logical {
	case "time-millis":
		day = 24 * 60 * 60 * 1000
	case "time-micros":
		day = 24 * 60 * 60 * 1000_000
	default:
		return true
	}
	if v < 0 || v >= day {
		return c.fail("a " + s.logical + " is from 0 to less than one day")
	}
	return true
}

func (c *checker) decimal(s *shape, raw []byte) bool {
	if len(raw) == 0 {
		return c.fail("a decimal has at least one byte")
	}
	// Fewer bits than 3 a digit cannot reach the limit.
	if len(raw)*8 <= s.precision*3 {
		return true
	}
	if decimalOf(raw).CmpAbs(s.limit) >= 0 {
		return c.fail("the decimal has more than " + strconv.Itoa(s.precision) + " digits")
	}
	return true
}

// decimalOf reads a big-endian two's complement number.
func decimalOf(raw []byte) *big.Int {
	v := new(big.Int).SetBytes(raw)
	if raw[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(len(raw))*8))
	}
	return v
}

// block reads the head of a block of an array or map: the count of its items
// (0 ends the value) and where it must end, -1 when it does not say.
func (c *checker) block(least int) (count, end int, ok bool) {
	n, ok := c.long()
	if !ok || n == 0 {
		return 0, -1, ok
	}
	end = -1
	if n < 0 {
		if n == math.MinInt64 {
			return 0, 0, c.fail("the count of a block is out of range")
		}
		n = -n
		size, ok := c.long()
		if !ok {
			return 0, 0, false
		}
		if size < 0 || size > int64(len(c.b)-c.i) {
			return 0, 0, c.fail("the byte size of a block is not in the remaining bytes")
		}
		end = c.i + int(size)
	}
	if n > int64((len(c.b)-c.i)/least) {
		return 0, 0, c.fail("a block of " + strconv.FormatInt(n, 10) + " items is not in the remaining " + strconv.Itoa(len(c.b)-c.i) + " bytes")
	}
	return int(n), end, true
}

const badBlock = "the byte size of a block is not the size of its items"

func (c *checker) array(s *shape, depth int) bool {
	if depth >= maxDepth {
		return c.fail(tooDeep)
	}
	for index := 0; ; {
		count, end, ok := c.block(s.elem.least)
		if !ok || count == 0 {
			return ok
		}
		for range count {
			if !c.value(s.elem, depth+1) {
				return c.at("[" + strconv.Itoa(index) + "]")
			}
			index++
		}
		if end >= 0 && c.i != end {
			return c.fail(badBlock)
		}
	}
}

// span is a part of a byte slice.
type span struct{ from, to int }

func (c *checker) mapping(s *shape, depth int) bool {
	if depth >= maxDepth {
		return c.fail(tooDeep)
	}
	var few [8]span
	keys := few[:0]
	for {
		count, end, ok := c.block(1 + s.elem.least)
		if !ok {
			return false
		}
		if count == 0 {
			break
		}
		for range count {
			key, ok := c.chunk()
			if !ok {
				return c.at("<key>")
			}
			if !utf8.Valid(key) {
				c.fail("a key is not valid UTF-8")
				return c.at("<key>")
			}
			keys = append(keys, span{c.i - len(key), c.i})
			if !c.value(s.elem, depth+1) {
				return c.at(pathKey(string(key)))
			}
		}
		if end >= 0 && c.i != end {
			return c.fail(badBlock)
		}
	}
	if len(keys) < 2 {
		return true
	}
	compare := func(x, y span) int { return bytes.Compare(c.b[x.from:x.to], c.b[y.from:y.to]) }
	slices.SortFunc(keys, compare)
	for i := 1; i < len(keys); i++ {
		if compare(keys[i-1], keys[i]) == 0 {
			c.fail("the map has this key twice")
			return c.at(pathKey(string(c.b[keys[i].from:keys[i].to])))
		}
	}
	return true
}

func validUUID(text []byte) bool {
	if len(text) != 36 {
		return false
	}
	for i, x := range text {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if x != '-' {
				return false
			}
		case x >= '0' && x <= '9', x >= 'a' && x <= 'f', x >= 'A' && x <= 'F':
		default:
			return false
		}
	}
	return true
}

// pathKey writes a key of a map as a part of a path, shortened: it comes from outside.
func pathKey(key string) string {
	const most = 64
	if len(key) > most {
		key = strings.ToValidUTF8(key[:most], "") + "..."
	}
	return "[" + strconv.Quote(key) + "]"
}

// joinPath joins the parts of a path, given innermost first.
func joinPath(parts []string) string {
	var b strings.Builder
	for _, part := range slices.Backward(parts) {
		if b.Len() > 0 && part[0] != '[' {
			b.WriteByte('.')
		}
		b.WriteString(part)
	}
	return b.String()
}
