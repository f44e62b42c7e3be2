package avro

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

func TestSchemasOfTheBankAreGood(t *testing.T) {
	for name, types := range map[string]int{"CheckingAccount": 17, "CheckingAccount.v2": 18, "SavingsAccount": 14, "CreditAccount": 21, "Client": 10} {
		a := readAggregate(t, name)
		if len(a.Types) != types || len(a.Warnings) != 0 {
			t.Errorf("%s has %d types, want %d, warnings %v", name, len(a.Types), types, a.Warnings)
		}
	}
	a := readAggregate(t, "CreditAccount")
	if a.Name != "CreditAccount" || a.Prefix != "credit" || a.Rebuild {
		t.Errorf("read %+v", a)
	}
	charge, ok := a.Type("ChargeCard")
	if !ok || charge.Kind != KindCommand || charge.Target != "CreditAccount.CreditCard" || charge.Creates ||
		!charge.Allows("CreditAccount.CardCharged") || !charge.Allows("CreditAccount.CardDeclined") || charge.Allows("CreditAccount.CardBlocked") {
		t.Errorf("read %+v", charge)
	}
	if opened, ok := a.Type("CreditAccount.OpenCreditAccount"); !ok || !opened.Creates || opened.Target != "" {
		t.Errorf("read %+v", opened)
	}
	card, ok := a.Type("CreditCard")
	if !ok || card.Prefix != "card" || !strings.HasPrefix(card.Doc, "An entity") {
		t.Errorf("read %+v", card)
	}
	if declined, ok := a.Type("CardDeclined"); !ok || declined.Entity != "CreditAccount.CreditCard" || !declined.Outcome() {
		t.Errorf("read %+v", declined)
	}
	if status, ok := a.Type("CardStatus"); !ok || status.Kind != KindValue || status.Name != "CreditAccount.CardStatus" {
		t.Errorf("read %+v", status)
	}
	// Each text stands alone, and keeps what Avro does not know.
	if !strings.Contains(card.Text, `"evento":{"id":true}`) || !strings.Contains(charge.Text, `"minor"`) {
		t.Error("the texts are not self-contained")
	}
}

// shop is a good file to spoil.
const shop = `[
{"type":"enum","name":"Size","namespace":"Shop","evento":{"kind":"value"},"symbols":["OTHER","SMALL"],"default":"OTHER"},
{"type":"record","name":"Item","namespace":"Shop","evento":{"kind":"entity","prefix":"item"},"fields":[
  {"name":"id","type":"string","evento":{"id":true}},
  {"name":"size","type":"Size","default":"OTHER"}]},
{"type":"record","name":"Shop","namespace":"Shop","evento":{"kind":"root","prefix":"shop"},"fields":[
  {"name":"owner","type":["null","string"],"default":null,"evento":{"ref":"Person"}},
  {"name":"items","type":{"type":"array","items":"Item"},"default":[]}]},
{"type":"record","name":"Open","namespace":"Shop","evento":{"kind":"command","emits":["Opened"],"fails":["Refused"],"creates":true},"fields":[
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]},
{"type":"record","name":"Sell","namespace":"Shop","evento":{"kind":"command","target":"Item","emits":["Sold"],"fails":["Refused"]},"fields":[
  {"name":"n","type":"int"}]},
{"type":"record","name":"Opened","namespace":"Shop","evento":{"kind":"event"},"fields":[{"name":"at","type":"long"}]},
{"type":"record","name":"Sold","namespace":"Shop","evento":{"kind":"event","entity":"Item"},"fields":[{"name":"n","type":"int"}]},
{"type":"record","name":"Refused","namespace":"Shop","evento":{"kind":"failure"},"fields":[{"name":"why","type":"string"}]}
]`

func TestLintRules(t *testing.T) {
	if _, err := ParseAggregate("shop.avsc", []byte(shop)); err != nil {
		t.Fatal(err)
	}
	// extra puts one more type at the end of the file.
	extra := func(s string) [2]string { return [2]string{"\n]", ",\n" + s + "\n]"} }
	field := func(s string) [2]string { return [2]string{`{"name":"why","type":"string"}`, s} }
	for _, test := range []struct {
		name   string
		change [2]string
		want   string // "type.field rule"
	}{
		{"not JSON", [2]string{`[`, `[[`}, "json"},
		{"text after it", [2]string{"\n]", "\n] x"}, "json"},
		{"not an array", [2]string{shop, `{"type":"record"}`}, "file-array"},
		{"empty", [2]string{shop, `[]`}, "file-array"},
		{"an element that is no object", extra(`"string"`), "file-array"},
		{"too deep", [2]string{shop, strings.Repeat("[", 100) + strings.Repeat("]", 100)}, "json"},
		{"a key twice", [2]string{`"name":"Sell",`, `"name":"Sell","name":"Sell",`}, "json"},
		{"a key twice in a field", field(`{"name":"why","type":"string","doc":"a","doc":"b"}`), "json"},
		{"no namespace", [2]string{`"name":"Sold","namespace":"Shop",`, `"name":"Sold",`}, "Sold namespace"},
		{"other namespace", [2]string{`"name":"Sold","namespace":"Shop"`, `"name":"Sold","namespace":"Store"`}, "Sold namespace"},
		{"namespace with dots", [2]string{shop, strings.ReplaceAll(shop, `"namespace":"Shop"`, `"namespace":"com.shop"`)}, "Size namespace"},
		{"the platform's namespace", [2]string{shop, strings.ReplaceAll(shop, `"namespace":"Shop"`, `"namespace":"Evento"`)}, "Size namespace"},
		{"no evento", [2]string{`"evento":{"kind":"failure"},`, ``}, "Refused kind"},
		{"unknown kind", [2]string{`"kind":"failure"`, `"kind":"falure"`}, "Refused kind"},
		{"a root that is no record", extra(`{"type":"enum","name":"Q","namespace":"Shop","evento":{"kind":"event"},"symbols":["A"],"default":"A"}`), "Q kind"},
		{"unknown key of evento", [2]string{`"kind":"failure"`, `"kind":"failure","entitty":"Item"`}, "Refused property"},
		{"a key of another kind", [2]string{`"kind":"failure"`, `"kind":"failure","prefix":"x"`}, "Refused property"},
		{"no root", [2]string{`"kind":"root","prefix":"shop"`, `"kind":"value"`}, "root"},
		{"two roots", extra(`{"type":"record","name":"Q","namespace":"Shop","evento":{"kind":"root","prefix":"q"},"fields":[{"name":"a","type":"int"}]}`), "Q root"},
		{"the root has another name", [2]string{`"name":"Shop"`, `"name":"Store"`}, "Store root"},
		{"bad prefix", [2]string{`"prefix":"shop"`, `"prefix":"Shop"`}, "Shop prefix"},
		{"no prefix", [2]string{`"kind":"entity","prefix":"item"`, `"kind":"entity"`}, "Item prefix"},
		{"prefix twice", [2]string{`"prefix":"shop"`, `"prefix":"item"`}, "Shop prefix"},
		{"rebuild is no boolean", [2]string{`"prefix":"shop"`, `"prefix":"shop","rebuild":"yes"`}, "Shop property"},
		{"no emits", [2]string{`"emits":["Sold"],`, ``}, "Sell emits"},
		{"empty fails", [2]string{`"emits":["Sold"],"fails":["Refused"]`, `"emits":["Sold"],"fails":[]`}, "Sell fails"},
		{"emits is no list", [2]string{`"emits":["Sold"]`, `"emits":"Sold"`}, "Sell emits"},
		{"emits what is not there", [2]string{`"emits":["Sold"]`, `"emits":["Soldd"]`}, "Sell emits"},
		{"emits a failure", [2]string{`"emits":["Sold"]`, `"emits":["Refused"]`}, "Sell emits"},
		{"emits twice", [2]string{`"emits":["Sold"]`, `"emits":["Sold","Shop.Sold"]`}, "Sell emits"},
		{"fails with an event", [2]string{`"emits":["Sold"],"fails":["Refused"]`, `"emits":["Sold"],"fails":["Sold"]`}, "Sell fails"},
		{"target is not there", [2]string{`"target":"Item"`, `"target":"Thing"`}, "Sell target"},
		{"target is a value", [2]string{`"target":"Item"`, `"target":"Size"`}, "Sell target"},
		{"entity is an event", [2]string{`"entity":"Item"`, `"entity":"Opened"`}, "Sold entity"},
		{"creates is no boolean", [2]string{`"creates":true`, `"creates":1`}, "Open creates"},
		{"creates an inner entity", [2]string{`"target":"Item"`, `"target":"Item","creates":true`}, "Sell creates"},
		{"unreachable entity", extra(`{"type":"record","name":"Q","namespace":"Shop","evento":{"kind":"entity","prefix":"q"},"fields":[{"name":"id","type":"string","evento":{"id":true}}]}`), "Q unreachable"},
		{"entities in a map", [2]string{`{"type":"array","items":"Item"},"default":[]`, `{"type":"map","values":"Item"},"default":{}`}, "Shop.items entity-in-map"},
		{"no id", [2]string{`,"evento":{"id":true}`, ``}, "Item id"},
		{"two ids", [2]string{`{"name":"size",`, `{"name":"id2","type":"string","evento":{"id":true}},{"name":"size",`}, "Item.id2 id"},
		{"id is no string", [2]string{`{"name":"id","type":"string"`, `{"name":"id","type":"long"`}, "Item.id id"},
		{"id elsewhere", field(`{"name":"why","type":"string","evento":{"id":true}}`), "Refused.why property"},
		{"unknown property of a field", field(`{"name":"why","type":"string","evento":{"reff":"X"}}`), "Refused.why property"},
		{"ref on a number", field(`{"name":"why","type":"long","evento":{"ref":"Person"}}`), "Refused.why ref"},
		{"ref to nothing", field(`{"name":"why","type":"string","evento":{"ref":""}}`), "Refused.why ref"},
		{"no fields", field(``), "Refused no-fields"},
		{"inline record without fields", field(`{"name":"why","type":{"type":"record","name":"In","fields":[]}}`), "In no-fields"},
		{"a field without type", field(`{"name":"why"}`), "Refused.why type"},
		{"a field that is no object", field(`{"name":"why","type":"string"},7`), "Refused field"},
		{"unknown type", field(`{"name":"why","type":"strin"}`), "Refused.why unknown-type"},
		{"type of another file", field(`{"name":"why","type":"Bank.Money"}`), "Refused.why unknown-type"},
		{"null", field(`{"name":"why","type":"null"}`), "Refused.why null-type"},
		{"array of null", field(`{"name":"why","type":{"type":"array","items":"null"}}`), "Refused.why null-type"},
		{"union of three", field(`{"name":"why","type":["null","string","long"],"default":null}`), "Refused.why union"},
		{"union without null", field(`{"name":"why","type":["string","long"]}`), "Refused.why union"},
		{"null last", field(`{"name":"why","type":["string","null"],"default":""}`), "Refused.why union"},
		{"nullable without default", field(`{"name":"why","type":["null","string"]}`), "Refused.why nullable-default"},
		{"error", field(`{"name":"why","type":{"type":"error","name":"X","fields":[]}}`), "Refused.why type"},
		{"defined later", [2]string{`{"name":"owner",`, `{"name":"late","type":["null","Later"],"default":null},{"name":"owner",`}, "Shop.late unknown-type"},
		{"used before its definition", [2]string{"\n]", `,{"type":"record","name":"P","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":"Q"}]},
			{"type":"record","name":"Q","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":"int"}]}]`}, "P.a define-before-use"},
		{"defined twice", extra(`{"type":"record","name":"Sold","namespace":"Shop","evento":{"kind":"event"},"fields":[{"name":"n","type":"int"}]}`), "Sold duplicate-type"},
		{"contains itself", field(`{"name":"why","type":"string"},{"name":"more","type":"Refused"}`), "Refused.more recursion"},
		{"contains itself inside another", extra(`{"type":"record","name":"P","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":{"type":"record","name":"Q","fields":[{"name":"p","type":"P"}]}}]}`), "P.a recursion"},
		{"enum without default", [2]string{`,"default":"OTHER"},` + "\n", `},` + "\n"}, "Size enum-default"},
		{"enum with a late default", [2]string{`["OTHER","SMALL"]`, `["SMALL","OTHER"]`}, "Size enum-default"},
		{"enum with a symbol that is no name", [2]string{`["OTHER","SMALL"]`, `["OTHER","VERY SMALL"]`}, "Size enum-symbols"},
		{"enum without symbols", [2]string{`["OTHER","SMALL"]`, `[]`}, "Size enum-symbols"},
		{"fixed too large", field(`{"name":"why","type":{"type":"fixed","name":"F","size":4611686018427387904}}`), "F fixed-size"},
		{"fixed of nothing", field(`{"name":"why","type":{"type":"fixed","name":"F","size":0}}`), "F fixed-size"},
		{"logical type beside the type", field(`{"name":"why","type":"long","logicalType":"timestamp-millis"}`), "Refused.why logical-type"},
		{"unknown logical type", field(`{"name":"why","type":{"type":"long","logicalType":"timestamp-mills"}}`), "Refused.why logical-type"},
		{"logical type on another", field(`{"name":"why","type":{"type":"string","logicalType":"date"}}`), "Refused.why logical-type"},
		{"decimal without precision", field(`{"name":"why","type":{"type":"bytes","logicalType":"decimal"}}`), "Refused.why logical-type"},
		{"decimal with too many digits", field(`{"name":"why","type":{"type":"bytes","logicalType":"decimal","precision":1000000000}}`), "Refused.why logical-type"},
		{"decimal scale", field(`{"name":"why","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":5}}`), "Refused.why logical-type"},
		{"duration", field(`{"name":"why","type":{"type":"fixed","name":"D","size":11,"logicalType":"duration"}}`), "D logical-type"},
		{"double in Money", extra(`{"type":"record","name":"Money","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"x","type":["null","double"],"default":null}]}`), "Money.x money"},
		{"decimal in Money", extra(`{"type":"record","name":"Money","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"x","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}`), "Money.x money"},
		{"bad name", [2]string{`"name":"Sold"`, `"name":"So ld"`}, "So ld name"},
		{"bad field name", field(`{"name":"w-y","type":"string"}`), "Refused.w-y name"},
		{"Go names of fields", field(`{"name":"why","type":"string"},{"name":"Why","type":"string"}`), "Refused.Why go-name"},
		{"taken Go name of a field", field(`{"name":"hintSize","type":"string"}`), "Refused.hintSize go-name"},
		{"no Go name", field(`{"name":"_","type":"string"}`), "Refused._ go-name"},
		{"Go names of types", extra(`{"type":"record","name":"_sold","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":"int"}]}`), "_sold go-name"},
		{"Go files of types", extra(`{"type":"record","name":"ABCard","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":"int"}]},{"type":"record","name":"AbCard","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":"int"}]}`), "AbCard go-name"},
		{"Go name of a constructor", extra(`{"type":"record","name":"NewSold","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":"int"}]}`), "NewSold go-name"},
		{"Go name of a symbol", extra(`{"type":"record","name":"SizeSMALL","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":"int"}]}`), "SizeSMALL go-name"},
		{"Go name of a nullable", extra(`{"type":"record","name":"UnionNullString","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":"int"}]}`), "Shop go-name"},
		{"taken Go name", extra(`{"type":"record","name":"Bytes","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"a","type":"int"}]}`), "Bytes go-name"},
		{"bad default", field(`{"name":"why","type":"string","default":7}`), "Refused avro"},
		{"bad default of an enum field", [2]string{`"type":"Size","default":"OTHER"`, `"type":"Size","default":"HUGE"`}, "Item avro"},
		{"a field twice", field(`{"name":"why","type":"string"},{"name":"why","type":"string"}`), "Refused.why go-name"},
		{"an endless default", extra(`{"type":"record","name":"P","namespace":"Shop","evento":{"kind":"value"},"fields":[{"name":"p","type":{"type":"array","items":"P"},"default":[{}]}]}`), "P avro"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(shop, test.change[0], test.change[1], 1)
			if text == shop {
				t.Fatal("the change does not fit")
			}
			_, err := ParseAggregate("shop.avsc", []byte(text))
			var lint *LintError
			if !errors.As(err, &lint) {
				t.Fatalf("ParseAggregate returned %v", err)
			}
			for _, p := range lint.Problems {
				if p.File != "shop.avsc" || p.What == "" || p.Do == "" && p.Rule != "avro" {
					t.Errorf("a problem says too little: %+v", p)
				}
				at := p.Type
				if p.Field != "" {
					at += "." + p.Field
				}
				if strings.TrimSpace(at+" "+p.Rule) == test.want {
					return
				}
			}
			t.Errorf("no %q in %v", test.want, err)
		})
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	text := strings.NewReplacer(
		`"emits":["Sold"]`, `"emits":["Solt"]`,
		`{"name":"why","type":"string"}`, `{"name":"why","type":["string","null"]},{"name":"n","type":"int","default":"x"}`,
		`{"name":"at","type":"long"}`, `{"name":"at","type":"long","default":"x"}`,
		`"symbols":["OTHER","SMALL"],"default":"OTHER"`, `"symbols":["OTHER","SMALL"]`,
	).Replace(shop)
	_, err := ParseAggregate("shop.avsc", []byte(text))
	var lint *LintError
	if !errors.As(err, &lint) {
		t.Fatalf("ParseAggregate returned %v", err)
	}
	var got []string
	for _, p := range lint.Problems {
		got = append(got, fmt.Sprintf("%d %s.%s %s", p.Line, p.Type, p.Field, p.Rule))
	}
	want := "2 Size. enum-default; 11 Sell. emits; 13 Opened. avro; 15 Refused.why union"
	if strings.Join(got, "; ") != want {
		t.Errorf("problems are %s, want %s\n%v", strings.Join(got, "; "), want, err)
	}
}

func TestMoneyElsewhereIsAWarning(t *testing.T) {
	a, err := ParseAggregate("shop.avsc", []byte(strings.Replace(shop, `{"name":"why","type":"string"}`, `{"name":"total_amount","type":"double"}`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Warnings) != 1 || a.Warnings[0].Field != "total_amount" || a.Warnings[0].Rule != "money" {
		t.Errorf("warnings are %v", a.Warnings)
	}
}

func TestRecursionThroughNullableArrayAndMap(t *testing.T) {
	for _, schema := range []string{`["null","Refused"],"default":null`, `{"type":"array","items":"Refused"}`, `{"type":"map","values":"Refused"}`} {
		text := strings.Replace(shop, `{"name":"why","type":"string"}`, `{"name":"why","type":"string"},{"name":"more","type":`+schema+`}`, 1)
		a, err := ParseAggregate("shop.avsc", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", schema, err)
			continue
		}
		register(t, NewCatalogue(), a)
	}
}

func TestNamesMayBeFull(t *testing.T) {
	text := strings.NewReplacer(`"emits":["Sold"]`, `"emits":["Shop.Sold"]`, `"target":"Item"`, `"target":"Shop.Item"`, `"kind":"failure"`, `"kind":"failure","entity":"Shop"`).Replace(shop)
	a, err := ParseAggregate("shop.avsc", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	sell, _ := a.Type("Sell")
	refused, _ := a.Type("Refused")
	if sell.Target != "Shop.Item" || !sell.Allows("Shop.Sold") || refused.Entity != "" {
		t.Errorf("read %+v and %+v", sell, refused)
	}
}

// An aggregate of forty types once had a Go file with a name too long to write.
func TestFortyTypes(t *testing.T) {
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(strings.TrimSpace(shop), "]"))
	for i := range 40 {
		fmt.Fprintf(&b, `,{"type":"record","name":"Happened%d","namespace":"Shop","evento":{"kind":"event"},"fields":[{"name":"a","type":"int"}]}`, i)
	}
	a, err := ParseAggregate("shop.avsc", []byte(b.String()+"]"))
	if err != nil {
		t.Fatal(err)
	}
	c := NewCatalogue()
	register(t, c, a)
	if view, _ := c.Aggregate("Shop"); len(view.Events) != 42 {
		t.Errorf("%d events are registered", len(view.Events))
	}
}

func FuzzParseAggregate(f *testing.F) {
	files, err := filepath.Glob("testdata/*.avsc")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(shop))
	f.Add([]byte(`[{"type":"record"}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAggregate("f.avsc", text)
		if err != nil {
			var lint *LintError
			if !errors.As(err, &lint) || len(lint.Problems) == 0 {
				t.Fatalf("the error is %v", err)
			}
			return
		}
		// What the lint finds good can be registered and used.
		c := NewCatalogue()
		register(t, c, a)
		for _, typ := range a.Types {
			if typ.Kind == KindValue {
				continue
			}
			if got, ok := c.Version(typ.DataSchema()); !ok || got.Name != typ.Name {
				t.Fatalf("%s is not there", typ.Name)
			}
			if data, d, err := c.FromJSON(typ.Name, []byte(`{}`)); err == nil {
				if err := c.Validate(d, data); err != nil {
					t.Fatalf("the defaults of %s: %v", typ.Name, err)
				}
			}
		}
		if _, err := c.EntityType(runtime.Entity(a.Prefix + ":1")); err != nil {
			t.Fatal(err)
		}
	})
}
