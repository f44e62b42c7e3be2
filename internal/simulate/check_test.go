package simulate

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

// check sees everything, and holds it against the promises as it happens.
type check struct {
	w     *world
	wrong error

	seen           [topics][]int64 // by topic and partition: the offset up to which committed records were looked at
	chains         map[runtime.AggregateID]*chain
	outcomes       map[runtime.CommandKey]*outcome
	byTxn          map[runtime.CommandKey]*transaction // decided to commit; perhaps not visible yet
	owners         []int                               // by partition: the last one that took it over
	dispatchOwners []int                               // the same of dispatchers
	decisions      map[place]*decision                 // by event
	nothing        map[place]bool                      // events that a dispatcher made nothing of, once at least
	later          []map[int64][]func()                // by partition: what can be said when the record at an offset is visible
	worst          int                                 // the longest metadata that was committed
	reads          []verify.Read                       // of the newest state
}

// chain is all committed records of one aggregate.
type chain struct {
	part    int32
	records []*entry
	head    shard.Head
	account account
	states  map[int64]account // after the record at an offset
	version map[int64]uint64
	cause   int64
	time    time.Time
}

// place is one of a partition.
type place struct {
	part   int32
	offset int64
}

type outcome struct {
	records []*entry
	hash    string
}

func newCheck(w *world, partitions int32) *check {
	c := &check{w: w, chains: map[runtime.AggregateID]*chain{}, outcomes: map[runtime.CommandKey]*outcome{}, byTxn: map[runtime.CommandKey]*transaction{}, owners: make([]int, partitions), dispatchOwners: make([]int, partitions), decisions: map[place]*decision{}, nothing: map[place]bool{}}
	for t := range c.seen {
		c.seen[t] = make([]int64, partitions)
	}
	for range partitions {
		c.later = append(c.later, map[int64][]func(){})
	}
	return c
}

// fail notes the first thing that is wrong.
func (c *check) fail(format string, args ...any) {
	if c.wrong == nil {
		c.wrong = fmt.Errorf("at %v: "+format, append([]any{c.w.now.Round(time.Millisecond)}, args...)...)
		c.w.logf("WRONG: %v", c.wrong)
	}
}

func (c *check) records(id runtime.AggregateID) []*entry {
	if ch := c.chains[id]; ch != nil {
		return ch.records
	}
	return nil
}

// decided looks at a transaction that is going to be committed: nobody can stop it
// any more.
func (c *check) decided(t *transaction) {
	c.w.commits++
	moved := map[int32]bool{}
	for _, g := range t.groups {
		for _, p := range g.pending {
			if p.txn == t {
				moved[p.part] = true
				c.worst = max(c.worst, len(p.metadata))
				if _, err := position.Parse(p.offset, p.metadata, g.topicID); err != nil && (g == c.w.kafka.group || p.metadata != "") {
					c.fail("position %d of partition %d is committed with metadata that nobody can read: %v", p.offset, p.part, err)
				}
			}
		}
	}
	for _, b := range t.batches {
		l := b.log
		delete(moved, l.part)
		for at := b.first; at < b.first+int64(b.count); at++ {
			e := &l.entries[at]
			owners := c.owners
			if l.topic == dispatched {
				owners = c.dispatchOwners
				c.decision(l.part, e.value.(*decision))
			}
			if e.owner < owners[l.part] {
				c.fail("a zombie's write is committed: %s/%d/%d of owner %d, and %d has taken over", l.topic, l.part, at, e.owner, owners[l.part])
			}
			if l.topic == events {
				key, pos, _ := runtime.ParseEventID(e.msg.ID)
				if pos == 1 {
					c.byTxn[key] = t
				} else if c.byTxn[key] != t {
					c.fail("the events of command %s are in two transactions", e.msg.CausationID)
				}
			}
		}
	}
	for part := range int32(c.w.partitions) {
		if moved[part] {
			c.fail("the position of partition %d moves in a transaction that has no record of it", part)
		}
	}
}

// decision notes what was decided about an event, once.
func (c *check) decision(part int32, d *decision) {
	if d.status == avro.DispatchWaiting {
		return
	}
	at := place{part, d.offset}
	if c.decisions[at] != nil {
		c.fail("two decisions about the event at %d/%d", part, d.offset)
	}
	c.decisions[at] = d
	c.w.saw["dispatcher: "+string(d.status)]++
}

// command looks at a command when it is written: what comes of a dispatcher was
// decided before.
func (c *check) command(e *entry) {
	if e.msg.Source != dispatcherSource {
		return
	}
	d := c.decisions[place{e.msg.Cause.Partition, e.msg.Cause.Offset}]
	if d == nil || !slices.Contains(d.commands, e.msg) {
		c.fail("command %s is sent by a dispatcher whose decision is not recorded", e.msg.ID)
	}
}

// advanced looks at what committed readers are shown now.
func (c *check) advanced(l *partitionLog) {
	if l.topic != events && l.topic != parked {
		return
	}
	at := &c.seen[l.topic][l.part]
	for stable := l.stable(); *at < stable; *at++ {
		e := l.entries[*at]
		if !e.committed() {
			for _, do := range c.later[l.part][*at] {
				if l.topic == events {
					do()
				}
			}
			continue
		}
		if l.topic == parked {
			c.aside(l, &e)
			continue
		}
		c.event(l, &e)
		for _, do := range c.later[l.part][*at] {
			do()
		}
		delete(c.later[l.part], *at)
	}
}

// aside holds a record of the parked topic against the log.
func (c *check) aside(l *partitionLog, e *entry) {
	if e.value != nil {
		return
	}
	offset, _ := strconv.ParseInt(e.key, 10, 64)
	log := c.w.kafka.logs[commands][l.part].entries
	if offset >= int64(len(log)) {
		return
	}
	m := log[offset].msg
	if m.Type == runtime.TypeDropCommand || m.Type == runtime.TypeRetryNow || c.w.partition(string(m.Aggregate())) != l.part {
		return
	}
	switch t := c.byTxn[c.w.command(&log[offset]).Key]; {
	case t == nil:
		c.fail("the set-aside record of the command at %d/%d is deleted, and it has no outcome", l.part, offset)
	case t == e.txn:
		c.fail("the set-aside record of the command at %d/%d is deleted in the transaction of its outcome", l.part, offset)
	}
}

// event holds the next committed record against P2, P3, P4 and what the handler
// should have said.
func (c *check) event(l *partitionLog, e *entry) {
	m, offset := e.msg, e.offset
	id := m.Aggregate()
	where := fmt.Sprintf("%s/%d/%d", l.topic, l.part, offset)
	if c.w.partition(string(id)) != l.part {
		c.fail("%s: a record of %s, which belongs to partition %d", where, id, c.w.partition(string(id)))
	}
	key, pos, ok := runtime.ParseEventID(m.ID)
	if !ok {
		c.fail("%s: event id %q", where, m.ID)
		return
	}
	ch := c.chains[id]
	if ch == nil {
		ch = &chain{part: l.part, states: map[int64]account{}, version: map[int64]uint64{}, cause: -1}
		c.chains[id] = ch
	}
	out := c.outcomes[key]
	if out == nil {
		out = &outcome{hash: m.Hash}
		c.outcomes[key] = out
	}
	switch {
	case m.Platform() != (m.Sequence == 0):
		c.fail("%s: type %s with sequence %d", where, m.Type, m.Sequence)
	case m.Sequence > 0 && m.Sequence != ch.head.Version+1:
		c.fail("%s: version %d of %s after %d", where, m.Sequence, id, ch.head.Version)
	case pos != m.Pos || pos != len(out.records)+1 || pos > m.Count:
		c.fail("%s: event %d of %d of command %s after %d: a second outcome, or a torn one", where, pos, m.Count, m.CausationID, len(out.records))
	case pos > 1 && (ch.head.Command != key || out.records[0].txn != e.txn):
		c.fail("%s: the events of command %s are not together", where, m.CausationID)
	case m.RecordedTime.Before(ch.time):
		c.fail("%s: recorded at %v after %v", where, m.RecordedTime, ch.time)
	}
	if n := len(ch.records); n > 0 && pos == 1 {
		if last := ch.records[n-1].msg; last.Pos != last.Count {
			c.fail("%s: command %s has %d events of %d", where, last.CausationID, last.Pos, last.Count)
		}
	}
	c.links(where, ch, e)
	if m.Cause.Offset >= c.w.kafka.logs[commands][l.part].end() {
		c.fail("%s: its cause is not there", where)
		return
	}
	cmd := c.w.kafka.logs[commands][l.part].entries[m.Cause.Offset].msg
	if cmd.Key() != key {
		c.fail("%s: an outcome of command %s, caused by %s", where, m.CausationID, cmd.ID)
	}
	if pos == 1 {
		if m.Sequence > 0 { // who is dropped by an operator does not wait for his turn
			if m.Cause.Offset < ch.cause {
				c.fail("%s: the command at %d takes effect after the one at %d", where, m.Cause.Offset, ch.cause)
			}
			ch.cause = m.Cause.Offset
		}
		if want := cmd.Expect; m.Sequence > 0 && want != nil && *want != ch.head.Version {
			c.fail("%s: command %s expects version %d and is done at %d", where, cmd.ID, *want, ch.head.Version)
		}
		if m.Type == runtime.TypeCommandRejected && (cmd.Expect == nil || *cmd.Expect == ch.head.Version) {
			c.fail("%s: command %s is rejected at version %d", where, cmd.ID, ch.head.Version)
		}
	}
	if m.Sequence > 0 {
		x := factOf(m.Data)
		if m.Type == typeRefused && ch.account.balance >= amountOf(cmd) {
			c.fail("%s: command %s is refused at a balance of %d", where, cmd.ID, ch.account.balance)
		}
		if ch.account = ch.account.apply(x); x.balance != ch.account.balance && x.balance != anyBalance {
			c.fail("%s: the handler of command %s saw a state that never was: balance %d, it is %d", where, cmd.ID, x.balance, ch.account.balance)
		}
	}
	out.records = append(out.records, e)
	ch.records = append(ch.records, e)
	ch.head = shard.Head{Version: max(m.Sequence, ch.head.Version), Offset: offset, Command: key, Pos: int32(pos)}
	ch.states[offset], ch.version[offset], ch.time = ch.account, ch.head.Version, m.RecordedTime
}

// links holds eventoprev and eventoskip against the records before. A distance
// may be short where strangers' records stand in the transaction, never long.
func (c *check) links(where string, ch *chain, e *entry) {
	fits := func(link, want int64) bool {
		if link >= 0 {
			return link == want
		}
		at := e.offset + link
		return at == want || at > want && at < e.offset
	}
	m, n := e.msg, len(ch.records)
	switch {
	case n == 0 && m.Prev != runtime.NoPrev:
		c.fail("%s: the first record of its aggregate has eventoprev %d", where, m.Prev)
	case n > 0 && !fits(m.Prev, ch.records[n-1].offset):
		c.fail("%s: eventoprev %d, want %d", where, m.Prev, ch.records[n-1].offset)
	}
	if due := n > 0 && n%shard.SkipEvery == 0; due != (m.Skip != nil) {
		c.fail("%s: %d records before it and eventoskip %v", where, n, m.Skip)
		return
	}
	for i, link := range m.Skip {
		if want := ch.records[n-shard.SkipEvery+i].offset; !fits(link, want) {
			c.fail("%s: eventoskip[%d] is %d, want %d", where, i, link, want)
		}
	}
}

// tookOver holds what a new owner found against the log: all that is committed,
// and nothing that is not.
func (c *check) tookOver(pt *part, r shard.Restored) {
	part := pt.held.part
	if pt.owner > c.owners[part] {
		c.owners[part] = pt.owner
	}
	if pt.owner < c.w.lastOwner(part) {
		return // it is a zombie already, and will be told so
	}
	count := 0
	for _, id := range sortedKeys(c.chains) {
		ch := c.chains[id]
		if ch.part != part {
			continue
		}
		count++
		if got := r.Heads[id]; got != ch.head {
			c.fail("owner %d of partition %d takes %s to be at %d (offset %d), it is at %d (offset %d)", pt.owner, part, id, got.Version, got.Offset, ch.head.Version, ch.head.Offset)
		}
	}
	if len(r.Heads) != count {
		c.fail("owner %d of partition %d knows %d aggregates, there are %d", pt.owner, part, len(r.Heads), count)
	}
	for id, why := range r.Broken {
		c.fail("owner %d of partition %d takes %s for broken: %s", pt.owner, part, id, why)
	}
}

// there says whether a message is what stands at its place, in a transaction
// that is decided.
func (c *check) there(part int32, r shard.Recorded) bool {
	l := c.w.kafka.logs[events][part]
	if r.At.Offset < 0 || r.At.Offset >= l.end() {
		return false
	}
	e := &l.entries[r.At.Offset]
	return e.msg == r.Message && e.txn.decided && e.txn.commit
}

// answered holds an answer against the log, at the moment when it is given.
func (c *check) answered(pt *part, a shard.Answer) {
	m, o := a.Command.Message, a.Outcome
	c.w.logf("gateway %d: answer %s of %s at %d/%d: %s, version %d %s", pt.n.id, m.ID, m.Source, pt.held.part, a.Command.Offset, o.Status, o.Version, o.Reason)
	if !o.Status.Final() {
		c.fail("command %s is answered as %s", m.ID, o.Status)
	}
	if a.Command.Order != nil || o.Status == shard.Conflict {
		return
	}
	if len(o.Records) == 0 {
		c.fail("command %s is answered as %s without a record", m.ID, o.Status)
	}
	for i, r := range o.Records {
		if !c.there(pt.held.part, r) {
			c.fail("command %s is answered with %s at offset %d, which is not committed", m.ID, r.Message.ID, r.At.Offset)
		}
		if r.Message.ID != m.Key().EventID(i+1) || r.Message.Count != len(o.Records) {
			c.fail("command %s is answered with %s, event %d of %d", m.ID, r.Message.ID, i+1, len(o.Records))
		}
	}
}

// saved holds a snapshot that leaves a gateway against the log.
func (c *check) saved(pt *part, s shard.Snapshot, owner bool) {
	l := c.w.kafka.logs[events][pt.held.part]
	at := s.Head.Offset
	if at < 0 || at >= l.end() || l.entries[at].control || !l.entries[at].txn.decided || !l.entries[at].txn.commit || l.entries[at].id != s.Head.EventID() {
		c.fail("a snapshot of %s ends at %s, offset %d, which is not committed", s.Aggregate, s.Head.EventID(), at)
		return
	}
	c.state(s.Aggregate, at, s.State, "a snapshot")
	if seen := s.Seen.Len(); owner {
		links := slices.Clone(s.Links)
		c.when(pt.held.part, at, func() {
			commands := 0
			var want []int64
			for _, e := range c.chains[s.Aggregate].records {
				if e.offset > at {
					break
				}
				if e.msg.Pos == 1 {
					commands++
				}
				if e.msg.Skip != nil {
					want = nil
				}
				want = append(want, e.offset)
			}
			if !slices.Equal(links, want) {
				c.fail("a snapshot of %s has the links %v, its records are at %v", s.Aggregate, links, want)
			}
			if seen != commands {
				c.fail("a snapshot of %s knows %d commands, there are %d", s.Aggregate, seen, commands)
			}
		})
	}
}

// state holds a state against the fold of all events up to an offset.
func (c *check) state(id runtime.AggregateID, at int64, s shard.State, what string) {
	got := accountOf(s)
	c.when(c.w.partition(string(id)), at, func() {
		ch := c.chains[id]
		want, ok := account{}, false
		if ch != nil {
			want, ok = ch.states[at]
		}
		switch {
		case !ok:
			c.fail("%s of %s ends at offset %d, where none of its records stands", what, id, at)
		case s.Version != ch.version[at] || got.balance != want.balance || got.hash != want.hash && !c.w.odd(id):
			c.fail("%s of %s is at version %d with %+v, its events say %d and %+v", what, id, s.Version, got, ch.version[at], want)
		}
	})
}

// when calls do as soon as the events up to an offset are visible.
func (c *check) when(part int32, at int64, do func()) {
	if at < c.seen[events][part] {
		do()
		return
	}
	c.later[part][at] = append(c.later[part][at], do)
}
