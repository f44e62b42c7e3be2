// Package fuzztest has what fuzz targets hold every decoder to, whatever it decodes.
package fuzztest

import (
	"runtime/metrics"
	"testing"
)

// What a decoder may allocate: so many bytes in any case, which is generous since
// the goroutines of others count, too, and so many for each byte of input.
const (
	base = 16 << 20
	each = 4 << 10
)

// Bounded fails the test when decode allocates more than an input of so many bytes
// can be worth: a length that is only announced must not be believed.
func Bounded(t *testing.T, input int, decode func()) {
	t.Helper()
	before := allocated()
	decode()
	if took := allocated() - before; took > base+each*uint64(input) {
		t.Errorf("%d bytes of input made the decoder allocate %d bytes", input, took)
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
