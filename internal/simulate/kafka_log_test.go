package simulate

import (
	"time"

	"github.com/evento-oss/evento/runtime"
)

// topic numbers the topics that a world has.
type topic int

const (
	commands topic = iota
	events
	parked
	heads
	dispatched
	topics // how many there are
)

var topicNames = [topics]string{"kf-evento-commands", "kf-evento-events", "kf-evento-parked", "kf-evento-heads", "kf-evento-dispatched"}

func (t topic) String() string { return topicNames[t] }

// record is one to be written.
type record struct {
	topic topic
	part  int32
	key   string
	value any // []byte, headValue or checkpoint; nil: a tombstone, or msg says all
	msg   *runtime.Message
	id    string // the identity of the record
	owner int    // of the writer, for the checker: which assignment made it
	size  int
}

// entry is a record in a log.
type entry struct {
	record
	offset  int64
	writer  string // transactional id
	pid     int64
	epoch   int16
	txn     *transaction // nil: not transactional
	control bool         // the end of txn
	gone    bool         // compacted away
}

// transaction is one of a transactional id, from its first record to its markers.
type transaction struct {
	id      string
	pid     int64
	epoch   int16
	marker  int16 // the epoch that its markers have
	commit  bool  // decided is true: which way
	decided bool
	parts   []*partitionLog
	groups  []*group // whose offsets are part of it
	records int
	batches []batchPlace
}

// batchPlace is where a batch of a transaction stands.
type batchPlace struct {
	log   *partitionLog
	first int64
	count int
}

// partitionLog is a partition of a topic at its leader.
type partitionLog struct {
	k       *cluster
	topic   topic
	part    int32
	entries []entry
	high    int64 // the high watermark
	open    []openTxn
	writers map[int64]*writerState
	away    bool // has no leader
	news    cond // of a higher high watermark
}

type openTxn struct {
	txn   *transaction
	first int64
}

// writerState is what a leader remembers of a producer.
type writerState struct {
	epoch  int16
	next   int32 // sequence number of the next batch
	last   int32 // that of the last one, for which offsets holds
	offset int64
}

func (l *partitionLog) end() int64 { return int64(len(l.entries)) }

// stable is the last stable offset.
func (l *partitionLog) stable() int64 {
	stable := l.high
	for _, o := range l.open {
		stable = min(stable, o.first)
	}
	return stable
}

// append writes records and calls acked when all replicas in sync have them.
func (l *partitionLog) append(records []entry, acked func()) {
	w := l.k.w
	for i := range records {
		records[i].offset = l.end()
		l.entries = append(l.entries, records[i])
		if l.topic == commands {
			w.check.command(&l.entries[l.end()-1])
		}
		w.mix(uint64(records[i].offset) ^ uint64(records[i].pid)<<32 ^ uint64(l.part)<<56 ^ uint64(l.topic)<<60)
	}
	end := l.end()
	raise := func() {
		if end > l.high {
			l.high = end
			l.news.broadcast()
			w.check.advanced(l)
		}
		if acked != nil {
			acked()
		}
	}
	if w.chance(w.faults.replication) {
		w.after(w.between(0, 40*time.Millisecond), nil, raise)
		return
	}
	raise()
}

// committed says whether a committed reader may be shown an entry.
func (e *entry) committed() bool {
	return !e.control && !e.gone && (e.txn == nil || e.txn.decided && e.txn.commit)
}

// read returns at most limit entries from an offset on, and the offset after
// what was looked at. A committed reader sees nothing from the last stable offset on.
func (l *partitionLog) read(from int64, limit int, committed bool) (got []*entry, next int64) {
	end := l.high
	if committed {
		end = l.stable()
	}
	for next = from; next < end && len(got) < limit; next++ {
		if e := &l.entries[next]; !e.gone && (!committed || e.committed()) {
			got = append(got, e)
		}
	}
	return got, next
}

// mark writes a transaction's marker.
func (l *partitionLog) mark(t *transaction) {
	for i, o := range l.open {
		if o.txn == t {
			l.open = append(l.open[:i:i], l.open[i+1:]...)
			break
		}
	}
	if s := l.writers[t.pid]; s == nil || s.epoch < t.marker {
		l.writers[t.pid] = &writerState{epoch: t.marker, last: -1}
	}
	l.append([]entry{{pid: t.pid, epoch: t.marker, txn: t, control: true, writer: t.id}}, nil)
	l.k.w.check.advanced(l)
}

// compact removes what newer records of the same key supersede.
func (l *partitionLog) compact() {
	newest := map[string]int64{}
	end := l.stable() * 3 / 4 // the active segment stays
	for at := range end {
		if e := &l.entries[at]; e.committed() {
			newest[e.key] = at
		}
	}
	for at := range end {
		if e := &l.entries[at]; !e.control && (!e.committed() || newest[e.key] != at) {
			e.gone = true
		}
	}
}
