// Package position says how far a reader of a partition has come that finishes
// what it reads out of order: the lowest unfinished offset, which is the one that
// is committed, and the finished ones above it, as text in its metadata. It knows
// no clock and no client.
package position

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"strconv"
	"strings"
)

// MetadataLimit is how many bytes of offset metadata the broker takes
// (offset.metadata.max.bytes).
const MetadataLimit = 4096

// MetadataSoft is the length from which what is unfinished is set aside to shorten the metadata.
const MetadataSoft = 3000

// Offsets knows which offsets of a partition are finished: all below the lowest
// unfinished one, and those above it whose bit is set. It is not safe for
// concurrent use.
type Offsets struct {
	low  int64    // lowest unfinished offset, or end
	next int64    // the offset after the last one that was seen
	end  int64    // the offset after the last one that was seen or is finished
	base int64    // offset of the first bit; base <= low
	bits []uint64 // bit i: offset base+i is finished
}

// NewOffsets begins where a position stands.
func NewOffsets(p Position) *Offsets {
	o := &Offsets{low: p.Offset, next: p.Offset, end: p.Offset, base: p.Offset}
	for _, offset := range p.Done {
		o.Finish(offset)
	}
	return o
}

func (o *Offsets) grow(n int64) {
	for int64(len(o.bits))*64 < n-o.base {
		o.bits = append(o.bits, 0)
	}
}

// Low is the lowest unfinished offset, or End.
func (o *Offsets) Low() int64 { return o.low }

// Next is the offset after the last one that was seen.
func (o *Offsets) Next() int64 { return o.next }

// End is the offset after the last one that was seen or is finished.
func (o *Offsets) End() int64 { return o.end }

// Extend has everything below end taken up, as a position says of its writer.
func (o *Offsets) Extend(end int64) {
	o.end = max(o.end, end)
	o.grow(o.end)
}

// See makes offset the last one seen. Offsets that were left out (a mirrored
// topic has gaps) will never come: they count as finished.
func (o *Offsets) See(offset int64) {
	for gap := o.next; gap < offset; gap++ {
		o.next = gap + 1
		o.Finish(gap)
	}
	if offset >= o.next {
		o.next = offset + 1
		o.end = max(o.end, o.next)
		o.grow(o.next)
	}
}

// Finished says whether an offset is finished.
func (o *Offsets) Finished(offset int64) bool {
	if offset < o.low {
		return true
	}
	i := offset - o.base
	return i < int64(len(o.bits))*64 && o.bits[i/64]&(1<<(i%64)) != 0
}

// Finish marks offset and moves low over what is finished.
func (o *Offsets) Finish(offset int64) {
	if offset < o.low {
		return
	}
	o.end = max(o.end, offset+1)
	o.grow(o.end)
	i := offset - o.base
	o.bits[i/64] |= 1 << (i % 64)
	for o.low < o.end {
		i := o.low - o.base
		word := o.bits[i/64] >> (i % 64)
		run := int64(bits.TrailingZeros64(^word))
		if run == 0 {
			break
		}
		o.low = min(o.low+run, o.end, o.base+(i/64+1)*64)
	}
	if drop := (o.low - o.base) / 64; drop >= 64 && drop*2 >= int64(len(o.bits)) {
		o.bits = append([]uint64(nil), o.bits[drop:]...)
		o.base += drop * 64
	}
}

// Truncate forgets the upper half of what is known above low.
func (o *Offsets) Truncate() {
	end := o.low + (o.end-o.low)/2
	for i := end; i < o.end; i++ {
		o.bits[(i-o.base)/64] &^= 1 << ((i - o.base) % 64)
	}
	o.end = end
}

// Clone copies o, so that a batch can be tried out on it.
func (o *Offsets) Clone() *Offsets {
	c := *o
	c.bits = append([]uint64(nil), o.bits...)
	return &c
}

// Position is what a partition's committed offset says, with its metadata: the
// lowest unfinished record, the finished ones above it, and where to begin to
// read what was set aside.
type Position struct {
	Offset int64   // the lowest unfinished one; the committed offset itself
	Done   []int64 // Finished offsets above Offset, ascending
	End    int64   // the offset after the last one that the writer had taken up
	Aside  int64   // offset in another topic from which everything that is set aside and live is found
	Clean  bool    // written by a graceful stop: nothing was in flight
	Epoch  uint64  // how often the reader was sent back; 0 for never, and for those that never are
}

// Note is what the metadata says beside the offsets.
type Note struct {
	Aside   int64
	Clean   bool
	Epoch   uint64
	TopicID string // of the topic that the offsets are of
}

// ErrMetadata is returned for metadata that is not ours, damaged, or of another topic.
var ErrMetadata = errors.New("offset metadata is not usable")

const metadataVersion = "e1"

// maxLength is how many offsets a position may span. A few bytes can say any
// number, and each that is finished takes memory; what is unfinished for long is
// set aside, so that minutes of the fastest installation are fewer.
const maxLength = 1 << 22

// Encode writes the metadata of o: "e1 <flags> <aside> <end> <topic id> <runs> <crc>", where
// runs are the lengths of alternating unfinished and finished stretches from
// low on, as base64 of uvarints. Flags are "c" for clean or "-", and the epoch
// where it is not 0.
func (o *Offsets) Encode(n Note) string {
	var runs []byte
	for at, finished := o.low, false; at < o.end; finished = !finished {
		from := at
		for at < o.end && o.Finished(at) == finished {
			at++
		}
		if finished || at < o.end {
			runs = binary.AppendUvarint(runs, uint64(at-from))
		}
	}
	flags := "-"
	if n.Clean {
		flags = "c"
	}
	if n.Epoch > 0 {
		flags += strconv.FormatUint(n.Epoch, 36)
	}
	text := strings.Join([]string{
		metadataVersion, flags, strconv.FormatInt(n.Aside, 36), strconv.FormatInt(o.end-o.low, 36), n.TopicID,
		base64.RawURLEncoding.EncodeToString(runs),
	}, " ")
	return text + " " + strconv.FormatUint(uint64(metadataSum(o.low, text)), 16)
}

func metadataSum(offset int64, text string) uint32 {
	return crc32.Checksum(strconv.AppendInt([]byte(text), offset, 10), crc32.MakeTable(crc32.Castagnoli))
}

// Parse reads a committed offset and its metadata. The error wraps
// [ErrMetadata]; then the position counts as missing.
func Parse(offset int64, metadata, topicID string) (Position, error) {
	bad := func(why string) (Position, error) {
		return Position{}, fmt.Errorf("%w: %s in %q", ErrMetadata, why, metadata)
	}
	text, sum, ok := cutLast(metadata, " ")
	parts := strings.Split(text, " ")
	if !ok || len(parts) != 6 || parts[0] != metadataVersion {
		return bad("no " + metadataVersion + " format")
	}
	if want, err := strconv.ParseUint(sum, 16, 32); err != nil || uint32(want) != metadataSum(offset, text) {
		return bad("wrong checksum")
	}
	if parts[4] != topicID {
		return bad("another topic than " + topicID)
	}
	aside, err1 := strconv.ParseInt(parts[2], 36, 64)
	length, err2 := strconv.ParseInt(parts[3], 36, 64)
	runs, err3 := base64.RawURLEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2, err3); err != nil || length < 0 || parts[1] == "" {
		return bad("broken field")
	}
	if length > maxLength || offset < 0 || offset+length < offset {
		return bad(fmt.Sprintf("more than %d offsets", int64(maxLength)))
	}
	p := Position{Offset: offset, End: offset + length, Aside: aside, Clean: parts[1][0] == 'c'}
	if epoch := parts[1][1:]; epoch != "" {
		if p.Epoch, err1 = strconv.ParseUint(epoch, 36, 64); err1 != nil {
			return bad("broken epoch")
		}
	}
	for at, finished := offset, false; len(runs) > 0; finished = !finished {
		n, size := binary.Uvarint(runs)
		if size <= 0 || n > uint64(p.End-at) {
			return bad("broken runs")
		}
		runs = runs[size:]
		end := at + int64(n)
		for ; finished && at < end; at++ {
			p.Done = append(p.Done, at)
		}
		at = end
	}
	return p, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
