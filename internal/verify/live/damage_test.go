package live

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

const one runtime.AggregateID = "acc:1"

// honest is an installation in which all went well, and work is under way: a command
// without outcome, one set aside, a decision whose command is not sent, an outcome
// that the position does not know of yet.
func honest(t *testing.T) (*site, sent) {
	t.Helper()
	s := newSite(t)
	two := other(one)
	c := s.do(one, "a", "b", "c")
	_, command := s.decision(one, two)
	mirrored := s.relay(command)
	s.outcome(mirrored, 1, 1, nil)
	s.settle(mirrored)
	s.heads(one, nil)
	s.snapshot(one, nil)
	c = s.command("two events", one)
	s.outcome(c, 1, 2, nil)
	s.outcome(c, 2, 2, nil)
	parked := s.command("parked", one)
	s.outcome(parked, 1, 1, func(m *runtime.Message) {
		m.Type, m.Sequence = runtime.TypeCommandParked, 0
		m.Schema, m.Data = avro.CommandParked{Reason: "r", Attempts: 3}.Encode()
	})
	s.aside(parked.at, &shard.Aside{Aggregate: one, State: shard.ParkedS, Ended: &shard.Ended{}})
	waiting := s.command("waits", neighbour(one))
	s.aside(waiting.at, &shard.Aside{Aggregate: waiting.m.Aggregate(), State: shard.Held})
	last := s.do(one, "last")
	s.settle(last)
	s.commitAs(s.config.RelayGroup(s.topics), s.topics.Dispatched(), home(one), 1, "")
	s.decision(one, two) // not sent yet
	s.command("under way", one)
	s.do(two, "not committed yet")
	s.snapshot(two, nil)
	return s, last
}

// neighbour is another aggregate of the same partition.
func neighbour(id runtime.AggregateID) runtime.AggregateID {
	for i := 0; ; i++ {
		if n := runtime.AggregateID(fmt.Sprintf("acc:next-%d", i)); home(n) == home(id) {
			return n
		}
	}
}

func TestHonestInstallationIsGreen(t *testing.T) {
	t.Parallel()
	s, _ := honest(t)
	s.config.State = func(_ context.Context, id runtime.AggregateID) (State, error) {
		return State{Version: s.done[id], Schema: "urn:evento:avro:Acc.Acc:0123456789abcdef", Data: []byte{1, 2}}, nil
	}
	r := s.run()
	for _, v := range r.Violations {
		t.Error(v)
	}
	if r.Read.Commands != 10 || r.Read.Events != 9 || r.Read.Decisions != 2 || r.Read.Snapshots != 2 || r.Read.Waiting != 2 || r.Asked != 2 || r.Partitions != partitions {
		t.Errorf("read: %+v, asked %d", r.Read, r.Asked)
	}
}

func TestPlantedDamageIsFound(t *testing.T) {
	t.Parallel()
	two := other(one)
	damages := map[string]struct {
		found verify.Invariant
		says  string
		do    func(s *site, last sent)
	}{
		"a second outcome": {verify.OneOutcome, "a second outcome", func(s *site, last sent) { s.outcome(last, 1, 1, nil) }},
		"a finished command without outcome": {verify.OneOutcome, "finished", func(s *site, _ sent) {
			s.settle(s.command("lost", one))
		}},
		"a set-aside record that is missing": {verify.OneOutcome, "finished", func(s *site, _ sent) {
			c := s.command("waits, too", one)
			at := s.aside(c.at, &shard.Aside{Aggregate: one, State: shard.Held})
			s.aside(runtime.Coordinates{Partition: at.Partition, Offset: c.at.Offset}, nil)
			s.settle(c)
		}},
		"a version that is left out": {verify.Versions, "it must be", func(s *site, _ sent) {
			s.outcome(s.command("x", one), 1, 1, func(m *runtime.Message) { m.Sequence++ })
		}},
		"an event that does not know of the one before": {verify.Versions, "is before it", func(s *site, _ sent) {
			s.outcome(s.command("x", one), 1, 1, func(m *runtime.Message) { m.Prev = s.chains[one][0].Offset })
		}},
		"half an outcome": {verify.AllOrNothing, "only 1 are there", func(s *site, _ sent) { s.outcome(s.command("x", one), 1, 2, nil) }},
		"another order": {verify.Linear, "takes effect after", func(s *site, _ sent) {
			x, y := s.command("x", one), s.command("y", one)
			s.outcome(y, 1, 1, nil)
			s.outcome(x, 1, 1, nil)
		}},
		"a wrong cause": {verify.Causes, "caused it", func(s *site, _ sent) {
			s.outcome(s.command("x", one), 1, 1, func(m *runtime.Message) { m.Cause.Offset = 0 })
		}},
		"an event of no command": {verify.Causes, "has no command", func(s *site, last sent) {
			m := *last.m
			m.ID = "nobody's"
			s.outcome(sent{last.at, &m}, 1, 1, nil)
		}},
		"a command as of a dispatcher": {verify.Causes, "none has decided", func(s *site, _ sent) {
			s.relay(&runtime.Message{ID: "forged", Source: source, Type: "Acc.Do", Schema: "urn:evento:avro:Acc.Do:0123456789abcdef", Subject: runtime.Entity(two), Data: []byte{2},
				CausationID: s.last[one].ID, CorrelationID: s.last[one].CorrelationID, Cause: s.chains[one][len(s.chains[one])-1]})
		}},
		"a command that was changed on its way": {verify.Causes, "is not the one that", func(s *site, _ sent) {
			s.do(one, "x")
			_, command := s.decision(one, two)
			command.Data = []byte{8}
			s.relay(command)
		}},
		"a decision about nothing": {verify.Causes, "no committed event stands", func(s *site, _ sent) {
			s.do(one, "x")
			s.chains[one][len(s.chains[one])-1].Topic = "elsewhere"
			s.decision(one, two)
		}},
		"a decision that was not sent": {verify.Kept, "a command of the decision", func(s *site, _ sent) {
			s.commitAs(s.config.RelayGroup(s.topics), s.topics.Dispatched(), home(one), 2, "")
		}},
		"a stray that was left": {verify.Kept, "belongs into partition", func(s *site, _ sent) { s.settle(s.commandIn(home(one), "x", two)) }},
		"an event in a wrong partition": {verify.Placement, "belongs into partition", func(s *site, _ sent) {
			s.outcome(s.commandIn(home(one), "x", two), 1, 1, nil)
		}},
		"a former owner": {verify.NoZombies, "does not know of that", func(s *site, _ sent) {
			s.outcome(s.command("x", one), 1, 1, func(m *runtime.Message) { m.Writer = "evento-TWO-1" })
			s.outcome(s.command("y", one), 1, 1, func(m *runtime.Message) { m.Sequence--; m.Prev = s.chains[one][0].Offset })
		}},
		"a stranger's record among the events": {verify.Readable, "cannot be read", func(s *site, _ sent) {
			s.produce(s.client, s.topics.Events(""), 0, []byte("k"), []byte("v"), nil)
		}},
		"a stranger's record among the commands": {verify.Readable, "cannot be read", func(s *site, _ sent) {
			s.produce(s.client, s.topics.Commands(), 0, []byte("k"), []byte("v"), nil)
		}},
		"a stranger's record among the set-aside ones": {verify.Readable, "no offset", func(s *site, _ sent) {
			s.produce(s.client, s.topics.Parked(), 0, []byte("k"), []byte("v"), nil)
		}},
		"a stranger's record among the heads": {verify.Readable, "cannot be read", func(s *site, _ sent) {
			s.produce(s.client, s.topics.Heads(), 0, []byte("acc:1"), []byte("v"), nil)
		}},
		"a position of somebody else's": {verify.Position, "is not one of Evento's", func(s *site, _ sent) {
			s.commitAs(gateway.GroupID(s.topics), s.topics.Commands(), 0, 1, "")
		}},
		"a position of another topic": {verify.Position, "another topic", func(s *site, _ sent) {
			o := position.NewOffsets(position.Position{Offset: 1})
			s.commitAs(gateway.GroupID(s.topics), s.topics.Commands(), 0, 1, o.Encode(position.Note{TopicID: "AAAA"}))
		}},
		"a position outside of the log": {verify.Position, "outside of the log", func(s *site, _ sent) { s.commit(0, 1<<30) }},
		"a set-aside record of nothing": {verify.SetAside, "where none stands", func(s *site, last sent) {
			s.aside(runtime.Coordinates{Partition: 1 - last.at.Partition, Offset: -1}, &shard.Aside{Aggregate: one, State: shard.Held})
		}},
		"a set-aside record of another aggregate": {verify.SetAside, "is of acc:other", func(s *site, _ sent) {
			s.aside(s.command("x", one).at, &shard.Aside{Aggregate: two, State: shard.Held})
		}},
		"a list of what has another outcome": {verify.SetAside, "no such outcome", func(s *site, last sent) {
			s.aside(last.at, &shard.Aside{Aggregate: one, State: shard.ParkedS, Ended: &shard.Ended{}})
		}},
		"a head that is behind": {verify.Heads, "its head says", func(s *site, _ sent) {
			s.heads(one, func(head, _ map[string]any) { head["offset"], head["event"], head["version"] = 0, "", 0 })
		}},
		"a head with another event": {verify.Heads, "another event stands", func(s *site, _ sent) {
			s.heads(one, func(head, _ map[string]any) { head["event"] = runtime.CommandKey{}.EventID(1) })
		}},
		"an aggregate that is stopped": {verify.Heads, "contradicts itself", func(s *site, _ sent) {
			s.heads(one, func(head, _ map[string]any) { head["broken"] = "torn" })
		}},
		"a snapshot of another version": {verify.StateIsLog, "has the version", func(s *site, _ sent) {
			s.snapshot(one, func(x *shard.Snapshot) { x.State.Version++ })
		}},
		"a snapshot of what was not committed": {verify.StateIsLog, "no committed event", func(s *site, _ sent) {
			s.do(two, "x")
			s.snapshot(one, func(x *shard.Snapshot) { x.Head.Offset = -5 })
		}},
		"a damaged snapshot": {verify.StateIsLog, "is damaged", func(s *site, _ sent) {
			for _, key := range s.redis.Keys() {
				_ = s.redis.Set(key, "nonsense")
			}
		}},
		"a gateway that is behind": {verify.StateIsLog, "the gateway's state has version 1", func(s *site, _ sent) {
			s.config.State = func(context.Context, runtime.AggregateID) (State, error) { return State{Version: 1}, nil }
		}},
		"a gateway with another state": {verify.StateIsLog, "the snapshot in Redis has the state", func(s *site, _ sent) {
			s.snapshot(one, nil)
			s.config.State = func(_ context.Context, id runtime.AggregateID) (State, error) {
				return State{Version: s.done[id], Schema: "urn:evento:avro:Acc.Acc:0123456789abcdef", Data: []byte("else")}, nil
			}
		}},
		"a topic that forgets": {verify.Settings, "retention.ms", func(s *site, _ sent) {
			value := "1000000000"
			if _, err := s.admin.AlterTopicConfigs(s.t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}, s.topics.Events("")); err != nil {
				s.t.Fatal(err)
			}
			kafkatest.Wait(s.t, time.Minute, func() error { // brokers hear of it later
				all, err := s.admin.DescribeTopicConfigs(s.t.Context(), s.topics.Events(""))
				if err != nil {
					return err
				}
				for _, c := range all[0].Configs {
					if c.Key == "retention.ms" && c.MaybeValue() != value {
						return fmt.Errorf("retention.ms is still %q", c.MaybeValue())
					}
				}
				return nil
			})
		}},
		"a transaction that stays open": {verify.Open, "evento-GONE-0", func(s *site, _ sent) { s.openTransaction() }},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, last := honest(t)
			damage.do(s, last)
			r := s.run()
			for _, v := range r.Violations {
				if v.Invariant == damage.found && strings.Contains(v.Text, damage.says) {
					return
				}
			}
			t.Errorf("not found as %s: %q; found %q, notes %q", damage.found, damage.says, r.Violations, r.Notes)
		})
	}
}

// openTransaction leaves one open in the events of aggregate one's partition.
func (s *site) openTransaction() (end func(kgo.TransactionEndTry)) {
	s.t.Helper()
	client, err := kgo.NewClient(append(s.kafka.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID(s.kafka.Prefix+"evento-GONE-0"), kgo.TransactionTimeout(5*time.Minute))...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	if err := client.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	m := *s.last[one]
	m.Writer = s.kafka.Prefix + "evento-GONE-0"
	r := kafka.NewRecord(s.topics.Events(""), home(one), &m)
	s.produce(client, r.Topic, r.Partition, r.Key, r.Value, r.Headers)
	return func(how kgo.TransactionEndTry) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := client.EndTransaction(ctx, how); err != nil {
			s.t.Error(err)
		}
	}
}

// Behind a transaction that stays open nothing is missed: what stands there is not read.
func TestWhatStandsBehindAnOpenTransactionIsNotMissed(t *testing.T) {
	t.Parallel()
	s, _ := honest(t)
	end := s.openTransaction()
	behind := s.do(one, "behind")
	s.commit(behind.at.Partition, behind.at.Offset-1, behind.at.Offset) // between them is what is under way
	r := s.run()
	if r.Total() != 1 || r.Counts[verify.Open] != 1 || len(r.Notes) == 0 {
		t.Errorf("found %q, notes %q", r.Violations, r.Notes)
	}
	end(kgo.TryAbort)
	s.config.Patience = time.Minute // for the marker, which is written after the answer
	if r := s.run(); r.Total() != 0 {
		t.Errorf("after its end: %q", r.Violations)
	}
}

func TestSettledSetAsideRecordsAreWaitedFor(t *testing.T) {
	t.Parallel()
	s, last := honest(t)
	s.aside(last.at, &shard.Aside{Aggregate: one, State: shard.Held})
	if r := s.run(); r.Total() != 0 || len(r.Notes) == 0 {
		t.Errorf("without a gateway: %q, notes %q", r.Violations, r.Notes)
	}
	// A member of the group stands for a gateway.
	member, err := kgo.NewClient(append(s.kafka.Opts(), kgo.ConsumerGroup(gateway.GroupID(s.topics)), kgo.ConsumeTopics(s.topics.Commands()), kgo.DisableAutoCommit())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Close)
	kafkatest.Wait(t, time.Minute, func() error {
		groups, err := s.admin.DescribeGroups(t.Context(), gateway.GroupID(s.topics))
		if err == nil && len(groups[gateway.GroupID(s.topics)].Members) == 0 {
			err = fmt.Errorf("no member")
		}
		return err
	})
	if r := s.run(); r.Counts[verify.SetAside] != 1 || r.Total() != 1 {
		t.Errorf("it stays: %q", r.Violations)
	}
	s.config.Patience = time.Minute
	s.config.Progress = nil
	removed := make(chan struct{})
	go func() {
		defer close(removed)
		s.aside(last.at, nil)
	}()
	r := s.run()
	if <-removed; r.Total() != 0 {
		t.Errorf("it is removed: %q", r.Violations)
	}
}

func TestWhatIsNoInstallationCannotBeLookedAt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.config.Prefix = s.kafka.Prefix + "nothing"
	if r, err := Run(t.Context(), s.config); err == nil || !strings.Contains(err.Error(), "no installation") {
		t.Errorf("%+v, %v", r, err)
	}
}
