package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// The CloudEvents attributes that a message carries beside the standard's own
// (id, type, source, subject, time, dataschema, datacontenttype). Names that
// begin with "evento", and the others listed by [Reserved], are written by the
// platform alone: a message from outside that claims one is refused.
const (
	AttrPartitionKey  = "partitionkey"  // CloudEvents partitioning extension: the aggregate id
	AttrSequence      = "sequence"      // CloudEvents sequence extension: the version, zero-padded to 20 digits
	AttrCausationID   = "causationid"   // CloudEvents correlation extension: id of the direct cause
	AttrCorrelationID = "correlationid" // CloudEvents correlation extension: id of the root cause
	AttrRecordedTime  = "recordedtime"  // CloudEvents recorded time extension
	AttrTraceParent   = "traceparent"   // CloudEvents distributed tracing extension
	AttrCause         = "eventocause"   // topic/partition/offset of the direct cause
	AttrPrev          = "eventoprev"    // offset of the aggregate's previous record, or the negative distance to it
	AttrSkip          = "eventoskip"    // comma-separated offsets of the 64 records before, oldest first
	AttrPos           = "eventopos"     // position/count within its command, from 1
	AttrBy            = "eventoby"      // function, image and schema that made it
	AttrWriter        = "eventowriter"  // transactional id that wrote it
	AttrWaiter        = "eventowaiter"  // waiting gateway's address, nonce and deadline
	AttrHash          = "eventohash"    // of the command's type, target and value
	AttrExpect        = "eventoexpect"  // version that the command's sender expects
)

// ContentTypeAvro is the content type of every record's body: one bare Avro value.
const ContentTypeAvro = "application/avro"

// Reserved says whether an attribute is the platform's own, to be refused when
// it comes from outside. traceparent is not: a caller may pass its trace on.
func Reserved(attribute string) bool {
	switch attribute {
	case AttrPartitionKey, AttrSequence, AttrCausationID, AttrCorrelationID, AttrRecordedTime:
		return true
	}
	return strings.HasPrefix(attribute, "evento")
}

// Types of the platform's own records. Outcomes stand in the events topic
// without taking a version; orders travel in the commands topic.
const (
	TypeCommandParked   TypeName = "evento.CommandParked"
	TypeCommandRejected TypeName = "evento.CommandRejected"
	TypePublishRejected TypeName = "evento.PublishRejected"
	TypeRetryNow        TypeName = "evento.RetryNow"
	TypeDropCommand     TypeName = "evento.DropCommand"
	TypeDispatched      TypeName = "evento.Dispatched" // a dispatcher's decision, in a topic of its own
)

// Message is a command or an event with its envelope. Which attributes are set
// depends on where it is on its way: a command has no Sequence, an event no
// Expect. The zero value of an optional attribute means that it is absent.
type Message struct {
	ID      string
	Type    TypeName
	Source  string
	Subject Entity
	Schema  DataSchema
	Time    time.Time // when it happened; milliseconds
	Data    []byte    // the bare Avro value of the one record type

	CausationID   string
	CorrelationID string
	TraceParent   string
	Cause         Coordinates

	// Of commands alone.
	Expect *uint64 // expected version of the aggregate; nil when any will do
	Waiter Waiter  // who waits for the outcome

	// Of records in the events topic alone.
	Sequence     uint64    // version of the aggregate after this event; 0 for platform records
	RecordedTime time.Time // when it was recorded
	Prev         int64     // offset of the aggregate's previous record if >= 0, else the negative distance in records; [NoPrev] for the first
	Skip         []int64   // offsets of the 64 records before this one, oldest first; same encoding as Prev; nil when absent
	Pos, Count   int       // position of the event within its command, from 1, and how many there are
	By           string    // "function image schema"
	Writer       string    // transactional id
	Hash         string    // of the command's type, target and value
}

// NoPrev is the Prev of an aggregate's first record.
const NoPrev int64 = -1 << 63

// Aggregate returns the id of the aggregate that m is about.
func (m *Message) Aggregate() AggregateID { return m.Subject.Aggregate() }

// Platform says whether m is one of the platform's own records.
func (m *Message) Platform() bool { return strings.HasPrefix(string(m.Type), "evento.") }

// Waiter says where the outcome of a command is awaited. The zero value means nowhere.
type Waiter struct {
	Address  string    // host:port of the waiting gateway's internal listener
	Nonce    string    // names the waiting request there
	Deadline time.Time // after it nobody waits; milliseconds
}

// CommandKey identifies a command for ever: the first 16 bytes of the SHA-256
// of (source, aggregate, id). The same id from another source, or to another
// aggregate, is another command.
type CommandKey [16]byte

// Key returns the identity of a command.
func (m *Message) Key() CommandKey { return NewCommandKey(m.Source, m.Aggregate(), m.ID) }

// NewCommandKey returns the identity of the command with these three.
func NewCommandKey(source string, aggregate AggregateID, id string) CommandKey {
	h := sha256.New()
	// NUL stands in none of the three, so the parts cannot run into each other.
	h.Write([]byte(source + "\x00" + string(aggregate) + "\x00" + id))
	return CommandKey(h.Sum(nil)[:16])
}

// String returns the key as 32 hex digits.
func (k CommandKey) String() string { return hex.EncodeToString(k[:]) }

// EventID returns the id of the event at this position (from 1) of the command's outcome:
// the key, a dash and the position. So an event alone tells which command made it.
func (k CommandKey) EventID(pos int) string { return k.String() + "-" + strconv.Itoa(pos) }

// ParseEventID reads what [CommandKey.EventID] writes, and nothing that is written
// otherwise: an event has one id.
func ParseEventID(id string) (CommandKey, int, bool) {
	var k CommandKey
	digest, pos, ok := strings.Cut(id, "-")
	if !ok || len(digest) != 2*len(k) || strings.ContainsAny(digest, "ABCDEF") || pos == "" || pos[0] < '1' || pos[0] > '9' {
		return k, 0, false
	}
	if _, err := hex.Decode(k[:], []byte(digest)); err != nil {
		return k, 0, false
	}
	n, err := strconv.ParseInt(pos, 10, 32)
	if err != nil {
		return k, 0, false
	}
	return k, int(n), true
}
