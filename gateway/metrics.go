package gateway

import "github.com/prometheus/client_golang/prometheus"

// Metrics are all metrics of the gateway. Labels are bounded: routes, statuses
// and outcomes of steps, never an entity, a command or a principal.
type Metrics struct {
	httpRequests *prometheus.CounterVec   // route, method, status
	httpSeconds  *prometheus.HistogramVec // route
	httpInflight prometheus.Gauge

	intakeMessages *prometheus.CounterVec // kind, result
	appendSeconds  prometheus.Histogram
	waitSeconds    *prometheus.HistogramVec // result

	outcomesPosted   *prometheus.CounterVec // result
	outcomesReceived *prometheus.CounterVec // result
	outcomeBatch     prometheus.Histogram
	ownerProxied     *prometheus.CounterVec // result
	cachedReads      *prometheus.CounterVec // result

	streamsOpen  prometheus.Gauge
	streamsEnded *prometheus.CounterVec // reason
}

// httpBuckets are seconds: from a local answer to the longest wait.
var httpBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// NewMetrics registers the metrics with reg, which must not have them yet.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		reg.MustRegister(h)
		return h
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	return &Metrics{
		httpRequests: counter("evento_http_requests_total",
			"HTTP requests answered, by route pattern, method and status.", "route", "method", "status"),
		httpSeconds: histogram("evento_http_request_seconds",
			"Seconds from the end of a request's headers to the end of its answer, waiting for outcomes included.", httpBuckets, "route"),
		httpInflight: gauge("evento_http_inflight_requests",
			"HTTP requests that are being answered, those that wait for an outcome included."),
		intakeMessages: counter("evento_intake_messages_total",
			"Commands and events from outside, by kind (command, event, unknown) and result (accepted, refused, busy, kafka-away, uncertain).", "kind", "result"),
		appendSeconds: histogram("evento_intake_append_seconds",
			"Seconds until Kafka has acknowledged a message from outside.", httpBuckets).WithLabelValues().(prometheus.Histogram),
		waitSeconds: histogram("evento_intake_wait_seconds",
			"Seconds that requests waited for an outcome, by result (outcome, deadline, gone, stopped).", httpBuckets, "result"),
		outcomesPosted: counter("evento_outcomes_posted_total",
			"Outcomes handed to waiting gateways, by result (local, sent, failed, dropped, expired, nobody).", "result"),
		outcomesReceived: counter("evento_outcomes_received_total",
			"Outcomes received from owning gateways, by result (resolved, nobody, unreadable).", "result"),
		outcomeBatch: histogram("evento_outcome_batch_outcomes",
			"Outcomes in one post to another gateway.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}).WithLabelValues().(prometheus.Histogram),
		ownerProxied: counter("evento_owner_proxied_total",
			"Reads passed on to the owning gateway, by result (answered, unreachable, no-owner).", "result"),
		cachedReads: counter("evento_cached_reads_total",
			"Reads of aggregates of other gateways for which a snapshot was looked for in Redis, by result (answered, too-old, miss, away). All but answered go to the owner.", "result"),
		streamsOpen: gauge("evento_streams_open", "Live streams of events that are open."),
		streamsEnded: counter("evento_streams_ended_total",
			"Live streams that ended, by reason (gone: the client left or took nothing; slow, crowded, stopping, failed: it was told).", "reason"),
	}
}
