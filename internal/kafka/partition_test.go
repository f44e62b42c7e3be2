package kafka

import "testing"

// The vectors are those of Kafka's own test of Utils.murmur2.
func TestPartitionIsJavas(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2(key)); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
		if got, want := Partition(key, 16), (want&0x7fffffff)%16; got != want {
			t.Errorf("Partition(%q, 16) = %d, want %d", key, got, want)
		}
	}
	if p := Partition("", 7); p < 0 || p > 6 {
		t.Errorf("the empty key goes to partition %d of 7", p)
	}
}

func BenchmarkPartition(b *testing.B) {
	for b.Loop() {
		Partition("checking:54321-90", 16)
	}
}
