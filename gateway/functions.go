package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// FunctionTarget is the function that a Trigger names for a message.
type FunctionTarget struct {
	Name     string // namespace/name of the Trigger
	URL      string // absolute
	CACerts  string // PEM, trusted in addition when URL is https; "" for the system's alone
	Combined bool   // of a handler: the same function is the aggregate's aggregator too
	Timeout  time.Duration
	Policy   shard.Policy
}

// FunctionRouter says which function gets what. An error says that there is
// none, and for whom there would have to be one; it may come any moment.
type FunctionRouter interface {
	Handler(command *runtime.Message) (FunctionTarget, error)
	Aggregator(aggregate string) (FunctionTarget, error)
}

// FunctionCaller is the client's end of the invocation protocol.
type FunctionCaller interface {
	// Invoke makes one request. built is the hash of the description that the
	// items are encoded for. It fails as a whole with a *runtime.CallError, or with
	// *runtime.DescriptionChanged when the function is of another build.
	Invoke(ctx context.Context, url string, built runtime.Fingerprint, items []runtime.Invocation) (results []runtime.Result, builtBy runtime.Fingerprint, err error)
	Describe(ctx context.Context, url string) (runtime.Description, error)
}

// FunctionSchemas knows every registered version of every type.
type FunctionSchemas interface {
	Type(name runtime.TypeName) (*avro.Type, bool)
	Version(schema runtime.DataSchema) (*avro.Type, bool)
	Versions(name runtime.TypeName) []*avro.Type
	CheckSubject(t *avro.Type, e runtime.Entity) error
	Validate(schema runtime.DataSchema, data []byte) error
	Transcode(from runtime.DataSchema, data []byte, to runtime.DataSchema) ([]byte, error)
}

// FunctionLimits bound what functions are asked and may answer. Zero values
// are replaced by those of [DefaultFunctionLimits].
type FunctionLimits struct {
	Events     int // events of one command
	EventBytes int // of one event's value: what fits into a record of the events topic
	StepBytes  int // of all events of one command together
	StateBytes int // of a state; one that is larger may shrink but not grow
	// OfferBytes is the size from which on a state is named by its hash, instead of
	// sent, to a function that keeps states; see [stateOffers]. Negative: all are sent.
	OfferBytes int

	BatchItems int // invocations in one request
	BatchBytes int // of states and messages in one request
	Requests   int // at the same time to one function, as long as they are answered quickly
	Slow       int // more requests at the same time that are not
	// SlowAfter is how long a request keeps the next from being sent. Who calls a
	// function that takes longer than this gets more requests instead of larger ones.
	SlowAfter time.Duration
	// SplitAfter is how long the calls of one request may have to wait for the
	// slowest of them. Then they are made once more, each by itself.
	SplitAfter time.Duration
}

// DefaultFunctionLimits fit Kafka's default max.message.bytes of 1 MiB.
func DefaultFunctionLimits() FunctionLimits {
	return FunctionLimits{
		Events: 1000, EventBytes: 900 << 10, StepBytes: 8 << 20, StateBytes: 4 << 20, OfferBytes: 4 << 10,
		BatchItems: 256, BatchBytes: 4 << 20,
		Requests: 2, Slow: 64, SlowAfter: 10 * time.Millisecond, SplitAfter: time.Second,
	}
}

func (l *FunctionLimits) setDefaults() {
	set := func(value *int, standard int) {
		if *value <= 0 {
			*value = standard
		}
	}
	d := DefaultFunctionLimits()
	set(&l.Events, d.Events)
	set(&l.EventBytes, d.EventBytes)
	set(&l.StepBytes, d.StepBytes)
	set(&l.StateBytes, d.StateBytes)
	set(&l.BatchItems, d.BatchItems)
	set(&l.BatchBytes, d.BatchBytes)
	set(&l.Requests, d.Requests)
	set(&l.Slow, d.Slow)
	if l.OfferBytes == 0 {
		l.OfferBytes = d.OfferBytes
	}
	if l.SlowAfter <= 0 {
		l.SlowAfter = d.SlowAfter
	}
	if l.SplitAfter <= 0 {
		l.SplitAfter = d.SplitAfter
	}
}

// answerBytes is what an answer may have: all that one command may make, and a
// state that is over its limit and shrinks. An answer to many that has more is
// asked for again, one by one.
func (l FunctionLimits) answerBytes() int64 {
	l.setDefaults()
	return int64(l.StepBytes) + 2*int64(l.StateBytes)
}

// FunctionSettings are what [NewFunctions] needs.
type FunctionSettings struct {
	Router  FunctionRouter
	Schemas FunctionSchemas
	// Caller returns the client for functions that show certificates of these
	// authorities ("" for the system's). It is called once per function.
	Caller func(caCerts string) (FunctionCaller, error)
	Limits FunctionLimits
	// Runs lets consecutive commands of one aggregate be folded in one call. Of
	// such a run only the last state is known: see [shard.State.Known]. Who sets it never
	// commits a part of a run as if its state were there.
	Runs bool
	// FoldChanged is told when another fold comes into force for an aggregate's
	// type (its name), before the first call with it: see [Functions.Fold]. When it
	// returns, no state that was made before may be used any more: states in memory
	// are dropped, and answers to works begun before. The first fold that becomes
	// known counts as a change. May be nil.
	FoldChanged func(aggregate string, fold int)
	// Available is told that a function answers again which had not answered, by the
	// name of the Trigger ([shard.Trouble.Function]) whose calls were kept away. It is a
	// hint: a wait that began at the same moment may be missed by it, and ends by itself.
	// May be nil.
	Available func(trigger string)
	Logger    *slog.Logger
}

// Functions calls handlers and aggregators. All methods may be called
// concurrently. Calls to the same function that are ready at the same time
// travel in one request; see [functionLine].
type Functions struct {
	set   FunctionSettings
	now   func() time.Time
	ctx   context.Context // of all requests; ended by Close
	stop  context.CancelCauseFunc
	calls sync.WaitGroup // requests in flight

	mu    sync.Mutex
	lines map[lineKey]*functionLine   // guarded by mu
	folds map[string]*foldPin         // guarded by mu; by name of the aggregate's type
	known map[runtime.Fingerprint]int // guarded by mu: folds of builds, by hash
}

type lineKey struct{ url, caCerts string }

var errFunctionsClosed = errors.New("the gateway is stopping")

// NewFunctions returns Functions that call nobody yet.
func NewFunctions(set FunctionSettings) (*Functions, error) {
	if set.Router == nil || set.Schemas == nil || set.Caller == nil || set.Logger == nil {
		return nil, errors.New("functions: Router, Schemas, Caller and Logger have to be set")
	}
	set.Limits.setDefaults()
	ctx, stop := context.WithCancelCause(context.Background())
	return &Functions{
		set: set, now: time.Now, ctx: ctx, stop: stop,
		lines: map[lineKey]*functionLine{}, folds: map[string]*foldPin{}, known: map[runtime.Fingerprint]int{},
	}, nil
}

// Close gives up the requests in flight and returns when they have ended.
// A second call does nothing.
func (f *Functions) Close() {
	f.stop(errFunctionsClosed)
	f.mu.Lock()
	lines := make([]*functionLine, 0, len(f.lines))
	for _, l := range f.lines {
		lines = append(lines, l)
	}
	f.mu.Unlock()
	for _, l := range lines {
		l.drain(errFunctionsClosed)
	}
	f.calls.Wait()
}

// line returns the way to a function.
func (f *Functions) line(t *FunctionTarget) (*functionLine, error) {
	key := lineKey{t.URL, t.CACerts}
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.lines[key]; l != nil {
		return l, nil
	}
	caller, err := f.set.Caller(t.CACerts)
	if err != nil {
		return nil, fmt.Errorf("certificates of %q: %w", t.Name, err)
	}
	l := newFunctionLine(f, t.URL, caller)
	f.lines[key] = l
	return l, nil
}

// FunctionStatus is what is known about one function.
type FunctionStatus struct {
	URL      string
	Away     bool                 // calls are kept away from it
	Offered  int                  // states that were offered to it by their hash, and it answered
	Missed   int                  // those of them that it did not have
	Waiting  int                  // calls that are not sent yet
	InFlight int                  // requests
	Built    *runtime.Description // nil while not known
}

// Status returns what is known about every function that has been called.
func (f *Functions) Status() []FunctionStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]FunctionStatus, 0, len(f.lines))
	for _, l := range f.lines {
		all = append(all, l.status())
	}
	return all
}
