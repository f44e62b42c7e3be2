package proof

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSilenceIsMeasured shows that a time without answers is found wherever it lies.
func TestSilenceIsMeasured(t *testing.T) {
	at := func(s float64) time.Time {
		return time.Date(2026, 1, 1, 0, 0, 0, int(s*1e9), time.UTC)
	}
	for _, c := range []struct {
		name          string
		told          []float64
		before, later float64
	}{
		{"nobody was told anything", nil, 10, 0},
		{"told before the fault alone", []float64{-3, -1}, 10, 0},
		{"silent at first", []float64{-1, 3, 4, 5, 6, 7, 8, 9}, 3, 1},
		{"silent at the end", []float64{1, 2, 3, 4, 5, 6}, 1, 4},
		{"silent over the end of the fault", []float64{1, 2, 3, 4, 9}, 5, 1},
		{"told after all", []float64{1, 2, 3, 4, 5, 12}, 1, 5},
		{"in no order", []float64{9, 1, 8, 2, 7, 3, 6, 4, 5}, 1, 1},
	} {
		var times []time.Time
		for _, s := range c.told {
			times = append(times, at(s))
		}
		before, later := gaps(times, at(0), at(5), at(10))
		if want := time.Duration(c.before * 1e9); time.Duration(before) != want {
			t.Errorf("%s: until it is healed %v, want %v", c.name, before, want)
		}
		if want := time.Duration(c.later * 1e9); time.Duration(later) != want {
			t.Errorf("%s: from then on %v, want %v", c.name, later, want)
		}
	}
}

// TestReportGoesOn writes a report in two campaigns: what is tried again replaces
// what was there of it, the rest stays.
func TestReportGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build/faults.md")
	kill, other := fault{name: "kill-gateway", does: "a gateway is killed", within: time.Second}, fault{name: "other", does: "something else"}
	first := openReport(t, path)
	first.add(t, kill, measured{Sent: 1, Violations: []string{"P1: gone"}, Partition: seconds(2 * time.Second)})
	first.add(t, other, measured{Sent: 20})
	second := openReport(t, path)
	second.add(t, kill, measured{Sent: 300, Partition: seconds(time.Second / 2)})
	second.add(t, kill, measured{Sent: 4000, Return: seconds(time.Second / 4)})
	table := openReport(t, path).markdown()
	for _, want := range []string{
		"| kill-gateway | a gateway is killed |  | 2 | 4300 | 0 | 0 | 0.00 s | 0.50 s | 0.25 s | 1 s |",
		"| other | something else |  | 1 | 20 |",
		"3 trials, 4320 commands, 0 violations.",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("there is no %q in\n%s", want, table)
		}
	}
	if table = first.markdown(); !strings.Contains(table, "| 1 | 1 | 0 | 1 | 0.00 s | 2.00 s | 0.00 s | 1 s (not kept) |") {
		t.Errorf("neither the violation nor what took too long is in\n%s", table)
	}
}

// TestTroublesAreTold shows which answers a fault must allow.
func TestTroublesAreTold(t *testing.T) {
	for class, a := range map[string]attempt{
		noAnswer:         {Err: "dial tcp: connection refused"},
		lateAnswer:       {Err: "Post: context deadline exceeded"},
		"503 kafka-away": {Status: 503, Problem: "kafka-away"},
		"500":            {Status: 500},
		"429 too-many":   {Status: 429, Problem: "too-many"},
	} {
		if got := a.class(); got != class {
			t.Errorf("%+v is %q, want %q", a, got, class)
		}
	}
	for _, status := range []int{200, 202, 409, 412} {
		if a := (attempt{Status: status, Problem: "x"}); a.class() != "" {
			t.Errorf("%d is %q", status, a.class())
		}
	}
}
