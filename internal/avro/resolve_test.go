package avro

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	twmb "github.com/twmb/avro"
)

func record(fields string) string {
	return `{"type":"record","name":"R","namespace":"N","evento":{"kind":"event"},"fields":[` + fields + `]}`
}

// The pairs on which Avro libraries differ. "no" means that the reader cannot
// read what the writer wrote.
func TestEvolutionPairs(t *testing.T) {
	const a = `{"name":"a","type":"long"}`
	for _, test := range []struct{ name, writer, reader, value, want string }{
		{"add a field with default", record(a), record(a + `,{"name":"b","type":"string","default":"x"}`), `{"a":1}`, `{"a":1,"b":"x"}`},
		{"add a field without", record(a), record(a + `,{"name":"b","type":"string"}`), `{"a":1}`, "no"},
		{"add a nullable field", record(a), record(a + `,{"name":"b","type":["null","string"],"default":null}`), `{"a":1}`, `{"a":1,"b":null}`},
		{"add a record", record(a), record(a + `,{"name":"m","type":{"type":"record","name":"M","fields":[{"name":"x","type":"long"},{"name":"y","type":"string","default":"U"}]},"default":{"x":5,"y":"E"}}`), `{"a":1}`, `{"a":1,"m":{"x":5,"y":"E"}}`},
		{"add an array", record(a), record(`{"name":"m","type":{"type":"array","items":"long"},"default":[1]},` + a), `{"a":1}`, `{"m":[1],"a":1}`},
		{"add a map", record(a), record(a + `,{"name":"m","type":{"type":"map","values":"long"},"default":{"k":1}}`), `{"a":1}`, `{"a":1,"m":{"k":1}}`},
		{"add an enum", record(a), record(a + `,{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]},"default":"B"}`), `{"a":1}`, `{"a":1,"e":"B"}`},
		{"an enum's own default does not count", record(a), record(a + `,{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"],"default":"B"}}`), `{"a":1}`, "no"},
		{"remove a field", record(a + `,{"name":"b","type":"string"}`), record(a), `{"a":1,"b":"z"}`, `{"a":1}`},
		{"remove an array", record(`{"name":"b","type":{"type":"array","items":"string"}},` + a), record(a), `{"a":1,"b":["z","y"]}`, `{"a":1}`},
		{"remove a map of records", record(`{"name":"m","type":{"type":"map","values":{"type":"record","name":"Q","fields":[{"name":"z","type":["null","long"]}]}}},` + a), record(a), `{"a":1,"m":{"k":{"z":3}}}`, `{"a":1}`},
		{"reorder", record(a + `,{"name":"b","type":"string"}`), record(`{"name":"b","type":"string"},` + a), `{"a":1,"b":"z"}`, `{"b":"z","a":1}`},
		{"int to long", record(`{"name":"a","type":"int"}`), record(a), `{"a":-1}`, `{"a":-1}`},
		{"int to float", record(`{"name":"a","type":"int"}`), record(`{"name":"a","type":"float"}`), `{"a":3}`, `{"a":3}`},
		{"int to double", record(`{"name":"a","type":"int"}`), record(`{"name":"a","type":"double"}`), `{"a":-3}`, `{"a":-3}`},
		{"long to double", record(a), record(`{"name":"a","type":"double"}`), `{"a":4611686018427387904}`, `{"a":4.611686018427388e+18}`},
		{"float to double", record(`{"name":"a","type":"float"}`), record(`{"name":"a","type":"double"}`), `{"a":1.5}`, `{"a":1.5}`},
		{"long to int", record(a), record(`{"name":"a","type":"int"}`), `{"a":1}`, "no"},
		{"string to bytes", record(`{"name":"a","type":"string"}`), record(`{"name":"a","type":"bytes"}`), `{"a":"x"}`, `{"a":"x"}`},
		{"bytes to string", record(`{"name":"a","type":"bytes"}`), record(`{"name":"a","type":"string"}`), `{"a":"x"}`, `{"a":"x"}`},
		{"string to nullable", record(`{"name":"a","type":"string"}`), record(`{"name":"a","type":["null","string"]}`), `{"a":"x"}`, `{"a":"x"}`},
		{"nullable to string", record(`{"name":"a","type":["null","string"]}`), record(`{"name":"a","type":"string"}`), `{"a":"x"}`, "no"},
		{"int to nullable long", record(`{"name":"a","type":"int"}`), record(`{"name":"a","type":["null","long"]}`), `{"a":1}`, `{"a":1}`},
		{"nullable int to nullable double", record(`{"name":"a","type":["null","int"]}`), record(`{"name":"a","type":["null","double"]}`), `{"a":1}`, `{"a":1}`},
		{"field alias", record(`{"name":"old","type":"long"}`), record(`{"name":"new","type":"long","aliases":["old"]}`), `{"old":7}`, `{"new":7}`},
		{"nested record with alias", record(`{"name":"m","type":{"type":"record","name":"M1","fields":[{"name":"x","type":"long"}]}}`), record(`{"name":"m","type":{"type":"record","name":"M2","aliases":["M1"],"fields":[{"name":"x","type":"long"}]}}`), `{"m":{"x":5}}`, `{"m":{"x":5}}`},
		{"nested record renamed", record(`{"name":"m","type":{"type":"record","name":"M1","fields":[{"name":"x","type":"long"}]}}`), record(`{"name":"m","type":{"type":"record","name":"M2","fields":[{"name":"x","type":"long"}]}}`), `{"m":{"x":5}}`, "no"},
		{"enum symbol that the reader lacks", record(`{"name":"e","type":{"type":"enum","name":"E","symbols":["U","A","B"],"default":"U"}}`), record(`{"name":"e","type":{"type":"enum","name":"E","symbols":["U","A"],"default":"U"}}`), `{"e":"B"}`, `{"e":"U"}`},
		{"the same without default", record(`{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}}`), record(`{"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}}`), `{"e":"B"}`, "no"},
		{"enum appended", record(`{"name":"e","type":{"type":"enum","name":"E","symbols":["U","A"],"default":"U"}}`), record(`{"name":"e","type":{"type":"enum","name":"E","symbols":["U","A","B"],"default":"U"}}`), `{"e":"A"}`, `{"e":"A"}`},
		{"enum reordered", record(`{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B","C"]}}`), record(`{"name":"e","type":{"type":"enum","name":"E","symbols":["C","B","A"]}}`), `{"e":"A"}`, `{"e":"A"}`},
		{"elements of arrays and maps", record(`{"name":"x","type":{"type":"array","items":"int"}},{"name":"y","type":{"type":"map","values":{"type":"array","items":"float"}}}`), record(`{"name":"x","type":{"type":"array","items":"double"}},{"name":"y","type":{"type":"map","values":{"type":"array","items":"double"}}}`), `{"x":[1,2],"y":{"a":[],"b":[1.5]}}`, `{"x":[1,2],"y":{"a":[],"b":[1.5]}}`},
		{"recursion", record(`{"name":"v","type":"int"},{"name":"next","type":["null","R"],"default":null}`), record(`{"name":"next","type":["null","R"],"default":null},{"name":"v","type":"long"},{"name":"w","type":"int","default":4}`), `{"v":1,"next":{"v":2}}`, `{"next":{"next":null,"v":2,"w":4},"v":1,"w":4}`},
		{"two strings change places", record(`{"name":"a","type":"string","default":""},{"name":"b","type":"string","default":""}`), record(`{"name":"b","type":"string","default":""},{"name":"a","type":"string","default":""}`), `{"a":"1","b":"2"}`, `{"b":"2","a":"1"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			writer, reader := NewCatalogue(), test.reader
			typ, _, err := parseType(test.writer)
			if err != nil {
				t.Fatal(err)
			}
			typ.Version = 1
			add(t, writer, typ.Register(now))
			data, from, err := writer.FromJSON("N.R", []byte(test.value))
			if err != nil {
				t.Fatal(err)
			}
			c, schemas := catalogueOf(t, test.writer, reader)
			got, err := c.Transcode(from, data, schemas[1])
			if test.want == "no" {
				if !errors.Is(err, ErrIncompatible) {
					t.Fatalf("Transcode returned %x, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			shown, err := c.ToJSON(schemas[1], got)
			if err != nil || string(shown) != test.want {
				t.Errorf("Transcode made %s, %v, want %s", shown, err, test.want)
			}
			if strings.Contains(test.name, "change places") && bytes.Equal(got, data) {
				t.Error("the bytes are the same")
			}
		})
	}
}

func TestTranscodeOfEqualSchemasReturnsTheSameBytes(t *testing.T) {
	c := bank(t)
	data, d, err := c.FromJSON("CheckingAccount.WithdrawCash", []byte(`{"destination":"a","amount":{"minor":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Transcode(d, data, d)
	if err != nil || &got[0] != &data[0] || len(got) != len(data) {
		t.Errorf("Transcode returned %x, %v", got, err)
	}
}

func TestTranscodeChecksItsInput(t *testing.T) {
	c, schemas := catalogueOf(t, record(`{"name":"a","type":"bytes"}`), record(`{"name":"a","type":"string"},{"name":"b","type":"int","default":0}`))
	if _, err := c.Transcode(schemas[0], []byte{4, 'a'}, schemas[1]); !errors.Is(err, ErrData) {
		t.Errorf("truncated bytes gave %v", err)
	}
	if _, err := c.Transcode(schemas[0], []byte{2, 0xff}, schemas[1]); !errors.Is(err, ErrData) {
		t.Errorf("bytes that are no text gave %v", err)
	}
	if got, err := c.Transcode(schemas[0], []byte{2, 'a'}, schemas[1]); err != nil || !bytes.Equal(got, []byte{2, 'a', 0}) {
		t.Errorf("Transcode returned %x, %v", got, err)
	}
}

func TestStatesAcrossARebuildAreNotTranscoded(t *testing.T) {
	root := func(rebuild, fields string) string {
		return `{"type":"record","name":"N","namespace":"N","evento":{"kind":"root","prefix":"n"` + rebuild + `},"fields":[` + fields + `]}`
	}
	c, schemas := catalogueOf(t,
		root("", `{"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}}`),
		root(`,"rebuild":true`, `{"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"u","type":"int","default":0}`),
		root("", `{"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"v","type":"long","default":0}`),
	)
	data := []byte{2}
	for _, to := range schemas[1:] {
		if _, err := c.Transcode(schemas[0], data, to); !errors.Is(err, ErrIncompatible) {
			t.Errorf("Transcode to %s returned %v", to, err)
		}
	}
	if got, err := c.Transcode(schemas[1], []byte{2, 2}, schemas[2]); err != nil || !bytes.Equal(got, []byte{2, 0}) {
		t.Errorf("Transcode after the rebuild returned %x, %v", got, err)
	}
}

func TestTranscodeIsSafeForConcurrentUse(t *testing.T) {
	c, schemas := catalogueOf(t, record(`{"name":"a","type":"int"}`), record(`{"name":"a","type":"long"},{"name":"b","type":"int","default":3}`))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				got, err := c.Transcode(schemas[0], []byte{2}, schemas[1])
				if err != nil || !bytes.Equal(got, []byte{2, 6}) {
					t.Errorf("Transcode returned %x, %v", got, err)
					return
				}
			}
		})
	}
	for i := range 20 {
		typ, _, err := parseType(record(fmt.Sprintf(`{"name":"a","type":"int"},{"name":"c%d","type":"int","default":3}`, i)))
		if err != nil {
			t.Fatal(err)
		}
		typ.Version = i + 3
		add(t, c, typ.Register(now))
	}
	group.Wait()
}

// evolving makes random schemas that differ in the ways in which schemas evolve.
type evolving struct {
	r     *rand.Rand
	types int
}

func (e *evolving) pick(options ...string) string { return options[e.r.IntN(len(options))] }

// field returns the type of a field for the writer and for the reader.
func (e *evolving) field(depth int) (writer, reader string) {
	k := e.r.IntN(12)
	if depth > 3 {
		k = e.r.IntN(6)
	}
	both := func(s string) (string, string) { return s, s }
	switch k {
	case 0:
		return both(`"` + e.pick("boolean", "string", "bytes", "long", "double") + `"`)
	case 1:
		return `"int"`, `"` + e.pick("int", "long", "float", "double") + `"`
	case 2:
		return `"long"`, `"` + e.pick("long", "float", "double") + `"`
	case 3:
		return `"float"`, `"` + e.pick("float", "double") + `"`
	case 4:
		return `"string"`, `"` + e.pick("string", "bytes") + `"`
	case 5:
		e.types++
		format := `{"type":"enum","name":"E%d","symbols":[%s],"default":"A"}`
		return fmt.Sprintf(format, e.types, `"A","B","C"`), fmt.Sprintf(format, e.types, e.pick(`"A","B","C"`, `"A","B"`, `"C","A"`, `"A","B","C","D"`))
	case 6, 7:
		w, r := e.field(depth + 1)
		return `{"type":"array","items":` + w + `}`, `{"type":"array","items":` + r + `}`
	case 8:
		w, r := e.field(depth + 1)
		return `{"type":"map","values":` + w + `}`, `{"type":"map","values":` + r + `}`
	case 9:
		w, r := e.field(depth + 1)
		if strings.HasPrefix(w, "[") {
			return w, r
		}
		if e.r.IntN(3) == 0 && !strings.HasPrefix(r, "[") {
			return w, `["null",` + r + `]`
		}
		if strings.HasPrefix(r, "[") {
			return w, r
		}
		return `["null",` + w + `]`, `["null",` + r + `]`
	}
	return e.record(depth+1, "")
}

func (e *evolving) record(depth int, name string) (writer, reader string) {
	if name == "" {
		e.types++
		name = fmt.Sprintf("T%d", e.types)
	}
	var ws, rs []string
	for i := range 1 + e.r.IntN(5) {
		w, r := e.field(depth)
		wf := fmt.Sprintf(`{"name":"f%d","type":%s}`, i, w)
		rf := fmt.Sprintf(`{"name":"f%d","type":%s}`, i, r)
		switch e.r.IntN(8) {
		case 0:
			ws = append(ws, wf) // dropped
		case 1:
			rs = append(rs, fmt.Sprintf(`{"name":"g%d","type":%s}`, i, e.pick(`"int","default":7`, `"string","default":"x"`, `{"type":"array","items":"long"},"default":[1,2]`)))
			fallthrough
		case 2:
			ws = append(ws, wf)
			rs = append(rs, fmt.Sprintf(`{"name":"h%d","aliases":["f%d"],"type":%s}`, i, i, r))
		default:
			ws = append(ws, wf)
			rs = append(rs, rf)
		}
	}
	if len(rs) == 0 {
		rs = append(rs, `{"name":"only","type":"int","default":1}`)
	}
	if e.r.IntN(2) == 0 {
		e.r.Shuffle(len(rs), func(i, j int) { rs[i], rs[j] = rs[j], rs[i] })
	}
	format := `{"type":"record","name":"%s","namespace":"N","evento":{"kind":"event"},"fields":[%s]}`
	return fmt.Sprintf(format, name, strings.Join(ws, ",")), fmt.Sprintf(format, name, strings.Join(rs, ","))
}

// value makes a random value of a shape.
func (e *evolving) value(dst []byte, s *shape, depth int) []byte {
	switch s.form {
	case formBoolean:
		return append(dst, byte(e.r.IntN(2)))
	case formInt:
		return appendLong(dst, int64(int32(e.r.Uint32())>>e.r.IntN(32)))
	case formLong:
		return appendLong(dst, int64(e.r.Uint64())>>e.r.IntN(64))
	case formFloat:
		return append(dst, 0, 0, byte(e.r.IntN(256)), 0x40)
	case formDouble:
		return append(dst, 0, 0, 0, 0, 0, byte(e.r.IntN(256)), byte(e.r.IntN(256)), 0x40)
	case formString, formBytes:
		return appendText(dst, e.pick("", "a", "some text", "ünïcödé"))
	case formEnum:
		return appendLong(dst, int64(e.r.IntN(len(s.symbols))))
	case formOptional:
		if e.r.IntN(2) == 0 {
			return append(dst, 0)
		}
		return e.value(append(dst, 2), s.elem, depth+1)
	case formRecord:
		for _, f := range s.fields {
			dst = e.value(dst, f.shape, depth+1)
		}
		return dst
	}
	for left := e.r.IntN(4); left > 0; left-- {
		dst = append(dst, 2) // a block of one
		if s.form == formMap {
			dst = appendText(dst, fmt.Sprintf("k%d", left))
		}
		dst = e.value(dst, s.elem, depth+1)
	}
	return append(dst, 0)
}

// Whatever evolution does, the library's resolution and ours give the same value.
func TestTranscodeAgreesWithTheLibrary(t *testing.T) {
	compatible := 0
	for seed := range uint64(400) {
		e := &evolving{r: rand.New(rand.NewPCG(seed, 7))}
		w, r := e.record(0, "R")
		writer, reader := twmb.MustParse(w), twmb.MustParse(r)
		c, schemas := catalogueOf(t, w, r)
		resolved, wantErr := twmb.Resolve(writer, reader)
		v, _, err := c.version(schemas[0])
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			data := e.value(nil, v.shape, 0)
			got, err := c.Transcode(schemas[0], data, schemas[1])
			if (err != nil) != (wantErr != nil) {
				t.Fatalf("seed %d: Transcode returned %v, the library %v\nwriter %s\nreader %s", seed, err, wantErr, w, r)
			}
			if err != nil {
				break
			}
			compatible++
			if err := c.Validate(schemas[1], got); err != nil {
				t.Fatalf("seed %d: %v\nwriter %s\nreader %s", seed, err, w, r)
			}
			var ours, theirs any
			if _, err := resolved.Decode(data, &theirs); err != nil {
				t.Fatal(err)
			}
			if _, err := reader.Decode(got, &ours); err != nil {
				t.Fatal(err)
			}
			if a, b := sorted(t, reader, ours), sorted(t, reader, theirs); a != b {
				t.Fatalf("seed %d: Transcode made %s, the library %s\nwriter %s\nreader %s\ndata %x", seed, a, b, w, r, data)
			}
		}
	}
	if compatible < 1000 {
		t.Errorf("only %d values were compared: the test says little", compatible)
	}
}
