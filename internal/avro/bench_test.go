package avro

import (
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// The values of the facts: a deposit of 96 bytes and its JSON, and a state with a list.
const (
	benchDeposit0 = `{"type":"record","name":"DepositReceived","namespace":"CheckingAccount","evento":{"kind":"event"},"fields":[
 {"name":"transaction_id","type":"string"},
 {"name":"source","type":"string"},
 {"name":"amount","type":{"type":"record","name":"Money","fields":[{"name":"minor","type":"int"}]}},
 {"name":"received_at","type":{"type":"long","logicalType":"timestamp-millis"}},
 {"name":"obsolete","type":"string"},
 {"name":"memo","type":["null","string"],"default":null}]}`
	benchDeposit = `{"type":"record","name":"DepositReceived","namespace":"CheckingAccount","evento":{"kind":"event"},"fields":[
 {"name":"transaction_id","type":"string"},
 {"name":"source","type":"string"},
 {"name":"amount","type":{"type":"record","name":"Money","fields":[{"name":"minor","type":"long"},{"name":"currency","type":"string","default":"USD"}]}},
 {"name":"received_at","type":{"type":"long","logicalType":"timestamp-millis"}},
 {"name":"channel","type":{"type":"enum","name":"Channel","symbols":["UNKNOWN","ATM","BRANCH","WIRE"],"default":"UNKNOWN"},"default":"UNKNOWN"},
 {"name":"memo","type":["null","string"],"default":null}]}`
	benchJSON  = `{"transaction_id":"0b5f5c2e-8f5b-4a53-9a51-3f2a9e5d6c11","source":"checking:54321-90","amount":{"minor":1234567,"currency":"USD"},"received_at":1790000000000,"channel":"WIRE","memo":"salary for November 2026"}`
	benchJSON0 = `{"transaction_id":"0b5f5c2e-8f5b-4a53-9a51-3f2a9e5d6c11","source":"checking:54321-90","amount":{"minor":1234567},"received_at":1790000000000,"obsolete":"zzzzzzzz","memo":"salary for November 2026"}`
	benchState = `{"client":"client:1","status":"OPEN","balance":{"minor":5},"recent":[{"transaction_id":"a","at":1,"amount":{"minor":1}},{"transaction_id":"b","at":2,"amount":{"minor":1},"counterparty":"c"}],"labels":{"b":"1","a":"2"}}`
)

// benchCatalogue returns a catalogue with an old and a new version and a value of each.
func benchCatalogue(b *testing.B) (c *Catalogue, schemas []runtime.DataSchema, data [][]byte) {
	b.Helper()
	old, _ := catalogueOf(b, benchDeposit0)
	data0, _, err := old.FromJSON("CheckingAccount.DepositReceived", []byte(benchJSON0))
	if err != nil {
		b.Fatal(err)
	}
	c, schemas = catalogueOf(b, benchDeposit0, benchDeposit)
	data1, _, err := c.FromJSON("CheckingAccount.DepositReceived", []byte(benchJSON))
	if err != nil {
		b.Fatal(err)
	}
	return c, schemas, [][]byte{data0, data1}
}

func BenchmarkValidate(b *testing.B) {
	c, schemas, data := benchCatalogue(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(data[1])))
	for b.Loop() {
		if err := c.Validate(schemas[1], data[1]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidateState(b *testing.B) {
	c := bank(b)
	data, d, err := c.FromJSON("CheckingAccount.CheckingAccount", []byte(benchState))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := c.Validate(d, data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTranscode(b *testing.B) {
	c, schemas, data := benchCatalogue(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Transcode(schemas[0], data[0], schemas[1]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTranscodeEqual(b *testing.B) {
	c, schemas, data := benchCatalogue(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Transcode(schemas[1], data[1], schemas[1]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTranscodeState(b *testing.B) {
	c := bank(b)
	data, from, err := c.FromJSON("CheckingAccount.CheckingAccount", []byte(benchState))
	if err != nil {
		b.Fatal(err)
	}
	register(b, c, readAggregate(b, "CheckingAccount.v2"), AllowBackwardOnly())
	to := schemaOf(b, c, "CheckingAccount.CheckingAccount")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Transcode(from, data, to); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCanonicalHash(b *testing.B) {
	c, schemas, data := benchCatalogue(b)
	m := &runtime.Message{Type: "CheckingAccount.DepositReceived", Subject: "checking:54321-90", Schema: schemas[1], Data: data[1]}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.CanonicalHash(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCanonicalHashOfLists(b *testing.B) {
	c := bank(b)
	data, d, err := c.FromJSON("CheckingAccount.CheckingAccount", []byte(benchState))
	if err != nil {
		b.Fatal(err)
	}
	m := &runtime.Message{Type: "CheckingAccount.CheckingAccount", Subject: "checking:54321-90", Schema: d, Data: data}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.CanonicalHash(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFromJSON(b *testing.B) {
	c, _, _ := benchCatalogue(b)
	text := []byte(benchJSON)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.FromJSON("CheckingAccount.DepositReceived", text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkToJSON(b *testing.B) {
	c, schemas, data := benchCatalogue(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.ToJSON(schemas[1], data[1]); err != nil {
			b.Fatal(err)
		}
	}
}

// Registering one more version must not cost more as the catalogue grows.
func BenchmarkAddToALargeCatalogue(b *testing.B) {
	c := bank(b)
	typ, _ := c.Type("CreditAccount.CardCharged")
	r := typ.Register(now)
	b.ReportAllocs()
	for b.Loop() {
		r.Version++
		if err := c.Add(r); err != nil {
			b.Fatal(err)
		}
	}
}
