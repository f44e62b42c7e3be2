package bench

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are at most 1/64 of their value
// wide, so that a percentile is off by less than 1.6 %. The zero value is empty.
type histogram struct {
	counts [buckets]int64
	n      int64
	sum    time.Duration
	max    time.Duration
}

const (
	subBits = 6
	// Microseconds in 40 bits are twelve days.
	buckets = (40 - subBits + 1) << subBits
)

// bucket returns the index for a number of microseconds: the position of the
// highest bit, and the six bits after it.
func bucket(us uint64) int {
	if us < 1<<subBits {
		return int(us)
	}
	shift := bits.Len64(us) - subBits - 1
	i := (shift+1)<<subBits + int(us>>shift) - 1<<subBits
	return min(i, buckets-1)
}

// upper returns the greatest number of microseconds in a bucket.
func upper(i int) uint64 {
	if i < 1<<subBits {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return uint64(i&(1<<subBits-1)+1<<subBits+1)<<shift - 1
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0).Microseconds()))]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// quantile returns the duration that the fraction q of all do not exceed; 0 when there are none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := max(1, int64(q*float64(h.n)+0.999999))
	seen := int64(0)
	for i, c := range h.counts {
		if seen += c; seen >= rank {
			return min(time.Duration(upper(i))*time.Microsecond, h.max)
		}
	}
	return h.max
}

func (h *histogram) mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return h.sum / time.Duration(h.n)
}
