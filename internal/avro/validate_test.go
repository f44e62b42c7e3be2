package avro

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	evento "github.com/evento-oss/evento/runtime"
	twmb "github.com/twmb/avro"
)

// one returns the schema of a record with one field of this type.
func one(schema string) string {
	return `{"type":"record","name":"H","namespace":"N","evento":{"kind":"event"},"fields":[{"name":"a","type":` + schema + `}]}`
}

const recursive = `{"type":"record","name":"H","namespace":"N","evento":{"kind":"event"},"fields":[{"name":"next","type":["null","H"],"default":null}]}`

func zigzag(n int64) []byte { return appendLong(nil, n) }

// Hostile inputs that made one Avro library or another take gigabytes, run for
// seconds, die or accept nonsense.
func TestHostileInput(t *testing.T) {
	sixteen := `{"type":"array","items":{"type":"record","name":"R16","fields":[{"name":"x","type":"double"},{"name":"y","type":"double"}]}}`
	for _, test := range []struct {
		name, schema string
		data         []byte
		reason       string
	}{
		{"string of 2 GiB", one(`"string"`), zigzag(1<<31 - 1), "the length 2147483647 is not in the remaining 0 bytes"},
		{"string of 2^62", one(`"string"`), zigzag(1 << 62), "is not in the remaining"},
		{"string of -1", one(`"string"`), zigzag(-1), "is not in the remaining"},
		{"string of minint64", one(`"string"`), zigzag(-1 << 63), "is not in the remaining"},
		{"string not UTF-8", one(`"string"`), []byte{4, 0xff, 0xfe}, "not valid UTF-8"},
		{"bytes of 2 GiB", one(`"bytes"`), zigzag(1<<31 - 1), "is not in the remaining"},
		{"array count 2^28", one(`{"type":"array","items":"long"}`), zigzag(1 << 28), "a block of 268435456 items"},
		{"array count 2^40", one(`{"type":"array","items":"long"}`), zigzag(1 << 40), "a block of 1099511627776 items"},
		{"array count -2^40 with size", one(`{"type":"array","items":"long"}`), append(zigzag(-1<<40), zigzag(8)...), "is not in the remaining"},
		{"array count minint64", one(`{"type":"array","items":"long"}`), append(zigzag(-1<<63), zigzag(8)...), "count of a block is out of range"},
		{"array of records, count 2^24", one(sixteen), zigzag(1 << 24), "a block of 16777216 items"},
		{"array of booleans, count 2^33", one(`{"type":"array","items":"boolean"}`), append(zigzag(1<<33), zigzag(0)...), "a block of 8589934592 items"},
		{"map count 2^28", one(`{"type":"map","values":"long"}`), zigzag(1 << 28), "a block of 268435456 items"},
		{"map count 2^62", one(`{"type":"map","values":"long"}`), zigzag(1 << 62), "a block of"},
		{"enum ordinal 7 of 2", one(`{"type":"enum","name":"E","symbols":["A","B"]}`), zigzag(7), "no symbol number 7"},
		{"enum ordinal -1", one(`{"type":"enum","name":"E","symbols":["A","B"]}`), zigzag(-1), "no symbol number -1"},
		{"union index 9", one(`["null","string"]`), zigzag(9), "no branch 9"},
		{"union index -1", one(`["null","string"]`), zigzag(-1), "no branch -1"},
		{"varint of 40 bytes", one(`"long"`), append(bytes.Repeat([]byte{0x80}, 39), 1), "does not fit 64 bits"},
		{"int out of 32 bits", one(`"int"`), zigzag(1 << 40), "does not fit an int"},
		{"boolean 2", one(`"boolean"`), []byte{2}, "a boolean is a byte 0 or 1"},
		{"trailing bytes", one(`"long"`), []byte{2, 9, 9, 9}, "3 bytes are left over"},
		{"20 MB of recursion", recursive, bytes.Repeat([]byte{2}, 20_000_000), "more than 256 levels"},
		{"empty", one(`"string"`), nil, "the bytes end in the middle"},

		{"varint of 65 bits", one(`"long"`), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}, "does not fit 64 bits"},
		{"varint longer than needed", one(`"long"`), []byte{0x82, 0}, "shortest form"},
		{"varint cut", one(`"long"`), []byte{0x82}, "the bytes end in the middle"},
		{"double cut", one(`"double"`), make([]byte, 7), "the bytes end in the middle"},
		{"fixed cut", one(`{"type":"fixed","name":"F","size":4}`), make([]byte, 3), "the bytes end in the middle"},
		{"block size too small", one(`{"type":"array","items":"string"}`), []byte{1, 2, 4, 'a', 'b', 0}, "not the size of its items"},
		{"block size too great", one(`{"type":"array","items":"long"}`), []byte{1, 4, 2, 0, 0}, "not the size of its items"},
		{"block size beyond the end", one(`{"type":"array","items":"long"}`), []byte{1, 40, 2, 0}, "byte size of a block is not in"},
		{"block size negative", one(`{"type":"map","values":"long"}`), []byte{1, 1, 2, 'a', 2, 0}, "byte size of a block is not in"},
		{"map key not UTF-8", one(`{"type":"map","values":"long"}`), []byte{2, 2, 0xff, 2, 0}, "a key is not valid UTF-8"},
		{"map key twice", one(`{"type":"map","values":"long"}`), []byte{4, 2, 'a', 2, 2, 'a', 4, 0}, "this key twice"},
		{"map key twice, in two blocks", one(`{"type":"map","values":"long"}`), []byte{2, 2, 'a', 2, 2, 2, 'a', 4, 0}, "this key twice"},
		{"array without end", one(`{"type":"array","items":"long"}`), []byte{2, 2}, "the bytes end in the middle"},
		{"empty decimal", one(`{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`), []byte{0, 0}, "at least one byte"},
		{"decimal of 5 digits", one(`{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`), []byte{4, 0x27, 0x10}, "more than 4 digits"},
		{"no UUID", one(`{"type":"string","logicalType":"uuid"}`), []byte{4, 'a', 'b'}, "not a UUID"},
		{"time of the next day", one(`{"type":"int","logicalType":"time-millis"}`), zigzag(86400000), "less than one day"},
		{"negative time", one(`{"type":"long","logicalType":"time-micros"}`), zigzag(-1), "less than one day"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, schemas := catalogueOf(t, test.schema)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			err := c.Validate(schemas[0], test.data)
			elapsed := time.Since(start)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrData) || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("Validate returned %v, want %q", err, test.reason)
			}
			// Other tests run beside this one; the bounds are far from what the attacks took.
			if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
				t.Errorf("took %d bytes of memory", took)
			}
			if elapsed > 30*time.Second {
				t.Errorf("took %v", elapsed)
			}
			if _, err := c.ToJSON(schemas[0], test.data); !errors.Is(err, ErrData) {
				t.Errorf("ToJSON returned %v", err)
			}
		})
	}
}

func TestWhatIsUnusualButRightPasses(t *testing.T) {
	for _, test := range []struct {
		name, schema string
		data         []byte
		json         string
	}{
		{"two blocks", one(`{"type":"array","items":"long"}`), []byte{2, 2, 4, 4, 6, 0}, `{"a":[1,2,3]}`},
		{"blocks with sizes", one(`{"type":"array","items":"string"}`), []byte{1, 4, 2, 'a', 2, 2, 'b', 0}, `{"a":["a","b"]}`},
		{"sizes right", one(`{"type":"array","items":"string"}`), []byte{3, 8, 2, 'a', 2, 'b', 0}, `{"a":["a","b"]}`},
		{"map in two blocks", one(`{"type":"map","values":"long"}`), []byte{2, 2, 'b', 2, 1, 6, 2, 'a', 4, 0}, `{"a":{"b":1,"a":2}}`},
		{"decimal with sign bytes", one(`{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`), []byte{8, 0xff, 0xff, 0xff, 0x80}, `{"a":-1.28}`},
		{"greatest long", one(`"long"`), zigzag(1<<63 - 1), `{"a":9223372036854775807}`},
		{"least long", one(`"long"`), zigzag(-1 << 63), `{"a":-9223372036854775808}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, schemas := catalogueOf(t, test.schema)
			got, err := c.ToJSON(schemas[0], test.data)
			if err != nil || string(got) != test.json {
				t.Errorf("ToJSON returned %s, %v, want %s", got, err, test.json)
			}
		})
	}
}

func TestPathOfAnError(t *testing.T) {
	c := bank(t)
	d := schemaOf(t, c, "CreditAccount.CreditAccount")
	data, _, err := c.FromJSON("CreditAccount.CreditAccount", []byte(`{"client":"client:1","credit_limit":{"minor":1},"balance":{"minor":1},
		"cards":[{"id":"card:1","holder":"a","last4":"1"},{"id":"card:2","holder":"b","last4":"2","limit":{"minor":77,"currency":"EUR"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Replace(data, []byte("EUR"), []byte("EU\xff"), 1)
	var e *DataError
	if err := c.Validate(d, bad); !errors.As(err, &e) || e.Path != "cards[1].limit.currency" || e.Type != "CreditAccount.CreditAccount" {
		t.Errorf("Validate returned %v", err)
	}
}

func TestUnknownSchemas(t *testing.T) {
	c := bank(t)
	for d, want := range map[evento.DataSchema]error{
		"": ErrUnknownSchema,
		"urn:evento:avro:CreditAccount.CardCharged:0011223344556677": ErrUnknownSchema,
		"urn:evento:avro:CreditAccount.Nothing:0011223344556677":     ErrUnknownType,
		"urn:evento:avro:Nothing.Nothing:0011223344556677":           ErrUnknownType,
		"http://example.com/CreditAccount.CardCharged":               ErrUnknownSchema,
		"::": ErrUnknownSchema,
	} {
		if err := c.Validate(d, nil); !errors.Is(err, want) {
			t.Errorf("Validate of %q returned %v, want %v", d, err, want)
		}
	}
}

// mutate changes a few bytes of data, and sometimes its length.
func mutate(r *rand.Rand, data []byte) []byte {
	out := bytes.Clone(data)
	for range 1 + r.IntN(4) {
		if len(out) == 0 {
			return []byte{byte(r.IntN(256))}
		}
		switch i := r.IntN(len(out)); r.IntN(8) {
		case 0:
			out = out[:i]
		case 1:
			out = append(out[:i:i], append([]byte{byte(r.IntN(256))}, out[i:]...)...)
		case 2:
			out[i] ^= 1
		default:
			out[i] = byte(r.IntN(256))
		}
	}
	return out
}

// What passes is also read by the library, to the last byte and to the same
// value as what we make of it.
func TestMutatedValues(t *testing.T) {
	c, schemas := catalogueOf(t, kitchen)
	library := twmb.MustParse(kitchen)
	data, _, err := c.FromJSON("K.Kitchen", []byte(`{"rs":[{"x":1},{"x":2}],"ms":{"a":["x"],"b":[]},"om":{"q":"r"},"oa":[5,6,7],"or":{"x":4},"self":{"m":{}},"o":"opt"}`))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range 20_000 {
		bad := mutate(r, data)
		if c.Validate(schemas[0], bad) != nil {
			continue
		}
		accepted++
		var v any
		rest, err := library.Decode(bad, &v)
		if err != nil || len(rest) != 0 {
			t.Fatalf("%x passes, but the library says %v, %d bytes left", bad, err, len(rest))
		}
		plain := canonicalBytes(c, schemas[0], bad)
		var w any
		if _, err := library.Decode(plain, &w); err != nil {
			t.Fatalf("the canonical form %x of %x: %v", plain, bad, err)
		}
		if a, b := sorted(t, library, v), sorted(t, library, w); a != b {
			t.Fatalf("the canonical form of %x changed it from %s to %s", bad, a, b)
		}
		shown, err := c.ToJSON(schemas[0], bad)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := c.FromJSON("K.Kitchen", shown)
		if err != nil || !bytes.Equal(again, plain) {
			if !bytes.Contains(shown, []byte("NaN")) { // of which there are many
				t.Fatalf("%s reads back as %x, %v, want %x", shown, again, err, plain)
			}
		}
	}
	if accepted < 500 {
		t.Errorf("only %d mutations were accepted: the test says little", accepted)
	}
}

func canonicalBytes(c *Catalogue, d evento.DataSchema, data []byte) []byte {
	v, _, _ := c.version(d)
	out, _ := canonical(nil, v.shape, data, 0)
	return out
}

// sorted writes a decoded value with the keys of maps in order.
func sorted(t *testing.T, s *twmb.Schema, v any) string {
	t.Helper()
	text, err := s.EncodeJSON(v)
	if err != nil {
		t.Fatal(err)
	}
	var anything any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&anything); err != nil {
		t.Fatal(err)
	}
	return encodeJSON(t, anything)
}

func TestEveryCutIsRefused(t *testing.T) {
	c := bank(t)
	data, d, err := c.FromJSON("CreditAccount.ChargeCard", []byte(`{"purchase_id":"p","merchant":"m","amount":{"minor":-12345678}}`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		if err := c.Validate(d, data[:i]); !errors.Is(err, ErrData) {
			t.Errorf("the first %d of %d bytes gave %v", i, len(data), err)
		}
	}
}
