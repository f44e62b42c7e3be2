package kafka

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/runtime"
)

// world writes aggregates' records into a log as the engine does, and knows
// what their histories are.
type world struct {
	*logOf
	txn     *kgo.Client
	chains  map[runtime.AggregateID][]Entry
	command int
	shift   int64 // added to offsets in links: what a restored topic has
}

func newWorld(t testing.TB, opts ...kfake.Opt) *world {
	t.Helper()
	l := newLog(t, opts...)
	return &world{logOf: l, txn: l.client(kgo.TransactionalID(l.topic)), chains: map[runtime.AggregateID][]Entry{}}
}

// outcome is what one command left: so many events, or a platform record.
type outcome struct {
	aggregate runtime.AggregateID
	events    int // 0: a platform record
}

// message is one record of an outcome, with links to the records before it. at
// is its place in its transaction, where distances count; from places of
// records of the same transaction are negative: -1 - place.
func (w *world) message(o outcome, key runtime.CommandKey, pos int, chain []Entry, at int64) *runtime.Message {
	m := &runtime.Message{
		ID: key.EventID(pos), Source: "/evento/test", Subject: o.aggregate.Root(), Data: []byte{},
		RecordedTime: time.UnixMilli(1).UTC(), Prev: runtime.NoPrev, Pos: pos, Count: max(o.events, 1), Writer: "test",
	}
	m.Type = "Test.Happened"
	version := uint64(0)
	if len(chain) > 0 {
		version = chain[len(chain)-1].Version
		m.Prev = w.linkTo(chain[len(chain)-1], at)
	}
	if o.events == 0 {
		m.Type = runtime.TypeCommandRejected
	} else {
		m.Sequence = version + 1
	}
	m.Schema = runtime.NewDataSchema(m.Type, "0123456789abcdef")
	if n := len(chain); n > 0 && n%MaxSkip == 0 {
		for _, e := range chain[n-MaxSkip:] {
			m.Skip = append(m.Skip, w.linkTo(e, at))
		}
	}
	return m
}

// An entry of the transaction that is being written has a negative offset: -1 - place.
func (w *world) linkTo(e Entry, at int64) int64 {
	if e.At.Offset < 0 {
		return -1 - e.At.Offset - at
	}
	return e.At.Offset + w.shift
}

// transact writes outcomes in one transaction. between is called before each
// record, with its place. Aborted outcomes leave nothing in the model.
func (w *world) transact(end kgo.TransactionEndTry, between func(place int), outcomes ...outcome) {
	w.t.Helper()
	if err := w.txn.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	was := map[runtime.AggregateID]int{}
	var offsets []int64
	for _, o := range outcomes {
		w.command++
		key := runtime.NewCommandKey("test", o.aggregate, fmt.Sprint(w.command))
		for pos := 1; pos <= max(o.events, 1); pos++ {
			place := len(offsets)
			chain := w.chains[o.aggregate]
			if _, ok := was[o.aggregate]; !ok {
				was[o.aggregate] = len(chain)
			}
			m := w.message(o, key, pos, chain, int64(place))
			if between != nil {
				between(place)
			}
			r := record(NewRecord(w.topic, 0, m))
			if err := w.txn.ProduceSync(soon(w.t), r).FirstErr(); err != nil {
				w.t.Fatal(err)
			}
			offsets = append(offsets, r.Offset)
			e := Entry{Message: m, At: runtime.Coordinates{Topic: w.topic, Offset: int64(-1 - place)}, Version: m.Sequence}
			if m.Platform() && len(chain) > 0 {
				e.Version = chain[len(chain)-1].Version
			}
			w.chains[o.aggregate] = append(chain, e)
		}
	}
	before := w.end()
	if err := w.txn.EndTransaction(soon(w.t), end); err != nil {
		w.t.Fatal(err)
	}
	for ctx := soon(w.t); w.end() == before; {
		if ctx.Err() != nil {
			w.t.Fatal("the transaction's marker was not written")
		}
	}
	for aggregate, n := range was {
		if end == kgo.TryAbort {
			w.chains[aggregate] = w.chains[aggregate][:n]
		}
		for i := range w.chains[aggregate] {
			if e := &w.chains[aggregate][i]; e.At.Offset < 0 {
				e.At.Offset = offsets[-1-e.At.Offset]
			}
		}
	}
}

func record(r Record) *kgo.Record {
	k := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader(h))
	}
	return k
}

// noise writes a record of another writer.
func (w *world) noise() {
	w.t.Helper()
	r := &kgo.Record{Key: []byte("noise:1"), Value: []byte("x")}
	if err := w.plain.ProduceSync(soon(w.t), r).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) chain(a runtime.AggregateID) Chain {
	head := w.chains[a][len(w.chains[a])-1]
	return Chain{Topic: w.topic, Aggregate: a, Head: head.At.Offset, HeadID: head.ID, Version: head.Version}
}

func show(entries []Entry) string {
	var s []string
	for _, e := range entries {
		s = append(s, fmt.Sprintf("%d@%d", e.Version, e.At.Offset))
	}
	return strings.Join(s, " ")
}

// wants checks a reading of a's history against the model.
func (w *world) wants(h *History, c Chain, after Mark, limit int) []Entry {
	w.t.Helper()
	var want []Entry
	for _, e := range w.chains[c.Aggregate] {
		if !after.passed(e) && (limit == 0 || len(want) < limit) {
			want = append(want, e)
		}
	}
	got, err := h.Read(soon(w.t), c, after, limit)
	if err != nil {
		w.t.Errorf("%s after %+v: %v", c.Aggregate, after, err)
	} else if show(got) != show(want) {
		w.t.Errorf("%s after %+v, limit %d:\n%s, want\n%s", c.Aggregate, after, limit, show(got), show(want))
	}
	return got
}

func (w *world) history() (*History, *bytes.Buffer) {
	log := new(bytes.Buffer) // of warnings: reads that had to search
	return NewHistory(w.reader(20*time.Second), slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))), log
}

// seeds is how many logs are made up; EVENTO_TEST_SEEDS asks for more.
func seeds(t *testing.T) uint64 {
	n, err := strconv.ParseUint(cmp.Or(os.Getenv("EVENTO_TEST_SEEDS"), "4"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Histories of every shape: events in one transaction and in many, platform
// records between, aborted tries, other writers' records and markers in the
// middle of transactions.
func TestHistoryOfRandomLogs(t *testing.T) {
	t.Parallel()
	for seed := range seeds(t) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			rnd := rand.New(rand.NewPCG(seed, 1))
			aggregates := []runtime.AggregateID{"hot:1", "a:1", "a:2", "a:3"}
			for range 60 {
				var outcomes []outcome
				for range 1 + rnd.IntN(10) {
					a := aggregates[rnd.IntN(len(aggregates))]
					if rnd.IntN(2) == 0 {
						a = "hot:1"
					}
					outcomes = append(outcomes, outcome{a, rnd.IntN(4)})
				}
				end := kgo.TryCommit
				if rnd.IntN(6) == 0 {
					end = kgo.TryAbort
				}
				w.transact(end, func(int) {
					if rnd.IntN(8) == 0 {
						w.noise()
					}
				}, outcomes...)
			}
			h, log := w.history()
			if seed%2 == 1 {
				h.ahead = 70 // as if the histories were long
			}
			for a, entries := range w.chains {
				c := w.chain(a)
				w.wants(h, c, Mark{}, 0)
				for range 4 {
					mark := entries[rnd.IntN(len(entries))].Mark()
					w.wants(h, c, mark, 0)
					w.wants(h, c, Mark{Version: mark.Version}, 1+rnd.IntN(20))
					c.Version, c.HeadID = 0, ""
				}
				// Pages, one after the other, are the whole.
				var all []Entry
				for mark := (Mark{}); ; {
					page, err := h.Read(soon(t), c, mark, 30)
					if err != nil {
						t.Fatal(err)
					}
					if len(page) == 0 {
						break
					}
					all, mark = append(all, page...), page[len(page)-1].Mark()
				}
				if show(all) != show(entries) {
					t.Errorf("%s in pages:\n%s, want\n%s", a, show(all), show(entries))
				}
				// The history up to an earlier head.
				i := rnd.IntN(len(entries))
				c.Head, c.HeadID, c.Version = entries[i].At.Offset, entries[i].ID, entries[i].Version
				kept := w.chains[a]
				w.chains[a] = kept[:i+1]
				w.wants(h, c, Mark{}, 0)
				w.chains[a] = kept
				for range 5 {
					e := entries[rnd.IntN(len(entries))]
					key, _, _ := runtime.ParseEventID(e.ID)
					found, err := h.Find(soon(t), w.chain(a), key, e.At.Offset)
					want := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return !e.of(key) })
					if err != nil || show(found) != show(want) {
						t.Errorf("find %s: %s, %v, want %s", e.ID, show(found), err, show(want))
					}
				}
			}
			if log.Len() > 0 {
				t.Errorf("it had to search:\n%s", log)
			}
		})
	}
}

func TestHistoryWithKnownLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 50 {
		w.transact(kgo.TryCommit, nil, outcome{"a:1", i % 3}, outcome{"b:1", 1})
	}
	h, log := w.history()
	c := w.chain("a:1")
	entries := w.chains["a:1"]
	right := []int64{}
	for _, e := range entries[len(entries)-30 : len(entries)-1] {
		right = append(right, e.At.Offset)
	}
	for name, links := range map[string][]int64{
		"right":            right,
		"with the head":    append(slices.Clone(right), c.Head),
		"of another":       {w.chains["b:1"][3].At.Offset, w.chains["b:1"][7].At.Offset},
		"some are missing": {right[0], right[9], right[20]},
		"nowhere":          {-5, 3, 1 << 40},
	} {
		c.Links = links
		w.wants(h, c, Mark{}, 0)
		for _, known := range []uint64{0, c.Version} {
			part := c
			part.Version = known
			w.wants(h, part, Mark{Version: entries[len(entries)-12].Version}, 0)
		}
		if t.Failed() {
			t.Fatalf("links %s: %v", name, links)
		}
	}
	if log.Len() > 0 {
		t.Errorf("it had to search:\n%s", log)
	}
}

func TestHistoryOfARestoredTopic(t *testing.T) {
	t.Parallel()
	for _, shift := range []int64{7, -7, 1_000_000} {
		w := newWorld(t)
		w.shift = shift
		for range 8 {
			w.noise() // a link shifted back is still an offset
		}
		for i := range 40 {
			w.transact(kgo.TryCommit, nil, outcome{"a:1", i % 4}, outcome{"b:1", 1})
		}
		h, log := w.history()
		w.wants(h, w.chain("a:1"), Mark{}, 0)
		if n := strings.Count(log.String(), "links of an aggregate's records lead nowhere"); n != 1 {
			t.Errorf("offsets are off by %d: the partition was searched %d times, not once:\n%s", shift, n, log)
		}
		w.wants(h, w.chain("b:1"), Mark{Version: 30}, 5)
		e := w.chains["a:1"][20]
		key, _, _ := runtime.ParseEventID(e.ID)
		if found, err := h.Find(soon(t), w.chain("a:1"), key, e.At.Offset+shift); err != nil || len(found) != e.Count {
			t.Errorf("find with a hint that is off by %d: %s, %v", shift, show(found), err)
		}
	}
}

func TestHistoryTellsCorruption(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 5 {
		w.transact(kgo.TryCommit, nil, outcome{"a:1", 1})
	}
	w.command++
	key := runtime.NewCommandKey("test", "a:1", fmt.Sprint(w.command))
	torn := w.message(outcome{"a:1", 3}, key, 1, w.chains["a:1"], 0)
	write := func(m *runtime.Message) int64 {
		r := record(NewRecord(w.topic, 0, m))
		if err := w.plain.ProduceSync(soon(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		return r.Offset
	}
	at := write(torn)
	h, _ := w.history()
	c := w.chain("a:1")
	c.Head, c.HeadID, c.Version = at, torn.ID, 6
	for _, hint := range []int64{at, -1, 0} {
		if _, err := h.Find(soon(t), c, key, hint); !errors.Is(err, ErrHistory) {
			t.Errorf("a torn command, hint %d: %v, want ErrHistory", hint, err)
		}
		if _, err := h.Find(soon(t), c, runtime.NewCommandKey("nobody", "a:1", "x"), hint); !errors.Is(err, ErrNoCommand) {
			t.Errorf("no such command, hint %d: %v, want ErrNoCommand", hint, err)
		}
	}
	hole := *torn
	hole.Sequence, hole.Prev, hole.ID = 8, at, key.EventID(2)
	hole.Pos = 2
	c.Head, c.HeadID = write(&hole), hole.ID
	if _, err := h.Read(soon(t), c, Mark{}, 0); !errors.Is(err, ErrHistory) || !strings.Contains(err.Error(), "version 8") {
		t.Errorf("a version is missing: %v, want ErrHistory that names it", err)
	}
	c.HeadID = w.chains["a:1"][0].ID
	if _, err := h.Read(soon(t), c, Mark{}, 0); !errors.Is(err, ErrHistory) {
		t.Errorf("another record is at the head: %v, want ErrHistory", err)
	}
	ctx, cancel := context.WithCancel(soon(t))
	cancel()
	if _, err := h.Read(ctx, w.chain("a:1"), Mark{}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: %v", err)
	}
}
