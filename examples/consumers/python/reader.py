"""Prints the events of Evento's topic, one line each.

pip install -r requirements.txt
KAFKA=127.0.0.1:9092 GATEWAY=http://127.0.0.1:8090 python3 reader.py
"""

import functools
import io
import json
import os
import urllib.request

from cloudevents.kafka import KafkaMessage, from_binary
from confluent_kafka import Consumer
from fastavro import parse_schema, schemaless_reader

GATEWAY = os.environ.get("GATEWAY", "http://127.0.0.1:8090")


@functools.cache
def schema(dataschema):
    """A value is bare Avro, written with the schema that "dataschema" names; the gateway shows it."""
    name, fingerprint = dataschema.split(":")[-2:]
    with urllib.request.urlopen(f"{GATEWAY}/v1/schemas/{name}/{fingerprint}", timeout=10) as answer:
        return parse_schema(json.load(answer)["schema"])


consumer = Consumer({
    "bootstrap.servers": os.environ.get("KAFKA", "127.0.0.1:9092"),
    "group.id": os.environ.get("GROUP", "example-python"),
    "isolation.level": "read_committed",  # without it, events of aborted transactions are seen
    "auto.offset.reset": "earliest",
})
consumer.subscribe([os.environ.get("TOPIC", "kf-evento-events")])
try:
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            raise SystemExit(message.error())
        event = from_binary(KafkaMessage(dict(message.headers()), message.key(), message.value()), data_unmarshaller=bytes)
        payload = schemaless_reader(io.BytesIO(event.data), schema(event["dataschema"]))
        print(json.dumps({"entity": event["subject"], "version": event.get("sequence"), "type": event["type"],
                          "id": event["id"], "payload": payload}, default=str), flush=True)
except KeyboardInterrupt:
    pass
finally:
    consumer.close()
