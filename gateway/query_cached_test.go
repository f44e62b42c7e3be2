package gateway

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

func TestWhatAgeAReaderTakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header  []string
		version uint64
		want    string // what is enough of version 7, recorded 60 s ago
	}{
		{nil, 0, "owner"},
		{[]string{"max-age=0"}, 0, "owner"},
		{[]string{"max-stale"}, 0, "cached"},
		{[]string{"no-transform, Max-Stale"}, 0, "cached"},
		{[]string{"max-stale=60"}, 0, "cached"},
		{[]string{`max-stale="60"`}, 0, "cached"},
		{[]string{"max-stale=59"}, 0, "too old"},
		{[]string{"max-stale=60", "max-stale=1"}, 0, "too old"},
		{[]string{"max-stale=-1"}, 0, "owner"},
		{[]string{"max-stale=soon"}, 7, "owner"},
		{nil, 7, "cached"},
		{nil, 8, "too old"},
		{[]string{"max-stale"}, 8, "too old"},
		{[]string{"max-stale=10"}, 7, "too old"},
		{[]string{"no-cache"}, 7, "owner"},
		{[]string{"max-stale", "no-cache"}, 0, "owner"},
	} {
		got := "owner"
		if need, allowed := parseStaleness(c.header, c.version); allowed {
			if got = "too old"; need.enough(testTime.Add(time.Minute), 7, testTime) {
				got = "cached"
			}
		}
		if got != c.want {
			t.Errorf("Cache-Control %q, min-version %d: %s, want %s", c.header, c.version, got, c.want)
		}
	}
}

// What a snapshot does not show may have come since.
func TestAnEntityThatASnapshotLacksIsAskedOfTheOwner(t *testing.T) {
	t.Parallel()
	asked, owner := newHTTPBench(t, withSecret), newHTTPBench(t, withSecret)
	asked.server.now = func() time.Time { return testTime.Add(90 * time.Second) }
	asked.reader.self, asked.reader.owner = false, owner.internal.Listener.Addr().String()
	asked.reader.cached = stateOf(6, "CreditAccount.CreditAccount", `{"cards":[{"id":"1"}]}`)
	owner.reader.state = stateOf(7, "CreditAccount.CreditAccount", `{"cards":[{"id":"1"},{"id":"2"}]}`)
	const any = "Cache-Control: max-stale"
	a := asked.call("GET", "/v1/aggregates/credit:77%2Fcard:1", "", any).wantStatus(t, 200).wantMember(t, "version", 6)
	if a.header.Get(headerServedBy) != servedBySnapshot || a.header.Get("Age") != "90" {
		t.Errorf("the snapshot is answered with %v", a.header)
	}
	a = asked.call("GET", "/v1/aggregates/credit:77%2Fcard:2", "", any).wantStatus(t, 200).wantMember(t, "version", 7)
	if a.header.Get(headerServedBy) != "" || a.header.Get("Age") != "" {
		t.Errorf("the owner's answer has %v", a.header)
	}
	asked.call("GET", "/v1/aggregates/credit:77%2Fcard:3", "", any).wantProblem(t, problemNoEntity)
	if n := asked.counter("evento_cached_reads_total", "too-old"); n != 2 {
		t.Errorf("%v reads found too old a snapshot, want 2", n)
	}
}

// cachedWorld is two gateways on one cluster and one Redis.
type cachedWorld struct {
	*engineWorld
	redis        *miniredis.Miniredis
	owner, other *cachedGateway
}

type cachedGateway struct {
	*httpBench
	*runningEngine
	snapshots *Snapshots
	saves     *SnapshotWriter
}

func newCachedWorld(t *testing.T) *cachedWorld {
	t.Helper()
	w := &cachedWorld{engineWorld: newEngineWorld(t, 2), redis: miniredis.RunT(t)}
	w.owner, w.other = w.gateway(t), w.gateway(t)
	eventually(t, "each gateway has one of two partitions", func() bool {
		return len(w.owner.list()) == 1 && len(w.other.list()) == 1
	})
	if w.owner.part(bankAccount) == nil {
		w.owner, w.other = w.other, w.owner
	}
	if o := w.owner.runningEngine.send(w.open(t, bankAccount)); o.Version != 1 {
		t.Fatalf("opened: %+v", o)
	}
	return w
}

func (w *cachedWorld) gateway(t *testing.T) *cachedGateway {
	t.Helper()
	g := &cachedGateway{httpBench: newHTTPBench(t, withSecret)}
	ids := topicIDs{admin: w.admin, ids: map[string]string{}}
	var err error
	g.snapshots, err = NewSnapshots(SnapshotSettings{
		URL: "redis://" + w.redis.Addr(), Cluster: "c", Epoch: "1", Logger: w.log, Timeout: time.Minute,
		TopicID: func(runtime.AggregateID) string { return ids.get(w.topics.Events("CheckingAccount")) },
		Fold:    func(runtime.AggregateID) (int, bool) { return w.KnownFold("CheckingAccount") },
	})
	if err != nil {
		t.Fatal(err)
	}
	g.saves = NewSnapshotWriter(g.snapshots.Save, w.log)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); g.saves.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done; g.snapshots.Close() })
	g.runningEngine = w.start(2, func(c *EngineConfig) {
		c.Group.Address = g.internal.Listener.Addr().String()
		c.Snapshots, c.Saves = g.snapshots, g.saves
	})
	g.server.cached = time.Minute // the owner is asked when the snapshot will not do, not when the machine is slow
	g.server.need.Reader, g.server.need.Schemas = g.Engine, CatalogueSchemas{w.functionWorld.schemas}
	return g
}

// deposited makes deposits up to a version and waits until Redis has it.
func (w *cachedWorld) deposited(t *testing.T, version int) {
	t.Helper()
	o := w.owner.runningEngine.send(w.deposit(t, bankAccount, fmt.Sprintf("d%d", version), 100))
	if o.Version != uint64(version) {
		t.Fatalf("a deposit: %+v, want version %d", o, version)
	}
	eventually(t, "redis has the version", func() bool {
		s, err := w.owner.snapshots.Peek(patience(t), bankAccount)
		return err == nil && s.Head.Version == uint64(version)
	})
}

// state reads the account at the gateway that does not own it, and says who answered.
func (w *cachedWorld) state(t *testing.T, query string, headers ...string) (a answer, by string) {
	t.Helper()
	proxied := func() float64 { return w.other.counter("evento_owner_proxied_total", "answered") }
	before := proxied()
	a = w.other.call("GET", "/v1/aggregates/"+string(bankAccount)+query, "", headers...)
	switch passed, served := proxied() != before, a.header.Get(headerServedBy); {
	case passed && served == "":
		return a, "owner"
	case !passed && served == servedBySnapshot:
		return a, "snapshot"
	}
	t.Fatalf("passed on and served by %q: %v %s", a.header.Get(headerServedBy), a.header, a.body)
	return
}

func (w *cachedWorld) want(t *testing.T, by string, version int, query string, headers ...string) answer {
	t.Helper()
	a, got := w.state(t, query, headers...)
	a.wantStatus(t, 200).wantMember(t, "version", version)
	if got != by {
		t.Errorf("%q %q: answered by the %s, want the %s", query, headers, got, by)
	}
	return a
}

// neighbour is another account of the same partition.
func neighbour(id runtime.AggregateID) runtime.AggregateID {
	for i := 2; ; i++ {
		other := runtime.AggregateID(fmt.Sprintf("checking:%d", i))
		if kafka.Partition(string(other), 2) == kafka.Partition(string(id), 2) {
			return other
		}
	}
}

const anyAge = "Cache-Control: max-stale"

func TestAnyGatewayAnswersAStateThatMayBeOlder(t *testing.T) {
	t.Parallel()
	w := newCachedWorld(t)
	w.deposited(t, 2)
	a := w.want(t, "snapshot", 2, "?min-version=2")
	if age, err := strconv.Atoi(a.header.Get("Age")); err != nil || age < 0 || a.header.Get("Etag") != `"2"` {
		t.Errorf("answered with %v", a.header)
	}
	w.want(t, "snapshot", 2, "", anyAge)
	w.want(t, "snapshot", 2, "", "Cache-Control: max-stale=86400")
	w.want(t, "owner", 2, "", "Cache-Control: max-stale=0")
	w.want(t, "owner", 2, "")
	w.want(t, "owner", 2, "?min-version=2", "Cache-Control: no-cache")
	if a, by := w.state(t, "?min-version=1", `If-None-Match: "2"`); a.status != 304 || by != "snapshot" {
		t.Errorf("%d by the %s, want 304 by the snapshot", a.status, by)
	}
	w.want(t, "snapshot", 2, "?min-version=2", `If-None-Match: "1"`)
	if a, by := w.state(t, "?min-version=2", "Accept: application/avro"); a.status != 200 || by != "snapshot" || a.header.Get(headerDataSchema) == "" {
		t.Errorf("as Avro: %d by the %s, %v", a.status, by, a.header)
	}
	// At the owner nothing is older than memory.
	if a := w.owner.call("GET", "/v1/aggregates/"+string(bankAccount), "", anyAge).wantStatus(t, 200); a.header.Get(headerServedBy) != "" {
		t.Error("the owner answers from its snapshot")
	}
	// That something is not there is said by the owner.
	w.other.call("GET", "/v1/aggregates/checking:9", "", anyAge).wantProblem(t, problemNoAggregate)

	w.owner.internal.Close()
	w.other.call("GET", "/v1/aggregates/"+string(bankAccount), "").wantProblem(t, problemOwnerUnreachable)
	w.want(t, "snapshot", 2, "?min-version=2")
	w.want(t, "snapshot", 2, "", anyAge)
}

func TestASnapshotThatWillNotDoIsAskedOfTheOwner(t *testing.T) {
	t.Parallel()
	w := newCachedWorld(t)
	w.deposited(t, 2)
	key := w.other.snapshots.snapshotKey(bankAccount)
	old, err := w.redis.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	w.deposited(t, 3)
	whole, err := w.other.snapshots.Peek(patience(t), bankAccount)
	if err != nil {
		t.Fatal(err)
	}
	w.want(t, "snapshot", 3, "?min-version=3")

	// An old copy of Redis.
	w.redis.Set(key, old)
	w.want(t, "owner", 3, "?min-version=3")
	w.want(t, "snapshot", 2, "", anyAge)

	for what, change := range map[string]func(*shard.Snapshot){
		"ahead of the log": func(s *shard.Snapshot) { s.Head.Offset, s.Head.Version, s.State.Version = s.Head.Offset+1000, 9, 9 },
		"of another past": func(s *shard.Snapshot) {
			s.Head.Command = runtime.NewCommandKey("/s", bankAccount, "never recorded")
		},
		"of another version":      func(s *shard.Snapshot) { s.Head.Version, s.State.Version = 8, 8 },
		"with a state of another": func(s *shard.Snapshot) { s.State.Version++ },
		"without a state":         func(s *shard.Snapshot) { s.State.Data = nil },
		"by another aggregator":   func(s *shard.Snapshot) { s.State.Fold++ },
		"of an unregistered schema": func(s *shard.Snapshot) {
			s.State.Schema = "urn:evento:avro:CheckingAccount.CheckingAccount:0000000000000000"
		},
	} {
		s := whole
		change(&s)
		if err := w.other.snapshots.Save(patience(t), []shard.Snapshot{s}); err != nil {
			t.Fatal(err)
		}
		if _, by := w.state(t, "?min-version=3"); by != "owner" {
			t.Errorf("a snapshot %s is answered", what)
		}
		w.want(t, "owner", 3, "", anyAge)
	}

	bad := []byte(old)
	bad[len(bad)/2] ^= 1
	w.redis.Set(key, string(bad))
	w.want(t, "owner", 3, "", anyAge)
	w.redis.FlushAll()
	w.want(t, "owner", 3, "", anyAge)
	w.redis.SetError("LOADING Redis is loading the dataset in memory")
	w.want(t, "owner", 3, "", anyAge)
}

// A log that was set back behind its cache has other records where the
// snapshot's were.
func TestASnapshotIsProvenByTheLog(t *testing.T) {
	t.Parallel()
	w := newCachedWorld(t)
	w.deposited(t, 2)
	s, err := w.other.snapshots.Peek(patience(t), bankAccount)
	if err != nil {
		t.Fatal(err)
	}
	prove := func(id runtime.AggregateID, head shard.Head) error {
		return w.other.prove(patience(t), id, w.topics.Events("CheckingAccount"), head)
	}
	if err := prove(bankAccount, s.Head); err != nil {
		t.Error(err)
	}
	if prove(neighbour(bankAccount), s.Head) == nil {
		t.Error("it proves another aggregate's")
	}
	head := s.Head
	head.Pos++
	if prove(bankAccount, head) == nil {
		t.Error("another event of the same command is proven")
	}
}
