package shard

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

// MetadataSoft is the length from which commands are set aside to shorten the metadata.
const MetadataSoft = 3000

// offsets knows which offsets of the commands topic are finished: all below
// low, and those above it whose bit is set.
type offsets struct {
	low  int64    // lowest unfinished offset, or end
	next int64    // the offset after the last one that was seen
	end  int64    // the offset after the last one that was seen or is finished
	base int64    // offset of the first bit; base <= low
	bits []uint64 // bit i: offset base+i is finished
}

func newOffsets(p Position) *offsets {
	o := &offsets{low: p.Offset, next: p.Offset, end: p.Offset, base: p.Offset}
	for _, offset := range p.Done {
		o.finish(offset)
	}
	return o
}

func (o *offsets) grow(n int64) {
	for int64(len(o.bits))*64 < n-o.base {
		o.bits = append(o.bits, 0)
	}
}

// see makes offset the last one seen. Offsets that were left out (a mirrored
// topic has gaps) will never come: they count as finished.
func (o *offsets) see(offset int64) {
	for gap := o.next; gap < offset; gap++ {
		o.next = gap + 1
		o.finish(gap)
	}
	if offset >= o.next {
		o.next = offset + 1
		o.end = max(o.end, o.next)
		o.grow(o.next)
	}
}

func (o *offsets) finished(offset int64) bool {
	if offset < o.low {
		return true
	}
	i := offset - o.base
	return i < int64(len(o.bits))*64 && o.bits[i/64]&(1<<(i%64)) != 0
}

// finish marks offset and moves low over what is finished.
func (o *offsets) finish(offset int64) {
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

// truncate forgets the upper half of what is known above low.
func (o *offsets) truncate() {
	end := o.low + (o.end-o.low)/2
	for i := end; i < o.end; i++ {
		o.bits[(i-o.base)/64] &^= 1 << ((i - o.base) % 64)
	}
	o.end = end
}

// clone copies o, so that a batch can be tried out on it.
func (o *offsets) clone() *offsets {
	c := *o
	c.bits = append([]uint64(nil), o.bits...)
	return &c
}

// Position is what a partition's committed offset says, with its metadata: the
// lowest unfinished command, the finished ones above it, and where to begin to
// read the set-aside records.
type Position struct {
	Offset int64   // the lowest unfinished command; the committed offset itself
	Done   []int64 // finished offsets above Offset, ascending
	End    int64   // the offset after the last one that the writer had taken up
	Aside  int64   // offset in the parked topic from which every live set-aside record is found
	Clean  bool    // written by a graceful stop: nothing was in flight
}

// ErrMetadata is returned for metadata that is not ours, damaged, or of another topic.
var ErrMetadata = errors.New("offset metadata is not usable")

const metadataVersion = "e1"

// encode writes the metadata of o: "e1 <flags> <aside> <end> <topic id> <runs> <crc>", where
// runs are the lengths of alternating unfinished and finished stretches from
// low on, as base64 of uvarints.
func (o *offsets) encode(aside int64, clean bool, topicID string) string {
	var runs []byte
	for at, finished := o.low, false; at < o.end; finished = !finished {
		from := at
		for at < o.end && o.finished(at) == finished {
			at++
		}
		if finished || at < o.end {
			runs = binary.AppendUvarint(runs, uint64(at-from))
		}
	}
	flags := "-"
	if clean {
		flags = "c"
	}
	text := strings.Join([]string{
		metadataVersion, flags, strconv.FormatInt(aside, 36), strconv.FormatInt(o.end-o.low, 36), topicID,
		base64.RawURLEncoding.EncodeToString(runs),
	}, " ")
	return text + " " + strconv.FormatUint(uint64(metadataSum(o.low, text)), 16)
}

func metadataSum(offset int64, text string) uint32 {
	return crc32.Checksum(strconv.AppendInt([]byte(text), offset, 10), crc32.MakeTable(crc32.Castagnoli))
}

// ParsePosition reads a committed offset and its metadata. The error wraps
// [ErrMetadata]; then the position counts as missing.
func ParsePosition(offset int64, metadata, topicID string) (Position, error) {
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
	if err := errors.Join(err1, err2, err3); err != nil || length < 0 {
		return bad("broken field")
	}
	p := Position{Offset: offset, End: offset + length, Aside: aside, Clean: parts[1] == "c"}
	for at, finished := offset, false; len(runs) > 0; finished = !finished {
		n, size := binary.Uvarint(runs)
		if size <= 0 || n > uint64(p.End-at) {
			return bad("broken runs")
		}
		runs = runs[size:]
		for end := at + int64(n); at < end; at++ {
			if finished {
				p.Done = append(p.Done, at)
			}
		}
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
