package avro

import (
	"errors"
	"reflect"
	"testing"
)

func TestValue(t *testing.T) {
	c, schemas := catalogueOf(t, kitchen)
	data, d, err := c.FromJSON("K.Kitchen", []byte(`{"l":9007199254740993,"rs":[{"x":1}],"ms":{"a":["x"]},"om":{"q":"r"},"dec":-1.28,"f":0.5,"self":{"by":"\u00ff","fx":"ab"}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Value(d, data)
	if err != nil {
		t.Fatal(err)
	}
	inner, _ := got["self"].(map[string]any)
	for name, test := range map[string]struct{ got, want any }{
		"long":     {got["l"], int64(9007199254740993)},
		"int":      {got["i"], int64(-7)},
		"float":    {got["f"], 0.5},
		"double":   {got["d"], -2.25},
		"boolean":  {got["b"], true},
		"enum":     {got["e"], "ONE"},
		"records":  {got["rs"], []any{map[string]any{"x": int64(1), "y": "why"}}},
		"map":      {got["m"], map[string]any{"a": int64(1), "b": int64(2)}},
		"lists":    {got["ms"], map[string]any{"a": []any{"x"}}},
		"nullable": {got["om"], map[string]any{"q": "r"}},
		"null":     {got["o"], nil},
		"decimal":  {got["dec"], "-1.28"},
		"fixed":    {inner["fx"], []byte("ab")},
		"bytes":    {inner["by"], []byte{0xff}},
	} {
		if !reflect.DeepEqual(test.got, test.want) {
			t.Errorf("%s is %#v, want %#v", name, test.got, test.want)
		}
	}
	if _, err := c.Value(schemas[0], data[1:]); !errors.Is(err, ErrData) {
		t.Errorf("bytes that are no value gave %v", err)
	}
}

func TestDescribe(t *testing.T) {
	c, schemas := catalogueOf(t, kitchen)
	s, err := c.Describe(schemas[0])
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]*Schema{}
	for _, f := range s.Fields {
		fields[f.Name] = f.Schema
		if !f.Optional {
			t.Errorf("%s has a default", f.Name)
		}
	}
	switch {
	case s.Type != "record" || s.Name != "K.Kitchen" || s.Nullable || len(s.Fields) != 25:
		t.Errorf("the record is %+v", s)
	case fields["e"].Type != "enum" || fields["e"].Name != "K.E" || len(fields["e"].Symbols) != 2:
		t.Errorf("the enum is %+v", fields["e"])
	case fields["o"].Type != "string" || !fields["o"].Nullable || fields["s"].Nullable:
		t.Errorf("the nullable is %+v", fields["o"])
	case fields["omr"].Type != "map" || !fields["omr"].Nullable || fields["omr"].Elem.Name != "K.R":
		t.Errorf("the map is %+v", fields["omr"])
	case fields["t"].Type != "long" || fields["t"].Logical != "timestamp-millis":
		t.Errorf("the timestamp is %+v", fields["t"])
	case fields["self"].Fields[24].Schema != fields["self"]:
		t.Error("the recursion does not come back to itself")
	}
	if _, err := c.Describe("x"); !errors.Is(err, ErrUnknownSchema) {
		t.Errorf("an unknown schema gave %v", err)
	}
}
