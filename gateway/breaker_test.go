package gateway

import (
	"testing"
	"time"
)

func TestBreakerOpensAfterARowOfFailuresAndClosesOnSuccess(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := breaker{failures: 3, min: 100 * time.Millisecond, max: time.Second}
	for i := range 2 {
		b.failed(now, "")
		if _, ok := b.allow(now); !ok {
			t.Fatalf("open after %d failures, want 3", i+1)
		}
	}
	b.succeeded()
	b.failed(now, "")
	b.failed(now, "")
	if b.open() {
		t.Fatal("a success in between does not end the row")
	}
	b.failed(now, "")
	wait, ok := b.allow(now)
	if ok || wait <= 0 || wait > 150*time.Millisecond {
		t.Fatalf("allow = %v, %v; want a wait of at most 150ms", wait, ok)
	}
	now = now.Add(100 * time.Millisecond)
	if _, ok := b.allow(now); !ok {
		t.Fatal("no probe after the interval")
	}
	if _, ok := b.allow(now); ok {
		t.Fatal("two probes at once")
	}
	now = now.Add(200 * time.Millisecond)
	if _, ok := b.allow(now); !ok {
		t.Fatal("a probe that hangs keeps the next one back")
	}
	b.succeeded()
	if _, ok := b.allow(now); !ok {
		t.Fatal("still open after a success")
	}
}

func TestBreakerBacksOffToItsMaximum(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := breaker{failures: 1, min: 100 * time.Millisecond, max: time.Second}
	b.failed(now, "")
	probes := 0
	for end := now.Add(time.Minute); now.Before(end); now = now.Add(10 * time.Millisecond) {
		if _, ok := b.allow(now); ok {
			probes++
			b.failed(now, "")
		}
	}
	if probes < 60 || probes > 125 {
		t.Errorf("%d probes in a minute, want one every 0.5 to 1 s", probes)
	}
}

func TestBreakerStaysClosedForOneCulprit(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := breaker{failures: 3, min: time.Second, max: time.Second}
	for range 100 {
		b.failed(now, "credit:1")
	}
	if b.open() {
		t.Fatal("one aggregate that times out closes the function to all others")
	}
	b.failed(now, "credit:2")
	if !b.open() {
		t.Fatal("closed although everybody fails")
	}
}
