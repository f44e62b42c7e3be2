package main

import "testing"

func TestLargeHeapsKeepLessGarbage(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 40 << 20: 400, 128 << 20: 400, 256 << 20: 200, 512 << 20: 100, 8 << 30: 100} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d MiB live: %d%%, want %d%%", live>>20, got, want)
		}
	}
}
