package avro

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// maxPreset bounds the encoded size of one default in bytes.
const maxPreset = 64 << 10

// encodePreset appends the canonical encoding of a field's default, as the
// library hands it over: int32, int64, float32, float64, bool, string, []byte,
// nil, []any, map[string]any. A record's default may leave out fields that have
// defaults themselves.
func (c *compiler) encodePreset(dst []byte, s *shape, v any, depth int) ([]byte, error) {
	if depth > maxDepth || len(dst) > maxPreset {
		return nil, errors.New("it grows without end: a default is taken from a field that contains it")
	}
	mismatch := fmt.Errorf("%v is no %s", v, s.name)
	switch s.form {
	case formOptional:
		if v != nil {
			return nil, errors.New("the default of a nullable field must be null")
		}
		return append(dst, 0), nil
	case formBoolean:
		x, ok := v.(bool)
		if !ok {
			return nil, mismatch
		}
		if x {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case formInt:
		x, ok := v.(int32)
		if !ok {
			return nil, mismatch
		}
		return appendLong(dst, int64(x)), nil
	case formLong:
		x, ok := v.(int64)
		if !ok {
			return nil, mismatch
		}
		return appendLong(dst, x), nil
	case formFloat:
		x, ok := v.(float32)
		if !ok {
			return nil, mismatch
		}
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(x)), nil
	case formDouble:
		x, ok := v.(float64)
		if !ok {
			return nil, mismatch
		}
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(x)), nil
	case formString:
		x, ok := v.(string)
		if !ok {
			return nil, mismatch
		}
		return append(appendLong(dst, int64(len(x))), x...), nil
	case formBytes:
		x, ok := v.([]byte)
		if !ok {
			return nil, mismatch
		}
		return append(appendLong(dst, int64(len(x))), x...), nil
	case formFixed:
		x, ok := v.([]byte)
		if !ok || len(x) != s.size {
			return nil, mismatch
		}
		return append(dst, x...), nil
	case formEnum:
		x, _ := v.(string)
		ordinal, ok := s.ordinals[x]
		if !ok {
			return nil, mismatch
		}
		return appendLong(dst, int64(ordinal)), nil
	}
	return c.encodePresetOf(dst, s, v, depth, mismatch)
}

// encodePresetOf is encodePreset for what has parts.
func (c *compiler) encodePresetOf(dst []byte, s *shape, v any, depth int, mismatch error) ([]byte, error) {
	var err error
	switch s.form {
	case formArray:
		items, ok := v.([]any)
		if !ok {
			return nil, mismatch
		}
		if len(items) > 0 {
			dst = appendLong(dst, int64(len(items)))
		}
		for _, item := range items {
			if dst, err = c.encodePreset(dst, s.elem, item, depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, 0), nil
	case formMap:
		entries, ok := v.(map[string]any)
		if !ok {
			return nil, mismatch
		}
		keys := make([]string, 0, len(entries))
		for key := range entries {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		if len(keys) > 0 {
			dst = appendLong(dst, int64(len(keys)))
		}
		for _, key := range keys {
			dst = append(appendLong(dst, int64(len(key))), key...)
			if dst, err = c.encodePreset(dst, s.elem, entries[key], depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, 0), nil
	case formRecord:
		values, ok := v.(map[string]any)
		if !ok {
			return nil, mismatch
		}
		for i, f := range s.fields {
			value, ok := values[f.name]
			if !ok {
				if value = c.presets[s][i]; value == (noPreset{}) {
					return nil, fmt.Errorf("it has no %q", f.name)
				}
			}
			if dst, err = c.encodePreset(dst, f.shape, value, depth+1); err != nil {
				return nil, err
			}
		}
		return dst, nil
	}
	return nil, mismatch
}
