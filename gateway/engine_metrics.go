package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
)

// EngineMetrics are the engine's metrics. Labels are bounded.
type EngineMetrics struct {
	partitions   prometheus.Gauge
	takeovers    prometheus.Histogram
	unreadable   prometheus.Counter
	corrupt      prometheus.Counter
	outcomes     *prometheus.CounterVec // status
	loads        *prometheus.CounterVec // from
	refolds      *prometheus.CounterVec // state
	compute      *prometheus.HistogramVec
	transactions *prometheus.CounterVec // outcome, reason
	commit       prometheus.Histogram
	batch        prometheus.Histogram
	records      prometheus.Counter
	waiting      prometheus.Gauge
	aside        prometheus.Gauge
	asideBytes   prometheus.Gauge
	asideFull    prometheus.Gauge
	paused       prometheus.Gauge
}

// NewEngineMetrics registers the metrics with reg, which must not have them yet.
func NewEngineMetrics(reg prometheus.Registerer) *EngineMetrics {
	m := &EngineMetrics{
		partitions:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "evento_partitions", Help: "Partitions of the commands topic that this gateway owns."}),
		takeovers:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "evento_takeover_seconds", Help: "Seconds from the assignment of a partition to its first command.", Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}}),
		unreadable:   prometheus.NewCounter(prometheus.CounterOpts{Name: "evento_unreadable_records_total", Help: "Records that are none of Evento's and were left out."}),
		corrupt:      prometheus.NewCounter(prometheus.CounterOpts{Name: "evento_corrupt_aggregates_total", Help: "Aggregates that were stopped because their log contradicts itself. Alarm on any."}),
		outcomes:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "evento_outcomes_total", Help: "Commands answered, by status."}, []string{"status"}),
		loads:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "evento_loads_total", Help: "Aggregates loaded, by what from (snapshot, snapshot and events, events)."}, []string{"from"}),
		refolds:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "evento_refolds_total", Help: "States that were folded once more from their events, by what came of it (same, another). Alarm on another: the aggregator is not deterministic."}, []string{"state"}),
		compute:      prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "evento_compute_seconds", Help: "Seconds of handler and aggregator together, waiting for a place in a request included, by result.", Buckets: httpBuckets}, []string{"result"}),
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "evento_transactions_total", Help: "Transactions, by outcome and reason."}, []string{"outcome", "reason"}),
		commit:       prometheus.NewHistogram(prometheus.HistogramOpts{Name: "evento_transaction_seconds", Help: "Seconds of a transaction from its turn to its known outcome.", Buckets: httpBuckets}),
		batch:        prometheus.NewHistogram(prometheus.HistogramOpts{Name: "evento_transaction_commands", Help: "Commands ended by one transaction.", Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000}}),
		records:      prometheus.NewCounter(prometheus.CounterOpts{Name: "evento_transaction_records_total", Help: "Records committed."}),
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	m.waiting = gauge("evento_waiting_commands", "Commands without outcome in memory, those set aside included.")
	m.aside = gauge("evento_aside_commands", "Commands that are set aside: their aggregate or function fails or is slow. All of them are in memory.")
	m.asideBytes = gauge("evento_aside_bytes", "Bytes of memory that commands set aside take, about.")
	m.asideFull = gauge("evento_aside_full", "1 while so many commands are set aside that whoever has some is refused more with 429. Alarm on 1.")
	m.paused = gauge("evento_paused_partitions", "Partitions that are not read on, because of a full memory or a schema that is not known here.")
	reg.MustRegister(m.partitions, m.takeovers, m.unreadable, m.corrupt, m.outcomes, m.loads, m.refolds, m.compute, m.transactions, m.commit, m.batch, m.records)
	return m
}

func (m *EngineMetrics) computed(c shard.Computed, took time.Duration) {
	result := "done"
	if c.Trouble != nil {
		result = "failed"
		if c.Trouble.Kind == shard.Unavailable {
			result = "unavailable"
		}
	}
	m.compute.WithLabelValues(result).Observe(took.Seconds())
}

func (m *EngineMetrics) transaction(r kafka.Result, commands, records int, took time.Duration) {
	m.transactions.WithLabelValues(r.Outcome.String(), string(r.Reason)).Inc()
	m.commit.Observe(took.Seconds())
	if r.Outcome == kafka.Committed {
		m.batch.Observe(float64(commands))
		m.records.Add(float64(records))
	}
}

func (m *EngineMetrics) backlog(b shard.Backlog, paused int, full bool) {
	m.waiting.Set(float64(b.Commands))
	m.aside.Set(float64(b.Aside))
	m.asideBytes.Set(float64(b.AsideBytes))
	m.paused.Set(float64(paused))
	isFull := 0.0
	if full {
		isFull = 1
	}
	m.asideFull.Set(isFull)
}
