package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// A state is worth something only to aggregators that fold events as the one
// that made it. What makes the difference is said by the author: a raised
// stateVersion, or a root schema with "rebuild". Both together are the fold, a
// number: the stateVersion, and below it the last rebuilding version of the root.
const foldRebuilds = 1 << 20 // versions of a root that one stateVersion has room for

// foldPin says which fold is in force for a type of aggregate.
//
// While a new one is rolled out, instances of both answer. The higher fold wins
// at once, and instances of the lower one are not asked any more; if all are of
// the lower one for foldRollback, the roll-out has been taken back, and the
// lower one is in force again.
type foldPin struct {
	url      string
	fold     int
	seen     time.Time // when an instance of this fold last answered
	changing bool      // FunctionSettings.FoldChanged has not returned
}

const foldRollback = 30 * time.Second

// errFoldChanged says that a state was made by an aggregator that folds events
// otherwise than the one that has just come into force.
var errFoldChanged = errors.New("the aggregator has another state version now; the state is rebuilt")

// olderFoldError says that an instance of a fold that is no longer in force was met.
type olderFoldError struct{ met, inForce int }

func (e *olderFoldError) Error() string {
	return fmt.Sprintf("an instance with state version %d, root version %d answers while %d, %d is in force; it is being rolled out or back",
		e.met/foldRebuilds, e.met%foldRebuilds, e.inForce/foldRebuilds, e.inForce%foldRebuilds)
}

// foldOf returns the fold of a build.
func (f *Functions) foldOf(typeName string, build *runtime.Description) (int, error) {
	f.mu.Lock()
	fold, ok := f.known[build.Hash]
	f.mu.Unlock()
	if ok {
		return fold, nil
	}
	name := runtime.TypeName(typeName + "." + typeName)
	root, ok := build.Schemas[name]
	if !ok {
		return 0, &unknownThereError{name}
	}
	built, ok := f.set.Schemas.Version(runtime.NewDataSchema(name, root.Fingerprint))
	if !ok {
		return 0, fmt.Errorf("%q with fingerprint %s: %w", string(name), root.Fingerprint, errUnregistered)
	}
	fold = build.StateVersion * foldRebuilds
	for _, t := range f.set.Schemas.Versions(name) {
		if t.Rebuild && t.Version <= built.Version {
			fold = max(fold, build.StateVersion*foldRebuilds+t.Version)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) > 1000 { // builds of years
		clear(f.known)
	}
	f.known[build.Hash] = fold
	return fold, nil
}

// admitFold says whether a state may be given to this build and its answer be
// used. It brings the build's fold into force when it has to be.
func (f *Functions) admitFold(typeName, url string, build *runtime.Description) error {
	fold, err := f.foldOf(typeName, build)
	if err != nil {
		return err
	}
	f.mu.Lock()
	pin, now := f.folds[typeName], f.now()
	if pin != nil {
		switch {
		case pin.fold == fold && pin.changing:
			f.mu.Unlock()
			return errFoldChanged
		case pin.fold == fold:
			pin.url = url
			f.mu.Unlock()
			return nil
		case pin.url == url && fold < pin.fold && now.Sub(pin.seen) < foldRollback:
			f.mu.Unlock()
			return &olderFoldError{fold, pin.fold}
		}
	}
	pin = &foldPin{url: url, fold: fold, seen: now, changing: true}
	f.folds[typeName] = pin
	f.mu.Unlock()
	f.set.Logger.Info("state version in force", "aggregate", typeName, "state_version", build.StateVersion)
	if f.set.FoldChanged != nil {
		f.set.FoldChanged(typeName, fold)
	}
	f.mu.Lock()
	pin.changing = false
	f.mu.Unlock()
	return errFoldChanged
}

// checkFold says whether the state of a question was folded as it would be now.
// One that was not has been in somebody's hands since before the change: they
// are told once more.
func (f *Functions) checkFold(q *question) error {
	fold, known := f.KnownFold(q.typeName)
	if !known || q.state.Schema == "" || q.state.Fold == fold {
		return nil
	}
	if f.set.FoldChanged != nil {
		f.set.FoldChanged(q.typeName, fold)
	}
	return errFoldChanged
}

// metFold notes that an instance of the fold in force has answered.
func (f *Functions) metFold(typeName string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pin := f.folds[typeName]; pin != nil {
		pin.seen = f.now()
	}
}

// Fold returns the fold that is in force for a type of aggregate: a number that
// changes whenever the same events may give another state than before, because
// the aggregator's stateVersion changed or its root's schema says "rebuild".
// Snapshots carry it. The aggregator is asked when it has not been yet; the
// error says why it cannot be.
func (f *Functions) Fold(ctx context.Context, aggregate string) (int, error) {
	if fold, ok := f.KnownFold(aggregate); ok {
		return fold, nil
	}
	t, err := f.set.Router.Aggregator(aggregate)
	if err != nil {
		return 0, err
	}
	l, err := f.line(&t)
	if err != nil {
		return 0, err
	}
	build, err := l.description(ctx, nil)
	if err == nil {
		if err = f.admitFold(aggregate, t.URL, build); errors.Is(err, errFoldChanged) {
			err = nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("function %q: %w", t.Name, err)
	}
	return f.foldOf(aggregate, build)
}

// foldFresh is how old [Functions.FreshFold] lets its answer be.
const foldFresh = 10 * time.Second

// FreshFold returns the fold that is in force, for who does not call the
// aggregator and so does not meet a new one: it is asked again when it has not
// answered anybody here for foldFresh. While it does not answer, the last fold
// that was met counts; false when none was.
func (f *Functions) FreshFold(ctx context.Context, aggregate string) (int, bool) {
	f.mu.Lock()
	pin := f.folds[aggregate]
	fresh := pin != nil && f.now().Sub(pin.seen) < foldFresh
	f.mu.Unlock()
	if !fresh {
		if err := f.meetFold(ctx, aggregate); err != nil {
			f.set.Logger.Debug("state version not known anew", "aggregate", aggregate, "err", err)
		}
	}
	return f.KnownFold(aggregate)
}

// meetFold asks the aggregator what it is, and brings its fold into force.
func (f *Functions) meetFold(ctx context.Context, aggregate string) error {
	t, err := f.set.Router.Aggregator(aggregate)
	if err != nil {
		return err
	}
	l, err := f.line(&t)
	if err != nil {
		return err
	}
	build, err := l.description(ctx, l.knownBuild(nil))
	if err != nil {
		return err
	}
	if err := f.admitFold(aggregate, t.URL, build); err != nil && !errors.Is(err, errFoldChanged) {
		return err
	}
	f.metFold(aggregate)
	return nil
}

// KnownFold returns the fold that is in force for a type of aggregate, and false
// when its aggregator has not been met yet.
func (f *Functions) KnownFold(aggregate string) (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pin := f.folds[aggregate]; pin != nil {
		return pin.fold, true
	}
	return 0, false
}
