package gateway

import (
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// BenchmarkIntake is the HTTP face's own cost of a command: from the parsed
// request to the answer, without sockets, Kafka and functions.
func BenchmarkIntake(b *testing.B) {
	text, err := os.ReadFile("../internal/avro/testdata/CheckingAccount.avsc")
	if err != nil {
		b.Fatal(err)
	}
	catalogue := avro.NewCatalogue()
	a, err := avro.ParseAggregate("CheckingAccount.avsc", text)
	if err != nil {
		b.Fatal(err)
	}
	added, err := catalogue.Check(a)
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range added {
		if err := catalogue.Add(t.Register(testTime)); err != nil {
			b.Fatal(err)
		}
	}
	const body = `{"entity":"checking:6789-21","command_type":"WithdrawCash","payload":{"destination":"atm:2CF24DBA","amount":{"minor":100,"currency":"USD"}}}`
	for name, prefer := range map[string]string{"accept": "", "wait": "wait=10"} {
		b.Run(name, func(b *testing.B) {
			registry := prometheus.NewRegistry()
			waiters, metrics, log := NewWaiters("127.0.0.1:1", WaitLimits{}), NewMetrics(registry), slog.New(slog.DiscardHandler)
			poster := NewOutcomePoster(waiters, nil, metrics, log)
			appender := &fakeAppender{}
			appender.written = func(m *runtime.Message) {
				appender.messages = appender.messages[:0]
				if m.Waiter.Address != "" {
					o := doneOutcome(m)
					o.Events[0].Message.Schema, o.Events[0].Message.Data = m.Schema, m.Data
					poster.Post(m.Waiter, o)
				}
			}
			server, err := NewHTTPServer(HTTPConfig{Installation: "bench"}, HTTPNeeds{
				Appender: appender, Reader: &fakeReader{self: true}, Schemas: CatalogueSchemas{catalogue}, Readiness: fakeReadiness{},
				Waiters: waiters, Metrics: metrics, Gatherer: registry, Log: log,
			})
			if err != nil {
				b.Fatal(err)
			}
			handler := server.PublicHandler()
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/v1/commands", strings.NewReader(body))
				r.Host = "localhost"
				r.Header.Set("Content-Type", "application/json")
				if prefer != "" {
					r.Header.Set("Prefer", prefer)
				}
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if w.Code/100 != 2 {
					b.Fatal(w.Body.String())
				}
			}
		})
	}
}
