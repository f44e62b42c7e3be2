// Package avro is all that the platform knows about Avro: the lint of an
// aggregate's schema file, the catalogue of every registered version with the
// rules of evolution, and the codec between Avro, JSON and other versions.
//
// Nobody else in the module imports an Avro library. github.com/twmb/avro
// parses schemas, fingerprints them and compares two versions; the values
// themselves are read and written here, from a schema compiled into a [shape],
// because the platform must be stricter than Avro libraries are: it refuses
// trailing bytes, text that is not UTF-8, unknown and duplicate JSON keys, and
// every claim of a length that the input cannot hold.
//
// # The schema file
//
// One file per aggregate: a JSON array of named types, all with the aggregate's
// name as namespace, each with a property "evento" whose "kind" says what it is
// ([Kind]). [ParseAggregate] reads it and reports everything that is wrong with
// it at once.
//
// # The catalogue
//
// A [Catalogue] holds every version of every type that the schemas topic has
// shown ([Registered], key "<name>:<fingerprint>"). It starts with the
// platform's own types. Reads take no lock.
//
// # Non-obvious
//
//   - The fingerprint is the CRC-64-AVRO of the parsing canonical form. It
//     leaves out defaults, aliases, logical types and the "evento" property, so
//     two texts may share one; registration refuses the differences that would
//     change what bytes mean.
//   - Equal bytes under two fingerprints are not equal values (two strings may
//     have changed places), so [Catalogue.CanonicalHash] contains the fingerprint.
//   - Avro lets an encoder cut arrays and maps into blocks as it likes and Go
//     encoders write maps in random order: two encodings of one value differ.
//     Hashes and comparisons work on the canonical encoding: one block, sorted keys.
//   - A union is always ["null", T]: the lint sees to it, and the codec relies on it.
package avro
