package avro

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// The functions in this file walk over values that check has found good, and
// so look at nothing twice. Given other bytes they may panic.

// appendLong appends a zigzag varint.
func appendLong(dst []byte, v int64) []byte {
	return binary.AppendUvarint(dst, uint64(v)<<1^uint64(v>>63))
}

// long reads a zigzag varint at i and returns where it ends.
func long(b []byte, i int) (int64, int) {
	if x := b[i]; x < 0x80 {
		return int64(x>>1) ^ -int64(x&1), i + 1
	}
	u, n := binary.Uvarint(b[i:])
	return int64(u>>1) ^ -int64(u&1), i + n
}

// block reads the head of a block: how many items follow, 0 at the end.
func block(b []byte, i int) (count, next int) {
	n, i := long(b, i)
	if n < 0 {
		n = -n
		_, i = long(b, i)
	}
	return int(n), i
}

// skip returns where the value that begins at i ends.
func skip(s *shape, b []byte, i int) int {
	switch s.form {
	case formRecord:
		for k := range s.fields {
			i = skip(s.fields[k].shape, b, i)
		}
		return i
	case formString, formBytes:
		n, i := long(b, i)
		return i + int(n)
	case formInt, formLong, formEnum:
		for b[i] >= 0x80 {
			i++
		}
		return i + 1
	case formOptional:
		if b[i] == 0 {
			return i + 1
		}
		return skip(s.elem, b, i+1)
	case formBoolean:
		return i + 1
	case formFloat:
		return i + 4
	case formDouble:
		return i + 8
	case formFixed:
		return i + s.size
	}
	for {
		n, next := long(b, i)
		if i = next; n == 0 {
			return i
		}
		if n < 0 {
			size, next := long(b, i)
			i = next + int(size)
			continue
		}
		for range n {
			if s.form == formMap {
				size, next := long(b, i)
				i = next + int(size)
			}
			i = skip(s.elem, b, i)
		}
	}
}

// canonical appends the one encoding that stands for a value: arrays and maps
// in a single block without byte size, maps sorted by key, decimals without
// superfluous sign bytes. It returns where the value ends in b.
func canonical(dst []byte, s *shape, b []byte, i int) ([]byte, int) {
	if !s.varies {
		end := skip(s, b, i)
		return append(dst, b[i:end]...), end
	}
	switch s.form {
	case formRecord:
		for k := range s.fields {
			dst, i = canonical(dst, s.fields[k].shape, b, i)
		}
	case formOptional:
		dst = append(dst, b[i])
		if b[i] != 0 {
			return canonical(dst, s.elem, b, i+1)
		}
		i++
	case formBytes:
		n, from := long(b, i)
		i = from + int(n)
		raw := b[from:i]
		for len(raw) > 1 && (raw[0] == 0 && raw[1] < 0x80 || raw[0] == 0xff && raw[1] >= 0x80) {
			raw = raw[1:]
		}
		dst = append(appendLong(dst, int64(len(raw))), raw...)
	case formArray:
		return canonicalArray(dst, s, b, i)
	case formMap:
		return canonicalMap(dst, s, b, i)
	}
	return dst, i
}

func canonicalArray(dst []byte, s *shape, b []byte, i int) ([]byte, int) {
	base, total := len(dst), 0
	for {
		count, next := block(b, i)
		i = next
		if count == 0 {
			return closeBlock(dst, base, total), i
		}
		total += count
		for range count {
			dst, i = canonical(dst, s.elem, b, i)
		}
	}
}

// closeBlock puts the count before the items that begin at base, and the end after them.
func closeBlock(dst []byte, base, count int) []byte {
	if count == 0 {
		return append(dst, 0)
	}
	var head [binary.MaxVarintLen64]byte
	return append(slices.Insert(dst, base, appendLong(head[:0], int64(count))...), 0)
}

// entry is a key of a map and where its key and value stand in some bytes.
type entry struct {
	key   []byte
	whole span
}

func canonicalMap(dst []byte, s *shape, b []byte, i int) ([]byte, int) {
	var few [8]entry
	entries := few[:0]
	for {
		count, next := block(b, i)
		i = next
		if count == 0 {
			break
		}
		for range count {
			n, from := long(b, i)
			end := skip(s.elem, b, from+int(n))
			entries = append(entries, entry{key: b[from : from+int(n)], whole: span{i, end}})
			i = end
		}
	}
	if len(entries) > 0 {
		dst = appendLong(dst, int64(len(entries)))
	}
	slices.SortFunc(entries, func(x, y entry) int { return bytes.Compare(x.key, y.key) })
	for _, e := range entries {
		dst = append(appendLong(dst, int64(len(e.key))), e.key...)
		_, from := long(b, e.whole.from)
		dst, _ = canonical(dst, s.elem, b, from+len(e.key))
	}
	return append(dst, 0), i
}
