package position

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/evento-oss/evento/internal/fuzztest"
)

func TestOffsetsAgainstAPlainSet(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		start := rng.Int64N(1000)
		o := NewOffsets(Position{Offset: start})
		finished := map[int64]bool{}
		next := start
		for range 500 {
			if rng.IntN(2) == 0 {
				o.See(next)
				next++
				continue
			}
			if next == start {
				continue
			}
			at := start + rng.Int64N(next-start)
			o.Finish(at)
			finished[at] = true
		}
		low := start
		for low < next && finished[low] {
			low++
		}
		if o.low != low || o.next != next {
			t.Fatalf("seed %d: low %d next %d, want %d and %d", seed, o.low, o.next, low, next)
		}
		p, err := Parse(o.low, o.Encode(Note{Aside: 17, Clean: seed%2 == 0, Epoch: seed / 3, TopicID: "topic"}), "topic")
		if err != nil {
			t.Fatal(err)
		}
		var done []int64
		for at := low; at < next; at++ {
			if finished[at] {
				done = append(done, at)
			}
		}
		if !slices.Equal(p.Done, done) || p.End != next || p.Aside != 17 || p.Clean != (seed%2 == 0) || p.Epoch != seed/3 {
			t.Fatalf("seed %d: read back %+v, want done %v end %d", seed, p, done, next)
		}
	}
}

func TestOffsetsLongRunStaysSmall(t *testing.T) {
	o := NewOffsets(Position{Offset: 0})
	for i := range int64(1_000_000) {
		o.See(i)
		o.Finish(i)
	}
	if o.low != 1_000_000 || len(o.bits) > 200 {
		t.Errorf("low %d with %d words kept", o.low, len(o.bits))
	}
	if m := o.Encode(Note{Aside: -1, Clean: true, TopicID: "t"}); len(m) > 40 {
		t.Errorf("metadata of nothing unfinished is %q", m)
	}
}

func TestOffsetsGapsWillNeverCome(t *testing.T) {
	o := NewOffsets(Position{Offset: 10})
	o.See(20)
	if o.low != 20 || o.next != 21 {
		t.Errorf("low %d next %d, want 20 and 21", o.low, o.next)
	}
}

func TestParseRefusesWhatIsNotItsOwn(t *testing.T) {
	o := NewOffsets(Position{Offset: 5})
	for i := range int64(100) {
		o.See(5 + i)
		if i%3 == 0 && i > 0 {
			o.Finish(5 + i)
		}
	}
	good := o.Encode(Note{Aside: -1, Clean: false, TopicID: "topic-a"})
	for name, c := range map[string]struct {
		offset   int64
		metadata string
		topic    string
	}{
		"empty":          {5, "", "topic-a"},
		"foreign":        {5, "some consumer's note", "topic-a"},
		"other offset":   {6, good, "topic-a"},
		"other topic":    {5, good, "topic-b"},
		"cut":            {5, good[:len(good)-3], "topic-a"},
		"one bit turned": {5, good[:10] + string(good[10]^1) + good[11:], "topic-a"},
	} {
		if _, err := Parse(c.offset, c.metadata, c.topic); !errors.Is(err, ErrMetadata) {
			t.Errorf("%s: error %v, want ErrMetadata", name, err)
		}
	}
}

// FuzzParse: a position that is taken is written and read as the same, in
// memory that a few bytes are worth. The checksum is no secret: what matters is
// what stands before a right one.
func FuzzParse(f *testing.F) {
	o := NewOffsets(Position{Offset: 5})
	o.See(50)
	o.Finish(30)
	whole := o.Encode(Note{Aside: -1, Clean: false, TopicID: "t"})
	f.Add(int64(5), whole)
	runs := binary.AppendUvarint([]byte{0}, 1<<60)
	f.Add(int64(5), "e1 - -1 "+strconv.FormatInt(1<<61, 36)+" t "+base64.RawURLEncoding.EncodeToString(runs)+" 0")
	f.Add(int64(1<<62), "e1 c7 5 "+strconv.FormatInt(math.MaxInt64, 36)+" t  0")
	f.Fuzz(func(t *testing.T, offset int64, metadata string) {
		text, _, ok := cutLast(metadata, " ")
		texts := []string{metadata}
		if ok {
			texts = append(texts, text+" "+strconv.FormatUint(uint64(metadataSum(offset, text)), 16))
		}
		for _, text := range texts {
			var p Position
			var err error
			fuzztest.Bounded(t, 40<<10, func() { p, err = Parse(offset, text, "t") })
			if err != nil {
				if !errors.Is(err, ErrMetadata) {
					t.Errorf("%v is no ErrMetadata", err)
				}
				continue
			}
			if p.End < p.Offset || len(p.Done) > maxLength {
				t.Fatalf("%q is %d to %d, %d finished", text, p.Offset, p.End, len(p.Done))
			}
			for _, at := range p.Done {
				if at < p.Offset || at >= p.End {
					t.Fatalf("%q: %d is finished, of %d to %d", text, at, p.Offset, p.End)
				}
			}
		}
	})
}
