package kafka

import (
	"strconv"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// The record's headers are those of the CloudEvents Kafka binding in binary
// mode: content-type, and each attribute in UTF-8 under its name with "ce_"
// before it.
const (
	headerPrefix      = "ce_"
	headerContentType = "content-type"
	specVersion       = "1.0"
)

// MaxSkip is the greatest number of offsets in a record's eventoskip.
const MaxSkip = 64

// attribute numbers the headers that a record may have. Their order here is the
// order in which they are written.
type attribute uint8

const (
	attrContentType attribute = iota
	attrSpecVersion
	attrID
	attrType
	attrSource
	attrSubject
	attrPartitionKey
	attrDataSchema
	attrTime
	attrCausationID
	attrCorrelationID
	attrTraceParent
	attrCause
	attrExpect
	attrWaiter
	attrSequence
	attrRecordedTime
	attrPrev
	attrSkip
	attrPos
	attrBy
	attrWriter
	attrHash
	attributes // how many there are
)

var headerNames = [attributes]string{
	attrContentType:   headerContentType,
	attrSpecVersion:   headerPrefix + "specversion",
	attrID:            headerPrefix + "id",
	attrType:          headerPrefix + "type",
	attrSource:        headerPrefix + "source",
	attrSubject:       headerPrefix + "subject",
	attrPartitionKey:  headerPrefix + runtime.AttrPartitionKey,
	attrDataSchema:    headerPrefix + "dataschema",
	attrTime:          headerPrefix + "time",
	attrCausationID:   headerPrefix + runtime.AttrCausationID,
	attrCorrelationID: headerPrefix + runtime.AttrCorrelationID,
	attrTraceParent:   headerPrefix + runtime.AttrTraceParent,
	attrCause:         headerPrefix + runtime.AttrCause,
	attrExpect:        headerPrefix + runtime.AttrExpect,
	attrWaiter:        headerPrefix + runtime.AttrWaiter,
	attrSequence:      headerPrefix + runtime.AttrSequence,
	attrRecordedTime:  headerPrefix + runtime.AttrRecordedTime,
	attrPrev:          headerPrefix + runtime.AttrPrev,
	attrSkip:          headerPrefix + runtime.AttrSkip,
	attrPos:           headerPrefix + runtime.AttrPos,
	attrBy:            headerPrefix + runtime.AttrBy,
	attrWriter:        headerPrefix + runtime.AttrWriter,
	attrHash:          headerPrefix + runtime.AttrHash,
}

// HeaderName returns the name of the header that holds a CloudEvents attribute.
func HeaderName(attribute string) string { return headerPrefix + attribute }

// timeLayout is RFC 3339 in UTC, to the millisecond.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Headers returns the headers of the record that holds m; the record's key is
// m.Aggregate() and its value m.Data. What has no place in m is left out: a
// record of the events topic, which is one with Pos > 0, has no Expect and no
// Waiter; any other has no Sequence, Prev and Skip; a platform record has no
// Sequence. A TraceParent that is none is left out too.
//
// Headers does not check what came from outside: [Check] does.
func Headers(m *runtime.Message) []Header {
	w := headerWriter{
		buf:     make([]byte, 0, 512+len(m.ID)+len(m.Source)+2*len(m.Subject)+2*len(m.Type)+len(m.By)+12*len(m.Skip)),
		headers: make([]Header, 0, attributes),
	}
	w.text(attrContentType, runtime.ContentTypeAvro)
	w.text(attrSpecVersion, specVersion)
	w.text(attrID, m.ID)
	w.text(attrType, string(m.Type))
	w.text(attrSource, m.Source)
	w.text(attrSubject, string(m.Subject))
	w.text(attrPartitionKey, string(m.Aggregate()))
	w.text(attrDataSchema, string(m.Schema))
	w.time(attrTime, m.Time)
	w.optional(attrCausationID, m.CausationID)
	w.optional(attrCorrelationID, m.CorrelationID)
	if ValidTraceParent(m.TraceParent) {
		w.text(attrTraceParent, m.TraceParent)
	}
	if c := m.Cause; c != (runtime.Coordinates{}) {
		w.buf = append(append(w.buf, c.Topic...), '/')
		w.buf = append(strconv.AppendInt(w.buf, int64(c.Partition), 10), '/')
		w.buf = strconv.AppendInt(w.buf, c.Offset, 10)
		w.end(attrCause)
	}
	if m.Pos > 0 {
		w.outcome(m)
	} else {
		w.command(m)
	}
	w.optional(attrBy, m.By)
	w.optional(attrWriter, m.Writer)
	w.optional(attrHash, m.Hash)
	return w.headers
}

// NewRecord returns the record that holds m, for a partition of a topic.
func NewRecord(topic string, partition int32, m *runtime.Message) Record {
	value := m.Data
	if value == nil {
		value = []byte{} // a record type without fields; nil would be a tombstone
	}
	return Record{Topic: topic, Partition: partition, Key: []byte(m.Aggregate()), Value: value, Headers: Headers(m)}
}

// headerWriter writes all values into one buffer. A header's Value keeps
// pointing to where it was written even when the buffer grows.
type headerWriter struct {
	buf     []byte
	start   int // of the value that is being written
	headers []Header
}

func (w *headerWriter) end(a attribute) {
	w.headers = append(w.headers, Header{Key: headerNames[a], Value: w.buf[w.start:len(w.buf):len(w.buf)]})
	w.start = len(w.buf)
}

func (w *headerWriter) text(a attribute, value string) {
	w.buf = append(w.buf, value...)
	w.end(a)
}

func (w *headerWriter) optional(a attribute, value string) {
	if value != "" {
		w.text(a, value)
	}
}

func (w *headerWriter) time(a attribute, t time.Time) {
	if !t.IsZero() {
		w.buf = t.UTC().AppendFormat(w.buf, timeLayout)
		w.end(a)
	}
}

// command writes what only commands have.
func (w *headerWriter) command(m *runtime.Message) {
	if m.Expect != nil {
		w.buf = strconv.AppendUint(w.buf, *m.Expect, 10)
		w.end(attrExpect)
	}
	if m.Waiter != (runtime.Waiter{}) {
		w.buf = append(append(w.buf, m.Waiter.Address...), ' ')
		w.buf = append(append(w.buf, m.Waiter.Nonce...), ' ')
		w.buf = m.Waiter.Deadline.UTC().AppendFormat(w.buf, timeLayout)
		w.end(attrWaiter)
	}
	w.time(attrRecordedTime, m.RecordedTime)
}

// outcome writes what only records of the events topic have.
func (w *headerWriter) outcome(m *runtime.Message) {
	if !m.Platform() {
		var digits [20]byte
		n := m.Sequence
		for i := len(digits) - 1; i >= 0; i-- {
			digits[i], n = byte('0'+n%10), n/10
		}
		w.buf = append(w.buf, digits[:]...)
		w.end(attrSequence)
	}
	w.time(attrRecordedTime, m.RecordedTime)
	if m.Prev != runtime.NoPrev {
		w.buf = strconv.AppendInt(w.buf, m.Prev, 10)
		w.end(attrPrev)
	}
	if len(m.Skip) > 0 {
		for i, offset := range m.Skip {
			if i > 0 {
				w.buf = append(w.buf, ',')
			}
			w.buf = strconv.AppendInt(w.buf, offset, 10)
		}
		w.end(attrSkip)
	}
	w.buf = append(strconv.AppendInt(w.buf, int64(m.Pos), 10), '/')
	w.buf = strconv.AppendInt(w.buf, int64(m.Count), 10)
	w.end(attrPos)
}
