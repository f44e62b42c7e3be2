package check_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime/internal/check"
)

const everything = `{"type": "record", "name": "Everything", "namespace": "t", "fields": [
	{"name": "null", "type": "null"},
	{"name": "boolean", "type": "boolean"},
	{"name": "int", "type": "int"},
	{"name": "long", "type": {"type": "long", "logicalType": "timestamp-millis"}},
	{"name": "float", "type": "float"},
	{"name": "double", "type": "double"},
	{"name": "bytes", "type": "bytes"},
	{"name": "string", "type": "string"},
	{"name": "fixed", "type": {"type": "fixed", "name": "F", "size": 2}},
	{"name": "enum", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
	{"name": "array", "type": {"type": "array", "items": "t.E"}},
	{"name": "map", "type": {"type": "map", "values": "F"}},
	{"name": "union", "type": ["null", "Everything"]}]}`

func parse(t testing.TB, text string) *check.Schema {
	t.Helper()
	s, err := check.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// one is a value of everything, without another in its union.
const one = "\x01" + "\xff\xff\xff\xff\x0f" + "\x02" + "\x00\x00\x80\x3f" + "\x00\x00\x00\x00\x00\x00\xf0\x3f" +
	"\x04ab" + "\x06\xe2\x82\xac" + "xy" + "\x02" + "\x03\x04\x00\x02\x00" + "\x02\x02kxy\x00" + "\x00"

func TestAWholeValueIsTaken(t *testing.T) {
	s := parse(t, everything)
	if err := s.Check([]byte(one)); err != nil {
		t.Error(err)
	}
	if err := s.Check([]byte(strings.TrimSuffix(one, "\x00") + "\x02" + one)); err != nil {
		t.Errorf("one in another: %v", err)
	}
	for n := range len(one) {
		if err := s.Check([]byte(one[:n])); !errors.Is(err, check.ErrBytes) {
			t.Errorf("the first %d of %d bytes: %v", n, len(one), err)
		}
	}
	if allocs := testing.AllocsPerRun(100, func() { _ = s.Check([]byte(one)) }); allocs > 1 {
		t.Errorf("%v allocations", allocs)
	}
}

func zigzag(v int64) string {
	return string(binary.AppendVarint(nil, v))
}

// Inputs of a few bytes that make decoders allocate gigabytes, run for minutes
// or overflow the stack, and some that are merely wrong.
func TestHostileBytesAreRefused(t *testing.T) {
	const list = `{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}`
	for name, c := range map[string]struct{ schema, data, why string }{
		"string of 2 GB":          {`"string"`, zigzag(1<<31 - 1), "0 are left"},
		"bytes of 2 GB":           {`"bytes"`, zigzag(1<<31 - 1), "0 are left"},
		"string of -1":            {`"string"`, zigzag(-1), "a value of -1 bytes"},
		"2^40 longs":              {`{"type": "array", "items": "long"}`, zigzag(1 << 40), "elements"},
		"-2^40 longs":             {`{"type": "array", "items": "long"}`, zigzag(-1<<40) + zigzag(8) + "12345678", "elements"},
		"2^28 longs":              {`{"type": "array", "items": "long"}`, zigzag(1<<28) + strings.Repeat("\x00", 100), "elements"},
		"minint64 longs":          {`{"type": "array", "items": "long"}`, zigzag(-1<<63) + zigzag(0), "elements"},
		"2^33 nulls":              {`{"type": "array", "items": "null"}`, zigzag(1 << 33), "more than 4096 elements"},
		"nulls in many blocks":    {`{"type": "array", "items": "null"}`, strings.Repeat(zigzag(2000), 3) + "\x00", "more than 4096 elements"},
		"2^28 in a map":           {`{"type": "map", "values": "null"}`, zigzag(1 << 28), "elements"},
		"block of negative size":  {`{"type": "array", "items": "long"}`, zigzag(-1) + zigzag(-5) + "\x00\x00", "a block of -5 bytes"},
		"block of wrong size":     {`{"type": "array", "items": "long"}`, zigzag(-1) + zigzag(2) + "\x02\x00", "from where it said"},
		"a list 10 MB deep":       {list, strings.Repeat("\x02", 10<<20), "deep in each other"},
		"number of 40 bytes":      {`"long"`, strings.Repeat("\x80", 40) + "\x00", "more than 64 bits"},
		"int of 41 bits":          {`"int"`, zigzag(1 << 40), "no int of 32 bits"},
		"enum beyond":             {`{"type": "enum", "name": "E", "symbols": ["A"]}`, zigzag(1), "no symbol 1"},
		"enum below":              {`{"type": "enum", "name": "E", "symbols": ["A"]}`, zigzag(-1), "no symbol -1"},
		"union beyond":            {`["null", "int"]`, zigzag(2), "no branch 2"},
		"union below":             {`["null", "int"]`, zigzag(-1), "no branch -1"},
		"boolean 2":               {`"boolean"`, "\x02", "not 0 or 1"},
		"bad UTF-8":               {`"string"`, zigzag(1) + "\xff", "not valid UTF-8"},
		"bad UTF-8 in a key":      {`{"type": "map", "values": "null"}`, zigzag(1) + zigzag(1) + "\xff\x00", "not valid UTF-8"},
		"bytes behind":            {`"int"`, "\x00\x00", "1 bytes follow"},
		"fixed cut":               {`{"type": "fixed", "name": "F", "size": 4}`, "abc", "3 are left"},
		"records larger than all": {`{"type": "array", "items": {"type": "record", "name": "R", "fields": [{"name": "a", "type": "double"}, {"name": "b", "type": "double"}]}}`, zigzag(2) + strings.Repeat("\x00", 31), "elements"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parse(t, c.schema)
			err := s.Check([]byte(c.data))
			if !errors.Is(err, check.ErrBytes) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%v, want %q", err, c.why)
			}
		})
	}
}

func TestSchemasThatCannotBeCheckedAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":      `{`,
		"unknown type":  `"X"`,
		"a number":      `1`,
		"endless":       `{"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}`,
		"huge fixed":    `{"type": "fixed", "name": "F", "size": 4611686018427387904}`,
		"field unknown": `{"type": "record", "name": "R", "fields": [{"name": "r", "type": {"type": "array", "items": "X"}}]}`,
	} {
		if _, err := check.Parse(text); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzCheck(f *testing.F) {
	s := parse(f, everything)
	f.Add([]byte(one))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s.Check(data) == nil && s.Check(append(bytes.Clone(data), 0)) == nil {
			t.Error("one value with and without a byte behind it")
		}
	})
}

// FuzzParse: a schema that is taken can be checked with, in bounded time and depth.
func FuzzParse(f *testing.F) {
	f.Add(everything, []byte(one))
	f.Add(`{"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]}`, []byte{2, 2, 2, 0})
	f.Add(`{"type": "array", "items": "null"}`, []byte{0x80, 0x80, 0x80, 0x80, 0x20})
	f.Add(`{"type": "fixed", "name": "F", "size": -1}`, []byte{})
	f.Fuzz(func(t *testing.T, text string, data []byte) {
		s, err := check.Parse(text)
		if err != nil {
			return
		}
		if s.Check(data) == nil && len(data) > 0 && s.Check(append(bytes.Clone(data), 0)) == nil {
			t.Errorf("%s: one value with and without a byte behind it", text)
		}
	})
}
