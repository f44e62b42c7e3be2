// Package triggers decides what goes where: which function handles a command,
// which one folds an aggregate's events, which dispatchers and sinks an event
// is given to, and how often each of them is called again.
//
// Routing is declared by Knative Triggers (eventing.knative.dev/v1). Knative's
// own types, validation and filter library read and evaluate them, so that a
// Trigger means here what it means on a cluster. What Knative has no word for
// stands in annotations, see [AnnotationRole] and the others.
//
// # Where Triggers come from
//
// A [Source] loads Triggers and says when they may have changed: [Files] reads
// Trigger and Broker documents from YAML files, [Stack] derives Triggers from
// the evento.io/* annotations of an OpenFaaS stack.yml. Both may be used at
// once.
//
// # How they are used
//
// A [Router] joins its sources into one immutable snapshot and answers from it
// without locks. A reload that has a problem anywhere is refused whole: the old
// snapshot stays, the problem is logged and shown by [Router.Status].
//
// Package dispatch gives events to dispatchers.
//
// # Where the meaning is narrower than Knative's
//
// Knative's two data planes disagree about filters that say nothing (an empty
// dialect, an empty value), and what the library makes of them depends on
// their order. They are refused. An expression of cesql that fails, or whose
// value is no boolean, does not match.
//
// An aggregate's state is the fold of all its events, so an aggregator's filter
// must let every event of its aggregate pass. A handler is only ever given
// commands of its own aggregate, whatever its filter says.
package triggers
