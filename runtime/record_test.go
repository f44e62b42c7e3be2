package runtime_test

import (
	"bytes"
	"testing"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

func root() *runtime.Codec { return basket.Definition().Root }

func TestACodecNamesItsSchema(t *testing.T) {
	c := root()
	if c.Name() != "Basket.Basket" {
		t.Errorf("name %q", c.Name())
	}
	name, fingerprint, err := c.Schema().Parse()
	if err != nil || name != c.Name() || fingerprint != c.Text().Fingerprint {
		t.Errorf("schema %q: %q, %q, %v", c.Schema(), name, fingerprint, err)
	}
}

// What passes the check, gogen-avro decodes; and what it encodes again is the
// same value.
func FuzzCodec(f *testing.F) {
	c := root()
	data, err := c.Encode(&basket.Basket{
		Lines: []basket.Line{{Id: "tea", Quantity: 2}}, Notes: map[string]string{"a": "b"}, Coupon: basket.SomeString("SPRING"),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{0x01, 0x04, 0x02, 0x61, 0x02, 0x00, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := c.Decode(data)
		if err != nil {
			return
		}
		again, err := c.Encode(r)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if len(r.(*basket.Basket).Notes) > 1 {
			return // a map is written in any order
		}
		r2, err := c.Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		third, err := c.Encode(r2)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%x, then %x, %v", again, third, err)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	c := root()
	state := &basket.Basket{}
	for range 20 {
		state.Lines = append(state.Lines, basket.Line{Id: "some-item", Quantity: 2})
	}
	data, err := c.Encode(state)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Encode(state); err != nil {
				b.Fatal(err)
			}
		}
	})
}
