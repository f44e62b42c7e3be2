package shard

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/fuzztest"
)

// FuzzAside: a set-aside record that is taken is written and read as the same.
func FuzzAside(f *testing.F) {
	value, err := json.Marshal(Aside{Aggregate: "a:1", State: Held, Attempts: 3, Next: time.UnixMilli(1).UTC(), Reason: "r"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add([]byte(`{"state":"parked","ended":{}}`))
	f.Add([]byte(`{"attempts":1e99}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		var a Aside
		var err error
		fuzztest.Bounded(t, len(value), func() { a, err = ParseAside(value) })
		if err != nil {
			return
		}
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("%s is taken and cannot be written: %v", value, err)
		}
		if b, err := ParseAside(text); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s is read as %+v, then %+v, %v", value, a, b, err)
		}
	})
}
