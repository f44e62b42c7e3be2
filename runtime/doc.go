// Package runtime is the contract between Evento and the functions it calls.
//
// It holds the vocabulary (entity, aggregate, command, event, cause), the
// invocation protocol with both of its ends, the typed API for authors of
// handlers, aggregators and dispatchers, and, in eventotest, a given/when/then
// kit to test them.
//
// # Authors
//
// An author writes a schema, has Go made of it by "evento generate", and
// implements what was made: a Handler with a method for each command, an
// Aggregator with one for each event. The whole of a function's main is
//
//	func main() { gen.ServeHandler(checking.Handler{}) }
//
// A refusal is an event; an error means "call again"; a panic is an error. The
// context says what a role may know: [HandlerContext] has the command's
// envelope, and the command's time for a clock; [AggregatorContext] has only
// what the event's record holds, so that a state can be built again from events;
// [DispatcherContext] has the event and no aggregate.
//
// # The protocol
//
// A call is a CloudEvent in HTTP binary mode: POST to the function's URL, with
// the content type application/avro and the ce-type evento.invocations.v1. Its
// body is the record Invocations of protocol.avsc: one or many invocations,
// which run at the same time. The answer is the record Results, with the ce-type
// evento.results.v1, and in it a result for each invocation: what was decided,
// the state, or a [Failure]. An answer to one invocation alone has the HTTP
// status of its failure; one to many is 200. Everything else that can become of
// a request, and what that means for the caller, is the table in outcome.go.
//
// A function understands data in exactly the schemas that it was built with, and
// says which in its [Description] (GET <url>/.evento/describe). A call names the
// description that it was encoded for by its hash. When the function has another
// it runs nothing and answers 412 with the description: the caller transcodes
// and calls again.
//
// A large state need not travel each time. A function that makes states keeps
// the last one of each aggregate, within EVENTO_STATE_CACHE bytes, and says so in
// its description. A call of it may then carry the hash of the state in place of
// the state: in the protocol, the suffix #sha256 behind the state's schema, and
// the 32 bytes of SHA-256. A process that has another state of this aggregate and
// version, or none, answers "state needed" to this invocation alone, and the
// caller makes it again with the state.
//
// Where a key is mounted, calls are signed (sign.go). Bytes are checked against
// their schema before they are decoded, on both ends: a hostile body costs
// memory in proportion to its length, and nothing else.
//
// For a look by hand the body may be JSON:
//
//	curl http://localhost:8080 -H 'content-type: application/json' -d '{
//	  "kind": "handle", "aggregate": "checking:1",
//	  "messages": [{"type": "CheckingAccount.OpenCheckingAccount",
//	                "data": {"client": "client:42", "currency": "USD"}}]}'
//
// # What it carries
//
// Every function image carries this package, and nothing else of the module: it
// imports no Kafka, no Redis and no Knative, and nothing outside this folder.
package runtime
