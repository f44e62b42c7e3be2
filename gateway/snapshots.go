package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/runtime"
)

// silentRedis takes what the Redis library says on its own: each failed dial, to
// standard error. What matters of it comes back as an error and is logged with
// the gateway's own keys.
type silentRedis struct{}

func (silentRedis) Printf(context.Context, string, ...any) {}

// ErrSnapshotMiss is returned when Redis has no snapshot that can be used:
// none at all, one that is corrupt or of somebody else, one by an aggregator of
// another fold, or one of whose seen runs that holds. The state is then
// rebuilt from the aggregate's events.
var ErrSnapshotMiss = errors.New("no usable snapshot")

// ErrSnapshotsAway is returned without asking while Redis is known not to
// answer. The state is then rebuilt from the aggregate's events.
var ErrSnapshotsAway = errors.New("redis does not answer")

// SnapshotSettings say where snapshots live and whose they are.
type SnapshotSettings struct {
	// URL is redis://, rediss:// or unix://, with user, password and database as
	// usual; more nodes of a cluster follow as ?addr=host:port&addr=...
	URL string
	// Cluster is the Kafka cluster's id, TopicID tells the id of the events topic
	// that an aggregate lives in, and Epoch is the installation's. Together they
	// are the prefix of every key: what another log says is never mixed in.
	Cluster string
	TopicID func(runtime.AggregateID) string
	Epoch   string
	// Fold tells how the events of an aggregate are folded now: a number that
	// changes with the aggregator's stateVersion, see [Functions.Fold]. False when
	// it is not known; then snapshots of any will do.
	Fold func(runtime.AggregateID) (int, bool)
	// Timeout is the longest that one round trip may take, connecting included; 0 is 250 ms.
	Timeout time.Duration
	Logger  *slog.Logger
}

// SnapshotStats counts since the start.
type SnapshotStats struct {
	Hits, Misses uint64 // of Load; a miss is any load without a usable snapshot
	Corrupt      uint64 // values that were there but could not be used
	Saved        uint64 // snapshots that Redis took
	Refused      uint64 // snapshots that Redis answered with an error
	Errors       uint64 // round trips that failed
	Dropped      uint64 // snapshots that the writer's queue had no room for
	Queued       uint64 // snapshots that wait now
}

// Snapshots keeps states in Redis: a cache that may be wrong in any way, so
// nothing that is read is believed before it has been checked, and nothing
// fails because of it. All methods may be called concurrently.
type Snapshots struct {
	set     SnapshotSettings
	client  redis.UniversalClient
	breaker breaker
	now     func() time.Time

	hits, misses, corrupt, saved, refused, failed atomic.Uint64

	refusing atomic.Bool // the last round trip of Save met a refusal

	mu    sync.Mutex
	known map[runtime.AggregateID][]string // guarded by mu: names of the runs that Redis has
}

// maxKnownRuns bounds Snapshots.known. Who is forgotten writes its runs once more.
const maxKnownRuns = 1 << 16

// pipelineSnapshots and pipelineBytes bound one round trip of Save.
const (
	pipelineSnapshots = 512
	pipelineBytes     = 4 << 20
)

// NewSnapshots returns a store for the Redis at set.URL. It connects on first
// use: an installation whose Redis is away starts all the same.
func NewSnapshots(set SnapshotSettings) (*Snapshots, error) {
	if set.Timeout == 0 {
		set.Timeout = 250 * time.Millisecond
	}
	if set.TopicID == nil || set.Fold == nil || set.Logger == nil {
		return nil, errors.New("snapshots: TopicID, Fold and Logger have to be set")
	}
	client, err := newRedis(set)
	if err != nil {
		return nil, err
	}
	return &Snapshots{
		set: set, client: client, now: time.Now,
		breaker: breaker{failures: 2, min: 100 * time.Millisecond, max: 2 * time.Second},
		known:   map[runtime.AggregateID][]string{},
	}, nil
}

func newRedis(set SnapshotSettings) (redis.UniversalClient, error) {
	// Retries are ours to decide, and the cache needs nothing that a plain Redis
	// of years ago does not have: RESP2, no client names, no push messages.
	const noRetries, resp2 = -1, 2
	redis.SetLogger(silentRedis{}) // there is one for the process
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if strings.Contains(set.URL, "addr=") {
		o, err := redis.ParseClusterURL(set.URL)
		if err != nil {
			return nil, fmt.Errorf("redis url: %w", err)
		}
		o.MaxRetries, o.Protocol, o.DisableIdentity, o.MaintNotificationsConfig = noRetries, resp2, true, quiet
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = set.Timeout, set.Timeout, set.Timeout
		o.DialerRetries, o.ContextTimeoutEnabled = 1, true
		return redis.NewClusterClient(o), nil
	}
	o, err := redis.ParseURL(set.URL)
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	o.MaxRetries, o.Protocol, o.DisableIdentity, o.MaintNotificationsConfig = noRetries, resp2, true, quiet
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = set.Timeout, set.Timeout, set.Timeout
	o.DialerRetries, o.ContextTimeoutEnabled = 1, true
	return redis.NewClient(o), nil
}

// Close ends the connections. Flush a writer before.
func (s *Snapshots) Close() error { return s.client.Close() }

// Stats returns the counters, those of a writer's queue left out.
func (s *Snapshots) Stats() SnapshotStats {
	return SnapshotStats{
		Hits: s.hits.Load(), Misses: s.misses.Load(), Corrupt: s.corrupt.Load(),
		Saved: s.saved.Load(), Refused: s.refused.Load(), Errors: s.failed.Load(),
	}
}

// Away says whether Redis is known not to answer.
func (s *Snapshots) Away() bool { return s.breaker.open() }

// snapshotKey and runKey share a hash tag, so that a cluster keeps a snapshot
// and its runs on one node.
func (s *Snapshots) snapshotKey(a runtime.AggregateID) string { return s.key("s", a) }

func (s *Snapshots) runKey(a runtime.AggregateID, name string) string {
	return s.key("r", a) + ":" + name
}

func (s *Snapshots) key(kind string, a runtime.AggregateID) string {
	return "evento:" + s.set.Cluster + ":" + s.set.TopicID(a) + ":" + s.set.Epoch + ":" + kind + ":{" + string(a) + "}"
}

// Save writes snapshots and those of their runs that Redis does not have, or not
// any more, in one round trip for some hundreds of them. An error says that Redis did not
// answer; nothing is known about the rest then, and nothing need be: who reads
// holds a snapshot against the log. Values that Redis refuses are counted only.
func (s *Snapshots) Save(ctx context.Context, snapshots []shard.Snapshot) error {
	for len(snapshots) > 0 {
		n, err := s.saveSome(ctx, snapshots)
		if err != nil {
			return err
		}
		snapshots = snapshots[n:]
	}
	return nil
}

// write is what is asked of Redis for one snapshot.
type write struct {
	sets  []*redis.StatusCmd
	kept  int           // runs that it should have
	there *redis.IntCmd // how many of those it has; nil for none to ask for
}

// saveSome writes the first n of snapshots.
func (s *Snapshots) saveSome(ctx context.Context, snapshots []shard.Snapshot) (n int, err error) {
	pipe := s.client.Pipeline()
	var writes []write // of each snapshot
	bytes := 0
	set := func(key string, value []byte) *redis.StatusCmd {
		bytes += len(value)
		return pipe.Set(ctx, key, value, 0)
	}
	for n < len(snapshots) && n < pipelineSnapshots && (n == 0 || bytes < pipelineBytes) {
		snapshot := &snapshots[n]
		n++
		before, names := s.knownRuns(snapshot.Aggregate), runNames(snapshot)
		var w write
		var kept []string
		for i, name := range names {
			key := s.runKey(snapshot.Aggregate, name)
			if slices.Contains(before, name) {
				kept = append(kept, key)
			} else {
				w.sets = append(w.sets, set(key, encodeSeenRun(snapshot.Seen.Runs[i])))
			}
		}
		if w.kept = len(kept); w.kept > 0 {
			w.there = pipe.Exists(ctx, kept...)
		}
		key := s.snapshotKey(snapshot.Aggregate)
		w.sets = append(w.sets, set(key, encodeSnapshot(key, snapshot)))
		writes = append(writes, w)
		// Behind the snapshot that does without them: who reads between the two finds all that it names.
		for _, name := range before {
			if !slices.Contains(names, name) {
				pipe.Del(ctx, s.runKey(snapshot.Aggregate, name))
			}
		}
	}
	crash.At(crash.SnapshotSave)
	err = s.roundTrip(ctx, func(ctx context.Context) error {
		_, err := pipe.Exec(ctx)
		return err
	})
	if err != nil && !redisAnswered(err) {
		return 0, err
	}
	var refusal error
	crash.At(crash.SnapshotSaved)
	var again []shard.Snapshot
	for i, w := range writes {
		if at := slices.IndexFunc(w.sets, func(cmd *redis.StatusCmd) bool { return cmd.Err() != nil }); at >= 0 {
			refusal = w.sets[at].Err()
			s.refused.Add(1)
			s.forget(snapshots[i].Aggregate)
			continue
		}
		if w.there != nil && w.there.Err() == nil && w.there.Val() < int64(w.kept) {
			// Flushed or evicted behind our back: nobody could use the snapshot.
			s.forget(snapshots[i].Aggregate)
			again = append(again, snapshots[i])
			continue
		}
		s.saved.Add(1)
		s.know(snapshots[i].Aggregate, runNames(&snapshots[i]))
	}
	switch was := s.refusing.Swap(refusal != nil); {
	case refusal != nil && !was:
		s.set.Logger.Warn("redis refuses snapshots; what is in it gets old, and loading takes longer (is it full, or a replica?)", "err", refusal)
	case refusal == nil && was:
		s.set.Logger.Info("redis takes snapshots again")
	}
	return n, s.Save(ctx, again)
}

func runNames(snapshot *shard.Snapshot) []string {
	if snapshot.Seen == nil {
		return nil
	}
	names := make([]string, len(snapshot.Seen.Runs))
	for i, run := range snapshot.Seen.Runs {
		names[i] = run.Name
	}
	return names
}

// Load returns the snapshot of an aggregate with all that it names. The error
// wraps [ErrSnapshotMiss], or says that Redis did not answer. What is returned
// is whole and was written for this aggregate; it may still be older than the
// log or ahead of it, which the caller sees by its head.
func (s *Snapshots) Load(ctx context.Context, aggregate runtime.AggregateID) (shard.Snapshot, error) {
	snapshot, err := s.load(ctx, aggregate)
	if err != nil {
		s.misses.Add(1)
		s.forget(aggregate)
		if errors.Is(err, errSnapshotFormat) {
			s.corrupt.Add(1)
			s.set.Logger.Warn("snapshot cannot be used; it is rebuilt from the events", "entity", string(aggregate), "err", err)
			err = fmt.Errorf("%w: %w", ErrSnapshotMiss, err)
		}
		return shard.Snapshot{}, err
	}
	s.hits.Add(1)
	return snapshot, nil
}

func (s *Snapshots) load(ctx context.Context, aggregate runtime.AggregateID) (shard.Snapshot, error) {
	v, err := s.value(ctx, aggregate)
	if err != nil {
		return shard.Snapshot{}, err
	}
	if len(v.runs) > 0 {
		if v.snapshot.Seen.Runs, err = s.loadRuns(ctx, aggregate, v.runs); err != nil {
			return shard.Snapshot{}, err
		}
	}
	s.know(aggregate, v.runs)
	return v.snapshot, nil
}

// Peek returns a snapshot without the runs that it names, for who wants the
// state alone. Errors are as those of Load, but that somebody looked is not
// counted and changes nothing: what Redis has is its writer's concern.
func (s *Snapshots) Peek(ctx context.Context, aggregate runtime.AggregateID) (shard.Snapshot, error) {
	v, err := s.value(ctx, aggregate)
	if errors.Is(err, errSnapshotFormat) {
		err = fmt.Errorf("%w: %w", ErrSnapshotMiss, err)
	}
	return v.snapshot, err
}

// value reads and checks a snapshot's value, without the runs that it names.
func (s *Snapshots) value(ctx context.Context, aggregate runtime.AggregateID) (snapshotValue, error) {
	key := s.snapshotKey(aggregate)
	var value []byte
	if err := s.roundTrip(ctx, func(ctx context.Context) (err error) {
		value, err = s.client.Get(ctx, key).Bytes()
		return err
	}); errors.Is(err, redis.Nil) {
		return snapshotValue{}, fmt.Errorf("%w: redis has none of %q", ErrSnapshotMiss, aggregate)
	} else if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return snapshotValue{}, fmt.Errorf("%w: under its key is no string", errSnapshotFormat)
	} else if err != nil {
		return snapshotValue{}, err
	}
	v, err := decodeSnapshot(key, aggregate, value)
	if err != nil {
		return snapshotValue{}, err
	}
	if fold, known := s.set.Fold(aggregate); known && v.snapshot.State.Schema != "" && fold != v.snapshot.State.Fold {
		return snapshotValue{}, fmt.Errorf("%w: the one of %q is by an aggregator that folds events otherwise (%d) than the present one (%d)", ErrSnapshotMiss, aggregate, v.snapshot.State.Fold, fold)
	}
	return v, nil
}

func (s *Snapshots) loadRuns(ctx context.Context, aggregate runtime.AggregateID, names []string) ([]*shard.SeenRun, error) {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = s.runKey(aggregate, name)
	}
	var values []any
	if err := s.roundTrip(ctx, func(ctx context.Context) (err error) {
		values, err = s.client.MGet(ctx, keys...).Result()
		return err
	}); err != nil {
		return nil, err
	}
	runs := make([]*shard.SeenRun, len(names))
	for i, name := range names {
		value, ok := values[i].(string)
		if !ok {
			return nil, fmt.Errorf("%w: run %q of %q is gone", ErrSnapshotMiss, name, aggregate)
		}
		run, err := decodeSeenRun(name, []byte(value))
		if err != nil {
			return nil, err
		}
		runs[i] = run
	}
	return runs, nil
}

// roundTrip runs one exchange with Redis under the timeout and the breaker. It
// returns what Redis itself answers, redis.Nil included, as it is.
func (s *Snapshots) roundTrip(ctx context.Context, do func(context.Context) error) error {
	if wait, ok := s.breaker.allow(s.now()); !ok {
		return fmt.Errorf("%w; it is asked again in %v", ErrSnapshotsAway, wait.Round(time.Millisecond))
	}
	wasOpen := s.breaker.open()
	timed, cancel := context.WithTimeout(ctx, s.set.Timeout)
	defer cancel()
	err := do(timed)
	switch {
	case err == nil || redisAnswered(err):
		s.breaker.succeeded()
		if wasOpen {
			s.set.Logger.Info("redis answers again")
		}
		return err
	case ctx.Err() != nil:
		// The caller went away: that says nothing about Redis.
		return context.Cause(ctx)
	}
	s.failed.Add(1)
	s.mu.Lock()
	clear(s.known) // it may come back empty, or as an old copy of itself
	s.mu.Unlock()
	s.breaker.failed(s.now(), "")
	if !wasOpen && s.breaker.open() {
		s.set.Logger.Warn("redis does not answer; states are rebuilt from events until it does", "err", err)
	}
	return fmt.Errorf("redis did not answer within %v: %w", s.set.Timeout, err)
}

// redisAnswered says whether an error is an answer, not the lack of one. A Redis
// that is still loading its data is as good as away.
func redisAnswered(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && !redis.HasErrorPrefix(err, "LOADING")
}

func (s *Snapshots) knownRuns(a runtime.AggregateID) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[a]
}

func (s *Snapshots) forget(a runtime.AggregateID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, a)
}

func (s *Snapshots) know(a runtime.AggregateID, names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(names) == 0 {
		delete(s.known, a)
		return
	}
	if _, there := s.known[a]; !there && len(s.known) >= maxKnownRuns {
		for other := range s.known {
			delete(s.known, other)
			break
		}
	}
	s.known[a] = names
}
