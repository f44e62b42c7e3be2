// Reader prints the events of Evento's topic, one line each: what kcat does, and
// the value in words. It needs nothing of Evento but the topic and the schemas
// that the gateway shows.
//
//	go run ./reader --kafka 127.0.0.1:9092 --gateway http://127.0.0.1:8090
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/evento-oss/evento/examples/consumers/schemas"
)

func main() {
	servers := flag.String("kafka", "127.0.0.1:9092", "bootstrap servers")
	topic := flag.String("topic", "kf-evento-events", "topic of the events")
	gateway := flag.String("gateway", "http://127.0.0.1:8090", "URL of a gateway, for the schemas")
	group := flag.String("group", "example-reader", "consumer group; it remembers what was read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := read(ctx, *servers, *topic, *group, schemas.New(*gateway)); err != nil {
		log.Fatal(err)
	}
}

func read(ctx context.Context, servers, topic, group string, known *schemas.Registry) error {
	consumer, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": servers,
		"group.id":          group,
		// The two settings that every reader of events needs. Without the first
		// it sees events of transactions that were aborted.
		"isolation.level":   "read_committed",
		"auto.offset.reset": "earliest",
	})
	if err != nil {
		return err
	}
	defer consumer.Close()
	if err := consumer.Subscribe(topic, nil); err != nil {
		return err
	}
	for ctx.Err() == nil {
		switch m := consumer.Poll(100).(type) {
		case *kafka.Message:
			if err := show(ctx, m, known); err != nil {
				return fmt.Errorf("%s: %w", m.TopicPartition, err)
			}
		case kafka.Error:
			if m.IsFatal() {
				return m
			}
			log.Print(m) // the client tries again by itself
		}
	}
	return nil
}

// attributes are CloudEvents attributes as Kafka headers (Kafka binding, binary mode).
var attributes = spec.WithPrefix("ce_")

// show prints a record: its headers are a CloudEvent's attributes, its value is bare Avro.
func show(ctx context.Context, m *kafka.Message, known *schemas.Registry) error {
	e := event.New()
	for _, h := range m.Headers {
		if err := attributes.Version(e.SpecVersion()).SetAttribute(e.Context, h.Key, string(h.Value)); err != nil {
			return fmt.Errorf("header %s: %w", h.Key, err)
		}
	}
	if err := e.Validate(); err != nil {
		return err
	}
	value, err := known.Decode(ctx, e.DataSchema(), m.Value)
	if err != nil {
		return err
	}
	// An event that has no version is a word of the platform: a command that was
	// parked or rejected, and nothing happened to the entity.
	version, _ := e.Extensions()["sequence"].(string)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"entity": e.Subject(), "version": version, "type": e.Type(), "id": e.ID(),
		"time": e.Time(), "cause": e.Extensions()["causationid"], "payload": value,
	})
}
