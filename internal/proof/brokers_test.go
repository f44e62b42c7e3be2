package proof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// brokers are an Apache Kafka of the test's own, which it may treat as it likes.
// A broker that is killed and started again has its data and its port.
type brokers struct {
	t     testing.TB // whose they are; who starts one again may be a part of it
	dir   string
	list  []*process
	kafka *kafkatest.Kafka
}

// startBrokers starts brokers of the test's own. Where the environment names no
// real Kafka the test is skipped: the embedded one has no data to come back to,
// and none of a broker's ways to be away.
func startBrokers(t testing.TB, n int) *brokers {
	t.Helper()
	return startBrokersIn(t, t.TempDir(), n)
}

// startBrokersIn is startBrokers with all data in this folder.
func startBrokersIn(t testing.TB, dir string, n int) *brokers {
	t.Helper()
	if os.Getenv(kafkatest.Env) == "" && !*flagFaults {
		t.Skipf("needs brokers of Apache Kafka that it can stop; run it with scripts/with-real")
	}
	b := &brokers{t: t, dir: dir, list: make([]*process, n)}
	script, err := filepath.Abs(filepath.Join(root, "scripts/make-brokers"))
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if out, err := exec.Command(script, b.dir, fmt.Sprint(n)).CombinedOutput(); errors.As(err, &exit) && exit.ExitCode() == 69 {
		t.Skipf("brokers of our own cannot be made here: %s", out)
	} else if err != nil {
		t.Fatalf("make-brokers: %v\n%s", err, out)
	}
	for i := range b.list {
		b.start(t, i)
	}
	for i := range b.list {
		b.awaitReady(t, i)
	}
	servers, err := os.ReadFile(filepath.Join(b.dir, "servers"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(kafkatest.Env, strings.TrimSpace(string(servers)))
	b.kafka = kafkatest.Start(t)
	return b
}

func (b *brokers) start(t testing.TB, i int) {
	t.Helper()
	name := fmt.Sprintf("broker-%d", i+1)
	b.list[i] = start(b.t, name, filepath.Join(b.dir, name), nil)
}

func (b *brokers) awaitReady(t testing.TB, i int) {
	t.Helper()
	b.list[i].awaitLineFor(t, 4*patience, "Kafka Server started") // it takes much of a processor
}

// admin asks the cluster something, again until it is answered.
func (b *brokers) admin(t testing.TB, ask func(context.Context, *kadm.Client) error) {
	t.Helper()
	client, err := kgo.NewClient(b.kafka.Opts()...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	wait(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience/3)
		defer cancel()
		return ask(ctx, kadm.NewClient(client))
	})
}

// coordinator is the broker that coordinates a group.
func (b *brokers) coordinator(t testing.TB, group string) (i int) {
	t.Helper()
	b.admin(t, func(ctx context.Context, a *kadm.Client) error {
		found := a.FindGroupCoordinators(ctx, group)
		if err := found.Error(); err != nil {
			return err
		}
		i = int(found[group].NodeID) - 1
		return nil
	})
	return i
}

// leader is the broker that leads most partitions of topics that contain part.
func (b *brokers) leader(t testing.TB, part string) (i int) {
	t.Helper()
	b.admin(t, func(ctx context.Context, a *kadm.Client) error {
		leads := make([]int, len(b.list))
		err := b.partitions(ctx, a, part, func(p kadm.PartitionDetail) error {
			if p.Leader < 1 || int(p.Leader) > len(leads) {
				return fmt.Errorf("%s/%d has no leader", p.Topic, p.Partition)
			}
			leads[p.Leader-1]++
			return nil
		})
		i = slices.Index(leads, slices.Max(leads))
		return err
	})
	return i
}

// awaitInSync waits until all replicas of all partitions, the platform's and
// Kafka's own, are in sync: only then the cluster can lose a broker again.
func (b *brokers) awaitInSync(t testing.TB) {
	t.Helper()
	b.admin(t, func(ctx context.Context, a *kadm.Client) error {
		return b.partitions(ctx, a, "", func(p kadm.PartitionDetail) error {
			if len(p.ISR) < len(p.Replicas) || len(p.Replicas) < len(b.list) {
				return fmt.Errorf("%s/%d: in sync are %v of %v", p.Topic, p.Partition, p.ISR, p.Replicas)
			}
			return nil
		})
	})
}

func (b *brokers) partitions(ctx context.Context, a *kadm.Client, part string, do func(kadm.PartitionDetail) error) error {
	topics, err := a.ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	some := false
	for _, topic := range topics {
		if !strings.Contains(topic.Topic, part) {
			continue
		}
		for _, p := range topic.Partitions {
			some = true
			if err := do(p); err != nil {
				return err
			}
		}
	}
	if !some {
		return errors.New("there are no such partitions")
	}
	return nil
}
