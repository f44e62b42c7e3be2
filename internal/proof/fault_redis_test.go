package proof

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gw "github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// redisFaults are the ways in which Redis is away, or wrong. No client notices
// any of them: what is in memory goes on, what is not is rebuilt from the log.
//
// While each lasts a gateway joins and leaves again. So all partitions change
// hands, and their new owners have nothing but what Redis says.
func redisFaults() []fault {
	with := redisNeeds()
	own := func(tr *trial) *ownRedis { return tr.world.redis.(*ownRedis) }
	list := []fault{{
		name: "redis-killed", does: "Redis is killed, and comes back empty after 15 s",
		inject: func(tr *trial) { own(tr).process.kill(); tr.guestPassesBy() },
		heal:   func(tr *trial) { own(tr).start(tr) },
	}, {
		name: "redis-restarted", does: "Redis is killed, and back at once, empty",
		inject: func(tr *trial) { own(tr).process.kill(); own(tr).start(tr); tr.guestPassesBy() },
	}, {
		name: "redis-flushed", does: "Redis is flushed, and again after 15 s",
		inject: func(tr *trial) { own(tr).flush(tr, ""); tr.guestPassesBy() },
		heal:   func(tr *trial) { own(tr).flush(tr, "") },
	}, {
		name: "redis-silent", does: "Redis takes connections and does not answer",
		inject: func(tr *trial) { signal(tr, own(tr).process, syscall.SIGSTOP); tr.guestPassesBy() },
		heal:   func(tr *trial) { signal(tr, own(tr).process, syscall.SIGCONT) },
	}, {
		name: "redis-slow", does: "Redis answers nothing for 200 ms, again and again",
		inject: func(tr *trial) {
			tr.meanwhile(300*time.Millisecond, func(int) { own(tr).do(tr, "CLIENT", "PAUSE", "200", "ALL") })
			tr.guestPassesBy()
		},
		heal: (*trial).endMeanwhile,
	}, {
		name: "redis-read-only", does: "Redis is a replica that takes no writes",
		inject: func(tr *trial) { own(tr).do(tr, "REPLICAOF", "127.0.0.1", "1"); tr.guestPassesBy() },
		heal: func(tr *trial) {
			tr.awaitRefused()
			own(tr).do(tr, "REPLICAOF", "NO", "ONE")
		},
	}, {
		name: "redis-full", does: "Redis has no memory left, and evicts nothing", ci: true,
		inject: func(tr *trial) {
			own(tr).do(tr, "CONFIG", "SET", "maxmemory-policy", "noeviction")
			own(tr).do(tr, "CONFIG", "SET", "maxmemory", "1")
			tr.guestPassesBy()
		},
		heal: func(tr *trial) {
			tr.awaitRefused()
			own(tr).do(tr, "CONFIG", "SET", "maxmemory", "0")
		},
	}, {
		name: "redis-evicts", does: "Redis has memory for a few values, and evicts the others",
		inject: func(tr *trial) {
			own(tr).do(tr, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
			tr.meanwhile(time.Second, func(int) { own(tr).do(tr, "CONFIG", "SET", "maxmemory", "1200kb") })
			tr.guestPassesBy()
		},
		heal: func(tr *trial) { tr.endMeanwhile(); own(tr).do(tr, "CONFIG", "SET", "maxmemory", "0") },
	}, {
		name: "redis-corrupted", does: "values in Redis are flipped, cut, exchanged, of another aggregate, of the past, of the future or no strings", ci: true,
		inject: func(tr *trial) {
			c := newCorruption(tr, own(tr).sharedRedis)
			tr.meanwhile(20*time.Millisecond, c.spoilSome)
			tr.guestPassesBy()
			tr.guestPassesBy()
		},
		heal: func(tr *trial) {
			tr.endMeanwhile()
			tr.world.redisLies = true
		},
	}}
	stale := fault{
		name: "redis-stale-replica", does: "Redis fails over to a replica that has heard nothing for 15 s",
		inject: func(tr *trial) {
			r := tr.world.redis.(*replicatedRedis)
			r.part(tr)
			pause(15 * time.Second) // the primary goes on alone
			r.failOver(tr)
			tr.guestPassesBy()
		},
	}
	for i := range list {
		list[i].needs, list[i].lasts = with, 15*time.Second
		if list[i].ci {
			list[i].lasts = 5 * time.Second
		}
	}
	stale.needs, stale.lasts = with, 5*time.Second
	stale.needs.prepare = func(_ *trial, s *setup) {
		s.redis = func(t testing.TB) redisServer { return startReplicatedRedis(t) }
	}
	return append(list, stale)
}

// redisNeeds are a third gateway, which the load does not know, and a second look
// at everything by gateways that have just begun.
func redisNeeds() needs {
	return needs{
		ground:   oneBroker,
		gateways: 3,
		ready: func(tr *trial) {
			tr.guest().now().terminate(tr)
			tr.world.gateways = tr.world.gateways[:2]
			tr.world.awaitAllOwned(tr)
		},
		check: func(tr *trial, e evidence) {
			for i := range tr.world.gateways {
				tr.gateway(i).now().kill()
				tr.restart(i)
			}
			tr.world.awaitAllOwned(tr)
			tr.world.checkAPI(tr, e)
			tr.world.checkSnapshots(tr, e)
		},
	}
}

// guest is the gateway that no client knows.
func (tr *trial) guest() *gateway { return tr.world.gateways[:3][2] }

// guestPassesBy has the guest own some partitions, and leave again.
func (tr *trial) guestPassesBy() {
	tr.guest().start(tr)
	tr.guest().awaitReady(tr)
	tr.world.awaitServed(tr, append([]*gateway{tr.guest()}, tr.world.gateways...))
	tr.guest().now().terminate(tr)
	tr.world.awaitAllOwned(tr)
}

// awaitServed waits until all partitions are owned by these gateways, each of which has some.
func (w *world) awaitServed(t testing.TB, by []*gateway) {
	t.Helper()
	wait(t, func() error {
		for _, g := range by {
			if n, err := g.metric("evento_partitions"); err != nil || n == 0 {
				return fmt.Errorf("%s owns %v partitions: %v", g.name, n, err)
			}
		}
		return w.allOwned(by...)
	})
}

// awaitRefused waits until a gateway tells its operator that Redis takes nothing.
func (tr *trial) awaitRefused() {
	tr.Helper()
	wait(tr, func() error {
		for _, g := range tr.world.gateways {
			n, err := g.metric("evento_snapshots_refused_total")
			if err != nil {
				return fatal(err)
			}
			if n == 0 || len(g.now().said(0, "redis refuses")) == 0 {
				return fmt.Errorf("%s: %v snapshots were refused, and nothing is said about it", g.name, n)
			}
		}
		return nil
	})
}

// meanwhile does something again and again until endMeanwhile, or the trial's end.
func (tr *trial) meanwhile(every time.Duration, do func(round int)) {
	stop := make(chan struct{})
	var over sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); over.Wait() })
	over.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for round := 0; ; round++ {
			do(round)
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	tr.Cleanup(end)
	tr.stopMeanwhile = end
}

func (tr *trial) endMeanwhile() { tr.stopMeanwhile() }

// do gives Redis a command. That it fails is a failure of the test, but not the end of it.
func (r *sharedRedis) do(t testing.TB, words ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.client.Do(ctx, words...).Err(); err != nil {
		t.Errorf("redis: %v: %v", words, err)
	}
}

// corruption spoils snapshots, and the runs of command ids beside them.
type corruption struct {
	tr     *trial
	redis  *sharedRedis
	random *rand.Rand
	old    map[string]string // first values that were seen, by key
	last   string            // the key before
	ways   map[string]int
}

func newCorruption(tr *trial, r *sharedRedis) *corruption {
	c := &corruption{tr: tr, redis: r, random: rand.New(rand.NewPCG(tr.seed, 77)), old: map[string]string{}, ways: map[string]int{}}
	tr.Cleanup(func() { tr.Logf("values in Redis that were spoilt: %v", c.ways) })
	return c
}

// spoilSome spoils a few values.
func (c *corruption) spoilSome(int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	keys, _, err := c.redis.client.Scan(ctx, 0, "evento:*"+c.tr.world.run+"*", 10_000).Result()
	if err != nil {
		c.tr.Error(err)
		return
	}
	for range min(5, len(keys)) {
		key := keys[c.random.IntN(len(keys))]
		value, err := c.redis.client.Get(ctx, key).Result()
		if err != nil || value == "" {
			continue // gone since, or spoilt already
		}
		if _, seen := c.old[key]; !seen {
			c.old[key] = value
		}
		c.spoil(ctx, key, value)
		c.last = key
	}
}

func (c *corruption) spoil(ctx context.Context, key, value string) {
	set := func(key, value string) {
		if err := c.redis.client.Set(ctx, key, value, 0).Err(); err != nil {
			c.tr.Error(err)
		}
	}
	at := c.random.IntN(len(value))
	ways := []string{"flipped", "cut", "longer", "of the past", "exchanged", "of another", "of the future", "no string"}
	way := ways[c.random.IntN(len(ways))]
	switch way {
	case "flipped":
		set(key, value[:at]+string(value[at]^(1<<c.random.IntN(8)))+value[at+1:])
	case "cut":
		set(key, value[:at])
	case "longer":
		set(key, value+value[at:])
	case "of the past":
		set(key, c.old[key])
	case "exchanged":
		if other, err := c.redis.client.Get(ctx, c.last).Result(); err == nil {
			set(key, other)
			set(c.last, value)
		}
	case "of another":
		if other, err := c.redis.client.Get(ctx, c.last).Result(); err == nil {
			set(key, other)
		}
	case "of the future":
		if !c.future(ctx, key) {
			return
		}
	case "no string":
		if c.random.IntN(10) > 0 {
			return // it stays until it is deleted: not too many
		}
		c.redis.do(c.tr, "DEL", key)
		c.redis.do(c.tr, "LPUSH", key, "x")
	}
	c.ways[way]++
}

// future writes a snapshot, whole and with its checksum, that is ahead of the log:
// its state is one that never was.
func (c *corruption) future(ctx context.Context, key string) bool {
	store, id, ok := openSnapshots(c.tr, c.tr.world, key)
	if !ok {
		return false
	}
	defer store.Close()
	s, err := store.Load(ctx, id)
	if err != nil {
		return false // spoilt already
	}
	s.Head.Version += 3
	s.Head.Offset += int64(1 + c.random.IntN(1000))
	s.State.Version = s.Head.Version
	s.State.Data = bytes.Clone(s.State.Data)
	if n := len(s.State.Data); n > 0 { // not one of which nothing but refusals is known
		s.State.Data[n-1] ^= 1
	}
	return store.Save(ctx, []shard.Snapshot{s}) == nil
}

// openSnapshots opens the store that a snapshot's key belongs to.
func openSnapshots(t testing.TB, w *world, key string) (*gw.Snapshots, runtime.AggregateID, bool) {
	t.Helper()
	parts := strings.SplitN(key, ":", 6) // evento, cluster, topic, epoch, "s", {aggregate}
	if len(parts) != 6 || parts[4] != "s" || !strings.Contains(parts[5], w.run) {
		return nil, "", false
	}
	store, err := gw.NewSnapshots(gw.SnapshotSettings{
		URL: "redis://" + w.redis.address(), Cluster: parts[1], Epoch: parts[3],
		TopicID: func(runtime.AggregateID) string { return parts[2] },
		Fold:    func(runtime.AggregateID) (int, bool) { return 0, false },
		Logger:  slog.New(slog.NewTextHandler(io.Discard, nil)), Timeout: patience,
	})
	if err != nil {
		t.Error(err)
		return nil, "", false
	}
	return store, runtime.AggregateID(strings.Trim(parts[5], "{}")), true
}

// replicatedRedis is a primary and a replica behind one address, as a service has it.
type replicatedRedis struct {
	*ownRedis // the one that is behind the address now
	replica   *ownRedis
	listener  net.Listener

	mu    sync.Mutex // guards what follows
	to    string
	conns map[net.Conn]bool
}

func startReplicatedRedis(t testing.TB) *replicatedRedis {
	t.Helper()
	r := &replicatedRedis{ownRedis: startRealRedis(t), replica: startRealRedis(t), conns: map[net.Conn]bool{}}
	host, port, _ := strings.Cut(r.ownRedis.addr, ":")
	r.replica.do(t, "REPLICAOF", host, port)
	wait(t, func() error {
		info, err := r.replica.client.Info(redisContext(t), "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = fmt.Errorf("the replica is not in sync: %s", info)
		}
		return err
	})
	r.to = r.ownRedis.addr
	var err error
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	go r.serve()
	t.Cleanup(func() { r.listener.Close() })
	return r
}

func (r *replicatedRedis) address() string { return r.listener.Addr().String() }

// part lets the replica hear nothing more.
func (r *replicatedRedis) part(t testing.TB) { r.replica.do(t, "REPLICAOF", "NO", "ONE") }

// failOver puts the replica in the primary's place. Connections end; nobody is told why.
func (r *replicatedRedis) failOver(t testing.TB) {
	t.Helper()
	r.ownRedis.process.kill()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ownRedis, r.to = r.replica, r.replica.addr
	for c := range r.conns {
		c.Close()
	}
}

// serve passes bytes on until the listener is closed.
func (r *replicatedRedis) serve() {
	for {
		from, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		to, err := net.Dial("tcp", r.to)
		if err != nil {
			from.Close()
			r.mu.Unlock()
			continue
		}
		r.conns[from], r.conns[to] = true, true
		r.mu.Unlock()
		pass := func(a, b net.Conn) {
			io.Copy(a, b)
			a.Close()
			b.Close()
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.conns, a)
			delete(r.conns, b)
		}
		go pass(from, to)
		go pass(to, from)
	}
}
