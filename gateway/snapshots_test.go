package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// snapshotBundle is a store of its own, in a Redis that others may share.
type snapshotBundle struct {
	*Snapshots
	raw  redis.UniversalClient // around the store's back
	mini *miniredis.Miniredis  // nil on a real Redis
	fold atomic.Int64          // state version in force; negative for unknown
	set  SnapshotSettings
}

// onRedis runs a test on the embedded Redis, and on the real one that
// EVENTO_TEST_REDIS names, host:port.
func onRedis(t *testing.T, test func(t *testing.T, b *snapshotBundle)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		mini := miniredis.RunT(t)
		b := newSnapshotBundle(t, "redis://"+mini.Addr())
		b.mini = mini
		test(t, b)
	})
	if address := os.Getenv("EVENTO_TEST_REDIS"); address != "" {
		url := "redis://" + address
		t.Run("real", func(t *testing.T) {
			t.Parallel()
			test(t, newSnapshotBundle(t, url))
		})
	}
}

func newSnapshotBundle(t *testing.T, url string) *snapshotBundle {
	t.Helper()
	b := &snapshotBundle{}
	b.fold.Store(1)
	b.set = SnapshotSettings{
		URL: url, Cluster: rand.Text(), Epoch: "1",
		TopicID: func(runtime.AggregateID) string { return "t0p1c" },
		Fold: func(runtime.AggregateID) (int, bool) {
			v := b.fold.Load()
			return int(v), v >= 0
		},
		Timeout: time.Minute, // for slow test machines
		Logger:  slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	var err error
	if b.Snapshots, err = NewSnapshots(b.set); err != nil {
		t.Fatal(err)
	}
	b.raw = b.client
	t.Cleanup(func() {
		ctx := context.Background()
		if keys, err := b.raw.Keys(ctx, "evento:"+b.set.Cluster+":*").Result(); err == nil && len(keys) > 0 {
			b.raw.Del(ctx, keys...)
		}
		b.Close()
	})
	return b
}

// keys returns the store's keys of an aggregate's runs.
func (b *snapshotBundle) keys(t *testing.T, kind string) []string {
	t.Helper()
	keys, err := b.raw.Keys(context.Background(), "evento:"+b.set.Cluster+":*:"+kind+":*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// sampleSnapshot is a snapshot after so many commands.
func sampleSnapshot(a runtime.AggregateID, commands int) shard.Snapshot {
	s := shard.Snapshot{
		Aggregate: a,
		State: shard.State{
			Version: uint64(commands),
			Schema:  "urn:evento:avro:CreditAccount.CreditAccount:0123456789abcdef",
			Data:    []byte{0, 1, 2, 255, 'x'},
			Fold:    1,
		},
		Head:     shard.Head{Version: uint64(commands), Offset: int64(commands) * 3, Command: runtime.NewCommandKey("/s", a, "last"), Pos: 2},
		Links:    []int64{100, 103, 1 << 40},
		Recorded: time.Date(2026, 11, 22, 1, 2, 3, 4000000, time.UTC),
		Seen:     &shard.Seen{},
	}
	for i := range commands {
		s.Seen.Add(shard.SeenEntry{Hash: shard.SeenHash(runtime.NewCommandKey("/s", a, fmt.Sprint(i))), Offset: int64(i) * 3})
	}
	s.Seen = s.Seen.Clone()
	return s
}

func TestSnapshotComesBackAsItWas(t *testing.T) {
	t.Parallel()
	onRedis(t, func(t *testing.T, b *snapshotBundle) {
		ctx := t.Context()
		all := []shard.Snapshot{
			sampleSnapshot("credit:1", 3),
			sampleSnapshot("credit:2", 1000),
			{Aggregate: "credit:3", State: shard.State{Version: 2}, Seen: &shard.Seen{}},
			{Aggregate: "credit:4", State: shard.State{Version: 1, Schema: "s", Data: []byte{}, Fold: 1}, Seen: &shard.Seen{}},
		}
		if err := b.Save(ctx, all); err != nil {
			t.Fatal(err)
		}
		for _, want := range all {
			got, err := b.Load(ctx, want.Aggregate)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Seen.Runs) != len(want.Seen.Runs) {
				t.Fatalf("%s: %d runs, want %d", want.Aggregate, len(got.Seen.Runs), len(want.Seen.Runs))
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		}
		if st := b.Stats(); st.Saved != 4 || st.Hits != 4 || st.Misses != 0 {
			t.Errorf("counters are %+v", st)
		}
	})
}

func TestSnapshotRunsAreWrittenOnceAndRemovedWhenMerged(t *testing.T) {
	t.Parallel()
	onRedis(t, func(t *testing.T, b *snapshotBundle) {
		ctx := t.Context()
		save := func(commands int) shard.Snapshot {
			s := sampleSnapshot("credit:1", commands)
			if err := b.Save(ctx, []shard.Snapshot{s}); err != nil {
				t.Fatal(err)
			}
			return s
		}
		first := save(64)
		if len(first.Seen.Runs) != 1 || len(b.keys(t, "r")) != 1 {
			t.Fatalf("%d runs and %d keys, want one of each", len(first.Seen.Runs), len(b.keys(t, "r")))
		}
		// What is known to be there is not written again: a mark in its place stays.
		key := b.runKey("credit:1", first.Seen.Runs[0].Name)
		b.raw.Set(ctx, key, "mark", 0)
		save(70)
		if got := b.raw.Get(ctx, key).Val(); got != "mark" {
			t.Error("a run was written twice")
		}
		last := save(64 * 8)
		if len(last.Seen.Runs) != 1 {
			t.Fatalf("%d runs after 512 commands, want one merged", len(last.Seen.Runs))
		}
		if keys := b.keys(t, "r"); len(keys) != 1 || !strings.HasSuffix(keys[0], last.Seen.Runs[0].Name) {
			t.Errorf("keys of runs are %q, want the merged one alone", keys)
		}
	})
}

// What was flushed, or evicted, behind the store's back is written again with the next
// snapshot that needs it: none names a run that is not there.
func TestSnapshotRunsThatAreGoneAreWrittenAgain(t *testing.T) {
	t.Parallel()
	onRedis(t, func(t *testing.T, b *snapshotBundle) {
		ctx := t.Context()
		other, hot := sampleSnapshot("credit:1", 70), sampleSnapshot("credit:2", 64*3)
		if err := b.Save(ctx, []shard.Snapshot{other, hot}); err != nil {
			t.Fatal(err)
		}
		runs := b.keys(t, "r")
		if len(runs) < 2 {
			t.Fatalf("runs %q", runs)
		}
		b.raw.Del(ctx, runs...)
		other, hot = sampleSnapshot("credit:1", 71), sampleSnapshot("credit:2", 64*3+1)
		if err := b.Save(ctx, []shard.Snapshot{other, hot}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []shard.Snapshot{other, hot} {
			got, err := b.Load(ctx, want.Aggregate)
			if err != nil || got.Head != want.Head {
				t.Errorf("%s: %+v, %v", want.Aggregate, got.Head, err)
			}
		}
		if got := b.keys(t, "r"); len(got) != len(runs) {
			t.Errorf("runs %q, want as before %q", got, runs)
		}
	})
}

func TestSnapshotThatCannotBeUsedIsAMiss(t *testing.T) {
	t.Parallel()
	const a = runtime.AggregateID("credit:1")
	cases := map[string]func(ctx context.Context, b *snapshotBundle, s shard.Snapshot){
		"missing": func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) { b.raw.Del(ctx, b.snapshotKey(a)) },
		"flushed": func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) {
			b.raw.Del(ctx, append(keysOfRuns(b, s), b.snapshotKey(a))...)
		},
		"cut": func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) {
			v := b.raw.Get(ctx, b.snapshotKey(a)).Val()
			b.raw.Set(ctx, b.snapshotKey(a), v[:len(v)/2], 0)
		},
		"empty": func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) {
			b.raw.Set(ctx, b.snapshotKey(a), "", 0)
		},
		"another type": func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) {
			b.raw.Del(ctx, b.snapshotKey(a))
			b.raw.LPush(ctx, b.snapshotKey(a), "x")
		},
		"of another aggregate": func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) {
			b.Save(ctx, []shard.Snapshot{sampleSnapshot("credit:2", 3)})
			b.raw.Set(ctx, b.snapshotKey(a), b.raw.Get(ctx, b.snapshotKey("credit:2")).Val(), 0)
		},
		"by another aggregator": func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) { b.fold.Store(2) },
		"run missing":           func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) { b.raw.Del(ctx, keysOfRuns(b, s)[1]) },
		"run of another": func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) {
			keys := keysOfRuns(b, s)
			b.raw.Set(ctx, keys[0], b.raw.Get(ctx, keys[1]).Val(), 0)
		},
		"run cut": func(ctx context.Context, b *snapshotBundle, s shard.Snapshot) {
			k := keysOfRuns(b, s)[0]
			v := b.raw.Get(ctx, k).Val()
			b.raw.Set(ctx, k, v[:len(v)-3], 0)
		},
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onRedis(t, func(t *testing.T, b *snapshotBundle) {
				ctx := t.Context()
				s := sampleSnapshot(a, 200)
				if err := b.Save(ctx, []shard.Snapshot{s}); err != nil {
					t.Fatal(err)
				}
				spoil(ctx, b, s)
				if got, err := b.Load(ctx, a); !errors.Is(err, ErrSnapshotMiss) {
					t.Fatalf("got %+v, %v; want ErrSnapshotMiss", got, err)
				}
				// What is rebuilt and saved again is whole again, its runs included.
				b.fold.Store(1)
				b.raw.Del(ctx, b.snapshotKey(a)) // the wrong type would stay
				if err := b.Save(ctx, []shard.Snapshot{s}); err != nil {
					t.Fatal(err)
				}
				if _, err := b.Load(ctx, a); err != nil {
					t.Errorf("after it was saved again: %v", err)
				}
			})
		})
	}
}

func keysOfRuns(b *snapshotBundle, s shard.Snapshot) []string {
	var keys []string
	for _, r := range s.Seen.Runs {
		keys = append(keys, b.runKey(s.Aggregate, r.Name))
	}
	return keys
}

func TestSnapshotsOfAnotherInstallationAreNotSeen(t *testing.T) {
	t.Parallel()
	onRedis(t, func(t *testing.T, b *snapshotBundle) {
		if err := b.Save(t.Context(), []shard.Snapshot{sampleSnapshot("credit:1", 3)}); err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*SnapshotSettings){
			"epoch": func(s *SnapshotSettings) { s.Epoch = "2" },
			"topic": func(s *SnapshotSettings) { s.TopicID = func(runtime.AggregateID) string { return "other" } },
		} {
			set := b.set
			change(&set)
			other, err := NewSnapshots(set)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if _, err := other.Load(t.Context(), "credit:1"); !errors.Is(err, ErrSnapshotMiss) {
				t.Errorf("other %s: %v, want a miss", name, err)
			}
			// Not even when its keys are renamed.
			b.raw.Set(t.Context(), other.snapshotKey("credit:1"), b.raw.Get(t.Context(), b.snapshotKey("credit:1")).Val(), 0)
			if _, err := other.Load(t.Context(), "credit:1"); !errors.Is(err, ErrSnapshotMiss) {
				t.Errorf("other %s with a copied value: %v, want a miss", name, err)
			}
		}
	})
}

func TestRedisAwayCostsOneTimeoutNotOneEach(t *testing.T) {
	t.Parallel()
	mini := miniredis.RunT(t)
	b := newSnapshotBundle(t, "redis://"+mini.Addr())
	now := time.Unix(1000, 0)
	b.now = func() time.Time { return now }
	s := []shard.Snapshot{sampleSnapshot("credit:1", 200)}
	if err := b.Save(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	mini.Close()
	asked := 0
	for range 100 {
		if _, err := b.Load(t.Context(), "credit:9"); err == nil {
			t.Fatal("loaded from a Redis that is not there")
		} else if !errors.Is(err, ErrSnapshotsAway) {
			asked++
		}
	}
	if asked != 2 || !b.Away() {
		t.Errorf("%d of 100 loads went to a Redis that is away, want 2", asked)
	}
	eventually(t, "its port is free", func() bool { return mini.Restart() == nil })
	mini.FlushAll()
	now = now.Add(time.Second)
	if err := b.Save(t.Context(), s); err != nil {
		t.Fatalf("it is back: %v", err)
	}
	if _, err := b.Load(t.Context(), "credit:1"); err != nil {
		t.Errorf("it came back empty, so the runs have to be written again: %v", err)
	}
}

func TestRefusedSnapshotIsCountedAndForgotten(t *testing.T) {
	t.Parallel()
	mini := miniredis.RunT(t)
	b := newSnapshotBundle(t, "redis://"+mini.Addr())
	var log bytes.Buffer
	b.Snapshots.set.Logger = slog.New(slog.NewTextHandler(&log, nil))
	mini.SetError("OOM command not allowed when used memory > 'maxmemory'")
	for range 2 {
		if err := b.Save(t.Context(), []shard.Snapshot{sampleSnapshot("credit:1", 200)}); err != nil {
			t.Fatalf("a refusal is no failure: %v", err)
		}
	}
	if st := b.Stats(); st.Refused != 2 || st.Saved != 0 || b.Away() {
		t.Errorf("counters are %+v, away %v", st, b.Away())
	}
	if n := strings.Count(log.String(), "redis refuses snapshots"); n != 1 || !strings.Contains(log.String(), "OOM command") {
		t.Errorf("that it is full is said %d times: %s", n, &log)
	}
	mini.SetError("")
	if err := b.Save(t.Context(), []shard.Snapshot{sampleSnapshot("credit:1", 200)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(t.Context(), "credit:1"); err != nil {
		t.Error(err)
	}
}
