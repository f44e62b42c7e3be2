package proof

import (
	"fmt"
	"syscall"
	"time"
)

// gatewayFaults are what happens to a gateway's process.
func gatewayFaults() []fault {
	const session = 3 * time.Second
	list := []fault{{
		name: "kill-gateway", does: "a gateway is killed, and started again after 15 s", ci: true,
		needs: needs{session: session}, lasts: 15 * time.Second, within: session + 4*time.Second,
		inject: func(tr *trial) { tr.gateway(0).now().kill() },
		heal:   func(tr *trial) { tr.restart(0) },
		may:    []string{noAnswer},
	}, {
		name: "stop-gateway", does: "a gateway is asked to end, and started again after 5 s", ci: true,
		needs: needs{session: 28 * time.Second}, lasts: 5 * time.Second, within: time.Second,
		inject: func(tr *trial) { tr.gateway(0).now().terminate(tr) },
		heal:   func(tr *trial) { tr.restart(0) },
		may:    []string{noAnswer, "503"},
	}}
	for _, d := range []int{5, 15, 60, 90} {
		list = append(list, fault{
			name: fmt.Sprintf("pause-gateway-%ds", d), ci: d == 15,
			does:  fmt.Sprintf("a gateway falls silent for %d s, and wakes up when others own its partitions", d),
			needs: needs{session: session}, lasts: time.Duration(d) * time.Second, within: session + 4*time.Second,
			inject: func(tr *trial) { signal(tr, tr.gateway(0).now(), syscall.SIGSTOP) },
			heal:   func(tr *trial) { signal(tr, tr.gateway(0).now(), syscall.SIGCONT) },
			may:    []string{lateAnswer},
		})
	}
	return list
}

func (tr *trial) gateway(i int) *gateway { return tr.world.gateways[i] }

// restart starts a gateway that has ended, and returns when it owns partitions.
func (tr *trial) restart(i int) {
	g := tr.gateway(i)
	g.start(tr)
	g.awaitReady(tr)
}
