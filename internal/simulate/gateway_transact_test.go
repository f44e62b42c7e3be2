package simulate

import (
	"fmt"
	"slices"
	"time"
)

func nameOf(process, i int) string { return fmt.Sprintf("evento-%d-%d", process, i) }

// turn is one transactional producer; see internal/kafka/turns.go.
type turn struct {
	id        string
	there     bool // it has been initialised
	pid       int64
	epoch     int16
	sequences map[*partitionLog]int32
	broken    int // transaction requests whose connection failed
}

func (t *turn) throwAway() { t.there = false }

// ready initialises the producer: no transaction of this id is open any more.
func (t *turn) ready(p *proc, n *node) error {
	if t.there {
		return nil
	}
	for deadline := n.w.now + watchdog; n.w.now < deadline; {
		r, err := call(p, n.w, n.w.kafka.away || n.w.kafka.coordinator, 3*time.Second, func(reply func(producerID)) { reply(n.w.kafka.initProducer(t.id)) })
		if err == nil {
			err = r.err
		}
		if err == nil {
			t.there, t.pid, t.epoch, t.sequences = true, r.pid, r.epoch, map[*partitionLog]int32{}
			return nil
		}
		p.sleep(n.w.between(5*time.Millisecond, 60*time.Millisecond))
	}
	return errWatchdog
}

type verdict int

const (
	unknown verdict = iota
	aborted
	done
)

type reason string

const (
	stale    reason = "stale"
	fenced   reason = "fenced"
	isRecord reason = "record"
	isOffset reason = "offset"
	isBroker reason = "broker"
)

// result is what became of a transaction; see internal/kafka.Result.
type result struct {
	verdict verdict
	offsets []int64
	reason  reason
	part    int32
	refused bool
	err     error
}

func failed(r reason, err error) result {
	return result{verdict: aborted, reason: r, part: -1, err: err}
}

type txn struct {
	records []record
	offsets []partOffset
	over    func() bool // nobody needs the result any more
}

// commit makes one transaction and tells what became of it: see transact_commit.go.
func (n *node) commit(p *proc, t txn) result {
	n.baton.lock(p)
	defer n.baton.unlock()
	var list []held
	for _, o := range t.offsets {
		list = append(list, o.held)
	}
	ps, err := n.fence.enter(p, list)
	if err == errStale || err == errNoMember {
		return failed(stale, err)
	} else if err != nil {
		return failed(isBroker, err)
	}
	defer n.fence.leave(ps)
	tr := n.turns[n.turn]
	n.turn = (n.turn + 1) % len(n.turns)
	if err := tr.ready(p, n); err != nil {
		return failed(isBroker, err)
	}
	return n.transact(p, tr, ps, t)
}

func (n *node) transact(p *proc, tr *turn, ps pass, t txn) result {
	w := n.w
	broken := tr.broken
	var written []int64
	if w.has(bugOffsetsBeforeFlush) {
		if f := n.commitOffsets(p, tr, ps, t.offsets); f != nil {
			return n.abort(p, tr, *f)
		}
		written = n.guess(t.records)
		w.spawn(n, func(p *proc) { n.produce(p, tr, t.records) })
		p.sleep(w.between(0, 2*time.Millisecond))
	} else {
		var f *result
		if written, f = n.produce(p, tr, t.records); f != nil {
			return n.abort(p, tr, *f)
		}
		if err := n.fence.check(ps); err != nil {
			return n.abort(p, tr, failed(stale, err))
		}
		if f := n.commitOffsets(p, tr, ps, t.offsets); f != nil {
			return n.abort(p, tr, *f)
		}
	}
	err := n.end(p, tr, true)
	if err == nil && (tr.broken == broken || w.has(bugNilIsProof)) {
		return result{verdict: done, offsets: written, part: -1}
	}
	w.logf("gateway %d: end of transaction of %s not seen: %v", n.id, tr.id, err)
	switch {
	case w.has(bugUncertainIsCommitted):
		tr.throwAway()
		return result{verdict: done, offsets: written, part: -1}
	case w.has(bugUncertainIsAborted):
		tr.throwAway()
		return failed(isBroker, errConnection)
	}
	return n.resolve(p, tr, t, written)
}

// guess is where records would stand if nobody else wrote.
func (n *node) guess(records []record) []int64 {
	next := map[*partitionLog]int64{}
	offsets := make([]int64, len(records))
	for i, r := range records {
		l := n.w.kafka.logs[r.topic][r.part]
		if next[l] == 0 {
			next[l] = l.end()
		}
		offsets[i] = next[l]
		next[l]++
	}
	return offsets
}

// share is what one partition has of some records.
type share struct {
	log     *partitionLog
	indexes []int // of the records
}

// byLog parts records by their partitions, in the order in which these come first.
func (n *node) byLog(records []record) (shares []share) {
	for i, r := range records {
		log := n.w.kafka.logs[r.topic][r.part]
		at := slices.IndexFunc(shares, func(s share) bool { return s.log == log })
		if at < 0 {
			at = len(shares)
			shares = append(shares, share{log: log})
		}
		shares[at].indexes = append(shares[at].indexes, i)
	}
	return shares
}

// produce writes the records, each partition's in one batch, all at the same time.
func (n *node) produce(p *proc, tr *turn, records []record) ([]int64, *result) {
	type batch struct {
		share
		first int64
		err   error
		done  bool
	}
	var batches []*batch
	for _, s := range n.byLog(records) {
		batches = append(batches, &batch{share: s})
	}
	left, all := len(batches), &cond{}
	for _, b := range batches {
		n.w.spawn(n, func(p *proc) {
			var list []record
			for _, i := range b.indexes {
				list = append(list, records[i])
			}
			b.first, b.err = n.produceBatch(p, tr, b.log, list)
			b.done = true
			left--
			all.broadcast()
		})
	}
	for deadline := n.w.now + watchdog + watchdog/10; left > 0 && n.w.now < deadline; {
		all.wait(p, deadline-n.w.now)
	}
	offsets := make([]int64, len(records))
	var worst *batch
	for _, b := range batches {
		switch {
		case !b.done:
			b.err = errConnection
		}
		if b.err != nil && (worst == nil || passing(worst.err) || fencing(b.err)) {
			worst = b
		}
		for j, i := range b.indexes {
			offsets[i] = b.first + int64(j)
		}
	}
	if worst == nil {
		return offsets, nil
	}
	f := failed(isRecord, worst.err)
	f.part, f.refused = worst.log.part, worst.err == errTooLarge
	if fencing(worst.err) || worst.err == errConnection {
		f = failed(isBroker, worst.err)
	}
	if f.reason == isBroker || passing(worst.err) {
		tr.throwAway()
	}
	return nil, &f
}

func fencing(err error) bool {
	return err == errEpoch || err == errMapping || err == errTxnState || err == errSequence
}

// produceBatch writes a batch, again and again while that may help: a second
// try of what is there already is recognised by its sequence number.
func (n *node) produceBatch(p *proc, tr *turn, l *partitionLog, batch []record) (int64, error) {
	k := n.w.kafka
	id, pid, epoch := tr.id, tr.pid, tr.epoch
	sequence := tr.sequences[l]
	tr.sequences[l]++
	if !k.tv2 {
		if err := n.retry(p, tr, func() (error, error) {
			return call(p, n.w, k.away, 2*time.Second, func(reply func(error)) { reply(k.addPartition(id, pid, epoch, l)) })
		}, true); err != nil {
			return -1, err
		}
	}
	var first int64
	err := n.retry(p, tr, func() (error, error) {
		r, lost := call(p, n.w, k.away, 2*time.Second, func(reply func(produced)) { k.produce(l, id, pid, epoch, sequence, batch, reply) })
		first = r.first
		return r.err, lost
	}, false)
	return first, err
}

// retry makes a request again while its failure may pass. Of a transaction's
// own requests it counts the connections that broke.
func (n *node) retry(p *proc, tr *turn, request func() (err, lost error), own bool) error {
	backoff := 5 * time.Millisecond
	for deadline := n.w.now + watchdog; ; {
		err, lost := request()
		if lost != nil {
			if own {
				tr.broken++
			}
			err = lost
		}
		if err == nil || !passing(err) || n.w.now > deadline {
			return err
		}
		p.sleep(n.w.between(backoff/2, backoff))
		backoff = min(2*backoff, 250*time.Millisecond)
	}
}

// commitOffsets puts the positions into the transaction.
func (n *node) commitOffsets(p *proc, tr *turn, ps pass, offsets []partOffset) *result {
	k := n.w.kafka
	id, pid, epoch := tr.id, tr.pid, tr.epoch
	if !k.tv2 {
		if err := n.retry(p, tr, func() (error, error) {
			return call(p, n.w, k.away, 2*time.Second, func(reply func(error)) { reply(k.addGroup(id, pid, epoch, n.group)) })
		}, true); err != nil {
			tr.throwAway()
			f := failed(isBroker, err)
			return &f
		}
	}
	err := n.retry(p, tr, func() (error, error) {
		member, generation := n.fence.as(ps)
		return call(p, n.w, k.away, 2*time.Second, func(reply func(error)) {
			reply(n.group.commitInTxn(id, pid, epoch, member, generation, offsets))
		})
	}, true)
	var f result
	switch {
	case err == nil:
		return nil
	case err == errGeneration || err == errMember || err == errRebalance:
		f = failed(fenced, err)
	case fencing(err) || passing(err):
		tr.throwAway()
		f = failed(isBroker, err)
	default:
		f = failed(isOffset, err)
	}
	return &f
}

// end asks for the end of the transaction and waits for an answer to it.
func (n *node) end(p *proc, tr *turn, commit bool) error {
	k := n.w.kafka
	id, pid, epoch := tr.id, tr.pid, tr.epoch
	never := n.w.chance(n.w.faults.ends) // the request does not get through, however often
	return n.retry(p, tr, func() (error, error) {
		r, lost := call(p, n.w, k.away || k.coordinator || never, 2*time.Second, func(reply func(ended)) { reply(k.endTxn(id, pid, epoch, commit)) })
		if lost == nil && r.err == nil {
			if r.epoch != tr.epoch {
				tr.sequences = map[*partitionLog]int32{}
			}
			tr.epoch = r.epoch
		}
		return r.err, lost
	}, true)
}

func (n *node) abort(p *proc, tr *turn, why result) result {
	n.w.saw["aborted: "+string(why.reason)]++
	n.w.logf("gateway %d: transaction of %s is aborted: %s, %v", n.id, tr.id, why.reason, why.err)
	if tr.there {
		broken := tr.broken
		if err := n.end(p, tr, n.w.has(bugAbortCommits)); err != nil || tr.broken != broken {
			tr.throwAway()
		}
	}
	if !tr.there {
		_ = tr.ready(p, n)
	}
	if n.w.has(bugAbortedCounts) && (why.reason == isBroker || why.reason == fenced) {
		why.verdict = done
	}
	return why
}

// resolve finds out what became of a transaction whose end was not seen: a new
// producer of the id ends it, and then committed readers' eyes decide.
func (n *node) resolve(p *proc, tr *turn, t txn, written []int64) result {
	tr.throwAway()
	for backoff := 10 * time.Millisecond; ; backoff = min(2*backoff, time.Second) {
		err := tr.ready(p, n)
		if err == nil {
			var found int
			offsets := append([]int64(nil), written...)
			if found, err = n.lookUp(p, tr.id, t.records, offsets); err == nil {
				n.w.logf("gateway %d: outcome of %s found in the log: %d of %d", n.id, tr.id, found, len(offsets))
				switch found {
				case 0:
					n.w.saw["end not seen: it was aborted"]++
					return failed(isBroker, errConnection)
				case len(offsets):
					n.w.saw["end not seen: it was committed"]++
					return result{verdict: done, offsets: offsets, part: -1}
				default:
					n.w.check.fail("a transaction of %s is torn: %d of %d records", tr.id, found, len(offsets))
					return result{verdict: done, offsets: offsets, part: -1}
				}
			}
		}
		if t.over != nil && t.over() {
			return result{verdict: unknown, reason: isBroker, part: -1}
		}
		p.sleep(backoff)
	}
}

// lookUp looks for each record at its offset as a committed reader.
func (n *node) lookUp(p *proc, writer string, records []record, offsets []int64) (int, error) {
	there := map[string]bool{}
	for _, s := range n.byLog(records) {
		first, last := offsets[s.indexes[0]], offsets[s.indexes[0]]
		for _, i := range s.indexes {
			first, last = min(first, offsets[i]), max(last, offsets[i])
		}
		high := int64(0)
		for deadline := n.w.now + watchdog; high <= last; {
			var err error
			if high, err = n.high(p, s.log); err != nil {
				return 0, err
			}
			if n.w.now > deadline {
				break
			}
			if high <= last {
				p.sleep(20 * time.Millisecond)
			}
		}
		err := n.scan(p, s.log, first, min(last+1, high), watchdog, func(e *entry) {
			if e.writer == writer {
				there[e.id] = true
			}
		})
		if err != nil {
			return 0, err
		}
	}
	found := 0
	for i, r := range records {
		if there[r.id] {
			found++
		} else {
			offsets[i] = -1
		}
	}
	return found, nil
}

// commitPlain moves positions without a transaction.
func (n *node) commitPlain(p *proc, offsets []partOffset) error {
	k := n.w.kafka
	n.baton.lock(p)
	defer n.baton.unlock()
	var list []held
	for _, o := range offsets {
		list = append(list, o.held)
	}
	ps, err := n.fence.enter(p, list)
	if err != nil {
		return err
	}
	defer n.fence.leave(ps)
	return n.retry(p, &turn{}, func() (error, error) {
		member, generation := n.fence.as(ps)
		return call(p, n.w, k.away, 2*time.Second, func(reply func(error)) { reply(n.group.commitPlain(member, generation, offsets)) })
	}, false)
}

// high asks for a high watermark.
func (n *node) high(p *proc, l *partitionLog) (int64, error) {
	return call(p, n.w, n.w.kafka.away || l.away, 2*time.Second, func(reply func(int64)) { reply(l.high) })
}

// scan reads committed records up to an end, see internal/kafka.Takeover.Scan.
func (n *node) scan(p *proc, l *partitionLog, from, to int64, stall time.Duration, do func(*entry)) error {
	type chunk struct {
		got  []*entry
		next int64
	}
	progress := n.w.now
	backoff := 5 * time.Millisecond
	for from < to {
		c, err := call(p, n.w, n.w.kafka.away || l.away, 2*time.Second, func(reply func(chunk)) {
			got, next := l.read(from, 100, !n.w.has(bugUncommittedRead))
			reply(chunk{got, next})
		})
		if err == nil {
			for _, e := range c.got {
				if e.offset >= to {
					return nil
				}
				if !e.control {
					do(e)
				}
			}
			if c.next > from {
				from, progress, backoff = c.next, n.w.now, 5*time.Millisecond
				continue
			}
		}
		if n.w.now-progress > stall {
			return errStalled
		}
		p.sleep(backoff)
		backoff = min(2*backoff, 250*time.Millisecond)
	}
	return nil
}
