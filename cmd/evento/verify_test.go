package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
)

func TestVerify(t *testing.T) {
	k := kafkatest.Start(t)
	servers := "bootstrap.servers=" + strings.Join(k.Servers, ",")
	verify := func(args ...string) (int, string, string) {
		return evento(t, "", append([]string{"verify", "--kafka-property", servers, "--prefix", k.Prefix + "evento", "--patience", "2s"}, args...)...)
	}
	if code, out, errs := verify(); code != exitNotVerified || out != "" || !strings.Contains(errs, "no installation with the prefix") || strings.Contains(errs, "--help") {
		t.Errorf("without an installation: code %d, %s%s", code, out, errs)
	}

	settings, err := kafka.NewSettings(map[string]string{"bootstrap.servers": strings.Join(k.Servers, ",")})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	admin, err := kafka.NewAdmin(settings, log)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topics := kafka.Topics{Prefix: k.Prefix + "evento"}
	if _, err := admin.EnsureTopics(t.Context(), kafka.Ensure{Topics: topics, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	code, out, errs := verify()
	if code != exitOK {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	contains(t, "output", out, "2 partitions, 0 commands", "no violation")
	contains(t, "progress", errs, "partition 2 of 2")

	producer, err := kafka.NewProducer(settings, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := producer.Produce(t.Context(), kafka.Record{Topic: topics.Events(""), Partition: 1, Key: []byte("k"), Value: []byte("v"), Time: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := producer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	code, out, errs = verify()
	if code != exitFailed {
		t.Errorf("code %d, %s", code, errs)
	}
	contains(t, "output", out, "record: "+topics.Events("")+"/1/0: the record cannot be read", "what to do:", "1 violations: record 1")
	code, out, _ = verify("-o", "json")
	var answer verified
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != exitFailed {
		t.Fatalf("code %d, %v: %s", code, err, out)
	}
	if answer.Counts["record"] != 1 || len(answer.Violations) != 1 || answer.Partitions != 2 {
		t.Errorf("%s", out)
	}
	contains(t, "json", out, `"coordinates": "`+topics.Events("")+`/1/0"`, `"invariant": "record"`)
}

func TestVerifyWithWrongUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"word"}, {"--kafka-property", "bootstrap.servers=127.0.0.1:1", "--most", "0"}, {"--kafka-property", "bootstrap.servers=127.0.0.1:1", "-o", "yaml"}} {
		if code, out, errs := evento(t, "", append([]string{"verify"}, args...)...); code != exitUsage || out != "" || !strings.Contains(errs, "see: evento verify --help") {
			t.Errorf("%q: code %d, %s%s", args, code, out, errs)
		}
	}
}

func TestStateAsAvro(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/aggregates/credit:refused" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"type":"urn:evento:problem:aggregate-not-found","title":"There is no such aggregate","status":404,"version":3}`))
			return
		}
		if r.URL.Path != "/v1/aggregates/credit:7" || r.Header.Get("Accept") != "application/avro" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.Header().Set("Etag", `"12"`)
		w.Header().Set("Evento-Dataschema", "urn:x")
		_, _ = w.Write([]byte{1, 2})
	}))
	defer s.Close()
	c, err := newClient(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	state, err := c.stateAsAvro(t.Context(), "credit:7")
	if err != nil || state.Version != 12 || state.Schema != "urn:x" || string(state.Data) != "\x01\x02" {
		t.Errorf("%+v, %v", state, err)
	}
	if state, err = c.stateAsAvro(t.Context(), "credit:refused"); err != nil || state.Version != 3 || state.Data != nil {
		t.Errorf("of an aggregate with refusals alone: %+v, %v", state, err)
	}
}
