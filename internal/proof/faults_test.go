package proof

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// fault is one thing that goes wrong while commands flow, and what may be seen of
// it from outside. Whatever it is, the promises hold.
type fault struct {
	name  string        // of the sub-test: what, whom, how long: "pause-gateway-15s"
	does  string        // one sentence for the report, in the present tense
	needs needs         // what it is done to
	lasts time.Duration // from the end of inject until heal; the load goes on

	// inject does it, and returns when it is done. heal, which may be nil, ends it,
	// and returns when nothing more has to be done for all to be well again.
	// Both fail the trial through it: [trial] is a testing.TB.
	inject, heal func(*trial)

	// may names the answers without success that a sender can get: beginnings of
	// the classes that [attempt.class] gives. Every other one is a violation.
	may []string

	// within is how long a partition may be silent until the fault is healed, as
	// promised, and again until all is as before; 0 promises nothing. The report
	// shows it beside what was measured. It fails a trial under -faults.strict only:
	// on a busy machine it says something about the machine.
	within time.Duration

	ci bool // it is one of those that `make faults-ci` tries
}

// needs says what a fault is done to. The zero value is the bank's accounts on two
// gateways and three brokers.
type needs struct {
	ground   string                 // key of grounds; "" is threeBrokers
	gateways int                    // 0 is two
	circle   bool                   // dispatchers run, money goes round
	session  time.Duration          // 0 is newWorld's
	prepare  func(*trial, *setup)   // changes the world before it is made; may be nil
	ready    func(*trial)           // is called before the warm-up; may be nil
	load     func(*trial, *load)    // changes the load before it begins; may be nil
	check    func(*trial, evidence) // looks at more than judge does; may be nil
}

// allFaults are the faults of the campaign. Each file fault_*_test.go has a part.
func allFaults() []fault {
	list := slices.Concat(
		processFaults(),
		rebalanceFaults(),
		brokerFaults(),
		redisFaults(),
		functionFaults(),
		offsetFaults(),
		repeatFaults(),
		networkFaults(),
		lateFaults(),
		writerFaults(),
	)
	for i := range list {
		if list[i].needs.ground == "" {
			list[i].needs.ground = threeBrokers
		}
		if list[i].needs.gateways == 0 {
			list[i].needs.gateways = 2
		}
	}
	// Those that share brokers come one after the other.
	slices.SortStableFunc(list, func(a, b fault) int { return strings.Compare(b.needs.ground, a.needs.ground) })
	return list
}

// TestFaults is the fault campaign on Apache Kafka: each fault is tried in a fresh
// installation, on brokers that trials share. See [trial.run] for its parts.
//
//	make faults                                                 # all of them, a report in build/faults.md
//	make faults-ci                                              # those that fit ten minutes
//	go test ./internal/proof -run TestFaults/pause -faults -faults.all -faults.repeat 3
func TestFaults(t *testing.T) {
	if !*flagFaults {
		t.Skip("a campaign of its own: make faults, or make faults-ci")
	}
	for _, tool := range []string{"java", "mvn", "redis-server"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s, which is not on this machine", tool)
		}
	}
	c := &campaign{t: t, report: openReport(t, *flagFaultsReport)}
	seen := map[string]bool{}
	for _, f := range allFaults() {
		if seen[f.name] {
			t.Fatalf("two faults have the name %s", f.name)
		}
		seen[f.name] = true
		if !f.ci && !*flagFaultsAll {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			for i := range max(1, *flagFaultsRepeat) {
				name := fmt.Sprint(i + 1)
				if !t.Run(name, func(t *testing.T) { c.try(t, f, uint64(i)) }) && *flagFaultsRepeat > 1 {
					t.Logf("repetition %s failed; the others are tried nevertheless", name)
				}
			}
		})
	}
	t.Logf("report:\n%s", c.report.markdown())
}
