package runtime

import "time"

// Role is what a function does.
type Role string

// The roles. A function that is handler and aggregator in one has both.
const (
	RoleHandler    Role = "handler"
	RoleAggregator Role = "aggregator"
	RoleDispatcher Role = "dispatcher"
)

// InvocationKind is what a function is asked to do with an invocation.
type InvocationKind uint8

const (
	// KindHandle asks a handler for the events of one command: Messages[0], on State.
	KindHandle InvocationKind = iota + 1
	// KindApply asks an aggregator for the state after all Messages, which are events.
	KindApply
	// KindExecute asks a function with both roles to handle each command and
	// apply its events before the next. A message that is an event of the
	// aggregate is applied as it is, as a step of its own.
	KindExecute
	// KindDispatch asks a dispatcher for the commands of one event: Messages[0].
	KindDispatch
)

// String returns the kind's name in the protocol's JSON form: "handle", "apply", "execute" or "dispatch".
func (k InvocationKind) String() string {
	switch k {
	case KindHandle:
		return "handle"
	case KindApply:
		return "apply"
	case KindExecute:
		return "execute"
	case KindDispatch:
		return "dispatch"
	}
	return "unknown"
}

// Invocation is one call of a function. Many travel in one request; those of
// one request run at the same time, so at most one of them may be about an
// aggregate.
type Invocation struct {
	ID          string // unique within the request; the result carries it
	Kind        InvocationKind
	Aggregate   AggregateID // empty for KindDispatch
	Version     uint64      // of the aggregate before the messages
	StateSchema DataSchema  // of State; empty when there is none
	State       []byte      // bare Avro value of the root record; nil: no state yet. Absent for KindDispatch
	// StateHash stands in for State when it is not nil: the [HashState] of what State
	// would hold. Only for a function whose description says that it caches.
	StateHash []byte
	// Messages are commands or events in their order. Of each only ID, Type,
	// Source, Subject, Schema, Time, Data, Sequence, CausationID, CorrelationID
	// and TraceParent travel.
	Messages []*Message
}

// Result answers the invocation with the same ID.
type Result struct {
	ID string
	// Steps are what the function decided: for KindHandle one, for KindExecute
	// one for each command done, for KindDispatch one whose Events are commands
	// (perhaps none). Fewer steps than commands without a Failure mean that the
	// rest has not been tried: ask for them again.
	Steps []ResultStep
	// State is the aggregate's state after the last step or event, for KindApply
	// and KindExecute; nil when there still is none.
	State       []byte
	StateSchema DataSchema
	// Failure is what went wrong with the next message of KindExecute, or with
	// the whole invocation of another kind; nil when nothing did.
	Failure *Failure
	// Image is what the function runs, for the record; the same in all results of an answer.
	Image string
}

// ResultStep is what a function decided about one message.
type ResultStep struct {
	// Events have Type, Schema, Subject, Data and Time. An empty Subject means
	// the command's own target; a zero Time means the moment of recording. For
	// KindDispatch they are commands, and Subject is never empty.
	Events []*Message
}

// Failure is what a function answers when it has no result. It is never a
// business refusal, which is an event.
type Failure struct {
	Code    FailureCode
	Message string // for people
	Trace   string // of a panic: the stack from the author's code down, without this package's frames
}

// Error returns the code and the message.
func (f *Failure) Error() string { return f.Code.String() + ": " + f.Message }

// FailureCode says what kind of thing went wrong.
type FailureCode uint8

const (
	// FailureError: the author's code returned an error. It means: call again.
	FailureError FailureCode = iota + 1
	// FailurePanic: the author's code panicked. It means the same as an error.
	FailurePanic
	// FailureUnknownType: the function has no code for a message of this type,
	// or not this role. Another function, or a newer image, may.
	FailureUnknownType
	// FailureSchema: data or state is in another schema than the function was
	// built with, or is not a value of it. Ask for the description and transcode.
	FailureSchema
	// FailureNoEvents: a handler answered a command with neither event nor error.
	FailureNoEvents
	// FailureDeadline: the author's code did not answer in time.
	FailureDeadline
	// FailureStateNeeded: the function does not have the state of which the call
	// had only the hash. Nothing was run: call again at once, with the state.
	FailureStateNeeded
)

// String returns the code's name in the protocol's JSON form, for example "no-events".
func (c FailureCode) String() string {
	if int(c) < len(failures) && c > 0 {
		return failures[c].name
	}
	return "unknown"
}

// Description is what a function says of itself.
type Description struct {
	Roles     []Role `json:"roles"`
	Aggregate string `json:"aggregate,omitempty"` // name of the aggregate; empty for a dispatcher
	// Schemas are the types that the function was built with. It understands
	// data in exactly these, and answers in them.
	Schemas      map[TypeName]SchemaText `json:"schemas"`
	StateVersion int                     `json:"state_version"` // raised by the author to have snapshots rebuilt
	Image        string                  `json:"image,omitempty"`
	Caches       bool                    `json:"caches"` // the function keeps states: it may be asked with StateHash first
	// Hash names all of the above but Image. Two functions of one hash read and write the same bytes.
	Hash Fingerprint `json:"hash"`
}

// SchemaText is a schema: self-contained JSON text, and its fingerprint.
type SchemaText struct {
	Fingerprint Fingerprint `json:"fingerprint"`
	Schema      string      `json:"schema"`
}

// HasRole says whether the function has a role.
func (d *Description) HasRole(r Role) bool {
	for _, have := range d.Roles {
		if have == r {
			return true
		}
	}
	return false
}

// CallErrorKind tells the two kinds of trouble with a function apart.
type CallErrorKind uint8

const (
	// CallUnavailable: the function did not get the call, or could not take it
	// now: refused, reset, timed out, 401, 403, 404, 408, 429, 502, 503, 504.
	// It is nobody's fault that the call carried.
	CallUnavailable CallErrorKind = iota + 1
	// CallFailed: something answered, but not with results.
	CallFailed
)

// CallError is returned by [Client] when a call has no results at all.
type CallError struct {
	Kind       CallErrorKind
	Status     int           // HTTP status; 0 when there was no answer
	RetryAfter time.Duration // when the function asks for a pause; 0: it does not
	Reason     string        // for people
	Err        error         // the cause below, if any
}

// Error says what went wrong.
func (e *CallError) Error() string { return e.Reason }

// Unwrap returns the cause below.
func (e *CallError) Unwrap() error { return e.Err }

// DescriptionChanged is returned by [Client.Invoke] when the function was built
// with other schemas than the caller encoded for. Nothing was run: transcode
// and call again.
type DescriptionChanged struct{ Description Description }

// Error says that the function changed.
func (e *DescriptionChanged) Error() string {
	return "the function was built with other schemas than it was called for; its description is now " + string(e.Description.Hash)
}
