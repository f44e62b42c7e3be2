package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsJoin(t *testing.T) {
	for i := range buckets - 1 {
		if got := bucket(upper(i)); got != i {
			t.Fatalf("the greatest value of bucket %d, %d, is in bucket %d", i, upper(i), got)
		}
		if got := bucket(upper(i) + 1); got != i+1 {
			t.Fatalf("%d is in bucket %d, want %d", upper(i)+1, got, i+1)
		}
	}
	if got := bucket(1 << 62); got != buckets-1 {
		t.Errorf("a year is in bucket %d, want the last", got)
	}
}

func TestQuantilesAreCloseToSorted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	var one, other histogram
	for i := range 20_000 {
		d := time.Duration(r.ExpFloat64() * float64(5*time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			one.add(d)
		} else {
			other.add(d)
		}
	}
	one.merge(&other)
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
		want := all[int(q*float64(len(all)))-1]
		got := one.quantile(q)
		if off := float64(got-want) / float64(want); off < -0.001 || off > 0.017 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	if one.max != all[len(all)-1] || one.quantile(1) != one.max {
		t.Errorf("max %v, quantile(1) %v, want %v", one.max, one.quantile(1), all[len(all)-1])
	}
	var empty histogram
	if empty.quantile(0.5) != 0 || empty.mean() != 0 {
		t.Error("an empty histogram has times")
	}
}
