package runtime

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzNames: references, coordinates, names of schemas and ids of events that are
// taken are written as they were read.
func FuzzNames(f *testing.F) {
	key := NewCommandKey("/s", "a:1", "c")
	for _, text := range []string{
		"checking:54321-90", "credit:77/card:7f3a", "a:", ":", "a:1//b:2", "topic/3/99", "t/-1/0", "t/1/9223372036854775808",
		"urn:evento:avro:A.B:0123456789abcdef", "urn:evento:avro::0123456789abcdef", key.EventID(1), key.EventID(1) + "0", key.String() + "-+1", key.String() + "-01", strings.ToUpper(key.EventID(1)),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := ParseEntity(text); err == nil {
			if string(e) != text || e.Prefix() == "" || e.ID() == "" || e.Aggregate() == "" || len(text) > MaxEntityLength {
				t.Errorf("entity %q is taken", text)
			}
			if _, err := ParseEntity(string(e.Aggregate())); err != nil {
				t.Errorf("entity %q is taken, its aggregate is not: %v", text, err)
			}
		}
		if c, err := ParseCoordinates(text); err == nil {
			if again, err := ParseCoordinates(c.String()); err != nil || again != c || c.Partition < 0 || c.Offset < 0 {
				t.Errorf("%q is %+v, then %+v, %v", text, c, again, err)
			}
		}
		if name, fingerprint, err := DataSchema(text).Parse(); err == nil && NewDataSchema(name, fingerprint) != DataSchema(text) {
			t.Errorf("%q is %q and %q", text, name, fingerprint)
		}
		// An id decides what is a repeat: one event must not have two.
		if k, pos, ok := ParseEventID(text); ok && k.EventID(pos) != text {
			t.Errorf("%q is event %d of %s", text, pos, k)
		}
	})
}

// FuzzKeys: a secret that is taken has keys that are long enough; and no signature passes that was not made with one.
func FuzzKeys(f *testing.F) {
	secret := strings.Repeat("k", MinKeyLength)
	at := time.Unix(1_900_000_000, 0)
	f.Add([]byte(secret+"\n"+secret), sign(Key(secret), "POST", "checking", at, nil))
	f.Add([]byte("short"), "v1 9223372036854775807 %zz 00")
	f.Fuzz(func(t *testing.T, text []byte, header string) {
		keys, err := ParseKeys(text)
		if err == nil && len(keys) == 0 {
			t.Error("no key, and no error")
		}
		for _, k := range keys {
			if len(k) < MinKeyLength {
				t.Errorf("a key of %d bytes is taken", len(k))
			}
			if good := sign(k, "POST", "checking", at, nil); verify(keys, good, "POST", "checking", at, nil) != nil {
				t.Error("what a key signed is not taken")
			}
		}
		if verify([]Key{Key(secret + "other")}, header, "POST", "checking", at, nil) == nil {
			t.Errorf("%q passes", header)
		}
	})
}

// FuzzDescription: a description that is taken is what its hash says.
func FuzzDescription(f *testing.F) {
	d := Description{Roles: []Role{RoleHandler}, Aggregate: "Shop", StateVersion: 1, Schemas: map[TypeName]SchemaText{"Shop.Basket": {Fingerprint: "0123456789abcdef", Schema: "{}"}}}
	d.Hash = d.hash()
	text, err := json.Marshal(d)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := readDescription(body)
		if err != nil {
			return
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := readDescription(text); err != nil || again.Hash != d.Hash || !reflect.DeepEqual(again.sortedNames(), d.sortedNames()) {
			t.Errorf("%s is read as %+v, then %+v, %v", body, d, again, err)
		}
	})
}
