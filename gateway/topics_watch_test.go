package gateway

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
)

// What start-up refuses is alarmed while a gateway runs, and the alarm ends with it.
func TestChangedTopicsRaiseAnAlarm(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t)
	settings, err := kafka.NewSettings(map[string]string{"bootstrap.servers": strings.Join(cluster.Servers, ",")})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // of this goroutine alone
	logger := slog.New(slog.NewTextHandler(&log, nil))
	registry := prometheus.NewRegistry()
	g := &gateway{Config: Config{HTTP: HTTPConfig{Installation: "one"}, Kafka: settings, Topics: kafka.Topics{Prefix: cluster.Prefix + "e"}, Partitions: 2}, catalogue: avro.NewCatalogue()}
	if g.admin, err = kafka.NewAdmin(settings, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.admin.Close)
	if _, err := g.ensureTopics(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	g.ids = topicIDs{admin: g.admin, ids: map[string]string{}}
	w := newTopicWatch(g.verifyTopics, registry, logger)
	alarm := func() (value float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return families[0].GetMetric()[0].GetGauge().GetValue()
	}
	// A broker's answer may be older than a change for a moment.
	await := func(want float64, text string) {
		t.Helper()
		log.Reset()
		kafkatest.Wait(t, time.Minute, func() error {
			w.check(t.Context())
			if got := alarm(); got != want || !strings.Contains(log.String(), text) {
				return fmt.Errorf("the alarm is %v, want %v and %q: %s", got, want, text, &log)
			}
			return nil
		})
	}
	client, err := kgo.NewClient(cluster.Opts()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	set := func(topic, setting, value string) {
		t.Helper()
		if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: setting, Value: &value}}, topic); err != nil {
			t.Fatal(err)
		}
	}
	events := g.Topics.Events("")
	g.ids.get(events)
	await(0, "")
	set(events, "retention.ms", "86400000")
	await(1, "retention.ms")
	w.check(t.Context())
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("one thing was said %d times: %s", n, &log)
	}
	set(events, "retention.ms", "-1")
	await(0, "again")
	set(events, "cleanup.policy", "compact")
	await(1, "cleanup.policy")
	set(events, "cleanup.policy", "delete")
	await(0, "again")

	if _, err := admin.DeleteTopics(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	await(1, "is missing")
	kafkatest.Wait(t, time.Minute, func() error {
		forEver := "-1"
		r, err := admin.CreateTopic(t.Context(), 2, -1, map[string]*string{"retention.ms": &forEver, "retention.bytes": &forEver}, events)
		if err == nil {
			err = r.Err
		}
		return err
	})
	await(1, "made anew")

	if _, err := admin.CreatePartitions(t.Context(), 1, g.Topics.Commands()); err != nil {
		t.Fatal(err)
	}
	await(1, "has 3 partitions, not 2")

	// That Kafka does not answer is none of its business.
	log.Reset()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	w.check(over)
	if log.Len() > 0 || alarm() != 1 {
		t.Errorf("without an answer the alarm is %v: %s", alarm(), &log)
	}
}
