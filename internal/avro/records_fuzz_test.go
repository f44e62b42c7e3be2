package avro

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/fuzztest"
	"github.com/evento-oss/evento/runtime"
)

// FuzzRegistered: a record of the schemas topic that is taken is the type that
// it says, and is written and read as the same.
func FuzzRegistered(f *testing.F) {
	a, err := ParseAggregate("shop.avsc", []byte(shop))
	if err != nil {
		f.Fatal(err)
	}
	for _, typ := range a.Types[:3] {
		value, err := typ.Register(time.UnixMilli(1)).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(typ.Register(time.UnixMilli(1)).Key(), value)
	}
	f.Add(":", []byte(`{}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		fuzztest.Bounded(t, len(value)+len(key), func() {
			r, err := DecodeRegistered(key, value)
			if err != nil {
				if !strings.Contains(err.Error(), "schema record") {
					t.Errorf("the error does not say where: %v", err)
				}
				return
			}
			v, err := newVersion(r)
			if err != nil {
				return
			}
			if v.Name != r.Name || v.Fingerprint != r.Fingerprint || v.Version < 1 {
				t.Errorf("%s is %s %s", key, v.Name, v.Fingerprint)
			}
			text, err := r.Encode()
			if err != nil {
				return // a year that JSON does not have
			}
			if again, err := DecodeRegistered(key, text); err != nil || !reflect.DeepEqual(r, again) {
				t.Errorf("read %+v, then %+v, %v", r, again, err)
			}
		})
	})
}

// FuzzPlatform: records of the platform that are taken are written and read as the same.
func FuzzPlatform(f *testing.F) {
	_, decided := Dispatched{
		Dispatcher: "bank/transfers", Epoch: 1, Event: "e", At: "t/0/1", Status: DispatchDecided, Function: "f",
		Commands: []DispatchedCommand{{Type: "A.B", Target: "a:1", Schema: "urn:evento:avro:A.B:0123456789abcdef", Data: []byte{1}, Time: time.UnixMilli(5).UTC()}},
	}.Encode()
	_, parked := CommandParked{Reason: "r", Attempts: 3, Function: "f"}.Encode()
	_, dropped := DropCommand{Offset: 7, Reason: "r"}.Encode()
	for _, data := range [][]byte{decided, parked, dropped, {0x80, 0x80, 0x80, 0x80, 0x20}} {
		f.Add(data)
	}
	c := NewCatalogue()
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzztest.Bounded(t, len(data), func() {
			same(t, schemaDispatched, data, c.DecodeDispatched)
			same(t, schemaCommandParked, data, c.DecodeCommandParked)
			same(t, schemaCommandRejected, data, c.DecodeCommandRejected)
			same(t, schemaPublishRejected, data, c.DecodePublishRejected)
			same(t, schemaRetryNow, data, c.DecodeRetryNow)
			same(t, schemaDropCommand, data, c.DecodeDropCommand)
		})
	})
}

type platformRecord interface {
	Encode() (runtime.DataSchema, []byte)
}

func same[R platformRecord](t *testing.T, d runtime.DataSchema, data []byte, decode func(runtime.DataSchema, []byte) (R, error)) {
	t.Helper()
	r, err := decode(d, data)
	if err != nil {
		if !errors.Is(err, ErrData) {
			t.Errorf("%v is no ErrData", err)
		}
		return
	}
	_, again := r.Encode()
	r2, err := decode(d, again)
	if err != nil || !reflect.DeepEqual(r, r2) {
		t.Errorf("%x is read as %+v, then %+v, %v", data, r, r2, err)
	}
}

// FuzzTranscode: what is valid in one version is, in the next, an error or a valid
// value, and bytes that are not valid never pass.
func FuzzTranscode(f *testing.F) {
	const before = `{"type":"record","name":"K.R","evento":{"kind":"event"},"fields":[{"name":"a","type":{"type":"array","items":"long"}},{"name":"u","type":["null","string"],"default":null},{"name":"m","type":{"type":"map","values":"bytes"}}]}`
	after := strings.Replace(before, `"fields":[`, `"fields":[{"name":"new","type":"string","default":"x"},`, 1)
	old, versions := catalogueOf(f, before, after)
	d, next := versions[0], versions[1:]
	data := []byte{4, 2, 4, 0, 2, 2, 'x', 0}
	if err := old.Validate(d, data); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzztest.Bounded(t, len(data), func() {
			out, err := old.Transcode(d, data, next[0])
			if (err == nil) != (old.Validate(d, data) == nil) {
				t.Errorf("%x: %v", data, err)
			}
			if err == nil && old.Validate(next[0], out) != nil {
				t.Errorf("%x becomes %x", data, out)
			}
		})
	})
}
