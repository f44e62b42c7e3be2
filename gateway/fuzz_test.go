package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/fuzztest"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// FuzzRequestHeaders: what headers and parameters say is taken within its limits, or is the sender's problem.
func FuzzRequestHeaders(f *testing.F) {
	for _, seed := range [][2]string{
		{"wait=10", "limit=5"}, {`"7"`, "limit=-1"}, {`W/"7", *`, "limit=1&limit=2"}, {"max-stale=60, no-cache", "limit=%zz"},
		{"wait=18446744073709551615", "limit=18446744073709551615"}, {"max-stale=4294967295", "x"}, {"application/avro;q=NaN, */*;q=1e999", "limit="},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ";"}, {`"18446744073709551616"`, ""}, {"respond-async, wait=\"5\"; x", "limit=1;"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, header, query string) {
		fuzztest.Bounded(t, len(header)+len(query), func() {
			values := []string{header}
			if wait, given := parsePrefer(values, time.Minute); wait < 0 || wait > time.Minute || !given && wait != 0 {
				t.Errorf("waits %s", wait)
			}
			version, err := parseIfMatch(values)
			if checkProblem(t, err); err == nil && !matchesTag([]string{versionTag(*version)}, versionTag(*version)) {
				t.Errorf("version %d does not match itself", *version)
			}
			if need, _ := parseStaleness(values, 0); need.max < 0 {
				t.Errorf("max-stale is %s", need.max)
			}
			_, err = acceptsAvro(values)
			checkProblem(t, err)
			if trace := traceParent(header); trace != "" && trace != header {
				t.Errorf("traceparent %q is read as %q", header, trace)
			}
			r := &http.Request{URL: &url.URL{Path: "/", RawQuery: query}, Header: http.Header{}}
			if err := checkParams(r, []string{"limit"}); err != nil {
				checkProblem(t, err)
				return
			}
			n, err := queryNumber(r, "limit", 3, 1000)
			if checkProblem(t, err); err == nil && n > 1000 {
				t.Errorf("the limit is %d", n)
			}
		})
	})
}

// FuzzStreamPosition: a position that is taken is of this installation, and is
// written and read as the same.
func FuzzStreamPosition(f *testing.F) {
	for _, text := range []string{"0:0", "0:1042,1:977", "CheckingAccount/0:1042,3:7;SavingsAccount/1:12", "0:1,0:2", "4:1", "-1:5", "0:9223372036854775808", ";", "A/"} {
		f.Add(text)
	}
	aggregates := func() []string { return []string{"CheckingAccount", "SavingsAccount"} }
	var streams []*Streams
	for _, layout := range []kafka.Layout{kafka.Single, kafka.PerAggregate} {
		streams = append(streams, NewStreams(StreamsConfig{Topics: kafka.Topics{Prefix: "e", Layout: layout}, Partitions: 4, Aggregates: aggregates}))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range streams {
			var position streamPosition
			var err error
			fuzztest.Bounded(t, len(text), func() { position, err = s.parsePosition(text) })
			if err != nil {
				continue
			}
			for place, offset := range position {
				if place.Partition < 0 || place.Partition >= 4 || offset < 0 {
					t.Errorf("%q is %v at %d", text, place, offset)
				}
			}
			maps.DeleteFunc(position, func(_ kafka.Place, offset int64) bool { return offset == 0 }) // as good as not named
			again, err := s.parsePosition(s.positionText(position))
			if err != nil || !maps.Equal(position, again) {
				t.Errorf("%q is %v, and written and read %v, %v", text, position, again, err)
			}
		}
	})
}

// FuzzStreamFilter: a filter that is taken shows no event of another entity than it says.
func FuzzStreamFilter(f *testing.F) {
	f.Add("type=WithdrawCash&entity=checking:1*")
	f.Add("entity=credit:77/card:1&aggregate=CreditAccount")
	f.Add("type=,,&aggregate=,")
	b := &HTTPServer{need: HTTPNeeds{Schemas: fakeSchemas{}}}
	anybody := &AuthPrincipal{Name: "a", anonymous: true}
	f.Fuzz(func(t *testing.T, query string) {
		r := &http.Request{URL: &url.URL{RawQuery: query}}
		filter, err := b.streamFilter(r, anybody)
		if checkProblem(t, err); err != nil {
			return
		}
		for _, subject := range []runtime.Entity{"checking:1", "checking:12", "credit:77/card:1"} {
			m := &runtime.Message{Type: "CheckingAccount.CashWithdrawn", Subject: subject}
			if filter.wants(m) && !strings.HasPrefix(string(subject), filter.entity) {
				t.Errorf("%q shows %s", query, subject)
			}
		}
	})
}

// FuzzAuthTokens: a token file that is taken gives each entry its own principal, and nobody the platform's source.
func FuzzAuthTokens(f *testing.F) {
	f.Add([]byte(tokenFile))
	f.Add([]byte(`[{"principal":"a","sha256":"00"}]`))
	f.Add([]byte(`[{"principal":"a","sha256":"` + strings.Repeat("0", 64) + `","source":"/evento/x","rights":{"send":["*"]}}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzztest.Bounded(t, len(text), func() {
			tokens, err := ParseAuthTokens(bytes.NewReader(text))
			if err != nil {
				if !strings.HasPrefix(err.Error(), "token file: ") {
					t.Errorf("the error does not say where: %v", err)
				}
				return
			}
			for hash, p := range tokens.byHash {
				if p.Name == "" || badSource(p.Source) != "" || hash == sha256.Sum256(nil) && p.Name == "" {
					t.Errorf("taken: %+v", p)
				}
			}
		})
	})
}

// FuzzInternalSignature: nothing passes but what was signed with the secret, and that once.
func FuzzInternalSignature(f *testing.F) {
	now := func() time.Time { return testTime }
	signed := httptest.NewRequest("POST", "http://gateway/x", nil)
	newInternalSigner([][]byte{testSecret}, now).sign(signed, []byte("body"))
	good := signed.Header.Get(internalSignatureHeader)
	f.Add(good, []byte("body"))
	f.Add(strings.ToUpper(good), []byte("body"))
	f.Add("v1 -9223372036854775808 "+strings.Repeat("0", 32)+" 00", []byte{})
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		s := newInternalSigner([][]byte{testSecret}, now)
		r := httptest.NewRequest("POST", "http://gateway/x", nil)
		r.Header.Set(internalSignatureHeader, header)
		err := s.verify(r, body)
		if err == nil && (!bytes.Equal(body, []byte("body")) || s.verify(r, body) == nil) {
			t.Errorf("%q passes, or passes twice", header)
		}
	})
}

// FuzzPeerAnswers: what another gateway answers is read as it was written.
func FuzzPeerAnswers(f *testing.F) {
	list, err := json.Marshal([]ParkedCommand{{At: runtime.Coordinates{Topic: "t", Partition: 1, Offset: 2}, Aggregate: "a:1", Status: OutcomeHeld, NextTry: testTime}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(list)
	f.Add([]byte(`["checking:1"]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		fuzztest.Bounded(t, len(body), func() {
			again[[]ParkedCommand](t, body)
			again[[]runtime.AggregateID](t, body)
			again[retriedJSON](t, body)
		})
	})
}

// again reads, writes and reads.
func again[T any](t *testing.T, body []byte) {
	var one, two T
	if json.Unmarshal(body, &one) != nil {
		return
	}
	text, err := json.Marshal(one)
	if err != nil {
		return // a time with a year that JSON does not have
	}
	if err := json.Unmarshal(text, &two); err != nil || !reflect.DeepEqual(one, two) {
		t.Errorf("%s is read as %+v, then %+v, %v", body, one, two, err)
	}
}

// FuzzHead: a head that is taken names an event, and is written and read as the same.
func FuzzHead(f *testing.F) {
	h := shard.Head{Version: 7, Offset: 99, Command: runtime.NewCommandKey("/s", "a:1", "c"), Pos: 2}
	f.Add(mustJSON(headValue{Version: h.Version, Offset: h.Offset, Event: h.EventID()}))
	f.Add([]byte(`{"broken":"x"}`))
	f.Add([]byte(`{"version":1,"offset":1,"event":"` + strings.Repeat("0", 32) + `-4294967297"}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		var h shard.Head
		var broken string
		var err error
		fuzztest.Bounded(t, len(value), func() { h, broken, err = parseHead(value) })
		if err != nil {
			return
		}
		v := headValue{Broken: broken}
		if h.Exists() {
			v.Version, v.Offset, v.Event = h.Version, h.Offset, h.EventID()
		} else if broken == "" {
			t.Fatalf("%s is taken, and is no head", value)
		}
		h2, broken2, err := parseHead(mustJSON(v))
		if err != nil || h != h2 || broken != broken2 {
			t.Errorf("%s is %+v, then %+v, %v", value, h, h2, err)
		}
		var c checkpointValue
		if json.Unmarshal(value, &c) == nil {
			again[checkpointValue](t, value)
		}
	})
}
