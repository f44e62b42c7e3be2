package avro

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
	twmb "github.com/twmb/avro"
)

// kitchen has a field of every form.
const kitchen = `{"type":"record","name":"Kitchen","namespace":"K","evento":{"kind":"event"},"fields":[
 {"name":"b","type":"boolean","default":true},
 {"name":"i","type":"int","default":-7},
 {"name":"l","type":"long","default":9007199254740993},
 {"name":"f","type":"float","default":1.5},
 {"name":"d","type":"double","default":-2.25},
 {"name":"s","type":"string","default":"a\"ü"},
 {"name":"by","type":"bytes","default":"\u0000\u00ff"},
 {"name":"fx","type":{"type":"fixed","name":"F2","size":2},"default":"\u0001\u00fe"},
 {"name":"e","type":{"type":"enum","name":"E","symbols":["OTHER","ONE"],"default":"OTHER"},"default":"ONE"},
 {"name":"r","type":{"type":"record","name":"R","fields":[{"name":"x","type":"long"},{"name":"y","type":"string","default":"why"}]},"default":{"x":3}},
 {"name":"ar","type":{"type":"array","items":"long"},"default":[1,2,3]},
 {"name":"rs","type":{"type":"array","items":"R"},"default":[]},
 {"name":"m","type":{"type":"map","values":"long"},"default":{"b":2,"a":1}},
 {"name":"ms","type":{"type":"map","values":{"type":"array","items":"string"}},"default":{}},
 {"name":"o","type":["null","string"],"default":null},
 {"name":"or","type":["null","R"],"default":null},
 {"name":"om","type":["null",{"type":"map","values":"string"}],"default":null},
 {"name":"omr","type":["null",{"type":"map","values":"R"}],"default":null},
 {"name":"oa","type":["null",{"type":"array","items":"int"}],"default":null},
 {"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":18,"scale":2},"default":"\u0000"},
 {"name":"fdec","type":{"type":"fixed","name":"FD","size":4,"logicalType":"decimal","precision":6,"scale":3},"default":"\u0000\u0000\u0000\u0000"},
 {"name":"u","type":{"type":"string","logicalType":"uuid"},"default":"0b5f5c2e-8f5b-4a53-9a51-3f2a9e5d6c11"},
 {"name":"t","type":{"type":"long","logicalType":"timestamp-millis"},"default":0},
 {"name":"tm","type":{"type":"int","logicalType":"time-millis"},"default":0},
 {"name":"self","type":["null","Kitchen"],"default":null}
]}`

// catalogueOf returns a catalogue with these schemas, registered in their order.
func catalogueOf(t testing.TB, texts ...string) (*Catalogue, []runtime.DataSchema) {
	t.Helper()
	c := NewCatalogue()
	var schemas []runtime.DataSchema
	for i, text := range texts {
		typ, _, err := parseType(text)
		if err != nil {
			t.Fatal(err)
		}
		typ.Version = i + 1
		add(t, c, typ.Register(now))
		schemas = append(schemas, typ.DataSchema())
	}
	return c, schemas
}

func TestDefaultsAreThoseOfTheLibrary(t *testing.T) {
	c, _ := catalogueOf(t, kitchen)
	data, d, err := c.FromJSON("K.Kitchen", []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(d, data); err != nil {
		t.Fatal(err)
	}
	library := twmb.MustParse(kitchen)
	want, err := library.Encode(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	var ours, theirs any
	if _, err := library.Decode(data, &ours); err != nil {
		t.Fatal(err)
	}
	if _, err := library.Decode(want, &theirs); err != nil {
		t.Fatal(err)
	}
	if got, want := encodeJSON(t, ours), encodeJSON(t, theirs); got != want {
		t.Errorf("defaults are\n%s, want\n%s", got, want)
	}
	shown, err := c.ToJSON(d, data)
	if err != nil {
		t.Fatal(err)
	}
	wantJSON := `{"b":true,"i":-7,"l":9007199254740993,"f":1.5,"d":-2.25,"s":"a\"ü","by":"\u0000ÿ","fx":"\u0001þ","e":"ONE",` +
		`"r":{"x":3,"y":"why"},"ar":[1,2,3],"rs":[],"m":{"a":1,"b":2},"ms":{},"o":null,"or":null,"om":null,"omr":null,"oa":null,` +
		`"dec":0.00,"fdec":0.000,"u":"0b5f5c2e-8f5b-4a53-9a51-3f2a9e5d6c11","t":0,"tm":0,"self":null}`
	if string(shown) != wantJSON {
		t.Errorf("JSON is\n%s, want\n%s", shown, wantJSON)
	}
}

func encodeJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each case gives some fields; what comes back must say the same in plain form.
func TestJSONToAvroAndBack(t *testing.T) {
	c, _ := catalogueOf(t, kitchen)
	library := twmb.MustParse(kitchen)
	for _, test := range []struct{ give, want string }{
		{`{"b":false}`, ``},
		{`{"i":2147483647,"l":-9223372036854775808}`, ``},
		{`{"f":0.1,"d":1e300}`, `{"f":0.1,"d":1e+300}`},
		{`{"f":"NaN","d":"-Infinity"}`, ``},
		{`{"d":1,"f":-0}`, `{"d":1,"f":-0}`},
		{`{"s":"\u00fc\ud83d\ude00\n\"\\\/\u2028<"}`, `{"s":"ü😀\n\"\\/\u2028\u003c"}`},
		{`{"s":"…—"}`, ``},
		{`{"by":"\u00ff\u0080a"}`, "{\"by\":\"ÿ\u0080a\"}"},
		{`{"e":"OTHER"}`, ``},
		{`{"r":{"y":"z","x":5}}`, `{"r":{"x":5,"y":"z"}}`},
		{`{"rs":[{"x":1},{"y":"b","x":2}]}`, `{"rs":[{"x":1,"y":"why"},{"x":2,"y":"b"}]}`},
		{`{"ar":[ ]}`, `{"ar":[]}`},
		{`{"m":{"z":1,"a":2,"m":3}}`, `{"m":{"a":2,"m":3,"z":1}}`},
		{`{"ms":{"b":["x"],"a":[]}}`, `{"ms":{"a":[],"b":["x"]}}`},
		{`{"o":"x"}`, ``},
		{`{"o":{"string":"x"}}`, `{"o":"x"}`},
		{`{"or":{"x":1}}`, `{"or":{"x":1,"y":"why"}}`},
		{`{"or":{"K.R":{"x":1}}}`, `{"or":{"x":1,"y":"why"}}`},
		{`{"om":{"a":"b"}}`, ``},
		{`{"om":{"map":{"a":"b"}}}`, `{"om":{"a":"b"}}`},
		{`{"om":{"map":"b"}}`, ``},
		{`{"omr":{"map":{"x":1}}}`, `{"omr":{"map":{"x":1,"y":"why"}}}`},
		{`{"oa":[1]}`, ``},
		{`{"oa":{"array":[1,2]}}`, `{"oa":[1,2]}`},
		{`{"dec":100.00}`, ``},
		{`{"dec":100}`, `{"dec":100.00}`},
		{`{"dec":-0.05}`, ``},
		{`{"dec":1.5e3}`, `{"dec":1500.00}`},
		{`{"dec":-1.28}`, ``},
		{`{"dec":1.28}`, ``},
		{`{"dec":0e999}`, `{"dec":0.00}`},
		{`{"dec":9999999999999999.99}`, ``},
		{`{"fdec":-999.999}`, ``},
		{`{"self":{"i":1,"self":{"K.Kitchen":{"i":2}}}}`, `-`},
		{" {\t\"i\" :\r\n1 } ", `{"i":1}`},
	} {
		data, d, err := c.FromJSON("K.Kitchen", []byte(test.give))
		if err != nil {
			t.Errorf("%s: %v", test.give, err)
			continue
		}
		if err := c.Validate(d, data); err != nil {
			t.Errorf("%s: %v", test.give, err)
			continue
		}
		var v any
		if rest, err := library.Decode(data, &v); err != nil || len(rest) != 0 {
			t.Errorf("%s: the library reads %v with %d bytes left", test.give, err, len(rest))
		}
		shown, err := c.ToJSON(d, data)
		if err != nil {
			t.Errorf("%s: %v", test.give, err)
			continue
		}
		if !json.Valid(shown) {
			t.Errorf("%s is shown as %s, which is no JSON", test.give, shown)
		}
		again, _, err := c.FromJSON("K.Kitchen", shown)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: shown as %s, which does not read back: %v", test.give, shown, err)
		}
		if test.want == "-" {
			continue
		}
		want := test.want
		if want == "" {
			want = test.give
		}
		// The fields given must stand in what is shown as they are.
		var parts map[string]json.RawMessage
		if err := json.Unmarshal([]byte(want), &parts); err != nil {
			t.Fatal(err)
		}
		for name, part := range parts {
			if !bytes.Contains(shown, append([]byte(`"`+name+`":`), part...)) {
				t.Errorf("%s: is shown as %s, without %q: %s", test.give, shown, name, part)
			}
		}
	}
}

func TestJSONIsRefused(t *testing.T) {
	c, _ := catalogueOf(t, kitchen)
	for _, test := range []struct{ give, path, reason string }{
		{``, "", "found the end of the JSON where an object"},
		{`null`, "", "found null where an object"},
		{`{`, "", "found the end of the JSON where a key"},
		{`{"i":1}}`, "", "there is more after the end"},
		{`{"i":1} x`, "", "there is more after the end"},
		{"{\"i\":1}\x00", "", "there is more after the end"},
		{`{"i":1,}`, "", "found '}' where a key"},
		{`{"i" 1}`, "i", "where ':' is expected"},
		{`{"i":1 "l":2}`, "", "where ',' or '}' is expected"},
		{`{"nope":1}`, "nope", "no such field in K.Kitchen"},
		{`{"no pe":1}`, `["no pe"]`, "no such field in K.Kitchen"},
		{`{"I":1}`, "I", "no such field in K.Kitchen"},
		{`{"i":1,"i":1}`, "i", "the key stands here twice"},
		{`{"i":1,"\u0069":1}`, "i", "the key stands here twice"},
		{`{"r":{"x":1,"z":2}}`, "r.z", "no such field in K.R"},
		{`{"rs":[{"x":1},{"x":1,"x":2}]}`, "rs[1].x", "the key stands here twice"},
		{`{"rs":[{"y":"b"}]}`, "rs[0].x", "the field is missing and has no default"},
		{`{"m":{"a":1,"b":2,"a":3}}`, `m["a"]`, "the key stands here twice"},
		{`{"ms":{"a":["x",1]}}`, `ms["a"][1]`, "found a number where a string"},
		{`{"i":"1"}`, "i", "found a string where a whole number"},
		{`{"i":1.0}`, "i", "without fraction or exponent"},
		{`{"l":1e3}`, "l", "without fraction or exponent"},
		{`{"i":2147483648}`, "i", "does not fit 32 bits"},
		{`{"l":9223372036854775808}`, "l", "does not fit 64 bits"},
		{`{"l":` + strings.Repeat("9", 1<<19) + `}`, "l", "does not fit 64 bits"},
		{`{"i":01}`, "i", "must not begin with 0"},
		{`{"i":+1}`, "i", "found '+' where a whole number"},
		{`{"d":1.}`, "d", "no digit after its point"},
		{`{"d":1e}`, "d", "no digit in its exponent"},
		{`{"d":1e1000000000}`, "d", "too great for a double"},
		{`{"f":1e39}`, "f", "too great for a float"},
		{`{"d":"1"}`, "d", "found a string where a number"},
		{`{"d":NaN}`, "d", "found 'N' where a number"},
		{`{"b":1}`, "b", "found a number where true or false"},
		{`{"b":tru}`, "b", "where true or false"},
		{`{"s":null}`, "s", "found null where a string"},
		{`{"s":["x"]}`, "s", "found an array where a string"},
		{`{"s":"\ud83d"}`, "s", "half of a surrogate pair"},
		{`{"s":"\ude00\ud83d"}`, "s", "half of a surrogate pair"},
		{"{\"s\":\"\xff\"}", "s", "not valid UTF-8"},
		{"{\"s\":\"\\n\xff\"}", "s", "not valid UTF-8"},
		{"{\"s\":\"a\nb\"}", "s", "control character"},
		{`{"s":"\x"}`, "s", "an escape that JSON does not know"},
		{`{"s":"\u12g4"}`, "s", "without four hex digits"},
		{`{"s":"abc`, "s", "a string does not end"},
		{`{"e":"TWO"}`, "e", `["TWO"] is no symbol of K.E`},
		{`{"e":1}`, "e", "found a number where a string, one of the enum's symbols"},
		{`{"by":"Ā"}`, "by", "beyond U+00FF"},
		{`{"fx":"a"}`, "fx", "has 1 characters, but K.F2 has 2 bytes"},
		{`{"dec":"100.00"}`, "dec", "written as a number, without quotes"},
		{`{"dec":100.001}`, "dec", "2 digits after its point"},
		{`{"dec":10000000000000000}`, "dec", "more than 18 digits"},
		{`{"dec":1e1000000000}`, "dec", "more than 18 digits"},
		{`{"dec":1e99999999999999999999}`, "dec", "exponent is out of range"},
		{`{"dec":1e-1000000000}`, "dec", "2 digits after its point"},
		{`{"fdec":1000}`, "fdec", "more than 6 digits"},
		{`{"u":"nobody"}`, "u", "not a UUID"},
		{`{"t":"2026-11-22T00:00:00Z"}`, "t", "found a string where a whole number"},
		{`{"tm":86400000}`, "tm", "less than one day"},
		{`{"o":1}`, "o", "found a number where a string"},
		{`{"o":{"int":1}}`, "o", "found an object where a string"},
		{`{"o":{"string":"x","y":1}}`, "o", "after the value of the union's branch"},
		{`{"or":{"K.R":{"x":1},"x":2}}`, "or", "after the value of the union's branch"},
		{`{"or":{"R":{"x":1}}}`, "or.R", "no such field in K.R"},
		{strings.Repeat(`{"self":`, 300) + "null" + strings.Repeat("}", 300), strings.TrimSuffix(strings.Repeat("self.", 256), "."), "more than 256 levels"},
		{strings.Repeat("[", 1<<19), "", "found an array where an object"},
		{`{"s":"` + strings.Repeat("a", MaxJSON) + `"}`, "", "more than the limit of 1048576"},
	} {
		_, _, err := c.FromJSON("K.Kitchen", []byte(test.give))
		var bad *DataError
		if !errors.As(err, &bad) || !errors.Is(err, ErrData) {
			t.Errorf("%.80s: %v", test.give, err)
			continue
		}
		if bad.Path != test.path || !strings.Contains(bad.Reason, test.reason) {
			t.Errorf("%.80s: path %q, reason %q, want %q, %q", test.give, bad.Path, bad.Reason, test.path, test.reason)
		}
	}
	if _, _, err := c.FromJSON("K.Nothing", []byte(`{}`)); !errors.Is(err, ErrUnknownType) {
		t.Errorf("an unknown type gave %v", err)
	}
}

func TestEveryCutOfJSONIsRefused(t *testing.T) {
	c := bank(t)
	text := `{"purchase_id":"p\u0031","merchant":"m","amount":{"minor":-12,"currency":"EUR"}}`
	for i := range len(text) {
		if data, _, err := c.FromJSON("CreditAccount.ChargeCard", []byte(text[:i])); err == nil {
			t.Errorf("%s was read as %x", text[:i], data)
		}
	}
}

func TestOrderOfKeysDoesNotMatter(t *testing.T) {
	c := bank(t)
	want, _, err := c.FromJSON("CreditAccount.ChargeCard", []byte(`{"purchase_id":"p","merchant":"m","amount":{"minor":12,"currency":"EUR"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{"amount":{"currency":"EUR","minor":12},"merchant":"m","purchase_id":"p"}`,
		`{"merchant":"m","amount":{"minor":12,"currency":"EUR"},"purchase_id":"p"}`,
	} {
		got, _, err := c.FromJSON("CreditAccount.ChargeCard", []byte(text))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s gave %x, %v, want %x", text, got, err, want)
		}
	}
}

// Bytes and JSON have the same limit.
func TestDepth(t *testing.T) {
	c, _ := catalogueOf(t, recursive)
	for depth, good := range map[int]bool{256: true, 257: false} {
		text := strings.Repeat(`{"next":`, depth-1) + `{"next":null}` + strings.Repeat("}", depth-1)
		data, d, err := c.FromJSON("N.H", []byte(text))
		if (err == nil) != good {
			t.Errorf("depth %d: %v", depth, err)
		}
		if !good {
			data = append(bytes.Repeat([]byte{2}, depth-1), 0)
			d = schemaOf(t, c, "N.H")
		}
		if err := c.Validate(d, data); (err == nil) != good {
			t.Errorf("bytes of depth %d: %v", depth, err)
		}
	}
}

func TestJSONDoesNotGrowWithoutBound(t *testing.T) {
	c, _ := catalogueOf(t, record(`{"name":"a","type":{"type":"array","items":{"type":"record","name":"Q","fields":[{"name":"s","type":"string","default":"`+strings.Repeat("x", 1000)+`"}]}}}`))
	text := `{"a":[` + strings.Repeat("{},", 10_000) + `{}]}`
	var bad *DataError
	if _, _, err := c.FromJSON("N.R", []byte(text)); !errors.As(err, &bad) || !strings.Contains(bad.Reason, "more than 4 MiB") {
		t.Errorf("FromJSON returned %v", err)
	}
}
