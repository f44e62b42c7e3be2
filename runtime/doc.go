// Package runtime is the contract between Evento and the functions it calls.
//
// It holds the vocabulary (entity, aggregate, command, event, cause), the
// invocation protocol with both of its ends, the typed API for authors of
// handlers, aggregators and dispatchers, and, in eventotest, a given/when/then
// kit to test them.
//
// Every function image carries this package, and nothing else of the module:
// it imports no Kafka, no Redis and no Knative, and nothing outside this folder.
package runtime
