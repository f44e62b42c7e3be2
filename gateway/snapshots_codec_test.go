package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

func FuzzDecodeSnapshot(f *testing.F) {
	const key, a = "evento:c:t:1:s:{credit:1}", runtime.AggregateID("credit:1")
	for _, n := range []int{0, 3, 64, 700} {
		s := sampleSnapshot(a, n)
		f.Add(encodeSnapshot(key, &s))
	}
	f.Add([]byte(snapshotMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum is no secret: what matters is what stands behind a right one.
		for _, value := range [][]byte{b, resummed(key, b)} {
			v, err := decodeSnapshot(key, a, value)
			if err != nil {
				if !errors.Is(err, errSnapshotFormat) {
					t.Fatalf("error %v does not wrap errSnapshotFormat", err)
				}
				continue
			}
			size := len(v.snapshot.Links) + len(v.snapshot.Seen.Recent) + len(v.runs) + len(v.snapshot.State.Data)
			if size > len(value) {
				t.Fatalf("%d items out of %d bytes", size, len(value))
			}
			for _, name := range v.runs {
				v.snapshot.Seen.Runs = append(v.snapshot.Seen.Runs, &shard.SeenRun{Name: name})
			}
			again, err := decodeSnapshot(key, a, encodeSnapshot(key, &v.snapshot))
			if err != nil {
				t.Fatalf("what was decoded does not survive a second time: %v", err)
			}
			if !bytes.Equal(again.snapshot.State.Data, v.snapshot.State.Data) || again.snapshot.Head != v.snapshot.Head {
				t.Fatal("what was decoded is not what comes back")
			}
		}
	})
}

func resummed(key string, b []byte) []byte {
	if len(b) < crc32.Size {
		return b
	}
	body := bytes.Clone(b[:len(b)-crc32.Size])
	return binary.LittleEndian.AppendUint32(body, snapshotSum(key, body))
}

func FuzzDecodeSeenRun(f *testing.F) {
	run := sampleSnapshot("credit:1", 64).Seen.Runs[0]
	f.Add(run.Name, encodeSeenRun(run))
	f.Add("", []byte(seenRunMagic))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		got, err := decodeSeenRun(name, b)
		if err != nil {
			return
		}
		if shard.SeenRunName(got.Entries) != name || !bytes.Equal(encodeSeenRun(got), b) {
			t.Fatal("a run that is not what its name says was taken")
		}
	})
}

func TestEveryFlippedBitOfASnapshotIsSeen(t *testing.T) {
	t.Parallel()
	const key, a = "k", runtime.AggregateID("credit:1")
	s := sampleSnapshot(a, 5)
	value := encodeSnapshot(key, &s)
	for i := range len(value) * 8 {
		spoilt := bytes.Clone(value)
		spoilt[i/8] ^= 1 << (i % 8)
		if _, err := decodeSnapshot(key, a, spoilt); !errors.Is(err, errSnapshotFormat) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
}

func BenchmarkSnapshotCodec(b *testing.B) {
	s := sampleSnapshot("credit:1", 50)
	s.State.Data = make([]byte, 500)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			encodeSnapshot("k", &s)
		}
	})
	value := encodeSnapshot("k", &s)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeSnapshot("k", "credit:1", value); err != nil {
				b.Fatal(err)
			}
		}
	})
}
