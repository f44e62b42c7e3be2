package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/evento-oss/evento/runtime"
)

// ErrRecord is returned, wrapped with the header and the reason, for a record
// that is no message of Evento's.
var ErrRecord = errors.New("not an Evento record")

// ParseMessage reads what [Headers] writes. It is strict: an attribute of
// Evento's that is missing, there twice, in another case or not of its form is
// an error, which names the header and wraps [ErrRecord]. Headers it does not
// know are skipped, so that a newer gateway may add some.
//
// The message keeps value as its Data; its texts share one allocation, so a
// small one that is kept keeps them all.
func ParseMessage(headers []Header, value []byte) (*runtime.Message, error) {
	var p parser
	if err := p.index(headers); err != nil {
		return nil, err
	}
	if value == nil {
		return nil, fmt.Errorf("%w: it has no value (a tombstone has no meaning here)", ErrRecord)
	}
	m := &runtime.Message{Data: value}
	p.copyTexts()
	p.common(m)
	if p.values[attrPos] != nil {
		p.outcome(m)
	} else {
		p.command(m)
	}
	if p.err != nil {
		return nil, p.err
	}
	return m, nil
}

// ParseRecord is [ParseMessage] for a record that was read: it also checks that
// the key is the aggregate's id, and says where a bad record stands.
func ParseRecord(r *Record) (*runtime.Message, error) {
	m, err := ParseMessage(r.Headers, r.Value)
	if err == nil && string(r.Key) != string(m.Aggregate()) {
		err = fmt.Errorf("%w: its key is %s, its subject is %s", ErrRecord, quote(string(r.Key)), quote(string(m.Subject)))
	}
	if err != nil {
		return nil, fmt.Errorf("record %s/%d/%d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	return m, nil
}

// Check says whether a record of m could be read again. Call it before a
// message with parts from outside is produced.
func Check(m *runtime.Message) error {
	_, err := ParseMessage(Headers(m), m.Data)
	return err
}

type parser struct {
	values [attributes][]byte // nil when absent
	texts  [attributes]string // the same values, of those that are kept as text
	err    error              // the first
}

// index finds the headers; a value of nil length is told from absence by being non-nil.
func (p *parser) index(headers []Header) error {
	for i := range headers {
		h := &headers[i]
		a, ok := attributeOf(h.Key)
		if !ok {
			if lower := strings.ToLower(h.Key); lower != h.Key {
				if _, known := attributeOf(lower); known {
					return fmt.Errorf("%w: header %q must be written %q", ErrRecord, h.Key, lower)
				}
			}
			continue
		}
		if p.values[a] != nil {
			return fmt.Errorf("%w: header %q stands there twice", ErrRecord, h.Key)
		}
		if len(h.Value) == 0 {
			return fmt.Errorf("%w: header %q is empty", ErrRecord, h.Key)
		}
		p.values[a] = h.Value
	}
	for _, a := range [...]attribute{attrContentType, attrSpecVersion, attrID, attrType, attrSource, attrSubject, attrPartitionKey, attrDataSchema} {
		if p.values[a] == nil {
			return fmt.Errorf("%w: header %q is missing", ErrRecord, headerNames[a])
		}
	}
	return nil
}

// attributeOf is a switch, which the compiler makes a search by length and
// content, because it is asked some twenty times for each record.
func attributeOf(header string) (attribute, bool) {
	switch header {
	case headerContentType:
		return attrContentType, true
	case headerPrefix + "specversion":
		return attrSpecVersion, true
	case headerPrefix + "id":
		return attrID, true
	case headerPrefix + "type":
		return attrType, true
	case headerPrefix + "source":
		return attrSource, true
	case headerPrefix + "subject":
		return attrSubject, true
	case headerPrefix + runtime.AttrPartitionKey:
		return attrPartitionKey, true
	case headerPrefix + "dataschema":
		return attrDataSchema, true
	case headerPrefix + "time":
		return attrTime, true
	case headerPrefix + runtime.AttrCausationID:
		return attrCausationID, true
	case headerPrefix + runtime.AttrCorrelationID:
		return attrCorrelationID, true
	case headerPrefix + runtime.AttrTraceParent:
		return attrTraceParent, true
	case headerPrefix + runtime.AttrCause:
		return attrCause, true
	case headerPrefix + runtime.AttrExpect:
		return attrExpect, true
	case headerPrefix + runtime.AttrWaiter:
		return attrWaiter, true
	case headerPrefix + runtime.AttrSequence:
		return attrSequence, true
	case headerPrefix + runtime.AttrRecordedTime:
		return attrRecordedTime, true
	case headerPrefix + runtime.AttrPrev:
		return attrPrev, true
	case headerPrefix + runtime.AttrSkip:
		return attrSkip, true
	case headerPrefix + runtime.AttrPos:
		return attrPos, true
	case headerPrefix + runtime.AttrBy:
		return attrBy, true
	case headerPrefix + runtime.AttrWriter:
		return attrWriter, true
	case headerPrefix + runtime.AttrHash:
		return attrHash, true
	}
	return 0, false
}

// kept are the attributes that are needed as text, most of them for as long as the message lives.
var kept = [...]attribute{attrID, attrType, attrSource, attrSubject, attrDataSchema, attrCausationID, attrCorrelationID,
	attrTraceParent, attrCause, attrWaiter, attrBy, attrWriter, attrHash, attrTime, attrRecordedTime}

// copyTexts makes one string of all texts.
func (p *parser) copyTexts() {
	size := 0
	for _, a := range kept {
		size += len(p.values[a])
	}
	var b strings.Builder
	b.Grow(size)
	for _, a := range kept {
		b.Write(p.values[a])
	}
	all := b.String()
	for _, a := range kept {
		n := len(p.values[a])
		p.texts[a], all = all[:n], all[n:]
	}
}

func (p *parser) fail(a attribute, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: header %q: %w", ErrRecord, headerNames[a], fmt.Errorf(format, args...))
	}
}

// quote shows the beginning of a value from outside.
func quote(value string) string {
	const most = 64
	if len(value) > most {
		return strconv.Quote(value[:most]) + "..."
	}
	return strconv.Quote(value)
}

// common reads what commands and events both have.
func (p *parser) common(m *runtime.Message) {
	if v := p.values[attrContentType]; string(v) != runtime.ContentTypeAvro {
		p.fail(attrContentType, "%s is not %q", quote(string(v)), runtime.ContentTypeAvro)
	}
	if v := p.values[attrSpecVersion]; string(v) != specVersion {
		p.fail(attrSpecVersion, "%s is not %q", quote(string(v)), specVersion)
	}
	m.ID = p.id(attrID)
	m.Source = p.text(attrSource)
	m.Type = runtime.TypeName(p.texts[attrType])
	if !validTypeName(p.texts[attrType]) {
		p.fail(attrType, "%s is not a full Avro name (namespace.Name)", quote(p.texts[attrType]))
	}
	var err error
	if m.Subject, err = runtime.ParseEntity(p.texts[attrSubject]); err != nil {
		p.fail(attrSubject, "%w", err)
	} else if key := p.values[attrPartitionKey]; string(key) != string(m.Aggregate()) {
		p.fail(attrPartitionKey, "%s is not the aggregate of the subject %s", quote(string(key)), quote(string(m.Subject)))
	}
	m.Schema = runtime.DataSchema(p.texts[attrDataSchema])
	if name, _, err := m.Schema.Parse(); err != nil {
		p.fail(attrDataSchema, "%w", err)
	} else if name != m.Type {
		p.fail(attrDataSchema, "it is of %s, the type is %s", quote(string(name)), quote(string(m.Type)))
	}
	m.Time = p.time(attrTime)
	m.RecordedTime = p.time(attrRecordedTime)
	m.CausationID = p.id(attrCausationID)
	m.CorrelationID = p.id(attrCorrelationID)
	if m.TraceParent = p.texts[attrTraceParent]; m.TraceParent != "" && !ValidTraceParent(m.TraceParent) {
		p.fail(attrTraceParent, "%s is no W3C trace context", quote(m.TraceParent))
	}
	if c := p.texts[attrCause]; c != "" {
		p.text(attrCause)
		m.Cause = p.cause(c)
	}
	m.By = p.text(attrBy)
	m.Writer = p.text(attrWriter)
	m.Hash = p.text(attrHash)
}

// command reads what only commands have.
func (p *parser) command(m *runtime.Message) {
	for _, a := range [...]attribute{attrSequence, attrPrev, attrSkip} {
		if p.values[a] != nil {
			p.fail(a, "it has a place beside %q only", headerNames[attrPos])
		}
	}
	if v := p.values[attrExpect]; v != nil {
		n, ok := decimal(v)
		if !ok {
			p.fail(attrExpect, "%s is not a version", quote(string(v)))
		}
		m.Expect = &n
	}
	if p.values[attrWaiter] != nil {
		v := p.text(attrWaiter)
		address, rest, _ := strings.Cut(v, " ")
		nonce, deadline, _ := strings.Cut(rest, " ")
		m.Waiter = runtime.Waiter{Address: address, Nonce: nonce, Deadline: p.moment(attrWaiter, deadline)}
		if address == "" || nonce == "" {
			p.fail(attrWaiter, "%s is not address, nonce and deadline with a space between", quote(v))
		}
	}
}

// outcome reads what only records of the events topic have.
func (p *parser) outcome(m *runtime.Message) {
	for _, a := range [...]attribute{attrExpect, attrWaiter} {
		if p.values[a] != nil {
			p.fail(a, "it has no place beside %q", headerNames[attrPos])
		}
	}
	p.position(m)
	switch v := p.values[attrSequence]; {
	case m.Platform() && v != nil:
		p.fail(attrSequence, "a platform record takes no version")
	case !m.Platform() && v == nil:
		p.fail(attrSequence, "it is missing")
	case v != nil:
		n, ok := digits(v)
		if !ok || n == 0 || len(v) != 20 {
			p.fail(attrSequence, "%s is not a version of 20 digits from 1", quote(string(v)))
		}
		m.Sequence = n
	}
	if p.values[attrRecordedTime] == nil {
		p.fail(attrRecordedTime, "it is missing")
	}
	m.Prev = runtime.NoPrev
	if v := p.values[attrPrev]; v != nil {
		n, ok := signed(v)
		if !ok {
			p.fail(attrPrev, "%s is not an offset or a negative distance", quote(string(v)))
		}
		m.Prev = n
	}
	if v := p.values[attrSkip]; v != nil {
		p.skip(m, v)
	}
}

func (p *parser) position(m *runtime.Message) {
	v := p.values[attrPos]
	pos, count, _ := bytes.Cut(v, []byte{'/'})
	a, okA := decimal(pos)
	b, okB := decimal(count)
	const most = 1 << 20 // far more events than one command can have
	if !okA || !okB || a < 1 || a > b || b > most {
		p.fail(attrPos, "%s is not position/count", quote(string(v)))
		return
	}
	m.Pos, m.Count = int(a), int(b)
	if _, pos, ok := runtime.ParseEventID(m.ID); !ok || pos != m.Pos {
		p.fail(attrID, "%s is not the id of event %d of a command", quote(m.ID), m.Pos)
	}
}

// skip reads up to [MaxSkip] offsets, oldest first: offsets rise, and the
// distances to records of the same transaction come after them and rise too.
func (p *parser) skip(m *runtime.Message, v []byte) {
	n := bytes.Count(v, []byte{','}) + 1
	if n > MaxSkip {
		p.fail(attrSkip, "it has %d offsets, more than %d", n, MaxSkip)
		return
	}
	m.Skip = make([]int64, 0, n)
	for len(m.Skip) < n {
		var one []byte
		one, v, _ = bytes.Cut(v, []byte{','})
		offset, ok := signed(one)
		if !ok {
			p.fail(attrSkip, "%s is not an offset or a negative distance", quote(string(one)))
			return
		}
		if i := len(m.Skip); i > 0 {
			before := m.Skip[i-1]
			if sameKind := (before < 0) == (offset < 0); sameKind && before >= offset || !sameKind && before < 0 {
				p.fail(attrSkip, "%d after %d: they are not oldest first", offset, before)
				return
			}
		}
		m.Skip = append(m.Skip, offset)
	}
}

func (p *parser) id(a attribute) string {
	v := p.text(a)
	if len(v) > runtime.MaxIDLength {
		p.fail(a, "it has %d bytes, more than the limit of %d", len(v), runtime.MaxIDLength)
	}
	return v
}

// text checks that a value is a CloudEvents string: UTF-8 without control characters.
func (p *parser) text(a attribute) string {
	v := p.texts[a]
	for i := range len(v) {
		if c := v[i]; c < ' ' || c >= 0x7f {
			if !validText(v[i:]) {
				p.fail(a, "%s holds a control character or is not UTF-8", quote(v))
			}
			break
		}
	}
	return v
}

func validText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		noncharacter := r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef
		if r < ' ' || r >= 0x7f && r <= 0x9f || noncharacter {
			return false
		}
	}
	return true
}

func validTypeName(s string) bool {
	dots, start := 0, true
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || !start && c >= '0' && c <= '9':
			start = false
		case c == '.' && !start:
			dots++
			start = true
		default:
			return false
		}
	}
	return dots > 0 && !start
}

func (p *parser) cause(s string) runtime.Coordinates {
	c, err := runtime.ParseCoordinates(s)
	if err == nil && c.String() != s {
		err = fmt.Errorf("%s is not in its plain form", quote(s))
	}
	if err != nil {
		p.fail(attrCause, "%w", err)
	}
	return c
}

func (p *parser) time(a attribute) time.Time {
	if p.values[a] == nil {
		return time.Time{}
	}
	return p.moment(a, p.texts[a])
}

// moment reads RFC 3339 and keeps milliseconds: other programs may write more.
func (p *parser) moment(a attribute, v string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		p.fail(a, "%s is not a time as RFC 3339 writes it", quote(v))
		return time.Time{}
	}
	t = t.UTC().Truncate(time.Millisecond)
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		p.fail(a, "%s is not between the years 1 and 9999", quote(v))
	}
	return t
}

// ValidTraceParent says whether s is a traceparent of W3C trace context,
// version 00, or of a later version that begins like one.
func ValidTraceParent(s string) bool {
	const length = len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if len(s) < length || len(s) > 256 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" {
		return false
	}
	if len(s) > length && (s[:2] == "00" || s[length] != '-' || !validText(s)) {
		return false
	}
	for i := range length {
		if c := s[i]; i != 2 && i != 35 && i != 52 && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	const zeros = "00000000000000000000000000000000"
	return s[3:35] != zeros && s[36:52] != zeros[:16]
}

// decimal reads a number in its plain form: digits, no zero before another one.
func decimal(v []byte) (n uint64, ok bool) {
	if len(v) == 0 || len(v) > 1 && v[0] == '0' {
		return 0, false
	}
	return digits(v)
}

// digits reads digits, zeros before them allowed.
func digits(v []byte) (n uint64, ok bool) {
	for _, c := range v {
		d := uint64(c - '0')
		if c < '0' || c > '9' || n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// signed reads an offset or a negative distance, in plain form.
func signed(v []byte) (int64, bool) {
	v, negative := bytes.CutPrefix(v, []byte{'-'})
	n, ok := decimal(v)
	if !ok || n > 1<<63-1 || negative && n == 0 {
		return 0, false
	}
	if negative {
		return -int64(n), true
	}
	return int64(n), true
}
