package check

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

const (
	// maxDepth is how deep values may lie in each other. gogen-avro takes some
	// frames of Go's stack for each level.
	maxDepth = 128
	// maxEmpty is how many elements may stand in arrays and maps whose elements
	// take no bytes, in all: the bytes do not limit them.
	maxEmpty = 4096
)

// ErrBytes is returned, wrapped with what and where, for bytes that are not
// exactly one value of the schema.
var ErrBytes = errors.New("not a value of its schema")

// Check says whether data is one whole value of the schema and nothing else: every length and
// count fits in what is left, enum and union indexes exist, numbers are in range, texts are UTF-8,
// and values lie at most 128 deep. It allocates nothing unless it fails.
func (s *Schema) Check(data []byte) error {
	w := walker{data: data}
	if err := w.value(s.root, 0); err != nil {
		return err
	}
	if w.pos != len(data) {
		return w.fail("%d bytes follow the value", len(data)-w.pos)
	}
	return nil
}

type walker struct {
	data  []byte
	pos   int
	empty int // elements without bytes seen
}

func (w *walker) fail(format string, args ...any) error {
	return fmt.Errorf("%w: byte %d: %s", ErrBytes, w.pos, fmt.Sprintf(format, args...))
}

func (w *walker) left() int { return len(w.data) - w.pos }

func (w *walker) value(n *node, depth int) error {
	if depth > maxDepth {
		return w.fail("values lie more than %d deep in each other", maxDepth)
	}
	switch n.kind {
	case kindNull:
		return nil
	case kindBoolean:
		if w.left() < 1 {
			return w.fail("a boolean is cut off")
		}
		if w.data[w.pos] > 1 {
			return w.fail("a boolean is %d, not 0 or 1", w.data[w.pos])
		}
		w.pos++
		return nil
	case kindInt:
		v, err := w.long()
		if err == nil && (v < math.MinInt32 || v > math.MaxInt32) {
			return w.fail("%d is no int of 32 bits", v)
		}
		return err
	case kindLong:
		_, err := w.long()
		return err
	case kindFloat:
		return w.skip(4)
	case kindDouble:
		return w.skip(8)
	case kindFixed:
		return w.skip(int64(n.size))
	case kindBytes:
		size, err := w.long()
		if err != nil {
			return err
		}
		return w.skip(size)
	case kindString:
		return w.text()
	case kindEnum:
		v, err := w.long()
		if err != nil {
			return err
		}
		if v < 0 || v >= int64(n.size) {
			return w.fail("enum %q has no symbol %d", n.name, v)
		}
		return nil
	case kindUnion:
		v, err := w.long()
		if err != nil {
			return err
		}
		if v < 0 || v >= int64(len(n.children)) {
			return w.fail("a union of %d has no branch %d", len(n.children), v)
		}
		return w.value(n.children[v], depth+1)
	case kindRecord:
		for i, c := range n.children {
			if err := w.value(c, depth+1); err != nil {
				return fmt.Errorf("%s: %w", n.names[i], err)
			}
		}
		return nil
	default:
		return w.blocks(n, depth)
	}
}

// blocks walks an array or map: blocks of a count and that many elements, ended
// by the count 0. A negative count is followed by the block's size in bytes.
func (w *walker) blocks(n *node, depth int) error {
	element := n.children[0]
	least := element.least
	if n.kind == kindMap {
		least++ // the length of the key
	}
	for {
		count, err := w.long()
		if err != nil || count == 0 {
			return err
		}
		end := -1
		if count < 0 {
			size, err := w.long()
			if err != nil {
				return err
			}
			if size < 0 || size > int64(w.left()) {
				return w.fail("a block of %d bytes, %d are left", size, w.left())
			}
			end = w.pos + int(size)
			if count == math.MinInt64 {
				return w.fail("a block of %d elements", count)
			}
			count = -count
		}
		if least > 0 && count > int64(w.left()/least) {
			return w.fail("a block of %d elements, %d bytes are left", count, w.left())
		}
		if least == 0 {
			if count > int64(maxEmpty-w.empty) {
				return w.fail("more than %d elements without bytes", maxEmpty)
			}
			w.empty += int(count)
		}
		for range count {
			if n.kind == kindMap {
				if err := w.text(); err != nil {
					return err
				}
			}
			if err := w.value(element, depth+1); err != nil {
				return err
			}
		}
		if end >= 0 && w.pos != end {
			return w.fail("a block ends %d bytes from where it said", w.pos-end)
		}
	}
}

// long reads a zig-zag number of at most 64 bits.
func (w *walker) long() (int64, error) {
	u, n := binary.Uvarint(w.data[w.pos:])
	switch {
	case n == 0:
		return 0, w.fail("a number is cut off")
	case n < 0:
		return 0, w.fail("a number has more than 64 bits")
	}
	w.pos += n
	return int64(u>>1) ^ -int64(u&1), nil
}

func (w *walker) skip(size int64) error {
	if size < 0 || size > int64(w.left()) {
		return w.fail("a value of %d bytes, %d are left", size, w.left())
	}
	w.pos += int(size)
	return nil
}

func (w *walker) text() error {
	size, err := w.long()
	if err != nil {
		return err
	}
	start := w.pos
	if err := w.skip(size); err != nil {
		return err
	}
	if !utf8.Valid(w.data[start:w.pos]) {
		w.pos = start
		return w.fail("a string is not valid UTF-8")
	}
	return nil
}
