package dispatch

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evento-oss/evento/internal/kafka"
)

// metrics are those of all dispatchers of a gateway. Labels are bounded by the
// number of Triggers.
type metrics struct {
	calls    *prometheus.CounterVec // dispatcher, result
	seconds  *prometheus.HistogramVec
	records  *prometheus.CounterVec // dispatcher, status
	commits  *prometheus.CounterVec // outcome, reason
	lag      *prometheus.GaugeVec   // dispatcher
	live     *prometheus.GaugeVec   // dispatcher
	relayed  prometheus.Counter
	relaying prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		calls:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "evento_dispatch_calls_total", Help: "Events that a dispatcher was asked about, by result (decided, failed, unavailable)."}, []string{"dispatcher", "result"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "evento_dispatch_call_seconds", Help: "Seconds until a dispatcher had answered, waiting for a place in a request included.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"dispatcher"}),
		records:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "evento_dispatch_decisions_total", Help: "Decisions recorded, by status (decided, parked, waiting)."}, []string{"dispatcher", "status"}),
		commits:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "evento_dispatch_transactions_total", Help: "Transactions of decisions, by outcome and reason."}, []string{"outcome", "reason"}),
		lag:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "evento_dispatch_lag", Help: "Records of events topics that a dispatcher has not finished, in the partitions that this gateway holds for it."}, []string{"dispatcher"}),
		live:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "evento_dispatch_parked", Help: "Events parked or set aside, in the partitions that this gateway holds for the dispatcher."}, []string{"dispatcher"}),
		relayed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "evento_relayed_commands_total", Help: "Commands of decisions that Kafka has acknowledged."}),
		relaying: prometheus.NewGauge(prometheus.GaugeOpts{Name: "evento_relay_commands", Help: "Commands of decisions that are on their way."}),
	}
	reg.MustRegister(m.calls, m.seconds, m.records, m.commits, m.lag, m.live, m.relayed, m.relaying)
	return m
}

func (m *metrics) asked(dispatcher string, a Answer, took time.Duration) {
	result := "decided"
	if a.Trouble != nil {
		if result = "unavailable"; a.Trouble.Failed {
			result = "failed"
		}
	}
	m.calls.WithLabelValues(dispatcher, result).Inc()
	m.seconds.WithLabelValues(dispatcher).Observe(took.Seconds())
}

func (m *metrics) committed(dispatcher string, all []taken, result kafka.Result) {
	m.commits.WithLabelValues(result.Outcome.String(), string(result.Reason)).Inc()
	if result.Outcome != kafka.Committed {
		return
	}
	for _, x := range all {
		for i := range x.batch.Records {
			m.records.WithLabelValues(dispatcher, string(x.batch.Records[i].Status)).Inc()
		}
	}
}

// forget removes the gauges of a dispatcher that does not run here any more.
func (m *metrics) forget(dispatcher string) {
	m.lag.DeleteLabelValues(dispatcher)
	m.live.DeleteLabelValues(dispatcher)
}

// observe sets the gauges of one dispatcher.
func (m *metrics) observe(ctx context.Context, s *session) {
	var lag int64
	live := 0
	for _, p := range s.list() {
		low := map[string]int64{}
		p.each(func(u *unit) {
			low[u.topic] = u.track.Low()
			live += len(u.track.Live())
		})
		for topic, low := range low {
			w, err := s.look.Watermarks(ctx, topic, p.held.Partition)
			if err != nil {
				return // the next time, then
			}
			lag += max(0, w.High-low)
		}
	}
	s.lag.Store(lag)
	m.lag.WithLabelValues(s.name).Set(float64(lag))
	m.live.WithLabelValues(s.name).Set(float64(live))
}
