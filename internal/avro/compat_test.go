package avro

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shopAnd returns the shop with replacements.
func shopAnd(t *testing.T, oldnew ...string) *Aggregate {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(shop, oldnew[i]) {
			t.Fatalf("the shop has no %s", oldnew[i])
		}
	}
	a, err := ParseAggregate("shop.avsc", []byte(strings.NewReplacer(oldnew...).Replace(shop)))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func names(types []*Type) string {
	var list []string
	for _, t := range types {
		list = append(list, t.Name.Name())
	}
	return strings.Join(list, " ")
}

func TestEvolutionOfTheBank(t *testing.T) {
	c := bank(t)
	v2 := readAggregate(t, "CheckingAccount.v2")
	_, err := c.Check(v2)
	var bad *CompatError
	if !errors.As(err, &bad) || !errors.Is(err, ErrIncompatible) {
		t.Fatalf("Check returned %v", err)
	}
	// The rename by alias is the one thing that older functions cannot follow.
	if len(bad.Problems) != 1 || bad.Problems[0].Type != "CheckingAccount.CashWithdrawn" || bad.Problems[0].Rule != "forward" || bad.Problems[0].Field != "destination" {
		t.Fatalf("Check returned %v", err)
	}
	changed := register(t, c, v2, AllowBackwardOnly())
	if got, want := names(changed), "CheckingAccount DepositReceived CashWithdrawn OverdraftFeeCharged"; got != want {
		t.Errorf("changed %s, want %s", got, want)
	}
	for _, typ := range changed {
		if want := typ.Name == "CheckingAccount.CashWithdrawn"; typ.BackwardOnly != want {
			t.Errorf("BackwardOnly of %s is %v", typ.Name, typ.BackwardOnly)
		}
		if want := 2; typ.Name != "CheckingAccount.OverdraftFeeCharged" && typ.Version != want {
			t.Errorf("%s has version %d", typ.Name, typ.Version)
		}
	}
	if again, err := c.Check(v2); err != nil || len(again) != 0 {
		t.Errorf("a second Check returned %v, %v", names(again), err)
	}
	// What comes after the accepted rename is held against it alone.
	text, err := os.ReadFile(filepath.Join("testdata", "CheckingAccount.v2.avsc"))
	if err != nil {
		t.Fatal(err)
	}
	v3, err := ParseAggregate("v3.avsc", []byte(strings.Replace(string(text), `{"name": "atm", "aliases": ["destination"], "type": "string"},`,
		`{"name": "atm", "aliases": ["destination"], "type": "string"}, {"name": "note", "type": "string", "default": ""},`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if changed := register(t, c, v3); names(changed) != "CashWithdrawn" || changed[0].BackwardOnly {
		t.Errorf("changed %v", names(changed))
	}
	if missing := c.Missing(readAggregate(t, "CheckingAccount")); len(missing) != 1 || missing[0] != "CheckingAccount.OverdraftFeeCharged" {
		t.Errorf("missing are %v", missing)
	}
}

func TestWhatEvolutionAllows(t *testing.T) {
	const ms = `{"type":"long","logicalType":"timestamp-millis"}`
	for _, test := range []struct {
		name    string
		change  []string
		changed string
	}{
		{"nothing", nil, ""},
		{"a new type", []string{"\n]", `,{"type":"record","name":"Closed","namespace":"Shop","evento":{"kind":"event"},"fields":[{"name":"n","type":"int"}]}]`}, "Closed"},
		{"a field with default", []string{`[{"name":"n","type":"int"}]`, `[{"name":"n","type":"int"},{"name":"m","type":"int","default":0}]`}, "Sold"},
		{"another list of fails", []string{"\"Refused\"],\"creates\"", "\"Refused\",\"Hurt\"],\"creates\"", "\n]", `,{"type":"record","name":"Hurt","namespace":"Shop","evento":{"kind":"failure"},"fields":[{"name":"n","type":"int"}]}]`}, "Open Hurt"},
		{"an enum in the state grows", []string{`"SMALL"]`, `"SMALL","LARGE"]`}, "Item Shop"},
		{"the state drops a field", []string{`{"name":"owner","type":["null","string"],"default":null,"evento":{"ref":"Person"}},`, ``}, "Shop"},
		{"doc", []string{`"name":"Sold",`, `"name":"Sold","doc":"What was sold.",`}, "Sold"},
		{"a default", []string{`{"name":"at","type":` + ms + `}`, `{"name":"at","type":` + ms + `,"default":0}`}, "Open"},
		{"rebuild with another state", []string{`"prefix":"shop"`, `"prefix":"shop","rebuild":true`, `{"name":"owner","type":["null","string"],"default":null,"evento":{"ref":"Person"}}`, `{"name":"owner","type":"long"}`}, "Shop"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewCatalogue()
			register(t, c, shopAnd(t))
			changed, err := c.Check(shopAnd(t, test.change...))
			if err != nil {
				t.Fatal(err)
			}
			if got := names(changed); got != test.changed {
				t.Errorf("changed %q, want %q", got, test.changed)
			}
		})
	}
}

func TestWhatEvolutionRefuses(t *testing.T) {
	sold := `"evento":{"kind":"event","entity":"Item"},"fields":[{"name":"n","type":"int"}]`
	event := func(fields string) []string {
		return []string{sold, strings.Replace(sold, `{"name":"n","type":"int"}`, fields, 1)}
	}
	const more = `{"name":"n","type":"int"},`
	for _, test := range []struct {
		name   string
		before []string
		after  []string
		want   string // "type.field rule"
	}{
		{"a field without default", nil, event(more + `{"name":"m","type":"int"}`), "Sold.m backward"},
		{"a field without default is dropped", nil, event(`{"name":"m","type":"int","default":0}`), "Sold.n forward"},
		{"long to int", event(`{"name":"n","type":"long"}`), nil, "Sold.n backward"},
		{"int to long", nil, event(`{"name":"n","type":"long"}`), "Sold.n forward"},
		{"a command's field", nil, []string{`{"name":"n","type":"int"}]},
{"type":"record","name":"Opened"`, `{"name":"n","type":"string"}]},
{"type":"record","name":"Opened"`}, "Sell.n backward"},
		{"a failure's field", nil, []string{`{"name":"why","type":"string"}`, `{"name":"why","type":"bytes"}`}, "Refused.why bytes-as-string"},
		{"the state cannot read", nil, []string{`"default":null,"evento":{"ref":"Person"}},`, `"default":null,"evento":{"ref":"Person"}},{"name":"floor","type":"int"},`}, "Shop.floor backward"},
		{"an entity cannot read", nil, []string{`{"name":"id","type":"string","evento":{"id":true}},`, `{"name":"id","type":"string","evento":{"id":true}},{"name":"floor","type":"int"},`}, "Shop.items.items.floor backward"},
		{"logical type", event(`{"name":"n","type":{"type":"long","logicalType":"timestamp-millis"}}`), event(`{"name":"n","type":{"type":"long","logicalType":"timestamp-micros"}}`), "Sold.n logical-type-changed"},
		{"logical type of a nullable", event(more + `{"name":"m","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}`), event(more + `{"name":"m","type":["null","long"],"default":null}`), "Sold.m logical-type-changed"},
		{"logical type in an array", event(more + `{"name":"m","type":{"type":"array","items":"int"},"default":[]}`), event(more + `{"name":"m","type":{"type":"array","items":{"type":"int","logicalType":"date"}},"default":[]}`), "Sold.m logical-type-changed"},
		{"scale", event(`{"name":"n","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}`), event(`{"name":"n","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":3}}`), "Sold.n logical-type-changed"},
		{"logical type of the state", []string{`"default":null,"evento":{"ref":"Person"}},`, `"default":null,"evento":{"ref":"Person"}},{"name":"at","type":"long","default":0},`},
			[]string{`"default":null,"evento":{"ref":"Person"}},`, `"default":null,"evento":{"ref":"Person"}},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"default":0},`}, "Shop.at logical-type-changed"},
		{"enum symbol dropped", event(more + `{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B","C"],"default":"A"},"default":"A"}`), event(more + `{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"],"default":"A"},"default":"A"}`), "Sold.e enum-append-only"},
		{"enum reordered", []string{`"SMALL"]`, `"SMALL","LARGE"]`}, []string{`"SMALL"]`, `"LARGE","SMALL"]`}, "Shop.items.size enum-append-only"},
		{"default changed", event(more + `{"name":"m","type":"int","default":1}`), event(more + `{"name":"m","type":"int","default":2}`), "Sold.m default-changed"},
		{"kind", nil, []string{`"kind":"event","entity":"Item"`, `"kind":"failure","entity":"Item"`, `"emits":["Sold"]`, `"emits":["Opened"]`}, "Sold kind-changed"},
		{"kind of a value", nil, []string{`{"type":"enum","name":"Size","namespace":"Shop","evento":{"kind":"value"},"symbols":["OTHER","SMALL"],"default":"OTHER"}`, `{"type":"record","name":"Size","namespace":"Shop","evento":{"kind":"event"},"fields":[{"name":"n","type":"int"}]}`, `{"name":"size","type":"Size","default":"OTHER"}`, `{"name":"size","type":"int","default":0}`}, "Size kind-changed"},
		{"prefix", nil, []string{`"prefix":"shop"`, `"prefix":"store"`}, "Shop prefix-changed"},
		{"target", nil, []string{`"target":"Item",`, ``}, "Sell target-changed"},
		{"entity", nil, []string{`"kind":"event","entity":"Item"`, `"kind":"event"`}, "Sold entity-changed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewCatalogue()
			register(t, c, shopAnd(t, test.before...))
			changed, err := c.Check(shopAnd(t, test.after...))
			var bad *CompatError
			if !errors.As(err, &bad) {
				t.Fatalf("Check returned %v, %v", names(changed), err)
			}
			for _, p := range bad.Problems {
				if p.What == "" || p.Do == "" || p.File != "shop.avsc" {
					t.Errorf("a problem says too little: %+v", p)
				}
				at := strings.TrimPrefix(p.Type, "Shop.")
				if p.Field != "" {
					at += "." + p.Field
				}
				if at+" "+p.Rule == test.want {
					return
				}
			}
			t.Errorf("no %q in %v", test.want, err)
		})
	}
}

func TestEveryVersionCounts(t *testing.T) {
	sold := `"evento":{"kind":"event","entity":"Item"},"fields":[{"name":"n","type":"int"}]`
	with := func(field string) *Aggregate {
		return shopAnd(t, sold, strings.Replace(sold, `}]`, `},`+field+`]`, 1))
	}
	c := NewCatalogue()
	register(t, c, with(`{"name":"m","type":"int","default":0}`))
	register(t, c, shopAnd(t)) // the field leaves
	if _, err := c.Check(with(`{"name":"m","type":"string","default":""}`)); !errors.Is(err, ErrIncompatible) {
		t.Errorf("a field came back with another type: %v", err)
	}
	back := register(t, c, with(`{"name":"m","type":"int","default":0}`))
	if len(back) != 1 || back[0].Version != 3 {
		t.Fatalf("registered %+v", back)
	}
	if newest, _ := c.Type("Shop.Sold"); newest.Fingerprint != back[0].Fingerprint || len(c.Versions("Shop.Sold")) != 2 {
		t.Errorf("the newest is %+v", newest)
	}
}

func TestRebuildStartsANewLine(t *testing.T) {
	const owner = `{"name":"owner","type":["null","string"],"default":null,"evento":{"ref":"Person"}}`
	c := NewCatalogue()
	register(t, c, shopAnd(t))
	register(t, c, shopAnd(t, `"prefix":"shop"`, `"prefix":"shop","rebuild":true`, owner, `{"name":"owner","type":"long"}`))
	// Without the word again, against the rebuilt version alone.
	if changed, err := c.Check(shopAnd(t, owner, `{"name":"owner","type":"long"},{"name":"x","type":"int","default":0}`)); err != nil || names(changed) != "Shop" {
		t.Errorf("Check returned %v, %v", names(changed), err)
	}
	if _, err := c.Check(shopAnd(t)); !errors.Is(err, ErrIncompatible) {
		t.Errorf("back to the first state: %v", err)
	}
}

func TestPrefixesAreUniqueInTheInstallation(t *testing.T) {
	c := bank(t)
	_, err := c.Check(shopAnd(t, `"prefix":"item"`, `"prefix":"card"`))
	var bad *CompatError
	if !errors.As(err, &bad) || bad.Problems[0].Rule != "prefix-taken" || !strings.Contains(err.Error(), "CreditAccount.CreditCard") {
		t.Errorf("Check returned %v", err)
	}
}

func TestTypesOfTheSameNameInTwoAggregates(t *testing.T) {
	c := bank(t)
	checking, _ := c.Type("CheckingAccount.DepositReceived")
	savings, _ := c.Type("SavingsAccount.DepositReceived")
	if checking == nil || savings == nil || checking.Fingerprint == savings.Fingerprint {
		t.Errorf("%+v and %+v", checking, savings)
	}
}
