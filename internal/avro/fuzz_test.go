package avro

import (
	"bytes"
	"errors"
	"testing"

	twmb "github.com/twmb/avro"
)

// Whatever passes, the library reads too, and it survives the way through JSON.
func FuzzValidate(f *testing.F) {
	c, schemas := catalogueOf(f, kitchen)
	library := twmb.MustParse(kitchen)
	for _, text := range []string{`{}`, `{"rs":[{"x":1},{"x":2}],"ms":{"a":["x"]},"om":{"q":"r"},"oa":[5,6,7],"self":{"m":{}},"o":"opt","dec":-1.28}`} {
		data, _, err := c.FromJSON("K.Kitchen", []byte(text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := c.Validate(schemas[0], data); err != nil {
			if !errors.Is(err, ErrData) {
				t.Fatal(err)
			}
			return
		}
		var v any
		if rest, err := library.Decode(data, &v); err != nil || len(rest) != 0 {
			t.Fatalf("it passes, but the library says %v with %d bytes left", err, len(rest))
		}
		shown, err := c.ToJSON(schemas[0], data)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := c.FromJSON("K.Kitchen", shown)
		if err != nil {
			t.Fatalf("%s does not read back: %v", shown, err)
		}
		if !bytes.Contains(shown, []byte("NaN")) && !bytes.Equal(again, canonicalBytes(c, schemas[0], data)) {
			t.Fatalf("%s reads back as %x", shown, again)
		}
	})
}

// Whatever is read from JSON is valid, canonical and the same again.
func FuzzFromJSON(f *testing.F) {
	c, _ := catalogueOf(f, kitchen)
	for _, text := range []string{
		`{}`, `{"i":1,"l":-2,"f":0.1,"d":1e300,"s":"\u00fc\ud83d\ude00\n","by":"\u00ff"}`,
		`{"rs":[{"x":1},{"y":"b","x":2}],"m":{"z":1,"a":2},"om":{"map":{"a":"b"}},"or":{"K.R":{"x":1}}}`,
		`{"dec":-100.05,"fdec":1.5e2,"self":{"self":{"K.Kitchen":{"i":2}}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		data, d, err := c.FromJSON("K.Kitchen", text)
		if err != nil {
			if !errors.Is(err, ErrData) {
				t.Fatal(err)
			}
			return
		}
		if err := c.Validate(d, data); err != nil {
			t.Fatal(err)
		}
		if plain := canonicalBytes(c, d, data); !bytes.Equal(plain, data) {
			t.Fatalf("%x is not canonical, %x is", data, plain)
		}
		shown, err := c.ToJSON(d, data)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := c.FromJSON("K.Kitchen", shown)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%s reads back as %x, %v, want %x", shown, again, err, data)
		}
	})
}
