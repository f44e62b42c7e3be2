package avro

import (
	"errors"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

func TestHashOfTheSameValueIsTheSame(t *testing.T) {
	c, schemas := catalogueOf(t, one(`{"type":"map","values":{"type":"array","items":"long"}}`))
	hash := func(data ...byte) string {
		t.Helper()
		h, err := c.CanonicalHash(&runtime.Message{Type: "N.H", Subject: "n:1", Schema: schemas[0], Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	want := hash(4, 2, 'a', 4, 2, 4, 0, 2, 'b', 0, 0)
	for name, got := range map[string]string{
		"other order":       hash(4, 2, 'b', 0, 2, 'a', 4, 2, 4, 0, 0),
		"two blocks":        hash(2, 2, 'b', 0, 2, 2, 'a', 4, 2, 4, 0, 0),
		"blocks with sizes": hash(3, 20, 2, 'a', 3, 4, 2, 4, 0, 2, 'b', 0, 0),
	} {
		if got != want {
			t.Errorf("%s: the hash is %s, want %s", name, got, want)
		}
	}
	if other := hash(4, 2, 'a', 4, 4, 2, 0, 2, 'b', 0, 0); other == want || !ComparableHashes(other, want) {
		t.Errorf("another order of an array has the hash %s", other)
	}
}

func TestHashTellsMessagesApart(t *testing.T) {
	c, schemas := catalogueOf(t, record(`{"name":"a","type":"string","default":""},{"name":"b","type":"string","default":""}`),
		record(`{"name":"b","type":"string","default":""},{"name":"a","type":"string","default":""}`))
	message := func(subject runtime.Entity, d runtime.DataSchema, data string) string {
		t.Helper()
		h, err := c.CanonicalHash(&runtime.Message{Type: "N.R", Subject: subject, Schema: d, Data: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	want := message("n:1", schemas[0], "\x02x\x02y")
	if got := message("n:1", schemas[0], "\x02x\x02y"); got != want {
		t.Errorf("a repeat has the hash %s, want %s", got, want)
	}
	if got := message("n:2", schemas[0], "\x02x\x02y"); got == want || !ComparableHashes(got, want) {
		t.Error("another target has the same hash")
	}
	if got := message("n:1", schemas[0], "\x02y\x02x"); got == want || !ComparableHashes(got, want) {
		t.Error("another value has the same hash")
	}
	// The same bytes say something else under the other version.
	if got := message("n:1", schemas[1], "\x02x\x02y"); got == want || ComparableHashes(got, want) {
		t.Error("another version has a comparable hash")
	}
	if _, err := c.CanonicalHash(&runtime.Message{Type: "N.Other", Subject: "n:1", Schema: schemas[0], Data: []byte("\x02x\x02y")}); !errors.Is(err, ErrData) {
		t.Errorf("a type that is not that of the schema gave %v", err)
	}
	if _, err := c.CanonicalHash(&runtime.Message{Type: "N.R", Subject: "n:1"}); !errors.Is(err, ErrUnknownSchema) {
		t.Errorf("no schema gave %v", err)
	}
	if fp, digest, ok := strings.Cut(want, "."); !ok || !strings.HasSuffix(string(schemas[0]), fp) || len(digest) != 32 {
		t.Errorf("the hash is %s", want)
	}
}

// The hash of a value is in the log for ever.
func TestHashVector(t *testing.T) {
	c := bank(t)
	data, d, err := c.FromJSON("CheckingAccount.WithdrawCash", []byte(`{"destination":"ATM 7","amount":{"minor":10000}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.CanonicalHash(&runtime.Message{Type: "CheckingAccount.WithdrawCash", Subject: "checking:54321-90", Schema: d, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	if want := "2259ed16d0d531e1.4470d9ceccbcc4fb362c3ad676ee409a"; got != want {
		t.Errorf("the hash is %s, want %s", got, want)
	}
}

func TestSameValue(t *testing.T) {
	c, schemas := catalogueOf(t,
		record(`{"name":"a","type":"string","default":""},{"name":"b","type":"string","default":""},{"name":"m","type":{"type":"map","values":"int"},"default":{}}`),
		record(`{"name":"b","type":"string","default":""},{"name":"a","type":"string","default":""},{"name":"m","type":{"type":"map","values":"int"},"default":{}},{"name":"c","type":"int","default":7}`),
		record(`{"name":"zz","type":"int"}`),
	)
	const older = "\x02x\x02y\x04\x02k\x02\x02l\x04\x00"
	for _, test := range []struct {
		name string
		a, b int
		x, y string
		want bool
	}{
		{"the same", 0, 0, older, older, true},
		{"other order of a map", 0, 0, older, "\x02x\x02y\x04\x02l\x04\x02k\x02\x00", true},
		{"other value", 0, 0, older, "\x02x\x02x\x04\x02k\x02\x02l\x04\x00", false},
		{"older and newer", 0, 1, older, "\x02y\x02x\x04\x02k\x02\x02l\x04\x00\x0e", true},
		{"newer and older", 1, 0, "\x02y\x02x\x04\x02k\x02\x02l\x04\x00\x0e", older, true},
		{"the same bytes but for what is new", 0, 1, older, "\x02x\x02y\x04\x02k\x02\x02l\x04\x00\x0e", false},
		{"what is new differs", 0, 1, older, "\x02y\x02x\x04\x02k\x02\x02l\x04\x00\x10", false},
		{"versions that cannot be compared", 0, 2, older, "\x02", false},
	} {
		got, err := c.SameValue(schemas[test.a], []byte(test.x), schemas[test.b], []byte(test.y))
		if err != nil || got != test.want {
			t.Errorf("%s: SameValue returned %v, %v", test.name, got, err)
		}
	}
	if _, err := c.SameValue(schemas[0], []byte(older), schemas[1], []byte("x")); !errors.Is(err, ErrData) {
		t.Errorf("invalid data gave %v", err)
	}
	parked, data := CommandParked{}.Encode()
	if same, err := c.SameValue(schemas[0], []byte(older), parked, data); err != nil || same {
		t.Errorf("another type gave %v, %v", same, err)
	}
}

// Only the newer can read the older here, whichever comes first.
func TestSameValueBringsTheOlderToTheNewer(t *testing.T) {
	c, schemas := catalogueOf(t, record(`{"name":"old","type":"string"}`), record(`{"name":"new","type":"string","aliases":["old"]}`))
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		same, err := c.SameValue(schemas[order[0]], []byte("\x02x"), schemas[order[1]], []byte("\x02x"))
		if err != nil || !same {
			t.Errorf("%v: SameValue returned %v, %v", order, same, err)
		}
	}
}
