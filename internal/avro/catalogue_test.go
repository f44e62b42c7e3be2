package avro

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// now stands for the time of registration in tests.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// readAggregate parses a schema file of testdata.
func readAggregate(t testing.TB, name string) *Aggregate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".avsc"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAggregate(name+".avsc", text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// register checks a file and adds what is new in it.
func register(t testing.TB, c *Catalogue, a *Aggregate, opts ...CheckOption) []*Type {
	t.Helper()
	changed, err := c.Check(a, opts...)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range changed {
		add(t, c, typ.Register(now))
	}
	return changed
}

func add(t testing.TB, c *Catalogue, r Registered) {
	t.Helper()
	if err := c.Add(r); err != nil {
		t.Fatal(err)
	}
}

// bank returns a catalogue with the four aggregates of the bank.
func bank(t testing.TB) *Catalogue {
	t.Helper()
	c := NewCatalogue()
	for _, name := range []string{"CheckingAccount", "SavingsAccount", "CreditAccount", "Client"} {
		register(t, c, readAggregate(t, name))
	}
	return c
}

func schemaOf(t testing.TB, c *Catalogue, name runtime.TypeName) runtime.DataSchema {
	t.Helper()
	typ, ok := c.Type(name)
	if !ok {
		t.Fatalf("%s is not registered", name)
	}
	return typ.DataSchema()
}

// The vectors were computed by two independent libraries and agree with
// Java's SchemaNormalization.
func TestFingerprintVectors(t *testing.T) {
	c := bank(t)
	for name, want := range map[runtime.TypeName]runtime.Fingerprint{
		"CheckingAccount.DepositReceived": "52389c357e103af9",
		"CreditAccount.CreditCard":        "37f9f06048125c35",
		"CreditAccount.CardActivated":     "9d49b07d3e9030c2",
	} {
		typ, ok := c.Type(name)
		if !ok {
			t.Fatalf("%s is not registered", name)
		}
		if typ.Fingerprint != want {
			t.Errorf("fingerprint of %s is %s, want %s", name, typ.Fingerprint, want)
		}
	}
}

func TestRegisteredRecordsSurviveTheTopic(t *testing.T) {
	c, copied := bank(t), NewCatalogue()
	for _, name := range append(c.Aggregates(), platformNamespace) {
		view, _ := c.Aggregate(name)
		for _, typ := range view.types {
			value, err := typ.Register(now).Encode()
			if err != nil {
				t.Fatal(err)
			}
			r, err := DecodeRegistered(typ.Register(now).Key(), value)
			if err != nil {
				t.Fatal(err)
			}
			add(t, copied, r)
			add(t, copied, r) // twice is fine
			got, ok := copied.Version(typ.DataSchema())
			if !ok || got.Text != typ.Text || got.Kind != typ.Kind || got.Prefix != typ.Prefix || got.Target != typ.Target || len(got.Emits) != len(typ.Emits) {
				t.Errorf("%s came back as %+v", typ.Name, got)
			}
		}
	}
	changed, err := copied.Check(readAggregate(t, "CreditAccount"))
	if err != nil || len(changed) != 0 {
		t.Errorf("Check of what is registered returned %v, %v", changed, err)
	}
}

func TestAddRefusesWhatDoesNotHoldTogether(t *testing.T) {
	good, ok := bank(t).Type("CreditAccount.CardCharged")
	if !ok {
		t.Fatal("no such type")
	}
	for name, test := range map[string]struct {
		change func(*Registered)
		want   string
	}{
		"other name":        {func(r *Registered) { r.Name = "CreditAccount.CardBlocked" }, "its text is that of"},
		"other fingerprint": {func(r *Registered) { r.Fingerprint = "0011223344556677" }, "the fingerprint of its text is"},
		"no version":        {func(r *Registered) { r.Version = 0 }, "versions begin at 1"},
		"no schema":         {func(r *Registered) { r.Text = "{" }, "schema CreditAccount.CardCharged version 1"},
		"a value": {func(r *Registered) {
			r.Text = strings.Replace(r.Text, `"evento":{"entity":"CreditCard","kind":"event"}`, `"evento":{"kind":"value"}`, 1)
		}, "is no record of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			r := good.Register(now)
			test.change(&r)
			if err := NewCatalogue().Add(r); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Add returned %v, want %q", err, test.want)
			}
		})
	}
	value, _ := good.Register(now).Encode()
	if _, err := DecodeRegistered("CreditAccount.CardBlocked:f52588743bb455c6", value); err == nil {
		t.Error("a record under another key was read")
	}
}

func TestPrefixOfAnotherTypeIsRefused(t *testing.T) {
	c := bank(t)
	text := `{"type":"record","name":"Card","namespace":"Card","evento":{"kind":"root","prefix":"card"},"fields":[{"name":"a","type":"int"}]}`
	typ, _, err := parseType(text)
	if err != nil {
		t.Fatal(err)
	}
	typ.Version = 1
	if err := c.Add(typ.Register(now)); err == nil || !strings.Contains(err.Error(), `the prefix "card" belongs to CreditAccount.CreditCard`) {
		t.Errorf("Add returned %v", err)
	}
}

// After a roll-back and in any order of the topic, the highest version of a
// fingerprint stands.
func TestAnOlderRegistrationDoesNotReplaceANewer(t *testing.T) {
	c := bank(t)
	typ, _ := c.Type("CreditAccount.CardCharged")
	newer, older := typ.Register(now), typ.Register(now)
	newer.Version = 3
	newer.Text = strings.Replace(newer.Text, `"name":"merchant"`, `"name":"merchant","doc":"new"`, 1)
	older.Version = 2
	older.Text = strings.Replace(older.Text, `"name":"merchant"`, `"name":"merchant","doc":"old"`, 1)
	add(t, c, newer)
	add(t, c, older)
	if got, _ := c.Type("CreditAccount.CardCharged"); got.Version != 3 || !strings.Contains(got.Text, `"doc":"new"`) {
		t.Errorf("the newest is version %d: %s", got.Version, got.Text)
	}
	if all := c.Versions("CreditAccount.CardCharged"); len(all) != 1 {
		t.Errorf("there are %d versions", len(all))
	}
}
