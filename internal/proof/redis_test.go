package proof

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evento-oss/evento/internal/dev"
	"github.com/evento-oss/evento/internal/porttest"
)

// redisEnv names a real Redis, host:port.
const redisEnv = "EVENTO_TEST_REDIS"

// redisServer is the Redis of a test.
type redisServer interface {
	address() string
	// keys are those that contain part.
	keys(t testing.TB, part string) []string
	// flush loses all that contain part.
	flush(t testing.TB, part string)
	// remember copies what contains part; putBack replaces what is there by the copy.
	remember(t testing.TB, part string)
	putBack(t testing.TB, part string)
}

// startRedis gives the test the Redis that the environment names, or an embedded one.
func startRedis(t testing.TB) redisServer {
	t.Helper()
	address := os.Getenv(redisEnv)
	if address == "" {
		embedded, err := dev.StartRedis(0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(embedded.Close)
		address = embedded.Addr()
	}
	return newSharedRedis(t, address)
}

// sharedRedis is a server that may belong to others too: the test touches its own keys alone.
type sharedRedis struct {
	client *redis.Client
	addr   string
	copies map[string]string
}

func newSharedRedis(t testing.TB, address string) *sharedRedis {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: address, Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { client.Close() })
	return &sharedRedis{client: client, addr: address}
}

func redisContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (r *sharedRedis) address() string { return r.addr }

func (r *sharedRedis) keys(t testing.TB, part string) []string {
	t.Helper()
	ctx := redisContext(t)
	var all []string
	for it := r.client.Scan(ctx, 0, "evento:*"+part+"*", 1000).Iterator(); ; {
		if !it.Next(ctx) {
			if it.Err() != nil {
				t.Fatal(it.Err())
			}
			return all
		}
		all = append(all, it.Val())
	}
}

func (r *sharedRedis) flush(t testing.TB, part string) {
	t.Helper()
	if keys := r.keys(t, part); len(keys) > 0 {
		if err := r.client.Del(redisContext(t), keys...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *sharedRedis) remember(t testing.TB, part string) {
	t.Helper()
	r.copies = map[string]string{}
	for _, key := range r.keys(t, part) {
		value, err := r.client.Get(redisContext(t), key).Result()
		if err != nil && !errors.Is(err, redis.Nil) { // gone since
			t.Fatal(err)
		}
		r.copies[key] = value
	}
}

func (r *sharedRedis) putBack(t testing.TB, part string) {
	t.Helper()
	r.flush(t, part)
	ctx := redisContext(t)
	if _, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for key, value := range r.copies {
			p.Set(ctx, key, value, 0)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// ownRedis is a redis-server process that can be stopped and started on an old file.
type ownRedis struct {
	*sharedRedis
	dir     string
	program string
	process *process
}

// startOwnRedis starts a redis-server where the tests run on real servers and
// there is the program; otherwise it gives what startRedis gives.
func startOwnRedis(t testing.TB) redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); os.Getenv(redisEnv) == "" || err != nil {
		return startRedis(t)
	}
	return startRealRedis(t)
}

// startRealRedis starts a redis-server, and skips the test where there is none.
func startRealRedis(t testing.TB) *ownRedis {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("needs redis-server, which is not on this machine")
	}
	address := porttest.Free(t)
	r := &ownRedis{dir: t.TempDir(), program: program}
	r.sharedRedis = newSharedRedis(t, address)
	r.start(t)
	return r
}

func (r *ownRedis) start(t testing.TB) {
	t.Helper()
	_, port, _ := strings.Cut(r.addr, ":")
	r.process = start(t, "redis", r.program, nil, "--bind", "127.0.0.1", "--port", port, "--dir", r.dir, "--save", "", "--appendonly", "no")
	r.process.awaitLine(t, "Ready to accept connections")
}

func (r *ownRedis) flush(t testing.TB, _ string) {
	t.Helper()
	if err := r.client.FlushAll(redisContext(t)).Err(); err != nil {
		t.Fatal(err)
	}
}

func (r *ownRedis) remember(t testing.TB, _ string) {
	t.Helper()
	if err := r.client.Save(redisContext(t)).Err(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(r.dir, "dump.rdb"), filepath.Join(r.dir, "copy.rdb")); err != nil {
		t.Fatal(err)
	}
}

// putBack kills the server and starts it on the copy: what a fail-over to an old
// replica looks like, with connections lost and a time without Redis.
func (r *ownRedis) putBack(t testing.TB, _ string) {
	t.Helper()
	r.process.kill()
	text, err := os.ReadFile(filepath.Join(r.dir, "copy.rdb"))
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, "dump.rdb"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.start(t)
	wait(t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return r.client.Ping(ctx).Err()
	})
}
