package gateway

import "github.com/prometheus/client_golang/prometheus"

// registerSnapshotMetrics shows what becomes of snapshots. Redis that is away, full
// or read-only fails nobody, so this is where an operator sees it.
func registerSnapshotMetrics(r prometheus.Registerer, s *Snapshots, w *SnapshotWriter) {
	counter := func(name, help string, value func() uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	counter("evento_snapshots_saved_total", "Snapshots that Redis took.", func() uint64 { return s.Stats().Saved })
	counter("evento_snapshots_refused_total", "Snapshots that Redis refused: it is full, or takes no writes.", func() uint64 { return s.Stats().Refused })
	counter("evento_snapshots_unusable_total", "Snapshots in Redis that were damaged or not ours; their aggregates were rebuilt from events.", func() uint64 { return s.Stats().Corrupt })
	counter("evento_snapshots_dropped_total", "Snapshots that were not written because too many waited.", func() uint64 { _, dropped := w.Queued(); return dropped })
	counter("evento_redis_errors_total", "Round trips to Redis that were not answered in time.", func() uint64 { return s.Stats().Errors })
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "evento_redis_away", Help: "1 while Redis does not answer."}, func() float64 {
		if s.Away() {
			return 1
		}
		return 0
	}))
}
