package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafka"
)

// relayStop is how long a relay that stops waits for what is on its way. The rest
// is sent again by whoever goes on.
const relayStop = 10 * time.Second

// relayAgain is the break before a command is produced again that was not acknowledged.
const relayAgain = time.Second

// relayUnread is the break before a decision is read again that could not be read.
const relayUnread = 5 * time.Second

// relay sends the commands of decisions, until ctx ends. A decision is finished
// when Kafka has acknowledged all of them: nothing is given up.
func (m *Manager) relay(ctx context.Context) error {
	// A record that waits for its leader is sent first when that is back, and in
	// order: the longest time that the settings know.
	settings, err := m.cfg.Kafka.With("delivery.timeout.ms", "3600000")
	if err != nil {
		return err
	}
	producer, err := kafka.NewProducer(settings, m.cfg.Log)
	if err != nil {
		return err
	}
	var waiting sync.WaitGroup // breaks before another try
	defer waiting.Wait()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), relayStop)
		defer cancel()
		if err := producer.Close(end); err != nil {
			m.cfg.Log.Warn("commands of decisions were on their way; they are sent again", "err", err)
		}
	}()
	topic := m.cfg.Topics.Dispatched()
	id := m.cfg.TopicID(topic)
	for id == "" { // or all positions would be those of another topic
		if !sleep(ctx, relayAgain) {
			return nil
		}
		id = m.cfg.TopicID(topic)
	}
	consumer, err := kafka.NewConsumer(kafka.ConsumerConfig{Settings: m.cfg.Kafka, Group: RelayGroupID(m.cfg.Topics), Topic: topic, TopicID: id, Log: m.cfg.Log})
	if err != nil {
		return err
	}
	var take func(r kafka.Record, finished func())
	take = func(r kafka.Record, finished func()) {
		records, err := m.commandRecords(&r)
		switch {
		case errors.Is(err, kafka.ErrRecord):
			m.cfg.Log.Error("record of the dispatched topic is none of evento's; it is left out", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		case err != nil:
			// A newer gateway may have written it, and its commands must not be lost.
			m.cfg.Log.Error("decision cannot be read; trying again", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
			waiting.Go(func() {
				if sleep(ctx, relayUnread) {
					take(r, finished)
				}
			})
			return
		}
		if len(records) == 0 {
			finished()
			return
		}
		var left atomic.Int64
		left.Store(int64(len(records)))
		m.metrics.relaying.Add(float64(len(records)))
		crash.At(crash.RelayRead)
		for _, record := range records {
			var send func()
			send = func() {
				producer.ProduceAsync(record, func(_ int64, err error) {
					if err == nil {
						crash.At(crash.RelaySent)
						m.metrics.relayed.Inc()
						m.metrics.relaying.Dec()
						if left.Add(-1) == 0 {
							finished()
						}
						return
					}
					if ctx.Err() != nil {
						return // not finished: whoever goes on sends it again
					}
					m.cfg.Log.Error("command of a decision was not acknowledged; it is sent again", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
					waiting.Go(func() {
						if sleep(ctx, relayAgain) {
							send()
						}
					})
				})
			}
			send()
		}
	}
	return consumer.Run(ctx, take)
}

// commandRecords are the records of a decision's commands; none for what is no
// decision yet.
func (m *Manager) commandRecords(r *kafka.Record) ([]kafka.Record, error) {
	message, err := kafka.ParseRecord(r)
	if err != nil {
		return nil, err
	}
	d, err := m.cfg.Catalogue.DecodeDispatched(message.Schema, message.Data)
	if err != nil || d.Status != avro.DispatchDecided {
		return nil, err
	}
	commands, err := commandsOf(message, &d)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", d.Event, err)
	}
	records := make([]kafka.Record, len(commands))
	for i, c := range commands {
		id := string(c.Aggregate())
		records[i] = kafka.NewRecord(m.cfg.Topics.Commands(), kafka.Partition(id, m.cfg.Partitions), c)
	}
	return records, nil
}
