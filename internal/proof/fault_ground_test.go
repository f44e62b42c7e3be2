package proof

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// ground is what trials share because it takes long to start: brokers. A trial that
// fails takes its ground with it, and the next one begins on a new one.
type ground struct {
	brokers *brokers
	servers string // bootstrap servers of the gateways, separated by commas
	close   func() // what there is beside the brokers; may be nil
}

const (
	oneBroker    = "1 broker"
	threeBrokers = "3 brokers" // three replicas, two of them in sync
)

// grounds makes each kind of ground. Its processes end with the test that it is given.
var grounds = map[string]func(testing.TB) *ground{
	oneBroker:    func(t testing.TB) *ground { return newGround(t, 1) },
	threeBrokers: func(t testing.TB) *ground { return newGround(t, 3) },
}

func newGround(t testing.TB, n int) *ground {
	b := startBrokers(t, n)
	return &ground{brokers: b, servers: strings.Join(b.kafka.Servers, ",")}
}

// campaign is one run of many trials.
type campaign struct {
	t      *testing.T // outlives the trials
	report *faultReport
	name   string // of the ground that is up
	ground *ground
	holder *holder // of it
}

// holder is the test that a ground belongs to, the campaign's, for as long as a
// trial uses it: what lasts is of the campaign, and what cannot go on ends the trial,
// in whose goroutine it is.
type holder struct {
	testing.TB // the campaign's
	trial      testing.TB
}

func (h *holder) FailNow()          { h.trial.Helper(); h.trial.FailNow() }
func (h *holder) Fatal(args ...any) { h.trial.Helper(); h.trial.Fatal(args...) }
func (h *holder) Fatalf(format string, args ...any) {
	h.trial.Helper()
	h.trial.Fatalf(format, args...)
}
func (h *holder) SkipNow()                         { h.trial.Helper(); h.trial.SkipNow() }
func (h *holder) Skip(args ...any)                 { h.trial.Helper(); h.trial.Skip(args...) }
func (h *holder) Skipf(format string, args ...any) { h.trial.Helper(); h.trial.Skipf(format, args...) }

// on gives a trial the ground of a name. The one before it, of another name, is gone then.
func (c *campaign) on(name string, trial testing.TB) *ground {
	if c.ground != nil && c.name != name {
		c.drop()
	}
	if c.ground == nil {
		c.holder = &holder{TB: c.t, trial: trial}
		c.name, c.ground = name, grounds[name](c.holder)
	}
	c.holder.trial = trial
	return c.ground
}

// drop ends a ground's processes.
func (c *campaign) drop() {
	if c.ground == nil {
		return
	}
	if c.ground.close != nil {
		c.ground.close()
	}
	for _, p := range c.ground.brokers.list {
		p.kill()
	}
	c.ground = nil
}

// kafka is the ground's Kafka for one trial, with topics of its own.
func (g *ground) kafka(t testing.TB) *kafkatest.Kafka {
	t.Setenv(kafkatest.Env, g.servers)
	return kafkatest.Start(t)
}

// clear deletes the topics of a trial: brokers that start again read them all.
func (g *ground) clear(t testing.TB, prefix string) {
	g.brokers.admin(t, func(ctx context.Context, a *kadm.Client) error {
		topics, err := a.ListTopics(ctx)
		if err != nil {
			return err
		}
		var own []string
		for _, topic := range topics.Names() {
			if strings.HasPrefix(topic, prefix) {
				own = append(own, topic)
			}
		}
		if len(own) == 0 {
			return nil
		}
		answers, err := a.DeleteTopics(ctx, own...)
		if err == nil {
			err = answers.Error()
		}
		if err != nil {
			return fmt.Errorf("topics of %s: %w", prefix, err)
		}
		return nil
	})
}
