// Package kafka is the one place where Evento speaks Kafka.
//
// What stands where:
//
//   - settings.go, settings_map.go: one file of librdkafka's property names
//     configures both clients; what cannot be said to both is refused.
//   - partition.go: which partition a key belongs to, as Java computes it.
//   - headers.go, headers_parse.go: a [runtime.Message] as a CloudEvent in Kafka's
//     binary mode, and back.
//   - topics.go, admin.go, admin_installation.go: the topics of an installation, how
//     they are made, and what start-up refuses about existing ones.
//   - producer.go: plain (idempotent, not transactional) writing.
//   - consumer.go: plain consuming in a group, for work that may be done twice.
//   - admin_dispatchers.go: where dispatchers start, kept in the schemas topic.
//   - reader.go, points.go, follow.go: reading a stretch, single offsets, and a
//     compacted topic from its beginning and on.
//   - history.go: one aggregate's records, found through the links that each
//     record carries to those before it.
//   - record.go: the record that all of them share.
//
// Everything that only produces or only reads uses confluent-kafka-go. The
// fenced transaction, and the group consumer that it belongs to, use franz-go:
// librdkafka has no KIP-890 client, so a late end of one transaction could
// commit half of the next.
//
// Two facts about Kafka shape the readers. A read_committed fetch ends at the
// last stable offset, so a read "to the end" can look complete and miss newer
// committed records behind an open transaction: reads here have a target, the
// high watermark, and a deadline that names where they stalled. And markers and
// aborted records take offsets that no reader is given: an end is reached by
// position, never by "the last record was seen".
package kafka
