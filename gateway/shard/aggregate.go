package shard

import (
	"container/heap"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// aggregate is what the shard holds of one aggregate: its committed snapshot,
// the results on top of it that are not committed yet, and the commands to come.
type aggregate struct {
	id    runtime.AggregateID
	topic string

	loaded   bool
	loading  uint64 // token of the Load under way; 0 for none
	snapshot Snapshot

	tail     []*entry // computed and batched, in order: the speculative versions
	queue    queue    // waiting, checking or calling, in order
	inFlight map[runtime.CommandKey]*entry
	entries  int    // its commands without outcome: in tail and queue, repeats, orders
	asides   int    // how many of them are set aside
	call     uint64 // the Invoke under way; 0 for none
	called   int    // commands in it: the first of the queue
	checking bool   // the first of the queue is being confirmed

	stale    bool // its states are of an old aggregator; it loads again when its batch has ended
	examined bool // its first commands have been announced after an unclean takeover

	notBefore time.Time // no call before; zero for none
	awaits    string    // the function that notBefore is there for, because it does not answer; "" for other reasons
	readers   []reader
	broken    string // the log contradicts itself; nothing goes on
	torn      bool   // broken for all later owners, too: they may not see why
	idle      bool   // stands in the idle list
	idleNode
}

func (s *Shard) aggregate(c *Command) *aggregate {
	return s.named(c.Message.Aggregate(), c.Topic)
}

func (s *Shard) named(id runtime.AggregateID, topic string) *aggregate {
	agg := s.aggregates[id]
	if agg == nil {
		agg = &aggregate{id: id, topic: topic, inFlight: map[runtime.CommandKey]*entry{}}
		if head := s.heads[id]; !head.Exists() {
			// Nothing was ever recorded: there is nothing to load.
			agg.loaded = true
			agg.snapshot = Snapshot{Aggregate: id, Seen: &Seen{}}
		}
		if _, agg.examined = s.examined[id]; agg.examined {
			delete(s.examined, id)
		}
		s.aggregates[id] = agg
	}
	s.idle.remove(agg)
	return agg
}

// base returns the state that the next command is computed on.
func (a *aggregate) base() State {
	for i := len(a.tail) - 1; i >= 0; i-- {
		if a.tail[i].step != nil {
			return a.tail[i].step.State
		}
	}
	return a.snapshot.State
}

// batched says whether some of its results are in the open transaction.
func (a *aggregate) batched() bool { return len(a.tail) > 0 && a.tail[0].stage == batched }

// unbatched says whether it has a result that is in no transaction yet.
func (a *aggregate) unbatched() bool {
	return len(a.tail) > 0 && a.tail[len(a.tail)-1].stage == computed
}

// pump lets an aggregate go on as far as it can: load, decide, call.
func (s *Shard) pump(now time.Time, agg *aggregate) {
	for agg.broken == "" && agg.call == 0 && !agg.checking {
		head := agg.queue.first()
		if head == nil {
			s.rest(agg)
			return
		}
		if !agg.notBefore.IsZero() && agg.notBefore.After(now) {
			return
		}
		if !agg.loaded {
			s.load(agg)
			return
		}
		if len(agg.tail) >= s.cfg.MaxTail {
			return
		}
		if !s.decide(now, head) {
			return
		}
		if head.stage == waiting {
			s.invoke(agg)
		}
	}
}

// decide settles all of a command that needs no function. It returns false when
// the aggregate has to wait for something.
func (s *Shard) decide(now time.Time, e *entry) bool {
	agg := e.agg
	// Even an operator's verdict waits for this: the command may have its outcome
	// and only the deletion of its set-aside record was lost.
	if !e.confirmed {
		if offsets := agg.snapshot.Seen.Find(SeenHash(e.cmd.Key)); len(offsets) > 0 {
			s.nextCall++
			s.checks[s.nextCall] = e
			e.stage, agg.checking = checking, true
			s.emit(Confirm{Token: s.nextCall, Command: e.cmd, Offsets: offsets, Head: agg.snapshot.Head})
			return false
		}
		e.confirmed = true
	}
	if e.verdict != nil {
		s.conclude(e)
		return true
	}
	if want := e.cmd.Message.Expect; want != nil && *want != agg.base().Version {
		e.verdict = &verdict{rejected: &Reject{Code: CodeVersionMismatch, Reason: mismatch(*want, agg.base().Version)}}
		s.conclude(e)
		return true
	}
	if e.suspect {
		return s.announce(now, e)
	}
	return true
}

// announce records the attempt before the call: the last owner died, perhaps of
// this very command, and it must not be tried for ever. Only the first commands
// of an aggregate can have been in a call. It returns true once the record is safe.
func (s *Shard) announce(now time.Time, head *entry) bool {
	agg := head.agg
	if !agg.examined {
		agg.examined = true
		n := 1
		if s.cfg.Foldable(head.cmd.Message) {
			n = s.cfg.MaxFold
		}
		for _, e := range agg.queue.all()[:min(n, agg.queue.len())] {
			if !e.suspect {
				continue
			}
			e.announced = true
			e.attempts++
			e.reason = "a gateway stopped without a word while this command may have been under way"
			if e.attempts >= DefaultPolicy.Attempts {
				e.held = true
			}
			s.setAside(e)
		}
		if head.held {
			s.delay(agg, now, DefaultPolicy.MaxDelay)
		}
	}
	if head.announced && (head.aside != asideRecorded || head.asideChanged) {
		return false
	}
	head.suspect = false
	return agg.notBefore.IsZero()
}

// conclude puts the platform's verdict on the tail. It changes no state.
func (s *Shard) conclude(e *entry) {
	e.agg.queue.pop()
	e.step = nil
	s.push(e)
}

// push adds a result to the tail of its aggregate and offers it to the next batch.
func (s *Shard) push(e *entry) {
	e.stage = computed
	e.agg.tail = append(e.agg.tail, e)
	s.ready = append(s.ready, e)
}

func (s *Shard) load(agg *aggregate) {
	if agg.loading != 0 {
		return
	}
	s.nextCall++
	agg.loading = s.nextCall
	s.emit(Load{Token: agg.loading, Aggregate: agg.id, Topic: agg.topic, Head: s.heads[agg.id]})
}

// Loaded answers a [Load]. A trouble (of the aggregator, of Kafka) is tried again after its Wait.
func (s *Shard) Loaded(now time.Time, id runtime.AggregateID, token uint64, snapshot Snapshot, trouble *Trouble) {
	agg := s.aggregates[id]
	if agg == nil || agg.loading != token {
		return
	}
	agg.loading = 0
	if trouble != nil {
		if e := agg.queue.first(); e != nil {
			e.failed(now, trouble)
		}
		s.failReaders(agg, trouble.Reason, trouble.Broken)
		if agg.queue.first() == nil {
			s.rest(agg)
			return
		}
		s.delay(agg, now, max(trouble.Wait, 100*time.Millisecond))
		if trouble.Kind == Unavailable {
			agg.awaits = trouble.Function
		}
		return
	}
	if want := s.heads[id]; snapshot.Head != want {
		s.breakOff(agg, "the history ends at "+snapshot.Head.EventID()+" and not at "+want.EventID())
		return
	}
	if snapshot.Seen == nil {
		snapshot.Seen = &Seen{}
	}
	agg.snapshot, agg.loaded = snapshot, true
	s.answerReaders(agg)
	s.pump(now, agg)
}

// breakOff stops an aggregate for good and says why: its log contradicts itself,
// and going on would build on that. Its commands wait, and are shown as held.
func (s *Shard) breakOff(agg *aggregate, reason string) {
	s.rollBack(agg)
	s.sweepReady()
	agg.broken, agg.loading, agg.stale = reason, 0, false
	for _, e := range agg.queue.all() {
		e.reason = reason
	}
	s.failReaders(agg, reason, true)
	s.emit(Corrupt{Aggregate: agg.id, Reason: reason})
}

// tear stops an aggregate that misses records in the log. The next checkpoint
// tells later owners, who may not read as far back as that.
func (s *Shard) tear(agg *aggregate, reason string) {
	agg.torn = true
	s.dirtyHeads[agg.id] = struct{}{}
	s.breakOff(agg, reason)
}

func (s *Shard) delay(agg *aggregate, now time.Time, wait time.Duration) {
	agg.notBefore, agg.awaits = now.Add(wait), ""
	heap.Push(&s.timers, &timer{at: agg.notBefore, agg: agg})
}

// rest puts an aggregate without work into the cache, and the one that has
// been there longest out of it. One that has left memory already stays away: another
// may be there under its id, with work.
func (s *Shard) rest(agg *aggregate) {
	if s.aggregates[agg.id] != agg {
		return
	}
	if agg.queue.len() > 0 || len(agg.tail) > 0 || agg.loading != 0 || agg.call != 0 || len(agg.readers) > 0 || agg.broken != "" {
		return
	}
	s.idle.push(agg)
	for s.idle.len > s.cfg.MaxCached {
		old := s.idle.pop()
		delete(s.aggregates, old.id)
		if old.examined && s.offsets.Next() < s.suspect {
			s.examined[old.id] = struct{}{} // more suspects of it may come
		}
	}
}
