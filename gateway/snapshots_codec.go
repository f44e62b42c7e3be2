package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// A snapshot's value in Redis:
//
//	"EVS" format=1
//	aggregate         string
//	fold              varint   how the events were folded, see Functions.Fold
//	version           uvarint  of the state
//	schema            string   dataschema of the state
//	data              0, or 1 and bytes: the bare Avro value
//	head              uvarint version, varint offset, 16 bytes of command key, varint pos
//	links             count, then varints: each offset less the one before
//	recorded          0, or 1 and varint nanoseconds since 1970
//	recent            count, then (8 bytes of hash, varint offset) each
//	runs              count, then name as string each
//	checksum          4 bytes: CRC-32C of the Redis key and all of the above
//
// A string or bytes is a uvarint length and as many bytes; fixed numbers are
// little-endian. The key takes part in the checksum, so that a value which was
// written for another aggregate or installation is not taken for this one's.
//
// A run's value is "EVR" format=1 and 16 bytes for each entry (hash, offset);
// its checksum is its name.
const (
	snapshotMagic  = "EVS\x01"
	seenRunMagic   = "EVR\x01"
	seenEntryBytes = 16
)

// errSnapshotFormat is returned, wrapped with the reason, for a value that is no
// snapshot, or not the one asked for.
var errSnapshotFormat = errors.New("not a snapshot of this aggregate")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snapshotValue is a snapshot with what only Redis needs beside it.
type snapshotValue struct {
	snapshot shard.Snapshot // Seen.Runs is empty after decoding: see runs
	runs     []string       // names of Seen.Runs
}

func encodeSnapshot(key string, s *shard.Snapshot) []byte {
	b := make([]byte, 0, 256+len(s.State.Data)+10*len(s.Links))
	b = append(b, snapshotMagic...)
	b = appendText(b, string(s.Aggregate))
	b = binary.AppendVarint(b, int64(s.State.Fold))
	b = binary.AppendUvarint(b, s.State.Version)
	b = appendText(b, string(s.State.Schema))
	if s.State.Data == nil {
		b = append(b, 0)
	} else {
		b = appendText(append(b, 1), string(s.State.Data))
	}
	b = binary.AppendUvarint(b, s.Head.Version)
	b = binary.AppendVarint(b, s.Head.Offset)
	b = append(b, s.Head.Command[:]...)
	b = binary.AppendVarint(b, int64(s.Head.Pos))
	b = binary.AppendUvarint(b, uint64(len(s.Links)))
	before := int64(0)
	for _, link := range s.Links {
		b = binary.AppendVarint(b, link-before)
		before = link
	}
	if s.Recorded.IsZero() {
		b = append(b, 0)
	} else {
		b = binary.AppendVarint(append(b, 1), s.Recorded.UnixNano())
	}
	seen := s.Seen
	if seen == nil {
		seen = &shard.Seen{}
	}
	b = binary.AppendUvarint(b, uint64(len(seen.Recent)))
	for _, e := range seen.Recent {
		b = binary.LittleEndian.AppendUint64(b, e.Hash)
		b = binary.AppendVarint(b, e.Offset)
	}
	b = binary.AppendUvarint(b, uint64(len(seen.Runs)))
	for _, r := range seen.Runs {
		b = appendText(b, r.Name)
	}
	return binary.LittleEndian.AppendUint32(b, snapshotSum(key, b))
}

func snapshotSum(key string, b []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, b)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decodeSnapshot reads what encodeSnapshot writes. It allocates no more than a
// small multiple of len(b), whatever b says. The result keeps parts of b.
func decodeSnapshot(key string, aggregate runtime.AggregateID, b []byte) (snapshotValue, error) {
	var v snapshotValue
	if len(b) < len(snapshotMagic)+crc32.Size || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return v, fmt.Errorf("%w: it does not begin as format 1 does", errSnapshotFormat)
	}
	body, sum := b[:len(b)-crc32.Size], binary.LittleEndian.Uint32(b[len(b)-crc32.Size:])
	if snapshotSum(key, body) != sum {
		return v, fmt.Errorf("%w: the checksum does not match", errSnapshotFormat)
	}
	r := snapshotReader{b: body[len(snapshotMagic):]}
	s := &v.snapshot
	s.Aggregate = runtime.AggregateID(r.text())
	s.State.Fold = int(r.varint())
	s.State.Version = r.uvarint()
	s.State.Schema = runtime.DataSchema(r.text())
	if r.flag() {
		s.State.Data = r.bytes()
	}
	s.Head.Version = r.uvarint()
	s.Head.Offset = r.varint()
	copy(s.Head.Command[:], r.take(len(s.Head.Command)))
	pos := r.varint()
	s.Head.Pos = int32(pos)
	if n := r.count(1); n > 0 {
		s.Links = make([]int64, n)
		before := int64(0)
		for i := range s.Links {
			before += r.varint()
			s.Links[i] = before
		}
	}
	if r.flag() {
		s.Recorded = time.Unix(0, r.varint()).UTC()
	}
	s.Seen = &shard.Seen{}
	if n := r.count(9); n > 0 {
		s.Seen.Recent = make([]shard.SeenEntry, n)
		for i := range s.Seen.Recent {
			s.Seen.Recent[i] = shard.SeenEntry{Hash: r.fixed64(), Offset: r.varint()}
		}
	}
	if n := r.count(1); n > 0 {
		v.runs = make([]string, n)
		for i := range v.runs {
			v.runs[i] = r.text()
		}
	}
	switch {
	case r.short:
		return v, fmt.Errorf("%w: it ends too early", errSnapshotFormat)
	case len(r.b) > 0:
		return v, fmt.Errorf("%w: %d bytes follow its end", errSnapshotFormat, len(r.b))
	case s.Aggregate != aggregate:
		return v, fmt.Errorf("%w: it is of %q, not of %q", errSnapshotFormat, s.Aggregate, aggregate)
	case int64(s.Head.Pos) != pos:
		return v, fmt.Errorf("%w: position %d is out of range", errSnapshotFormat, pos)
	}
	return v, nil
}

func encodeSeenRun(run *shard.SeenRun) []byte {
	b := make([]byte, 0, len(seenRunMagic)+seenEntryBytes*len(run.Entries))
	b = append(b, seenRunMagic...)
	for _, e := range run.Entries {
		b = binary.LittleEndian.AppendUint64(b, e.Hash)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Offset))
	}
	return b
}

// decodeSeenRun reads what encodeSeenRun writes and holds it against its name.
func decodeSeenRun(name string, b []byte) (*shard.SeenRun, error) {
	if len(b) < len(seenRunMagic) || string(b[:len(seenRunMagic)]) != seenRunMagic ||
		(len(b)-len(seenRunMagic))%seenEntryBytes != 0 {
		return nil, fmt.Errorf("%w: run %q has not the form of format 1", errSnapshotFormat, name)
	}
	b = b[len(seenRunMagic):]
	entries := make([]shard.SeenEntry, len(b)/seenEntryBytes)
	for i := range entries {
		e := b[i*seenEntryBytes:]
		entries[i] = shard.SeenEntry{
			Hash:   binary.LittleEndian.Uint64(e),
			Offset: int64(binary.LittleEndian.Uint64(e[8:])),
		}
		if i > 0 && entries[i].Hash < entries[i-1].Hash {
			return nil, fmt.Errorf("%w: run %q is not sorted", errSnapshotFormat, name)
		}
	}
	if got := shard.SeenRunName(entries); got != name {
		return nil, fmt.Errorf("%w: the content of run %q has the name %q", errSnapshotFormat, name, got)
	}
	return &shard.SeenRun{Name: name, Entries: entries}, nil
}

// snapshotReader takes values off the front of b. After the first that does not
// fit, short is set and all others are zero.
type snapshotReader struct {
	b     []byte
	short bool
}

func (r *snapshotReader) fail() {
	r.b, r.short = nil, true
}

func (r *snapshotReader) take(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *snapshotReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *snapshotReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *snapshotReader) fixed64() uint64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (r *snapshotReader) flag() bool {
	b := r.take(1)
	if b == nil {
		return false
	}
	if b[0] > 1 {
		r.fail()
	}
	return b[0] == 1
}

// count reads how many items follow, each of at least size bytes.
func (r *snapshotReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

// bytes returns a slice that is never nil: an empty value is not an absent one.
func (r *snapshotReader) bytes() []byte {
	n := r.count(1)
	if n == 0 {
		return []byte{}
	}
	return r.take(n)
}

func (r *snapshotReader) text() string { return string(r.bytes()) }
