package shard

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

func (w *world) carryOut(faults bool) {
	s := w.shard
	if s == nil {
		return
	}
	later := func(f func()) {
		w.pending = append(w.pending, func() {
			if w.shard == s {
				f()
			}
		})
	}
	for _, out := range s.Outputs() {
		switch o := out.(type) {
		case Load:
			later(func() {
				if faults && w.chance(20) {
					s.Loaded(w.now, o.Aggregate, o.Token, Snapshot{}, &Trouble{Kind: Unavailable, Reason: "aggregator away", Wait: time.Second})
					return
				}
				s.Loaded(w.now, o.Aggregate, o.Token, w.fold(o.Aggregate), nil)
			})
		case Invoke:
			computed := w.compute(o.Work, faults)
			later(func() {
				if w.bug == "late answers count" {
					if agg := s.aggregates[o.Work.Aggregate]; agg != nil && s.calls[agg.call] == agg {
						s.Computed(w.now, agg.call, computed)
						return
					}
				}
				s.Computed(w.now, o.Call, computed)
			})
		case Confirm:
			later(func() {
				if faults && w.chance(20) {
					s.Confirmed(w.now, o.Token, Confirmation{Trouble: &Trouble{Kind: Unavailable, Wait: time.Second}})
					return
				}
				c := w.confirm(o)
				if w.bug == "repeats are new" {
					c = Confirmation{}
				}
				s.Confirmed(w.now, o.Token, c)
			})
		case Answer:
			w.logf("answer %d %s %s v%d %s", o.Command.Offset, o.Command.Message.ID, o.Outcome.Status, o.Outcome.Version, o.Outcome.Reason)
			w.answers = append(w.answers, simAnswer{o.Command, o.Outcome})
		case Reply:
			w.replied(o)
		case Save:
			w.saved(o.Snapshot)
		case Corrupt:
			panic(fmt.Sprintf("seed %d: %s: %s", w.seed, o.Aggregate, o.Reason))
		}
	}
}

// read asks for a snapshot, or takes a question back.
func (w *world) read() {
	// The oldest one: the order of a map would be another one each time.
	if len(w.reads) > 0 && w.chance(20) {
		token := slices.Min(slices.Collect(maps.Keys(w.reads)))
		w.shard.Unread(w.reads[token].id, token)
		delete(w.reads, token)
		return
	}
	w.lastAsk++
	r := &simRead{id: runtime.AggregateID("acc:" + strconv.Itoa(w.rng.IntN(1+int(w.seed%4)))), asked: w.now}
	if w.chance(50) {
		r.version = uint64(w.rng.IntN(60))
	}
	w.reads[w.lastAsk] = r
	w.shard.Read(w.now, w.lastAsk, r.id, simEvents, r.version)
}

func (w *world) fail(format string, args ...any) {
	if w.wrong == nil {
		w.wrong = fmt.Errorf(format, args...)
	}
}

// replied holds an answer against what is committed.
func (w *world) replied(o Reply) {
	r := w.reads[o.Token]
	if r == nil {
		w.fail("answer to a question that nobody asks: %+v", o)
		return
	}
	delete(w.reads, o.Token)
	switch now := w.fold(r.id); {
	case o.Err != "":
	case o.Missing && now.Head.Exists():
		w.fail("%s is said to be missing, and is at version %d", r.id, now.State.Version)
	case o.Missing:
	case o.Snapshot.State.Version < r.version:
		w.fail("%s is answered at version %d, asked for %d", r.id, o.Snapshot.State.Version, r.version)
	default:
		w.saved(o.Snapshot)
	}
}

// saved holds a snapshot that left the shard against the log: it is what is committed now.
func (w *world) saved(got Snapshot) {
	want := w.fold(got.Aggregate)
	if got.Head != want.Head || got.State.Version != want.State.Version || string(got.State.Data) != string(want.State.Data) ||
		!slices.Equal(got.Links, want.Links) || got.Seen.Len() != want.Seen.Len() || !got.Recorded.Equal(want.Recorded) {
		w.fail("a snapshot of %s is %+v, the log says %+v", got.Aggregate, got, want)
	}
}

// compute plays handler and aggregator: the state is the list of event ids' values.
func (w *world) compute(work Work, faults bool) Computed {
	var c Computed
	state := work.State
	for _, m := range work.Commands {
		if w.poison[m.Key()] {
			c.Trouble = &Trouble{Kind: Failed, Reason: "poison", Policy: Policy{Attempts: 3, Delay: 100 * time.Millisecond, MaxDelay: time.Second, Park: w.seed%2 == 0}}
			break
		}
		if faults && w.chance(15) {
			c.Trouble = &Trouble{Kind: TroubleKind(1 + w.rng.IntN(2)), Reason: "weather", Wait: 300 * time.Millisecond, Policy: Policy{Attempts: 30, Delay: 100 * time.Millisecond}}
			break
		}
		var step Step
		for i := range 1 + w.rng.IntN(3) {
			data := fmt.Sprintf("%s/%s/%d.%d;", m.ID, m.Data, i, w.rng.IntN(1000)) // another answer at each call
			step.Events = append(step.Events, Event{Type: "Acc.Done", Subject: m.Subject, Data: []byte(data), By: "f img schema"})
			state = State{Version: state.Version + 1, Schema: "s", Data: append(slices.Clone(state.Data), data...)}
		}
		if len(c.Steps) > 0 {
			last := &c.Steps[len(c.Steps)-1]
			last.State = UnknownState(last.State.Version) // only the last state of a call comes back
		}
		step.State = state
		c.Steps = append(c.Steps, step)
		if w.chance(10) {
			break // the rest was not tried
		}
	}
	return c
}

// fold rebuilds a snapshot from the log, as a loader does.
func (w *world) fold(id runtime.AggregateID) Snapshot { return w.foldTo(id, int64(len(w.events))) }

func (w *world) foldTo(id runtime.AggregateID, end int64) Snapshot {
	snap := Snapshot{Aggregate: id, Seen: &Seen{}}
	for offset, e := range w.events[:max(end, 0)] {
		if e.m == nil || e.m.Aggregate() != id {
			continue
		}
		m := e.m
		key, pos, _ := runtime.ParseEventID(m.ID)
		if pos == 1 {
			snap.Seen.Add(SeenEntry{Hash: SeenHash(key), Offset: int64(offset)})
		}
		if m.Sequence > 0 {
			snap.State = State{Version: m.Sequence, Schema: "s", Data: append(slices.Clone(snap.State.Data), m.Data...)}
		}
		if m.Skip != nil {
			snap.Links = nil
		}
		snap.Links = append(snap.Links, int64(offset))
		snap.Head = Head{Version: snap.State.Version, Offset: int64(offset), Command: key, Pos: int32(pos)}
		snap.Recorded = m.RecordedTime
	}
	return snap
}

func (w *world) confirm(o Confirm) Confirmation {
	var c Confirmation
	for _, offset := range o.Offsets {
		for at := offset; at < int64(len(w.events)); at++ {
			m := w.events[at].m
			if m == nil {
				continue
			}
			if key, _, _ := runtime.ParseEventID(m.ID); key != o.Command.Key {
				continue
			}
			c.Found, c.Same = true, m.Hash == o.Command.Hash
			c.Outcome.Status = Done
			if m.Type == runtime.TypeCommandParked {
				v := simParked(m)
				c.Outcome.Status, c.Outcome.Reason, c.Outcome.Attempts = ParkedS, v.Reason, v.Attempts
			}
			c.Outcome.Records = append(c.Outcome.Records, Recorded{Message: m, At: runtime.Coordinates{Topic: simEvents, Offset: at}})
			if m.Pos == m.Count {
				return c
			}
		}
	}
	return c
}

func (w *world) begin() {
	if w.txn != nil {
		return
	}
	if b := w.shard.Take(w.now, 1+w.rng.IntN(20), 1<<20); b != nil {
		w.txn = &simTxn{w.shard, b}
	}
}

// end ends the open transaction one way or the other, and tells the shard the truth.
func (w *world) end(faults bool) {
	if w.txn == nil {
		return
	}
	txn := w.txn
	w.txn = nil
	if faults && w.chance(20) {
		for range w.rng.IntN(len(txn.batch.Records) + 1) {
			w.events = append(w.events, simEvent{}) // aborted records take offsets
		}
		w.logf("abort %d results", txn.batch.Results())
		if w.bug == "the position moves alone" {
			w.offset, w.metadata = txn.batch.Offset, txn.batch.Metadata
		}
		if w.bug == "an aborted commit counts" && txn.shard == w.shard {
			offsets := make([]int64, len(txn.batch.Records))
			for i := range offsets {
				offsets[i] = int64(len(w.events) + i)
			}
			txn.shard.Committed(w.now, txn.batch, offsets)
			return
		}
		if txn.shard == w.shard {
			txn.shard.Aborted(w.now, txn.batch, w.chance(50), "simulated")
		}
		return
	}
	if w.bug == "an uncertain commit is taken for aborted" && w.chance(10) && txn.shard == w.shard {
		w.commit(txn.batch)
		txn.shard.Aborted(w.now, txn.batch, false, "simulated")
		return
	}
	offsets := w.commit(txn.batch)
	if txn.shard == w.shard {
		txn.shard.Committed(w.now, txn.batch, offsets)
	}
}

func (w *world) commit(b *Batch) []int64 {
	w.logf("commit %d results, %d records, position %d %s", b.Results(), len(b.Records), b.Offset, b.Metadata)
	if w.bug == "the pointer to set-aside records runs ahead" {
		if p, err := position.Parse(b.Offset, b.Metadata, simTopicID); err == nil {
			o := position.NewOffsets(p)
			o.Extend(p.End)
			b.Metadata = o.Encode(position.Note{Aside: p.Aside + 1, TopicID: simTopicID})
		}
	}
	var offsets []int64
	for _, r := range b.Records {
		if r.Kind == EventRecord {
			for w.gaps() && w.chance(10) {
				w.events = append(w.events, simEvent{}) // of a former owner, who will be fenced
			}
			offsets = append(offsets, int64(len(w.events)))
			w.events = append(w.events, simEvent{r.Message})
			continue
		}
		if w.bug == "parked records are deleted" && strings.Contains(string(r.Value), `"state":"parked"`) {
			r.Value = nil
		}
		offsets = append(offsets, int64(len(w.parked)))
		w.parked = append(w.parked, simAside{r.Offset, r.Value})
	}
	w.events = append(w.events, simEvent{}) // the commit marker
	w.offset, w.metadata = b.Offset, b.Metadata
	return offsets
}

// gaps says whether aborted records may stand inside of transactions, so that
// distances in them are not what the writer thought.
func (w *world) gaps() bool { return w.seed%5 == 3 }

// crash loses the owner; its open transaction is ended by the next one: it may
// have been committed without a word, or is aborted.
func (w *world) crash() {
	w.logf("crash")
	switch {
	case w.txn != nil && w.bug == "nobody fences a former owner":
		w.zombie = w.txn
	case w.txn != nil && w.chance(50):
		w.commit(w.txn.batch)
	}
	clear(w.reads)
	w.txn, w.shard, w.pending, w.clean = nil, nil, nil, false
}

func (w *world) stop() {
	w.logf("stop")
	w.checkpoint(true, true)
	w.shard, w.pending = nil, nil
	clear(w.reads)
}

// checkpoint writes the changed heads and the position beside them.
func (w *world) checkpoint(clean, faults bool) {
	if w.txn != nil {
		return
	}
	c := w.shard.TakeCheckpoint(clean)
	if faults && w.chance(20) {
		w.shard.ReturnCheckpoint(c)
		return
	}
	w.logf("checkpoint of %d heads", len(c.Heads))
	w.offset, w.metadata, w.headsEnd = c.Offset, c.Metadata, int64(len(w.events))
	for id, h := range c.Heads {
		if w.heads[id] = h; !h.Exists() {
			delete(w.heads, id)
		}
	}
}

// restoreHeads does as a takeover: the heads as of the checkpoint, brought up
// by the events since. Now and then the checkpoint cannot be used.
func (w *world) restoreHeads(r *Restored) {
	from := w.headsEnd
	if w.chance(5) {
		from = 0
	} else {
		maps.Copy(r.Heads, w.heads)
	}
	r.Unsaved = map[runtime.AggregateID]struct{}{}
	for at := from; at < int64(len(w.events)); at++ {
		if m := w.events[at].m; m != nil {
			key, pos, _ := runtime.ParseEventID(m.ID)
			h := Head{Version: max(m.Sequence, r.Heads[m.Aggregate()].Version), Offset: at, Command: key, Pos: int32(pos)}
			r.Heads[m.Aggregate()] = h
			r.Unsaved[m.Aggregate()] = struct{}{}
		}
	}
}

func (w *world) takeOver() {
	w.term++
	r := Restored{Position: position.Position{Offset: w.offset}, Heads: map[runtime.AggregateID]Head{}, AsideEnd: int64(len(w.parked))}
	if w.metadata != "" {
		p, err := position.Parse(w.offset, w.metadata, simTopicID)
		if err != nil {
			panic(err)
		}
		r.Position = p
	}
	if w.chance(3) {
		r.Position = position.Position{} // the committed offset has expired: everything is read again
	}
	if !r.Position.Clean {
		r.SuspectBelow = int64(len(w.commands))
	}
	live := map[int64]Aside{}
	for at := r.Position.Aside; at < int64(len(w.parked)); at++ {
		p := w.parked[at]
		if p.value == nil {
			delete(live, p.key)
			continue
		}
		a, err := ParseAside(p.value)
		if err != nil {
			panic(err)
		}
		a.Offset, a.RecordAt = p.key, at
		if !a.Parked() {
			c := *w.commands[p.key]
			a.Command = &c
		}
		_, a.Stray = w.strays[p.key]
		live[p.key] = a
	}
	for _, a := range live {
		r.Asides = append(r.Asides, a)
	}
	slices.SortFunc(r.Asides, func(a, b Aside) int { return int(a.Offset - b.Offset) })
	w.restoreHeads(&r)
	switch {
	case w.bug == "set-aside records are not read":
		r.Asides = nil
	case w.bug == "the heads stop at an open transaction" && w.chance(30):
		for id := range r.Heads {
			if before := w.foldTo(id, int64(len(w.events))-4).Head; before.Exists() {
				r.Heads[id] = before
			} else {
				delete(r.Heads, id)
			}
		}
	case w.bug == "a checkpoint leaves heads out":
		r.Unsaved = nil
	}
	if w.zombie != nil {
		defer func(z *simTxn) { w.commit(z.batch) }(w.zombie)
		w.zombie = nil
	}
	w.logf("take over at %d, %d above, %d aside, clean %v", r.Position.Offset, len(r.Position.Done), len(r.Asides), r.Position.Clean)
	w.shard = New(w.now, Config{
		Commands: simTopic, CommandsID: simTopicID, Installation: "sim", Seed: w.seed,
		Failure:  func(runtime.TypeName) bool { return false },
		Foldable: func(*runtime.Message) bool { return w.seed%3 == 0 },
		Platform: func(publish bool, p *Parked, r *Reject) (runtime.TypeName, runtime.DataSchema, []byte) {
			data, _ := json.Marshal([]any{p, r})
			if p != nil {
				return runtime.TypeCommandParked, "", data
			}
			return runtime.TypeCommandRejected, "", data
		},
		MaxCached: 2, MaxFold: 5, MaxTail: 8,
	}, r)
}
