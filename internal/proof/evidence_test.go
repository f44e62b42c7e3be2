package proof

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// eventTopics are the topics that hold the bank's events.
func (w *world) eventTopics() []string {
	topics := []string{w.topics.Events("CheckingAccount"), w.topics.Events("SavingsAccount"), w.topics.Events("Client")}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// read reads a topic as a committed reader does, by partition and offset.
func (w *world) read(t testing.TB, topic string) []logged {
	t.Helper()
	var list []logged
	byPartition := w.kafka.Committed(t, topic)
	for _, p := range sortedKeys(byPartition) {
		for _, r := range byPartition[p] {
			list = append(list, parse(t, r))
		}
	}
	return list
}

func parse(t testing.TB, r *kgo.Record) logged {
	t.Helper()
	record := kafka.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value, Time: r.Timestamp}
	for _, h := range r.Headers {
		record.Headers = append(record.Headers, kafka.Header{Key: h.Key, Value: h.Value})
	}
	at := runtime.Coordinates{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
	m, err := kafka.ParseRecord(&record)
	if err != nil {
		t.Fatalf("record at %s: %v", at, err)
	}
	if want := kafka.Partition(string(m.Aggregate()), partitions); r.Partition != want || string(r.Key) != string(m.Aggregate()) {
		t.Errorf("record at %s has the key %q and is of %s, which belongs into partition %d", at, r.Key, m.Subject, want)
	}
	return logged{At: at, M: m}
}

// evidence waits until every command in Kafka has an outcome, and every event the
// effect that dispatchers owe it, and returns what there is then. What they owe for
// too long is for the checker to tell.
func (w *world) evidence(t testing.TB, h *history) evidence {
	t.Helper()
	var e evidence
	gather := func() {
		e = evidence{Sent: h.all(), Commands: w.read(t, w.topics.Commands()), Decisions: w.decisions(t), Dispatchers: w.dispatcherNames()}
		for _, topic := range w.eventTopics() {
			e.Events = append(e.Events, w.read(t, topic)...)
		}
	}
	err := try(groupPatience, func() error {
		if w.circle {
			if err := w.calm(); err != nil {
				return err
			}
		}
		if gather(); w.circle {
			if err := e.owed(); err != nil {
				return err
			}
		}
		return e.open()
	})
	if err != nil {
		t.Errorf("not at rest after %v: %v", patience, err)
		gather()
	}
	return e
}

// open says which command has no outcome.
func (e evidence) open() error {
	ended := map[runtime.CommandKey]bool{}
	for _, r := range e.Events {
		key, _, _ := runtime.ParseEventID(r.M.ID)
		ended[key] = true
	}
	for _, r := range e.Commands {
		if !ended[r.M.Key()] && !r.M.Platform() {
			return fmt.Errorf("%s %s at %s has no outcome", r.M.Type, r.M.ID, r.At)
		}
	}
	return nil
}

// judge checks a run that is over: the log, and what the gateways and Redis say.
func (w *world) judge(t testing.TB, h *history) evidence {
	t.Helper()
	e := w.evidence(t, h)
	report(t, check(e))
	w.repeatSome(t, h, 100)
	// The repeats are evidence too.
	e = w.evidence(t, h)
	report(t, check(e))
	w.checkAPI(t, e)
	if fresh := w.checkSnapshots(t, e); fresh == 0 {
		t.Error("no aggregate has a snapshot of its last event")
	}
	for _, g := range w.gateways {
		for _, name := range []string{"evento_corrupt_aggregates_total", "evento_unreadable_records_total"} {
			if n, err := g.metric(name); err != nil || n != 0 {
				t.Errorf("%s: %s is %v, %v", g.name, name, n, err)
			}
		}
	}
	t.Logf("%d command records, %d event records, %d decisions; %d commands of decisions were sent again; %s", len(e.Commands), len(e.Events), len(e.Decisions), e.repeated(), h.counts())
	return e
}

// report fails the test with what the checker found, the first ones of many.
func report(t testing.TB, found []string) {
	t.Helper()
	for i, f := range found {
		if i == 15 {
			t.Errorf("... and %d more", len(found)-i)
			break
		}
		t.Error(f)
	}
}

// repeatSome sends commands again after everything, and some ids with another value.
func (w *world) repeatSome(t testing.TB, h *history, n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(*flagSeed, 99))
	all := h.all()
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:min(n, len(all))]
	parallel(8, len(all), func(i int) {
		c, g := all[i], w.gateways[i%len(w.gateways)]
		if a := g.send(c, patience/2); !a.Outcome.final() {
			t.Errorf("%s, sent again to %s: %d %s %s, no outcome", c, g.name, a.Status, a.Problem, a.Err)
		}
		if i%5 != 0 || c.result() != accepted {
			return
		}
		if strings.HasPrefix(c.Entity, "client:") {
			return // takes no deposit of any id
		}
		other := &command{ID: c.ID, Source: c.Source, Entity: c.Entity, Type: "ReceiveDeposit",
			Payload: map[string]any{"transaction_id": "other", "source": "other", "amount": money(1)}}
		if a := g.send(other, patience/2); a.Problem != "id-reused" {
			t.Errorf("the id of %s with another value at %s: %d %s %s, want 409", c, g.name, a.Status, a.Problem, a.Err)
		}
	})
}

func parallel(workers, n int, do func(i int)) {
	var wg sync.WaitGroup
	for k := range workers {
		wg.Go(func() {
			for i := k; i < n; i += workers {
				do(i)
			}
		})
	}
	wg.Wait()
}

// byAggregate sorts events by their aggregates.
func (e evidence) byAggregate() map[runtime.AggregateID][]logged {
	by := map[runtime.AggregateID][]logged{}
	for _, r := range e.Events {
		by[r.M.Aggregate()] = append(by[r.M.Aggregate()], r)
	}
	return by
}

// checkAPI holds states, histories and some outcomes, asked of each gateway,
// against the events: P5.
func (w *world) checkAPI(t testing.TB, e evidence) {
	t.Helper()
	by := e.byAggregate()
	ids := sortedKeys(by)
	parallel(8, len(ids), func(i int) {
		id, g := ids[i], w.gateways[i%len(w.gateways)]
		w.checkState(t, g, id, by[id])
		w.checkHistory(t, g, id, by[id])
	})
	sample := slices.Clone(e.Sent)
	random := rand.New(rand.NewPCG(*flagSeed, 98))
	random.Shuffle(len(sample), func(i, j int) { sample[i], sample[j] = sample[j], sample[i] })
	sample = sample[:min(200, len(sample))]
	parallel(8, len(sample), func(i int) {
		c := sample[i]
		told := c.answer()
		if told == nil {
			return
		}
		o, err := w.gateways[i%len(w.gateways)].outcome(c)
		if err != nil {
			t.Error(err)
		} else if d := told.same(o); d != "" {
			t.Errorf("%s was answered otherwise than its outcome is shown now:%s", c, d)
		}
	})
}

func (w *world) checkState(t testing.TB, g *gateway, id runtime.AggregateID, events []logged) {
	t.Helper()
	_, want, version, err := fold(id, events)
	if err != nil {
		t.Error(err)
		return
	}
	s, err := g.state(string(id))
	if want == nil {
		if err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s has no state by its events; %s says %+v, %v", id, g.name, s, err)
		}
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	sum, err := balance(events)
	if err != nil {
		t.Error(err)
		return
	}
	if s.Version != version || s.State.Balance.Minor != sum || !bytes.Equal(s.avro, want) {
		t.Errorf("%s at %s: version %d, balance %d, state %x; its events say version %d, balance %d, state %x", id, g.name, s.Version, s.State.Balance.Minor, s.avro, version, sum, want)
	}
}

func (w *world) checkHistory(t testing.TB, g *gateway, id runtime.AggregateID, events []logged) {
	t.Helper()
	var want, got []string
	for _, r := range events {
		if !r.M.Platform() {
			want = append(want, fmt.Sprintf("%s %d %s", r.M.ID, r.M.Sequence, r.At))
		}
	}
	shown, err := g.events(string(id))
	if err != nil {
		t.Error(err)
		return
	}
	for _, e := range shown {
		got = append(got, fmt.Sprintf("%s %d %s", e.ID, e.Version, e.Coordinates))
	}
	if !slices.Equal(want, got) {
		t.Errorf("history of %s at %s: %d events %q; the topic has %d: %q", id, g.name, len(got), got, len(want), want)
	}
}

// checkSnapshots holds each snapshot in Redis against a full fold of the events
// up to its version, and returns how many are of their aggregate's last event. It
// need not be the newest: a cache may miss.
func (w *world) checkSnapshots(t testing.TB, e evidence) (fresh int) {
	t.Helper()
	by := e.byAggregate()
	for _, key := range w.redis.keys(t, ":s:{") {
		store, id, ok := openSnapshots(t, w, key)
		if !ok {
			continue
		}
		s, err := store.Load(t.Context(), id)
		store.Close()
		if err != nil && w.redisLies {
			continue
		} else if err != nil {
			t.Errorf("snapshot of %s: %v", id, err)
			continue
		}
		at := slices.IndexFunc(by[id], func(r logged) bool { return r.At.Offset == s.Head.Offset })
		if w.redisLies && (at < 0 || s.Head.Version != by[id][at].M.Sequence) {
			continue
		} else if at < 0 {
			t.Errorf("snapshot of %s ends at offset %d, which is none of its events", id, s.Head.Offset)
			continue
		}
		schema, data, version, err := fold(id, by[id][:at+1])
		if err != nil {
			t.Error(err)
		} else if s.State.Version != version || s.State.Schema != schema || !bytes.Equal(s.State.Data, data) {
			t.Errorf("snapshot of %s: version %d, %s %x; its events up to offset %d say version %d, %s %x", id, s.State.Version, s.State.Schema, s.State.Data, s.Head.Offset, version, schema, data)
		}
		if at == len(by[id])-1 {
			fresh++
		}
	}
	t.Logf("%d of %d aggregates have a snapshot of their last event", fresh, len(by))
	return fresh
}
