package runtime

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func aRequest() request {
	return request{
		built:   "00112233445566778899aabbccddeeff",
		timeout: 1500 * time.Millisecond,
		items: []Invocation{{
			ID: "1", Kind: KindExecute, Aggregate: "checking:54321-90", Version: 41,
			StateSchema: "urn:evento:avro:CheckingAccount.CheckingAccount:0123456789abcdef", State: []byte{1, 2, 3},
			Messages: []*Message{{
				ID: "c-1", Type: "CheckingAccount.WithdrawCash", Source: "/clients/42", Subject: "checking:54321-90",
				Schema: "urn:evento:avro:CheckingAccount.WithdrawCash:fedcba9876543210",
				Time:   time.UnixMilli(1767225600123).UTC(), Data: []byte{0xc0, 0xff, 0xee},
				CausationID: "e-9", CorrelationID: "root-1",
				TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			}, {
				ID: "e-1", Type: "CheckingAccount.DepositReceived", Subject: "checking:54321-90", Sequence: 42, Data: []byte{},
				Schema: "urn:evento:avro:CheckingAccount.DepositReceived:52389c357e103af9",
			}},
		}, {
			ID: "2", Kind: KindApply, Aggregate: "credit:77", Messages: []*Message{},
		}},
	}
}

func aResponse() response {
	return response{
		built: "00112233445566778899aabbccddeeff", image: "bank:7",
		items: []Result{{
			ID: "1", Image: "bank:7", StateSchema: "urn:evento:avro:CheckingAccount.CheckingAccount:0123456789abcdef", State: []byte{9},
			Steps: []ResultStep{{Events: []*Message{{
				Type: "CheckingAccount.CashWithdrawn", Schema: "urn:evento:avro:CheckingAccount.CashWithdrawn:0011223344556677",
				Subject: "checking:54321-90", Time: time.UnixMilli(-1).UTC(), Data: []byte{7},
			}}}, {Events: []*Message{}}},
			Failure: &Failure{Code: FailurePanic, Message: "panic: spilt", Trace: "main.go:1"},
		}, {ID: "2", Image: "bank:7"}},
	}
}

// golden compares bytes with a file of hex, in lines of 32 bytes. The format is
// spoken between processes of different versions: what the file says stays.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the protocol's bytes changed; a new form needs a new version of the protocol\n got %x\nwant %x", name, got, want)
	}
}

func TestTheProtocolsBytesStay(t *testing.T) {
	w := newWire()
	body, err := w.encodeRequest(aRequest())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "invocations.hex", body)
	q, err := w.decodeRequest(body)
	if err != nil {
		t.Fatal(err)
	}
	if want := aRequest(); !reflect.DeepEqual(q, want) {
		t.Errorf("read back %+v, want %+v", q, want)
	}
	named := aRequest()
	named.items[0].State, named.items[0].StateHash = nil, bytes.Repeat([]byte{0xab}, len(StateHash{}))
	if body, err = w.encodeRequest(named); err != nil {
		t.Fatal(err)
	}
	golden(t, "invocations-named.hex", body)
	if q, err = w.decodeRequest(body); err != nil || !reflect.DeepEqual(q, named) {
		t.Errorf("read back %+v, %v, want %+v", q, err, named)
	}
	if body, err = w.encodeResponse(aResponse()); err != nil {
		t.Fatal(err)
	}
	golden(t, "results.hex", body)
	r, err := w.decodeResponse(body)
	if err != nil {
		t.Fatal(err)
	}
	if want := aResponse(); !reflect.DeepEqual(r, want) {
		t.Errorf("read back %+v, want %+v", r, want)
	}
}

func TestEveryCutOfABodyIsRefused(t *testing.T) {
	w := newWire()
	body, err := w.encodeRequest(aRequest())
	if err != nil {
		t.Fatal(err)
	}
	for n := range body {
		if _, err := w.decodeRequest(body[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are taken", n, len(body))
		}
	}
}

func TestNumbersBelowZeroAreRefused(t *testing.T) {
	w := newWire()
	for name, change := range map[string]func(*request){
		"version":  func(q *request) { q.items[0].Version = 1 << 63 },
		"sequence": func(q *request) { q.items[0].Messages[1].Sequence = 1 << 63 },
	} {
		q := aRequest()
		change(&q)
		body, err := w.encodeRequest(q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.decodeRequest(body); err == nil || !strings.Contains(err.Error(), "negative") {
			t.Errorf("%s: %v, want an error that says negative", name, err)
		}
	}
}

// What a decoder takes, it writes again and reads the same.
func FuzzRequest(f *testing.F) {
	w := newWire()
	body, err := w.encodeRequest(aRequest())
	if err != nil {
		f.Fatal(err)
	}
	named := aRequest()
	named.items[0].State, named.items[0].StateHash = nil, []byte{1}
	other, err := w.encodeRequest(named)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(other)
	f.Add(body)
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := w.decodeRequest(body)
		if err != nil {
			return
		}
		again, err := w.encodeRequest(q)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		q2, err := w.decodeRequest(again)
		if err != nil || !reflect.DeepEqual(q, q2) {
			t.Fatalf("read %+v, then %+v, %v", q, q2, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	w := newWire()
	body, err := w.encodeResponse(aResponse())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := w.decodeResponse(body)
		if err != nil {
			return
		}
		again, err := w.encodeResponse(r)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		r2, err := w.decodeResponse(again)
		if err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("read %+v, then %+v, %v", r, r2, err)
		}
	})
}

func BenchmarkWire(b *testing.B) {
	w := newWire()
	q := request{built: aRequest().built}
	for range 100 {
		q.items = append(q.items, aRequest().items[0])
	}
	body, err := w.encodeRequest(q)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode 100", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.encodeRequest(q); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode 100", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.decodeRequest(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check 100", func(b *testing.B) {
		program, err := w.invocations.compile()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := program.checker.Check(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}
