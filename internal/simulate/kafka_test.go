package simulate

import (
	"errors"
	"slices"
	"time"
)

// What a broker answers, as far as anybody here tells them apart.
var (
	errLeader       = errors.New("NOT_LEADER_OR_FOLLOWER")
	errEpoch        = errors.New("INVALID_PRODUCER_EPOCH")
	errMapping      = errors.New("INVALID_PRODUCER_ID_MAPPING")
	errConcurrent   = errors.New("CONCURRENT_TRANSACTIONS")
	errTxnState     = errors.New("INVALID_TXN_STATE")
	errSequence     = errors.New("OUT_OF_ORDER_SEQUENCE_NUMBER")
	errTooLarge     = errors.New("MESSAGE_TOO_LARGE")
	errGeneration   = errors.New("ILLEGAL_GENERATION")
	errMember       = errors.New("UNKNOWN_MEMBER_ID")
	errRebalance    = errors.New("REBALANCE_IN_PROGRESS")
	errUnstable     = errors.New("UNSTABLE_OFFSET_COMMIT")
	errMetadataSize = errors.New("OFFSET_METADATA_TOO_LARGE")
)

// passing says whether an error may go away by itself.
func passing(err error) bool {
	return err == errConnection || err == errLeader || err == errConcurrent || err == errUnstable
}

const (
	txnTimeout   = 30 * time.Second
	metadataMost = 4096
	recordMost   = 1000
)

// cluster is a simulated Kafka: logs, a coordinator of transactions, one of the group.
type cluster struct {
	w    *world
	tv2  bool // transaction.version 2: each transaction has its own epoch (KIP-890)
	away bool
	// The coordinator of transactions alone is away.
	coordinator bool
	logs        [topics][]*partitionLog
	txns        map[string]*txnState
	pids        int64
	group       *group // of the gateways
	dispatchers *group
	relayed     []int64 // the relay's positions
	relayedBy   []int   // their last owners; the group refuses those of older ones
}

// txnState is what the coordinator knows of a transactional id.
type txnState struct {
	id    string
	pid   int64
	epoch int16
	open  *transaction // ongoing, or decided and its markers not all written
	last  *transaction // the last one that has ended
	left  int          // markers of open that are not written
}

func newKafka(w *world, partitions int32, tv2 bool) *cluster {
	k := &cluster{w: w, tv2: tv2, txns: map[string]*txnState{}}
	for t := range topics {
		for p := range partitions {
			k.logs[t] = append(k.logs[t], &partitionLog{k: k, topic: t, part: p, writers: map[int64]*writerState{}})
		}
	}
	k.group, k.dispatchers = newGroup(k, partitions, topicID), newGroup(k, partitions, eventsID)
	k.relayed, k.relayedBy = make([]int64, partitions), make([]int, partitions)
	return k
}

type producerID struct {
	pid   int64
	epoch int16
	err   error
}

// initProducer is InitProducerId: it ends what the id has open, and gives it a new epoch.
func (k *cluster) initProducer(id string) producerID {
	s := k.txns[id]
	if s == nil {
		k.pids++
		s = &txnState{id: id, pid: k.pids, epoch: -1}
		k.txns[id] = s
	}
	if s.open != nil {
		if !s.open.decided {
			s.epoch++ // who has it now is fenced
			k.decide(s, false)
		}
		return producerID{err: errConcurrent}
	}
	s.epoch++
	k.w.logf("broker: %s has epoch %d", id, s.epoch)
	return producerID{s.pid, s.epoch, nil}
}

// begin opens a transaction, or finds the one that is open.
func (k *cluster) begin(id string, pid int64, epoch int16) (*transaction, error) {
	s := k.txns[id]
	switch {
	case k.coordinator:
		return nil, errLeader
	case s == nil || s.pid != pid:
		return nil, errMapping
	case s.epoch != epoch:
		return nil, errEpoch
	case s.open != nil && s.open.decided:
		return nil, errConcurrent
	case s.open == nil:
		t := &transaction{id: id, pid: pid, epoch: epoch}
		s.open = t
		k.w.after(txnTimeout, nil, func() {
			if s.open == t && !t.decided {
				k.w.saw["broker: a transaction has timed out"]++
				k.w.logf("broker: transaction of %s has timed out", id)
				s.epoch++
				k.decide(s, false)
			}
		})
	}
	return s.open, nil
}

// ongoing finds the open transaction. A request that names another epoch is too late.
func (k *cluster) ongoing(id string, pid int64, epoch int16) (*transaction, error) {
	s := k.txns[id]
	switch {
	case s == nil || s.pid != pid:
		return nil, errMapping
	case s.epoch != epoch:
		return nil, errEpoch
	case s.open == nil || s.open.decided:
		return nil, errTxnState
	}
	return s.open, nil
}

func (t *transaction) join(l *partitionLog) {
	for _, p := range t.parts {
		if p == l {
			return
		}
	}
	t.parts = append(t.parts, l)
}

func (t *transaction) add(g *group) {
	if !t.names(g) {
		t.groups = append(t.groups, g)
	}
}

func (t *transaction) names(g *group) bool { return slices.Contains(t.groups, g) }

func (t *transaction) has(l *partitionLog) bool {
	for _, p := range t.parts {
		if p == l {
			return true
		}
	}
	return false
}

// addPartition is AddPartitionsToTxn, and addGroup AddOffsetsToTxn; with
// transaction.version 2 the brokers do both themselves.
func (k *cluster) addPartition(id string, pid int64, epoch int16, l *partitionLog) error {
	t, err := k.begin(id, pid, epoch)
	if err == nil {
		t.join(l)
	}
	return err
}

func (k *cluster) addGroup(id string, pid int64, epoch int16, g *group) error {
	t, err := k.begin(id, pid, epoch)
	if err == nil {
		t.add(g)
	}
	return err
}

type produced struct {
	first int64
	err   error
}

// produce writes a batch of one partition.
func (k *cluster) produce(l *partitionLog, id string, pid int64, epoch int16, sequence int32, batch []record, reply func(produced)) {
	fail := func(err error) { reply(produced{-1, err}) }
	if l.away {
		fail(errLeader)
		return
	}
	for _, r := range batch {
		if r.size > recordMost {
			fail(errTooLarge)
			return
		}
	}
	var t *transaction
	var err error
	if id != "" {
		if k.tv2 {
			t, err = k.begin(id, pid, epoch)
		} else if t, err = k.ongoing(id, pid, epoch); err == nil && !t.has(l) {
			err = errTxnState
		}
		if err != nil {
			fail(err)
			return
		}
		s := l.writers[pid]
		if s == nil || s.epoch < epoch {
			s = &writerState{epoch: epoch, last: -1}
			l.writers[pid] = s
		}
		switch {
		case epoch < s.epoch:
			fail(errEpoch)
			return
		case sequence == s.last:
			reply(produced{s.offset, nil}) // it is there already
			return
		case sequence != s.next && s.next > 0:
			fail(errSequence)
			return
		}
		s.last, s.next, s.offset = sequence, sequence+1, l.end()
		t.join(l)
		open := false
		for _, o := range l.open {
			open = open || o.txn == t
		}
		if !open {
			l.open = append(l.open, openTxn{t, l.end()})
		}
		t.records += len(batch)
		t.batches = append(t.batches, batchPlace{l, l.end(), len(batch)})
	}
	first := l.end()
	entries := make([]entry, len(batch))
	for i, r := range batch {
		entries[i] = entry{record: r, writer: id, pid: pid, epoch: epoch, txn: t}
	}
	k.w.logf("broker: %d records at %s/%d/%d by %s epoch %d", len(batch), l.topic, l.part, first, id, epoch)
	l.append(entries, func() { reply(produced{first, nil}) })
}

type ended struct {
	epoch int16 // to go on with
	err   error
}

// endTxn is EndTxn. It is answered when the decision is safe, before the markers are written.
func (k *cluster) endTxn(id string, pid int64, epoch int16, commit bool) ended {
	s := k.txns[id]
	if s == nil || s.pid != pid {
		return ended{err: errMapping}
	}
	if k.tv2 && epoch == s.epoch-1 { // perhaps this is a second try
		if s.open != nil && s.open.decided && s.open.epoch == epoch && s.open.commit == commit {
			return ended{err: errConcurrent}
		}
		if s.open == nil && s.last != nil && s.last.epoch == epoch && s.last.commit == commit {
			return ended{epoch: s.epoch}
		}
	}
	if epoch != s.epoch {
		k.w.saw["broker: the end of an older transaction comes late"]++
		return ended{err: errEpoch}
	}
	switch {
	case s.open == nil && k.tv2 && !commit:
		s.epoch++
		return ended{epoch: s.epoch}
	case s.open == nil && !k.tv2 && s.last != nil && s.last.epoch == epoch && s.last.commit == commit:
		return ended{epoch: epoch} // a second try of a transaction that has no epoch of its own
	case s.open == nil:
		return ended{err: errTxnState}
	case s.open.decided && s.open.commit == commit:
		return ended{err: errConcurrent}
	case s.open.decided:
		return ended{err: errTxnState}
	}
	if k.tv2 {
		s.epoch++
	}
	k.decide(s, commit)
	return ended{epoch: s.epoch}
}

// decide ends the open transaction of an id and has its markers written.
func (k *cluster) decide(s *txnState, commit bool) {
	t := s.open
	t.decided, t.commit, t.marker = true, commit, s.epoch
	k.w.mix(uint64(t.pid)<<1 | uint64(len(t.parts)))
	k.w.logf("broker: transaction of %s epoch %d: commit=%v, %d partitions, %d records", s.id, t.epoch, commit, len(t.parts), t.records)
	if commit {
		k.w.check.decided(t)
	}
	s.left = len(t.parts)
	done := func() {
		if s.left--; s.left <= 0 && s.open == t {
			s.open, s.last = nil, t
		}
	}
	for _, g := range t.groups {
		s.left++
		k.w.after(k.markerDelay(), nil, func() { g.mark(t); done() })
	}
	for _, l := range t.parts {
		k.markLater(l, t, done)
	}
	if len(t.parts)+len(t.groups) == 0 {
		done()
	}
}

func (k *cluster) markLater(l *partitionLog, t *transaction, done func()) {
	k.w.after(k.markerDelay(), nil, func() {
		if l.away {
			k.markLater(l, t, done)
			return
		}
		l.mark(t)
		done()
	})
}

func (k *cluster) markerDelay() time.Duration {
	if k.w.chance(k.w.faults.markers) {
		return k.w.between(0, 3*time.Second)
	}
	return k.w.between(300*time.Microsecond, 4*time.Millisecond)
}

// relay moves the relay's position for one of its owners, unless a later one has
// moved it.
func (k *cluster) relay(part int32, owner int, next int64) bool {
	if owner < k.relayedBy[part] {
		return false
	}
	k.relayed[part], k.relayedBy[part] = next, owner
	return true
}
