package proof

import (
	"fmt"
	"slices"
	"syscall"
	"time"
)

// away is how long processes are away, in seconds. The shortest is longer than the
// sessions of gateways, so that one that wakes up has lost its partitions.
var away = []int{5, 15, 60, 90}

// victim is a process that faults happen to, and how it is started again.
type victim struct {
	name, is string // "gateway", "a gateway"
	needs    needs
	find     func(*trial) *process
	restart  func(*trial, *process) // returns when it works again

	may    []string      // answers, whatever happens to it
	killed []string      // more answers, when it is killed
	paused []string      // and when it falls silent
	within time.Duration // see [fault]
	ci     []string      // "kill-5s", "pause-15s": which of them CI tries
}

// faults are kill -9 and silence of a process, for some times each.
func (v victim) faults() (list []fault) {
	add := func(verb string, s int, does string, may []string) *fault {
		list = append(list, fault{
			name: fmt.Sprintf("%s-%s-%ds", verb, v.name, s), does: fmt.Sprintf(does, v.is, s), needs: v.needs,
			lasts: time.Duration(s) * time.Second, within: v.within, may: slices.Concat(v.may, may),
			ci: slices.Contains(v.ci, fmt.Sprintf("%s-%ds", verb, s)),
		})
		return &list[len(list)-1]
	}
	for _, s := range away {
		var gone *process
		f := add("kill", s, "%s is killed, and started again after %d s", v.killed)
		f.inject = func(tr *trial) {
			gone = v.find(tr)
			gone.kill()
		}
		f.heal = func(tr *trial) { v.restart(tr, gone) }
	}
	for _, s := range away {
		var silent *process
		f := add("pause", s, "%s is silent for %d s, then goes on", v.paused)
		f.inject = func(tr *trial) {
			silent = v.find(tr)
			signal(tr, silent, syscall.SIGSTOP)
		}
		f.heal = func(tr *trial) { signal(tr, silent, syscall.SIGCONT) }
	}
	return list
}

// processFaults are those of all processes but the brokers.
func processFaults() (list []fault) {
	for _, circle := range []bool{false, true} {
		const session = 3 * time.Second
		v := victim{
			name: "gateway", is: "a gateway", needs: needs{session: session},
			find:    func(tr *trial) *process { return tr.gateway(0).now() },
			restart: func(tr *trial, _ *process) { tr.restart(0) },
			killed:  []string{noAnswer, lateAnswer}, paused: []string{lateAnswer},
			within: session + 4*time.Second,
		}
		if !circle {
			v.ci = []string{"kill-5s", "pause-5s"}
		} else {
			v.name, v.is, v.needs.circle, v.needs.gateways = "gateway-of-three", "one of three gateways, all with dispatchers,", true, 3
		}
		list = append(list, v.faults()...)
	}
	for _, f := range []struct {
		name, is string
		circle   bool
		ci       []string
	}{
		{"checking-handler", "the handler of checking accounts", false, []string{"kill-5s"}},
		{"checking-aggregator", "the aggregator of checking accounts", false, nil},
		{"transfers", "the dispatcher of transfers", true, []string{"kill-5s"}},
	} {
		function := func(tr *trial) *function { return tr.world.functions[f.name] }
		list = append(list, victim{
			name: f.name, is: f.is, needs: needs{circle: f.circle},
			find: func(tr *trial) *process { return function(tr).now() },
			restart: func(tr *trial, _ *process) {
				function(tr).start(tr)
				function(tr).awaitReady(tr)
			},
			may: []string{"429"}, // those who wait for one aggregate are bounded
			ci:  f.ci,
		}.faults()...)
	}
	list = append(list, victim{
		name: "redis", is: "Redis, with all that it has,",
		find:    func(tr *trial) *process { return tr.redis().process },
		restart: func(tr *trial, _ *process) { tr.redis().start(tr) },
		ci:      []string{"kill-5s", "pause-5s"},
	}.faults()...)
	return list
}

func (tr *trial) redis() *ownRedis {
	tr.Helper()
	r, ok := tr.world.redis.(*ownRedis)
	if !ok {
		tr.Fatal("this world's Redis is none of its own")
	}
	return r
}

func (tr *trial) gateway(i int) *gateway { return tr.world.gateways[i] }

// restart starts a gateway that has ended, and returns when it owns partitions.
func (tr *trial) restart(i int) {
	g := tr.gateway(i)
	g.start(tr)
	g.awaitReady(tr)
}
