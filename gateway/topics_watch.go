package gateway

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evento-oss/evento/internal/kafka"
)

const (
	topicCheckEvery   = 30 * time.Second
	topicCheckTimeout = 20 * time.Second
)

// topicWatch looks again and again for what start-up refuses: a finite retention,
// compaction, another number of partitions, a topic that is gone or was made anew.
// Kafka takes such a change from anybody at any time, and deletes the first
// segments minutes later: until then an alarm helps. The gateway goes on. What it
// writes is right as long as the topics are what they were, and to stop all of
// them would not bring a setting back.
type topicWatch struct {
	verify func(context.Context) error // wraps kafka.ErrTopics where topics are not right
	log    *slog.Logger
	wrong  prometheus.Gauge
	last   string // what was said of them
}

func newTopicWatch(verify func(context.Context) error, r prometheus.Registerer, log *slog.Logger) *topicWatch {
	w := &topicWatch{verify: verify, log: log, wrong: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "evento_topics_wrong", Help: "1 while topics are not as they must be: history is going to be lost, or keys to move. The log says which and why. Alarm on 1.",
	})}
	r.MustRegister(w.wrong)
	return w
}

// Run looks until ctx ends.
func (w *topicWatch) Run(ctx context.Context) error {
	for sleep(ctx, topicCheckEvery) {
		w.check(ctx)
	}
	return nil
}

func (w *topicWatch) check(ctx context.Context) {
	timed, cancel := context.WithTimeout(ctx, topicCheckTimeout)
	defer cancel()
	switch err := w.verify(timed); {
	case err == nil:
		if w.last != "" {
			w.log.Info("topics are as they must be again")
		}
		w.last = ""
		w.wrong.Set(0)
	case errors.Is(err, kafka.ErrTopics):
		if w.last != err.Error() {
			w.log.Error("topics are not as they must be; no gateway will start on them", "err", err)
		}
		w.last = err.Error()
		w.wrong.Set(1)
	default:
		w.log.Debug("topics could not be verified", "err", err) // that Kafka does not answer is told elsewhere
	}
}

// verifyTopics is the start's check without its making.
func (g *gateway) verifyTopics(ctx context.Context) error {
	if _, err := g.admin.VerifyTopics(ctx, g.topicsWanted(g.catalogue.Aggregates())); err != nil {
		return err
	}
	return g.ids.same(ctx)
}
