package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// question is what one invocation asks, in whatever schemas the messages and
// the state were written.
type question struct {
	kind      runtime.InvocationKind
	typeName  string // of the aggregate
	aggregate runtime.AggregateID
	state     shard.State
	messages  []*runtime.Message
	image     string // what the function that answered runs; "" until one has, or when it does not say
}

// folds says whether a question is answered with a state.
func (q *question) folds() bool {
	return q.kind != runtime.KindHandle && q.kind != runtime.KindDispatch
}

// answered is an answer with the build of the function that gave it.
type answered struct {
	result runtime.Result
	build  *runtime.Description
}

// maxBuilds is how often one question is encoded anew because the function
// turned out to be of another build. While a function is rolled out, each call
// meets the old or the new one; eight in a row that miss are one in 256.
const maxBuilds = 8

// describeAgain is how old a description must be before a function is asked
// whether it has learned a type since; describeTimeout is the longest that is
// waited, a start from zero included.
const (
	describeAgain   = time.Second
	describeTimeout = 15 * time.Second
)

// ask puts a question to a function in the function's own schemas. The trouble
// is complete; without trouble there is an answer, which may hold a Failure.
func (f *Functions) ask(ctx context.Context, t *FunctionTarget, q *question) (answered, *shard.Trouble) {
	l, err := f.line(t)
	if err == nil {
		err = f.checkFold(q)
	}
	if err != nil {
		return answered{}, f.trouble(t, nil, q, err)
	}
	build, err := f.buildFor(ctx, t, l, q)
	if err != nil {
		return answered{}, f.trouble(t, l, q, err)
	}
	for try := range maxBuilds {
		item, err := f.encode(q, build)
		if err != nil {
			return answered{}, f.trouble(t, l, q, err)
		}
		result, err := l.call(ctx, build, t.Timeout, q.aggregate, item)
		var changed *runtime.DescriptionChanged
		if err == nil {
			l.remember(build)
			if q.folds() {
				f.metFold(q.typeName)
			}
			q.image = cmp.Or(result.Image, build.Image)
			return answered{result, build}, nil
		} else if !errors.As(err, &changed) {
			return answered{}, f.trouble(t, l, q, err)
		}
		var older *olderFoldError
		switch err := f.admit(q, t, &changed.Description); {
		case err == nil && try%2 == 0:
			build = &changed.Description
		case err == nil:
			// Replicas that take turns answer with the other build each time: whoever
			// changes sides with them never meets his own. So every second time not.
		case !errors.As(err, &older):
			l.remember(&changed.Description)
			return answered{}, f.trouble(t, l, q, err)
		}
		// Else: the next instance to answer may be one that has been replaced already.
	}
	return answered{}, f.trouble(t, l, q, errBuildChanges)
}

// buildFor returns the build that a question is encoded for at first. A build
// that cannot take the question may have been replaced: then it is asked for again.
func (f *Functions) buildFor(ctx context.Context, t *FunctionTarget, l *functionLine, q *question) (*runtime.Description, error) {
	build, err := l.description(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err = f.admit(q, t, build); err == nil {
		if n := knownTypes(build, q.messages); n < len(q.messages) {
			err = &unknownThereError{q.messages[n].Type}
		}
	}
	if err == nil || errors.Is(err, errFoldChanged) {
		return build, err
	}
	newer, describeErr := l.description(ctx, build)
	if describeErr != nil || newer.Hash == build.Hash {
		return nil, err
	}
	return newer, f.admit(q, t, newer)
}

// admit says whether a question may be put to this build.
func (f *Functions) admit(q *question, t *FunctionTarget, build *runtime.Description) error {
	if !q.folds() {
		return nil // it makes no state
	}
	return f.admitFold(q.typeName, t.URL, build)
}

// knownTypes returns how many messages from the first on are of types that a
// build has.
func knownTypes(build *runtime.Description, messages []*runtime.Message) int {
	for i, m := range messages {
		if _, ok := build.Schemas[m.Type]; !ok {
			return i
		}
	}
	return len(messages)
}

// knows returns how many messages from the first on are of types that the
// function has, as far as is known.
func (l *functionLine) knows(messages []*runtime.Message) int {
	if build := l.knownBuild(nil); build != nil {
		return knownTypes(build, messages)
	}
	return 0
}

// errBuildChanges is the trouble of a question that met another build on each of its tries.
var errBuildChanges = errors.New("it is being rolled out: every call met another build of it")

// description returns what the function says of itself. It is asked when
// nothing is known yet, or when what is known is instead, and older than a moment.
func (l *functionLine) description(ctx context.Context, instead *runtime.Description) (*runtime.Description, error) {
	if d := l.knownBuild(instead); d != nil {
		return d, nil
	}
	select {
	case <-l.described:
		defer func() { l.described <- struct{}{} }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// Who had the token before may have learned it.
	if d := l.knownBuild(instead); d != nil {
		return d, nil
	}
	if wait, ok := l.breaker.allow(l.f.now()); !ok {
		return nil, &awayError{wait}
	}
	timed, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	d, err := l.caller.Describe(timed, l.url)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		l.breaker.failed(l.f.now(), "")
		return nil, fmt.Errorf("it does not say what it was built with: %w", err)
	}
	l.there()
	l.remember(&d)
	return &d, nil
}

// knownBuild returns the build that is taken for the function's, or nil when it has to be asked.
func (l *functionLine) knownBuild(instead *runtime.Description) *runtime.Description {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.build == nil || instead != nil && l.build.Hash == instead.Hash && l.f.now().Sub(l.buildAt) > describeAgain {
		return nil
	}
	return l.build
}

// remember takes build for the function's from now on.
func (l *functionLine) remember(build *runtime.Description) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.build == nil || l.build.Hash != build.Hash {
		l.build, l.buildAt = build, l.f.now()
	}
}

// encode writes a question in the schemas of a build.
func (f *Functions) encode(q *question, build *runtime.Description) (runtime.Invocation, error) {
	item := runtime.Invocation{Kind: q.kind, Aggregate: q.aggregate, Version: q.state.Version}
	if q.kind == runtime.KindDispatch {
		item.Aggregate = "" // a dispatcher is bound to none
	}
	if q.state.Schema != "" {
		schema, data, err := f.transcode(q.state.Schema, q.state.Data, build)
		if err != nil {
			return item, fmt.Errorf("state of %q: %w", q.aggregate, err)
		}
		item.StateSchema, item.State = schema, data
	}
	item.Messages = make([]*runtime.Message, len(q.messages))
	for i, m := range q.messages {
		schema, data, err := f.transcode(m.Schema, m.Data, build)
		if err != nil {
			return item, fmt.Errorf("%s %q: %w", m.Type, m.ID, err)
		}
		if schema == m.Schema {
			item.Messages[i] = m
			continue
		}
		translated := *m
		translated.Schema, translated.Data = schema, data
		item.Messages[i] = &translated
	}
	return item, nil
}
