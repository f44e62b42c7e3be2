package avro

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Limits of a schema file.
const (
	maxFile       = 1 << 20 // bytes
	maxFileDepth  = 64      // nested objects and arrays
	maxNameLength = 128     // bytes of a name in a schema
)

// object is a JSON object of a schema file, with what lint needs of the text:
// order, repeated keys and where it stands.
type object struct {
	offset   int64 // just after its '{'
	end      int64 // just after its '}'
	keys     []string
	values   map[string]any // object as *object, array as []any, else as encoding/json with json.Number
	repeated []string
}

func (o *object) text(key string) string {
	s, _ := o.values[key].(string)
	return s
}

func (o *object) has(key string) bool {
	_, ok := o.values[key]
	return ok
}

// readSource reads the JSON of a schema file. On an error it also returns where
// the input ended to make sense, as an offset.
func readSource(text []byte) (any, int64, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := readValue(d, 0)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("there is more after the end of the JSON value")
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the JSON ends too early")
	}
	return v, d.InputOffset(), err
}

func readValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth >= maxFileDepth {
		return nil, fmt.Errorf("it nests more than %d levels deep", maxFileDepth)
	}
	if delim == '[' {
		items := []any{}
		for d.More() {
			item, err := readValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		_, err := d.Token()
		return items, err
	}
	o := &object{offset: d.InputOffset(), values: map[string]any{}}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		value, err := readValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		if o.has(name) {
			o.repeated = append(o.repeated, name)
		} else {
			o.keys = append(o.keys, name)
		}
		o.values[name] = value
	}
	_, err = d.Token()
	o.end = d.InputOffset()
	return o, err
}

// line returns the line of an offset, from 1.
func line(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(int(offset), len(text))], []byte{'\n'})
}
