package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// vector is a record in testdata. A good one has the message it holds, and the
// headers that Evento writes for it where they differ; a bad one says in what
// it differs from a good one, and what the error must hold.
type vector struct {
	Name      string
	Headers   [][2]string
	Canonical [][2]string
	Message   *runtime.Message

	Of     string
	Set    map[string]string
	Remove []string
	Add    [][2]string
	Error  string
}

func vectors(t testing.TB, file string) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(raw, &vs); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return vs
}

func toHeaders(pairs [][2]string) (headers []Header) {
	for _, p := range pairs {
		headers = append(headers, Header{Key: p[0], Value: []byte(p[1])})
	}
	return headers
}

var value = []byte{2, 4}

func TestGoodRecords(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "headers_good.json") {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			m, err := ParseMessage(toHeaders(v.Headers), value)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(m, v.Message) {
				t.Errorf("parsed\n%+v, want\n%+v", m, v.Message)
			}
			if v.Canonical == nil {
				v.Canonical = v.Headers
			}
			if got, want := fmt.Sprintf("%s", Headers(v.Message)), fmt.Sprintf("%s", toHeaders(v.Canonical)); got != want {
				t.Errorf("written\n%s, want\n%s", got, want)
			}
			r := NewRecord("kf-evento-events", 3, m)
			if _, err := ParseRecord(&r); err != nil {
				t.Error(err)
			}
			r.Key = []byte("other:1")
			if _, err := ParseRecord(&r); !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), `record kf-evento-events/3/0: not an Evento record: its key is "other:1"`) {
				t.Errorf("with another key: %v", err)
			}
		})
	}
}

func TestBadRecords(t *testing.T) {
	t.Parallel()
	good := map[string]vector{}
	for _, v := range vectors(t, "headers_good.json") {
		good[v.Name] = v
	}
	for _, v := range vectors(t, "headers_bad.json") {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			headers, changed := [][2]string{}, 0
			for _, h := range good[v.Of].Headers {
				if to, ok := v.Set[h[0]]; ok {
					h[1] = to
					changed++
				}
				if slices.Contains(v.Remove, h[0]) {
					changed++
					continue
				}
				headers = append(headers, h)
			}
			if changed != len(v.Set)+len(v.Remove) {
				t.Fatalf("the vector changes what is not in %q", v.Of)
			}
			_, err := ParseMessage(toHeaders(append(headers, v.Add...)), value)
			if !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), v.Error) {
				t.Errorf("got %v, want an ErrRecord with %s", err, v.Error)
			}
		})
	}
}

func TestTombstoneIsNoMessage(t *testing.T) {
	t.Parallel()
	v := vectors(t, "headers_good.json")[0]
	if _, err := ParseMessage(toHeaders(v.Headers), nil); !errors.Is(err, ErrRecord) {
		t.Errorf("got %v", err)
	}
	r := NewRecord("t", 0, &runtime.Message{Subject: "a:1"})
	if r.Value == nil {
		t.Error("a message without data became a tombstone")
	}
}

func TestWhatHasNoPlaceIsLeftOut(t *testing.T) {
	t.Parallel()
	version := uint64(3)
	event := *vectors(t, "headers_good.json")[2].Message
	event.Expect, event.Waiter, event.TraceParent = &version, runtime.Waiter{Address: "a"}, "mine"
	if err := Check(&event); err != nil {
		t.Errorf("event with parts of a command: %v", err)
	}
	command := *vectors(t, "headers_good.json")[0].Message
	command.Sequence, command.Prev, command.Skip = 3, 7, []int64{7}
	if err := Check(&command); err != nil {
		t.Errorf("command with parts of an event: %v", err)
	}
	command.Source = "a\nb"
	if err := Check(&command); !errors.Is(err, ErrRecord) {
		t.Errorf("Check let %q pass", command.Source)
	}
}

// FuzzParseMessage holds two things: no input kills the parser, and what it
// takes is written and read again as the same.
func FuzzParseMessage(f *testing.F) {
	for _, v := range vectors(f, "headers_good.json") {
		var text []string
		for _, h := range v.Headers {
			text = append(text, h[0]+"\x01"+h[1])
		}
		f.Add(strings.Join(text, "\x02"), []byte{2, 4})
	}
	f.Fuzz(func(t *testing.T, text string, value []byte) {
		var headers []Header
		for line := range strings.SplitSeq(text, "\x02") {
			key, value, _ := strings.Cut(line, "\x01")
			headers = append(headers, Header{Key: key, Value: []byte(value)})
		}
		m, err := ParseMessage(headers, value)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatalf("%v is no ErrRecord", err)
			}
			return
		}
		again, err := ParseMessage(Headers(m), value)
		if err != nil {
			t.Fatalf("%+v was read, and cannot be read again: %v", m, err)
		}
		if !reflect.DeepEqual(m, again) {
			t.Fatalf("read\n%+v, and again\n%+v", m, again)
		}
	})
}

// busy is an event as they are nearly all: with every attribute but a skip.
func busy() *runtime.Message {
	key := runtime.NewCommandKey("/apps/teller", "checking:54321-90", "w-1")
	at := time.Date(2026, 11, 22, 10, 11, 12, 345e6, time.UTC)
	return &runtime.Message{
		ID: key.EventID(1), Type: "CheckingAccount.CashWithdrawn", Source: "/evento/bank/functions/checking", Subject: "checking:54321-90",
		Schema: "urn:evento:avro:CheckingAccount.CashWithdrawn:0123456789abcdef", Time: at, Data: make([]byte, 40),
		CausationID: "w-1", CorrelationID: "w-1", TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Cause: runtime.Coordinates{Topic: "kf-evento-commands", Partition: 3, Offset: 123456}, Sequence: 1234, RecordedTime: at, Prev: 120000,
		Pos: 1, Count: 1, By: "default/checking checking:1.2 0123456789abcdef", Writer: "kf-evento-3a7f-1", Hash: "9f86d081884c7d65",
	}
}

func BenchmarkHeaders(b *testing.B) {
	m := busy()
	b.ReportAllocs()
	for b.Loop() {
		Headers(m)
	}
}

func BenchmarkParseMessage(b *testing.B) {
	m := busy()
	headers := Headers(m)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseMessage(headers, m.Data); err != nil {
			b.Fatal(err)
		}
	}
}
