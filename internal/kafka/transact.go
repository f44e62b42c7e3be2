package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// WriterHeader names, in each record of a transaction, the transactional id
// that wrote it: CloudEvents attribute eventowriter. [Takeover.OpenWriters]
// reads it, so that a new owner can end a dead owner's transaction.
const WriterHeader = "ce_eventowriter"

// Outcome says what became of a transaction.
type Outcome uint8

const (
	// Unknown: the context ended before it could be found out; nothing else
	// leads here, since a commit whose end was not seen is looked up in the log
	// before anyone hears of it. The process is stopping, or gives the
	// partitions up: whoever takes them over finds out.
	Unknown Outcome = iota
	// Aborted: no committed reader has seen or will ever see any of it.
	Aborted
	// Committed: all of it is there.
	Committed
)

func (o Outcome) String() string {
	switch o {
	case Aborted:
		return "aborted"
	case Committed:
		return "committed"
	default:
		return "unknown"
	}
}

// Reason says why a transaction was aborted, for the one who decides how to
// try again.
type Reason string

const (
	// ReasonNone: committed.
	ReasonNone Reason = ""
	// ReasonStale: a partition is not held at its term, or this process is no
	// member of the group. Nothing of these terms will ever commit.
	ReasonStale Reason = "stale"
	// ReasonFenced: the group refused this member or its generation. A callback
	// of the group follows when a heartbeat is answered; what is held at the same
	// term after it, if anything, may be tried again.
	ReasonFenced Reason = "fenced"
	// ReasonRecord: a record could not be written (too large, topic missing,
	// leader away). Result.Partition names where.
	ReasonRecord Reason = "record"
	// ReasonOffset: the group refused a partition's offset or its metadata.
	// Result.Partition names which, in the group's topic.
	ReasonOffset Reason = "offset"
	// ReasonBroker: the cluster could not be reached in time, or refused the
	// transaction as a whole. Nothing is wrong with its contents.
	ReasonBroker Reason = "broker"
	// ReasonInvalid: the transaction was refused before anything was sent, and
	// always will be: no record, a partition with records and no offset, or with
	// an offset and no record.
	ReasonInvalid Reason = "invalid"
)

// PartitionOffset moves the group's position in one partition of a topic.
type PartitionOffset struct {
	Held
	Topic    string // "" for the group's own topic; else see [GroupConfig.Also]
	Offset   int64  // the next record to read
	Metadata string // text; the broker takes at most offset.metadata.max.bytes, 4,096 by default
}

// Txn is one transaction: records and offsets that take effect together.
type Txn struct {
	// Records, at least one, each with its Topic and Partition set. The
	// transactor adds [WriterHeader]. A record's Key and its header ce_id are
	// its identity, by which it is known again in the log.
	Records []Record

	// Offsets name every partition on whose behalf the transaction is made: the
	// partitions of the records, whatever their topic, since all topics are cut
	// alike. Each partition of a topic stands there once. A partition's position
	// moves only beside a record of its own.
	Offsets []PartitionOffset
}

// Result tells what became of a [Txn].
type Result struct {
	Outcome Outcome
	Offsets []int64 // of the records, in their order; nil unless committed

	// When aborted: why, and what the client said. Where the reason lies with
	// one partition, Topic and Partition name it (Partition is -1 otherwise).
	Reason    Reason
	Err       error
	Topic     string
	Partition int32

	// Resolved says that the end of the transaction was not seen, and that the
	// outcome was found in the log.
	Resolved bool
}

// TransactorConfig configures a [Transactor].
type TransactorConfig struct {
	Client []kgo.Opt // how to reach the cluster: brokers, TLS, SASL, compression
	Group  *Group    // whose membership is the fence, and whose offsets move

	// Producers is the number of transactional producers that take turns; 3
	// when zero, at least 2. A producer's own next transaction would meet the
	// markers of its last one still being written.
	Producers int

	// TransactionTimeout is when the broker ends a transaction on its own; 30 s
	// when zero.
	TransactionTimeout time.Duration

	// Watchdog is how long a single call of the client may take before the
	// producers are replaced; 10 s when zero. It must be shorter than
	// TransactionTimeout.
	Watchdog time.Duration

	Log *slog.Logger
}

// Refused says that Kafka will not take the records of the aborted transaction
// however often they are sent: one is too large, or there is none. Otherwise what
// is in the way may pass (a leader that is away), or is no record's fault: what
// the group refuses about a position, such as the length of its metadata, it
// refuses beside any record.
func (r Result) Refused() bool {
	if r.Reason == ReasonInvalid {
		return true
	}
	var kafkaError *kerr.Error
	return r.Reason == ReasonRecord && errors.As(r.Err, &kafkaError) && !kafkaError.Retriable
}

// ErrTorn is wrapped by Result.Err when a transaction was found in the log in
// part: some records are there for committed readers and some are not. Kafka
// promises that this does not happen; it needs a person. The outcome is then
// Committed, since what can be read cannot be taken back, and the offsets of
// missing records are -1.
var ErrTorn = errors.New("transaction is in the log in part")

const defaultTransactionTimeout = 30 * time.Second

func (c *TransactorConfig) check() error {
	c.Producers = cmp.Or(c.Producers, 3)
	c.TransactionTimeout = cmp.Or(c.TransactionTimeout, defaultTransactionTimeout)
	c.Watchdog = cmp.Or(c.Watchdog, 10*time.Second)
	var errs []error
	if c.Group == nil || c.Log == nil {
		errs = append(errs, errors.New("a group and a logger are needed"))
	}
	if c.Producers < 2 {
		errs = append(errs, fmt.Errorf("%d producers cannot take turns: 2 are the least", c.Producers))
	}
	if c.Watchdog <= 0 || c.Watchdog >= c.TransactionTimeout {
		errs = append(errs, fmt.Errorf("watchdog %v must be shorter than transaction timeout %v", c.Watchdog, c.TransactionTimeout))
	}
	return errors.Join(errs...)
}

// check refuses what can never be committed, and gives the partitions.
func (t *Txn) check() ([]Held, error) {
	if len(t.Records) == 0 {
		return nil, errors.New("a transaction needs a record")
	}
	held := make([]Held, 0, len(t.Offsets))
	has := make(map[int32]bool, len(t.Offsets)) // partition -> a record was seen
	named := make(map[place]bool, len(t.Offsets))
	for _, o := range t.Offsets {
		at := place{o.Topic, o.Partition}
		if named[at] {
			return nil, fmt.Errorf("partition %d has two offsets", o.Partition)
		}
		named[at], has[o.Partition] = true, false
		held = append(held, o.Held)
	}
	for i := range t.Records {
		p := t.Records[i].Partition
		if _, named := has[p]; !named {
			return nil, fmt.Errorf("record %d of %d is for %s partition %d, for which no offset stands", i+1, len(t.Records), t.Records[i].Topic, p)
		}
		has[p] = true
	}
	for p, seen := range has {
		if !seen {
			return nil, fmt.Errorf("the offset of partition %d stands beside no record of that partition", p)
		}
	}
	return held, nil
}
