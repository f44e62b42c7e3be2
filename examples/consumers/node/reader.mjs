// Prints the events of Evento's topic, one line each.
//
//   npm install && KAFKA=127.0.0.1:9092 GATEWAY=http://127.0.0.1:8090 node reader.mjs
import avro from "avsc";
import { Kafka as Binding } from "cloudevents";
import { Kafka, logLevel } from "kafkajs";

const { KAFKA = "127.0.0.1:9092", GATEWAY = "http://127.0.0.1:8090", TOPIC = "kf-evento-events", GROUP = "example-node" } = process.env;

// A value is bare Avro, written with the schema that "dataschema" names; the
// gateway shows it. Each is asked for once.
const types = new Map();
async function typeOf(dataschema) {
  if (!types.has(dataschema)) {
    const [name, fingerprint] = dataschema.split(":").slice(-2);
    const answer = await fetch(`${GATEWAY}/v1/schemas/${name}/${fingerprint}`);
    if (!answer.ok) throw new Error(`${dataschema}: ${answer.status}`);
    types.set(dataschema, avro.Type.forSchema((await answer.json()).schema));
  }
  return types.get(dataschema);
}

// KafkaJS reads committed records only unless it is told otherwise.
const consumer = new Kafka({ brokers: KAFKA.split(","), logLevel: logLevel.ERROR }).consumer({ groupId: GROUP });
await consumer.connect();
await consumer.subscribe({ topic: TOPIC, fromBeginning: true });
await consumer.run({
  eachMessage: async ({ message }) => {
    const headers = Object.fromEntries(Object.entries(message.headers).map(([k, v]) => [k, v.toString()]));
    const event = Binding.toEvent({ headers, value: message.value, body: message.value });
    const payload = (await typeOf(event.dataschema)).fromBuffer(message.value);
    console.log(JSON.stringify({ entity: event.subject, version: event.sequence, type: event.type, id: event.id, payload }));
  },
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => consumer.disconnect());
