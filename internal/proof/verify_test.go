package proof

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
)

// verified is what `evento verify -o json` says.
type verified struct {
	Violations []struct{ Invariant, Coordinates, Entity, Text string }
	Partitions int
	Read       struct{ Commands, Events, Decisions, Aggregates, Waiting, Snapshots int }
	Asked      int
	Notes      []string
}

// verify runs `evento verify` against the world as it is, and fails the test when it
// finds anything.
func (w *world) verify(t testing.TB, ask *gateway) verified {
	t.Helper()
	g := w.gateways[0]
	args := []string{"verify", "--kafka-property", "bootstrap.servers=" + strings.Join(w.kafka.Servers, ","), "--prefix", w.topics.Prefix, "--redis", "redis://" + w.redis.address(), "-o", "json"}
	if ask != nil {
		args = append(args, "--gateway", ask.url)
	}
	cmd := exec.CommandContext(t.Context(), g.program, args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("evento verify: %v\n%s%s", err, out, said.String())
	}
	var v verified
	if err := json.Unmarshal(out, &v); err != nil && len(out) > 0 {
		t.Errorf("evento verify: %v: %s", err, out)
	}
	t.Logf("verified: %d commands, %d events, %d decisions, %d aggregates, %d snapshots, %d states; %d are under way; %q", v.Read.Commands, v.Read.Events, v.Read.Decisions, v.Read.Aggregates, v.Read.Snapshots, v.Asked, v.Read.Waiting, v.Notes)
	return v
}

// TestVerifyWhileItWorks has `evento verify` look at the whole bank again and again
// while commands and transfers are under way, functions fail, a gateway is killed and
// comes back, and at the end: it finds nothing, because nothing is wrong.
func TestVerifyWhileItWorks(t *testing.T) {
	w := newWorld(t, setup{gateways: 2, circle: true, layout: kafka.PerAggregate})
	l := newCircle(w)
	l.pace = 20 * time.Millisecond
	n := max(600, *flagCommands/4)
	l.upTo(0.3, n)
	end := l.begin(t, n)
	survivor := w.gateways[1]
	l.reached(t, 0.1)
	underWay := 0
	look := func() { underWay += w.verify(t, survivor).Read.Waiting }
	look()
	look()
	w.functions["transfers"].now().kill()
	w.functions["checking-handler"].now().kill()
	l.upTo(1, n)
	look() // commands are set aside
	w.gateways[0].now().kill()
	look() // what it had open may have to be waited for
	w.functions["transfers"].start(t)
	w.functions["checking-handler"].start(t)
	look()
	w.gateways[0].start(t)
	w.gateways[0].awaitReady(t)
	look()
	end()
	if underWay == 0 {
		t.Error("nothing was under way whenever it looked: it has shown nothing about that")
	}
	w.awaitAllOwned(t)
	e := w.evidence(t, l.history)
	report(t, check(e))
	v := w.verify(t, survivor)
	if v.Read.Commands != len(e.Commands) || v.Read.Events != len(e.Events) || v.Read.Decisions != len(e.Decisions) || v.Read.Waiting != 0 || v.Read.Snapshots == 0 || v.Asked == 0 || len(v.Notes) > 0 {
		t.Errorf("it read %+v, asked for %d, and notes %q; there are %d commands, %d events, %d decisions", v.Read, v.Asked, v.Notes, len(e.Commands), len(e.Events), len(e.Decisions))
	}
}
