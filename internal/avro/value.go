package avro

import (
	"encoding/binary"
	"math"

	"github.com/evento-oss/evento/runtime"
)

// Value decodes a record for code that has no type for it, such as rules:
// records and maps as map[string]any, arrays as []any, int and long (with
// timestamps and dates) as int64, float and double as float64, enums as string,
// null as nil, bytes and fixed as []byte, and decimals as string ("100.00"),
// since no other Go type holds them exactly. The error is that of [Catalogue.Validate].
func (c *Catalogue) Value(d runtime.DataSchema, data []byte) (map[string]any, error) {
	v, _, err := c.version(d)
	if err != nil {
		return nil, err
	}
	if err := check(v.shape, data); err != nil {
		return nil, err
	}
	value, _ := decode(v.shape, data, 0)
	return value.(map[string]any), nil // the shape of a type is a record
}

// decode reads the value that begins at i, which must have been checked.
func decode(s *shape, b []byte, i int) (any, int) {
	switch s.form {
	case formRecord:
		record := make(map[string]any, len(s.fields))
		for k := range s.fields {
			record[s.fields[k].name], i = decode(s.fields[k].shape, b, i)
		}
		return record, i
	case formString:
		n, i := long(b, i)
		return string(b[i : i+int(n)]), i + int(n)
	case formInt, formLong:
		v, i := long(b, i)
		return v, i
	case formEnum:
		v, i := long(b, i)
		return s.symbols[v], i
	case formOptional:
		if b[i] == 0 {
			return nil, i + 1
		}
		return decode(s.elem, b, i+1)
	case formBoolean:
		return b[i] == 1, i + 1
	case formFloat:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))), i + 4
	case formDouble:
		return math.Float64frombits(binary.LittleEndian.Uint64(b[i:])), i + 8
	case formBytes, formFixed:
		from, end := i, i+s.size
		if s.form == formBytes {
			n, start := long(b, i)
			from, end = start, start+int(n)
		}
		if s.limit != nil {
			return string(appendBytes(nil, s, b[from:end])), end
		}
		return append([]byte{}, b[from:end]...), end
	}
	items, entries := []any{}, map[string]any{}
	for {
		count, next := block(b, i)
		i = next
		switch {
		case count == 0 && s.form == formMap:
			return entries, i
		case count == 0:
			return items, i
		}
		for range count {
			if s.form == formArray {
				var item any
				item, i = decode(s.elem, b, i)
				items = append(items, item)
				continue
			}
			n, from := long(b, i)
			key := string(b[from : from+int(n)])
			entries[key], i = decode(s.elem, b, from+int(n))
		}
	}
}

// Schema describes a schema for code that looks at it, such as the type check
// of rules. Descriptions of recursive schemas are cyclic; they must not be changed.
type Schema struct {
	Type     string  // an Avro type: "record", "enum", "fixed", "array", "map", "string", "long", ...
	Name     string  // full name of a record, enum or fixed
	Logical  string  // logical type; "" for none
	Nullable bool    // it may be null
	Fields   []Field // of a record, in order
	Elem     *Schema // items of an array, values of a map
	Symbols  []string
}

// Field is a field of a record.
type Field struct {
	Name     string
	Schema   *Schema
	Optional bool // it has a default
}

// Describe returns the schema of a version.
func (c *Catalogue) Describe(d runtime.DataSchema) (*Schema, error) {
	v, _, err := c.version(d)
	if err != nil {
		return nil, err
	}
	return describe(v.shape, false, map[described]*Schema{}), nil
}

type described struct {
	s        *shape
	nullable bool
}

func describe(s *shape, nullable bool, made map[described]*Schema) *Schema {
	if s.form == formOptional {
		return describe(s.elem, true, made)
	}
	if d, ok := made[described{s, nullable}]; ok {
		return d
	}
	d := &Schema{Type: s.name, Logical: s.logical, Nullable: nullable, Symbols: s.symbols}
	made[described{s, nullable}] = d
	switch s.form {
	case formRecord:
		d.Type, d.Name = "record", s.name
	case formEnum:
		d.Type, d.Name = "enum", s.name
	case formFixed:
		d.Type, d.Name = "fixed", s.name
	}
	for _, f := range s.fields {
		d.Fields = append(d.Fields, Field{Name: f.name, Schema: describe(f.shape, false, made), Optional: f.preset != nil})
	}
	if s.elem != nil {
		d.Elem = describe(s.elem, false, made)
	}
	return d
}
