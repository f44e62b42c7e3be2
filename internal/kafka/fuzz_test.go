package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evento-oss/evento/internal/fuzztest"
)

// FuzzSettings: what is wrong with a settings file is said with a line or a name
// and never with a secret, and what is taken configures both clients.
func FuzzSettings(f *testing.F) {
	f.Add("bootstrap.servers=127.0.0.1:9092\n# comment\n\nlinger.ms=5")
	f.Add("sasl.password=topsecretword\nsasl.username")
	f.Add("bootstrap.servers=a:1\nsecurity.protocol=sasl_ssl\nsasl.mechanism=PLAIN\nsasl.username=u\nsasl.password=topsecretword")
	f.Add("message.max.bytes=99999999999999999999\nmessage.max.bytes=1")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, filePrefix) || strings.Contains(text, "location") {
			return // files of this machine are none of ours
		}
		fuzztest.Bounded(t, len(text), func() {
			s, err := ParseSettings(strings.NewReader(text))
			if err != nil {
				if !errors.Is(err, ErrSettings) {
					t.Errorf("%v is no ErrSettings", err)
				}
				return
			}
			if secret := s.values["sasl.password"]; len(secret) > 7 && strings.Contains(fmt.Sprint(s), secret) {
				t.Errorf("printed: %v", s)
			}
		})
	})
}

// FuzzSchemasTopic: the records of the schemas topic that are not schemas.
func FuzzSchemasTopic(f *testing.F) {
	f.Add([]byte(`{"partitions":16,"layout":"single","epoch":1}`))
	f.Add([]byte(`{"epoch":3,"offsets":{"t":[1,2]},"decisions":[0,-5],"time":"2026-01-31T12:00:00Z"}`))
	f.Add([]byte(`{"partitions":-1}`))
	f.Add([]byte(`{"offsets":{"t":null}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		fuzztest.Bounded(t, len(value), func() {
			if i, err := ParseInstallation(value); err == nil {
				text, err := json.Marshal(i)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := ParseInstallation(text); err != nil || i != again || i.Partitions < 1 {
					t.Errorf("%s is %+v, then %+v, %v", value, i, again, err)
				}
			} else if !strings.Contains(err.Error(), InstallationKey) {
				t.Errorf("the error does not say where: %v", err)
			}
			s, err := ParseDispatcherStart(value)
			if err != nil {
				return
			}
			for topic, offsets := range s.Offsets {
				for p := range int32(len(offsets) + 1) {
					if at := s.Of(topic, p); at < -1 {
						t.Errorf("%s: partition %d is read from %d", value, p, at)
					}
				}
			}
			for p, at := range s.Decisions {
				if at < 0 {
					t.Errorf("%s: decisions of partition %d stand from %d on", value, p, at)
				}
			}
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatalf("%s is taken and cannot be written: %v", value, err)
			}
			if again, err := ParseDispatcherStart(text); err != nil || s.Epoch != again.Epoch || len(s.Decisions) != len(again.Decisions) {
				t.Errorf("%s is %+v, then %+v, %v", value, s, again, err)
			}
		})
	})
}

// FuzzAddress: the client ids of a group's members are anybody's; an address that
// is taken is one that was put there.
func FuzzAddress(f *testing.F) {
	f.Add("evento@127.0.0.1:8091")
	f.Add("rdkafka")
	f.Fuzz(func(t *testing.T, id string) {
		if address, ok := addressOf(id); ok && address == "" {
			t.Errorf("%q has an empty address", id)
		}
	})
}
