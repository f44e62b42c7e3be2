package fuzztest

import "testing"

var sink []byte

func TestAllocationsAreSeen(t *testing.T) {
	before := allocated()
	sink = make([]byte, 100<<20)
	if took := allocated() - before; took < 100<<20 {
		t.Errorf("100 MiB are seen as %d bytes", took)
	}
	Bounded(t, 100, func() { sink = make([]byte, 100<<10) })
}
