package avro

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/evento-oss/evento/runtime"
	twmb "github.com/twmb/avro"
)

// resolution brings values from a writer's schema to a reader's, by the rules
// of Avro's specification ("Schema Resolution"), bytes to bytes.
type resolution struct {
	writer *shape
	root   *conversion // nil when the bytes mean the same under both
}

// conversion is one step of a resolution. Conversions of recursive schemas are cyclic.
type conversion struct {
	act      act
	writer   *shape
	elem     *conversion
	ordinals []int64     // actEnum: the reader's for each of the writer's
	fields   []fieldStep // actRecord
	ordered  bool        // actRecord: the fields that both have stand in the same order
}

type act uint8

const (
	actCopy         act = iota // the bytes stay
	actRecord                  //
	actBlocks                  // arrays and maps: convert the elements
	actOptional                // convert the value if there is one
	actWrap                    // T to ["null", T]
	actEnum                    // other ordinals
	actText                    // bytes to string: the bytes stay if they are UTF-8
	actLongToFloat             // int and long
	actLongToDouble            //
	actFloatToDouble
)

// fieldStep makes the next field of the reader's record, or, when ordered,
// consumes the next of the writer's.
type fieldStep struct {
	preset []byte      // written as it is
	from   int         // the writer's field
	conv   *conversion // nil: the preset, and when ordered a field to be skipped
}

// resolve compiles the resolution of a pair. The schemas decide whether the
// pair is compatible; the error wraps [ErrIncompatible].
func resolve(writer, reader *version) (*resolution, error) {
	if err := twmb.CheckCompatibility(writer.parsed, reader.parsed); err != nil {
		return nil, fmt.Errorf("%w: %s %s cannot be read as %s: %w",
			ErrIncompatible, writer.Name, writer.Fingerprint, reader.Fingerprint, err)
	}
	r := &resolver{made: map[[2]*shape]*conversion{}}
	root, err := r.conversion(writer.shape, reader.shape)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %s cannot be read as %s: %w",
			ErrIncompatible, writer.Name, writer.Fingerprint, reader.Fingerprint, err)
	}
	res := &resolution{writer: writer.shape, root: root}
	if r.identical(writer.shape, reader.shape, map[[2]*shape]bool{}) {
		res.root = nil
	}
	return res, nil
}

type resolver struct{ made map[[2]*shape]*conversion }

// identical says whether every value of w has the same bytes and meaning under r.
func (*resolver) identical(w, r *shape, open map[[2]*shape]bool) bool {
	var same func(w, r *shape) bool
	same = func(w, r *shape) bool {
		pair := [2]*shape{w, r}
		if open[pair] {
			return true
		}
		open[pair] = true
		if w.form != r.form {
			return w.form == formInt && r.form == formLong || w.form == formString && r.form == formBytes
		}
		switch w.form {
		case formRecord:
			return len(w.fields) == len(r.fields) && !slices.ContainsFunc(w.fields, func(f field) bool {
				k := r.index[f.name]
				return r.fields[k].name != f.name || w.index[f.name] != k || !same(f.shape, r.fields[k].shape)
			})
		case formEnum:
			return len(w.symbols) <= len(r.symbols) && slices.Equal(w.symbols, r.symbols[:len(w.symbols)])
		case formArray, formMap, formOptional:
			return same(w.elem, r.elem)
		}
		return true
	}
	return same(w, r)
}

func (c *resolver) conversion(w, r *shape) (*conversion, error) {
	pair := [2]*shape{w, r}
	if made, ok := c.made[pair]; ok {
		return made, nil
	}
	if c.identical(w, r, map[[2]*shape]bool{}) {
		return &conversion{act: actCopy, writer: w}, nil
	}
	conv := &conversion{writer: w}
	c.made[pair] = conv
	var err error
	switch {
	case w.form == formOptional && r.form == formOptional:
		conv.act = actOptional
		conv.elem, err = c.conversion(w.elem, r.elem)
	case r.form == formOptional:
		conv.act = actWrap
		conv.elem, err = c.conversion(w, r.elem)
	case w.form == formRecord && r.form == formRecord:
		conv.act = actRecord
		err = c.record(conv, w, r)
	case w.form == r.form && (w.form == formArray || w.form == formMap):
		conv.act = actBlocks
		conv.elem, err = c.conversion(w.elem, r.elem)
	case w.form == formEnum && r.form == formEnum:
		conv.act = actEnum
		for _, symbol := range w.symbols {
			ordinal, ok := r.ordinals[symbol]
			if !ok {
				ordinal = r.fallback
			}
			if ordinal < 0 {
				err = fmt.Errorf("the reader's enum %s has no %s and no default", r.name, symbol)
			}
			conv.ordinals = append(conv.ordinals, int64(ordinal))
		}
	case w.form == formBytes && r.form == formString:
		conv.act = actText
	case (w.form == formInt || w.form == formLong) && r.form == formFloat:
		conv.act = actLongToFloat
	case (w.form == formInt || w.form == formLong) && r.form == formDouble:
		conv.act = actLongToDouble
	case w.form == formFloat && r.form == formDouble:
		conv.act = actFloatToDouble
	default:
		err = fmt.Errorf("%s cannot be read as %s", w.name, r.name)
	}
	return conv, err
}

func (c *resolver) record(conv *conversion, w, r *shape) error {
	steps := make([]fieldStep, len(r.fields))
	last := -1
	conv.ordered = true
	for k, f := range r.fields {
		from, ok := w.index[f.name]
		for a := 0; !ok && a < len(f.aliases); a++ {
			from, ok = w.index[f.aliases[a]]
		}
		if !ok {
			if f.preset == nil {
				return fmt.Errorf("the reader's field %s.%s has no default", r.name, f.name)
			}
			steps[k] = fieldStep{preset: f.preset, from: -1}
			continue
		}
		inner, err := c.conversion(w.fields[from].shape, f.shape)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		steps[k] = fieldStep{from: from, conv: inner}
		conv.ordered = conv.ordered && from > last
		last = from
	}
	if !conv.ordered {
		conv.fields = steps
		return nil
	}
	// Weave in the fields that the reader dropped, so that one pass does.
	next := 0
	for _, step := range steps {
		for step.conv != nil && next < step.from {
			conv.fields = append(conv.fields, fieldStep{from: next})
			next++
		}
		if step.conv != nil {
			next++
		}
		conv.fields = append(conv.fields, step)
	}
	for ; next < len(w.fields); next++ {
		conv.fields = append(conv.fields, fieldStep{from: next})
	}
	return nil
}

var errNotText = errors.New("bytes that became a string are not valid UTF-8")

// apply converts one value. The data must conform to the writer's schema,
// which is checked; where nothing changes they are returned as they are.
func (r *resolution) apply(data []byte, name runtime.TypeName) ([]byte, error) {
	if err := check(r.writer, data); err != nil {
		return nil, err
	}
	if r.root == nil {
		return data, nil
	}
	t := transcoder{b: data}
	dst, _ := t.run(make([]byte, 0, len(data)+64), r.root, 0)
	if t.err != nil {
		return nil, &DataError{Type: string(name), Reason: t.err.Error()}
	}
	return dst, nil
}

type transcoder struct {
	b   []byte
	err error
}

func (t *transcoder) run(dst []byte, c *conversion, i int) ([]byte, int) {
	b := t.b
	switch c.act {
	case actCopy:
		end := skip(c.writer, b, i)
		return append(dst, b[i:end]...), end
	case actRecord:
		return t.record(dst, c, i)
	case actOptional:
		dst = append(dst, b[i])
		if b[i] == 0 {
			return dst, i + 1
		}
		return t.run(dst, c.elem, i+1)
	case actWrap:
		return t.run(append(dst, 2), c.elem, i)
	case actEnum:
		v, i := long(b, i)
		return appendLong(dst, c.ordinals[v]), i
	case actText:
		end := skip(c.writer, b, i)
		_, from := long(b, i)
		if !utf8.Valid(b[from:end]) {
			t.err = errNotText
		}
		return append(dst, b[i:end]...), end
	case actLongToFloat:
		v, i := long(b, i)
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v))), i
	case actLongToDouble:
		v, i := long(b, i)
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(float64(v))), i
	case actFloatToDouble:
		v := math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(float64(v))), i + 4
	}
	for { // actBlocks
		count, next := block(b, i)
		i = next
		if count == 0 {
			return append(dst, 0), i
		}
		dst = appendLong(dst, int64(count))
		for range count {
			if c.writer.form == formMap {
				n, from := long(b, i)
				dst = append(dst, b[i:from+int(n)]...)
				i = from + int(n)
			}
			dst, i = t.run(dst, c.elem, i)
		}
	}
}

func (t *transcoder) record(dst []byte, c *conversion, i int) ([]byte, int) {
	if c.ordered {
		for k := range c.fields {
			switch f := &c.fields[k]; {
			case f.conv != nil:
				dst, i = t.run(dst, f.conv, i)
			case f.from < 0:
				dst = append(dst, f.preset...)
			default:
				i = skip(c.writer.fields[f.from].shape, t.b, i)
			}
		}
		return dst, i
	}
	var few [32]int
	starts := few[:0]
	for k := range c.writer.fields {
		starts = append(starts, i)
		i = skip(c.writer.fields[k].shape, t.b, i)
	}
	for k := range c.fields {
		if f := &c.fields[k]; f.conv != nil {
			dst, _ = t.run(dst, f.conv, starts[f.from])
		} else {
			dst = append(dst, f.preset...)
		}
	}
	return dst, i
}
