package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// What the HTTP face needs of the rest of the gateway. Interfaces belong to
// their user: the engine, the catalogue and the router satisfy these unasked.

var (
	// ErrKafkaAway is returned by an [Appender] when the record is certainly
	// not written. The sender may repeat it, with the same id or another.
	ErrKafkaAway = errors.New("kafka is away: the record is not written")

	// ErrUncertain is returned by an [Appender] when the record may or may not
	// be written. Repeating it is safe with the same id alone.
	ErrUncertain = errors.New("it is not known whether the record is written")

	// ErrTooManyWaiting is returned by an [Appender] when the aggregate has so
	// many commands waiting that it takes no more. Nothing is written.
	ErrTooManyWaiting = errors.New("too many commands of the aggregate are waiting")

	// ErrNotFound is returned by a [Reader] that owns the aggregate, when the
	// aggregate has no event, or the command is unknown to it.
	ErrNotFound = errors.New("not found")

	// ErrBroken is returned by a [Reader] for an aggregate whose log contradicts
	// itself: events are missing. It is stopped until somebody has looked.
	ErrBroken = errors.New("the aggregate's log contradicts itself; it is stopped")

	// ErrBehind is returned by [Reader.State] when the context ends before the
	// aggregate has the version that was asked for.
	ErrBehind = errors.New("the aggregate has not reached the version")

	// ErrNoOwner is returned by a [Reader] when at this moment no gateway is
	// known to own the aggregate's partition, or this one no longer does.
	ErrNoOwner = errors.New("no gateway owns the aggregate's partition at the moment")
)

// Appender writes to the commands topic.
type Appender interface {
	// Append writes a command, or an event to publish, under its aggregate's
	// key and returns when Kafka has acknowledged it. The message is not
	// changed afterwards. Errors wrap [ErrKafkaAway], [ErrTooManyWaiting] or
	// [ErrUncertain]; any other error is taken for uncertain.
	Append(ctx context.Context, m *runtime.Message) (runtime.Coordinates, error)
}

// Reader answers questions about aggregates. State, Events and Outcome are
// asked of the owner alone: they wrap [ErrNoOwner] when this gateway is not it,
// and [ErrBroken] for an aggregate that is stopped.
type Reader interface {
	// Owner says which gateway owns the aggregate: the host:port of its
	// internal listener, and whether that is this one. Errors wrap [ErrNoOwner].
	Owner(ctx context.Context, a runtime.AggregateID) (address string, self bool, err error)

	// State returns the committed state at minVersion or later, waiting for it
	// until ctx ends, and when its last event was recorded. Errors wrap
	// [ErrNotFound], [ErrBehind] (with the state there is, so that the caller
	// can say how far it is) or [ErrNoOwner].
	State(ctx context.Context, a runtime.AggregateID, minVersion uint64) (shard.State, time.Time, error)

	// Cached returns the state that the cache has of an aggregate that another
	// gateway owns, and when its last event was recorded, without asking that
	// gateway. It is a committed state, proven by the log, but maybe not the
	// newest; enough says whether it will do. Errors wrap [ErrSnapshotMiss], also
	// where this gateway is the owner and knows better, [ErrBehind] when it will
	// not do, or say what did not answer.
	Cached(ctx context.Context, a runtime.AggregateID, enough func(version uint64, recorded time.Time) bool) (shard.State, time.Time, error)

	// Events returns at most limit committed events with versions greater than
	// after, in order, and whether there are more. The platform's own records
	// are not among them. None is no error when the aggregate exists.
	Events(ctx context.Context, a runtime.AggregateID, after uint64, limit int) (events []Recorded, more bool, err error)

	// Outcome returns how a command, or an event that was published, stands.
	// One that is queued, retried or held is answered too, by its Status.
	Outcome(ctx context.Context, a runtime.AggregateID, key runtime.CommandKey) (*Outcome, error)

	// Others returns the internal listeners of the other gateways that own
	// partitions. Errors wrap [ErrNoOwner].
	Others(ctx context.Context) (addresses []string, err error)

	// Crowded returns the aggregates in this gateway's partitions that take no
	// more commands: they have as many waiting as an aggregate may, or some that
	// are set aside while too many are.
	Crowded() []runtime.AggregateID

	// Command returns the command, or event to publish, that stands at these
	// coordinates of the commands topic. Errors wrap [ErrNotFound], or say what
	// did not answer.
	Command(ctx context.Context, at runtime.Coordinates) (*runtime.Message, error)

	// Parked lists commands that are set aside, and those that are parked and not
	// dropped, in the partitions that this gateway owns and has taken over, which
	// are returned with them. The list is neither sorted nor cut.
	Parked(ctx context.Context, filter ParkedFilter) (list []ParkedCommand, partitions []int32, err error)
}

// Recorded is a message and where it stands in Kafka.
type Recorded struct {
	Message *runtime.Message
	At      runtime.Coordinates
}

// OutcomeStatus says how a command stands.
type OutcomeStatus string

// The statuses. The first three may change; the others are final.
const (
	OutcomePending  OutcomeStatus = "pending"  // accepted, in Kafka
	OutcomeRetrying OutcomeStatus = "retrying" // set aside; it is tried again
	OutcomeHeld     OutcomeStatus = "held"     // its attempts are used up; tried on at the longest backoff
	OutcomeDone     OutcomeStatus = "done"     // its events are recorded
	OutcomeRefused  OutcomeStatus = "refused"  // its events are recorded, and they are a business refusal
	OutcomeRejected OutcomeStatus = "rejected" // the platform refused it: CommandRejected or PublishRejected
	OutcomeParked   OutcomeStatus = "parked"   // the platform gave it up: CommandParked
	OutcomeConflict OutcomeStatus = "conflict" // the id was used before for another type, target or value
)

// Final says whether the status can never change.
func (s OutcomeStatus) Final() bool {
	switch s {
	case OutcomePending, OutcomeRetrying, OutcomeHeld, "":
		return false
	}
	return true
}

// RejectVersionMismatch is the code of a rejection because the aggregate did
// not have the version that the command expected ([shard.Reject]).
const RejectVersionMismatch = shard.CodeVersionMismatch

// Outcome is how a command, or an event from outside, stands. It is shared
// between goroutines and must not be changed after it is handed on.
type Outcome struct {
	Command  string // the command's id
	Source   string
	Entity   runtime.Entity   // its target
	Type     runtime.TypeName // its type; "" when not known any more
	Status   OutcomeStatus
	Version  uint64     // of the aggregate after the last of Events; of a rejected version: the one it has; else 0
	Events   []Recorded // done, refused: its events; rejected, parked: the platform's record
	Code     string     // rejected: a stable word
	Reason   string     // for people: why it is rejected, parked, held or retried
	Attempts int        // calls so far; retrying, held and parked
	NextTry  time.Time  // retrying and held; zero when it is being tried

	// At is where the command stands in the commands topic; zero when not known.
	// Only [Reader.Outcome] tells it.
	At runtime.Coordinates
}

// ParkedFilter narrows a list of parked commands. Zero fields do not narrow.
type ParkedFilter struct {
	Aggregate runtime.AggregateID
	Status    OutcomeStatus        // retrying, held or parked
	Type      string               // full name of the type, or its name in any aggregate
	Function  string               // namespace/name of the Trigger that the reason is about
	At        *runtime.Coordinates // of a command, whose Topic is not looked at, or of an event
	After     ParkedKey            // only those behind it
	Limit     int                  // at most so many; 0 means all
}

// ParkedCommand is a command that was set aside or parked, or an event that a
// dispatcher has parked.
type ParkedCommand struct {
	At        runtime.Coordinates // of the command in the commands topic, or of the event
	Aggregate runtime.AggregateID
	Entity    runtime.Entity
	Command   string // id; "" for an event
	Source    string
	Type      runtime.TypeName
	Status    OutcomeStatus
	Attempts  int
	NextTry   time.Time
	Reason    string
	Function  string              // namespace/name of the Trigger; "" when there is none
	Image     string              // what that function ran at the last attempt; "" when it did not say
	Since     time.Time           // of the command itself
	Failing   time.Time           // of the first attempt that failed; zero when that is not known
	Misplaced bool                // stands in another partition than its aggregate's: it is forwarded, and takes no orders here
	Outcome   runtime.Coordinates // parked: of its CommandParked

	// Of an event that a dispatcher has parked.
	Event      string // id
	Dispatcher string // namespace/name of its Trigger
}

// Readiness tells the truth about whether this gateway can do its work.
type Readiness interface {
	// Ready returns the checks by name ("kafka", "partitions"...), each nil or
	// why not. All nil means ready. It must be cheap: probes call it often.
	Ready(ctx context.Context) map[string]error
}

// SchemaType is what the HTTP face needs to know of one version of a registered type.
type SchemaType struct {
	Name        runtime.TypeName
	Aggregate   string // name of the aggregate
	Kind        avro.Kind
	Entity      string // entity type that a command targets or an event belongs to; "" for the root
	Fingerprint runtime.Fingerprint
	Text        string // self-contained schema, JSON
}

// EntityPlace is where an entity reference leads by its prefixes.
type EntityPlace struct {
	Aggregate string // name of the aggregate
	Type      string // entity type; "" for the root
}

// EntityStep finds a child entity: the element of the array in Field whose
// IDField is the child's id, with or without its prefix.
type EntityStep struct{ Field, IDField string }

// Schemas is the catalogue of registered types. Reads are safe for concurrent
// use and fast: intake makes several for each message.
type Schemas interface {
	// Newest returns the newest version of a type.
	Newest(name runtime.TypeName) (SchemaType, bool)
	// Version returns the version that d names.
	Version(d runtime.DataSchema) (SchemaType, bool)
	// Versions returns all versions of a type, oldest first.
	Versions(name runtime.TypeName) []SchemaType
	// Types returns the newest version of every type, by name.
	Types() []SchemaType
	// Place resolves the prefixes of an entity reference.
	Place(e runtime.Entity) (EntityPlace, bool)
	// Path leads from the root's JSON to that of an entity inside it: one step
	// for each child segment. Nil when the schema does not show where it is.
	Path(e runtime.Entity) []EntityStep
	// Validate checks that data is exactly one value of the schema.
	Validate(d runtime.DataSchema, data []byte) error
	// FromJSON converts plain JSON by the newest version of the type.
	FromJSON(name runtime.TypeName, text []byte) ([]byte, runtime.DataSchema, error)
	// ToJSON converts a value to plain JSON.
	ToJSON(d runtime.DataSchema, data []byte) ([]byte, error)
}

// SchemaRegistrar registers schema files.
type SchemaRegistrar interface {
	// Register checks the .avsc file of one aggregate and writes its new type
	// versions to the schemas topic; with dryRun it only checks. It returns the
	// versions that are new (none when all are registered). Errors are an
	// [avro.LintError] or an [avro.CompatError], or wrap [ErrKafkaAway] or
	// [ErrUncertain]; registering the same file again is safe.
	Register(ctx context.Context, text []byte, dryRun bool) ([]SchemaType, error)
}

// TriggerInfo describes a Trigger that routes.
type TriggerInfo struct {
	Name       string            `json:"name"` // namespace/name
	Role       string            `json:"role"` // handler, aggregator, dispatcher or sink
	Aggregate  string            `json:"aggregate,omitempty"`
	Filter     string            `json:"filter,omitempty"` // as text
	Subscriber string            `json:"subscriber"`       // URL
	Source     string            `json:"source,omitempty"` // file or cluster that declares it
	Delivery   map[string]string `json:"delivery,omitempty"`
	Error      string            `json:"error,omitempty"` // why it does not route
	Dispatch   *DispatchStatus   `json:"dispatch,omitempty"`
}

// DispatchStatus is how far a dispatcher is in the partitions that this gateway
// holds for it.
type DispatchStatus struct {
	Epoch      uint64 `json:"epoch"`      // how often it was sent back
	Partitions int    `json:"partitions"` // how many are held here
	Lag        int64  `json:"lag"`        // records that are not finished, some seconds ago
	Parked     int    `json:"parked"`     // events parked or set aside
}

// TriggerLister lists what routes where.
type TriggerLister interface {
	Triggers(ctx context.Context) ([]TriggerInfo, error)
}
