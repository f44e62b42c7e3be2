package proof

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafkatest"
)

var (
	flagPoints = flag.String("proof.points", "", `points of TestCrashPoints, separated by commas, with or without how often they are passed: "txn-produced:3,load-log"; or "all", which an empty one means on a real Kafka: on the embedded one it is some`)
	flagTurns  = flag.Int("proof.turns", 1, "how often TestCrashPoints goes through its points")
)

// approach is what it takes to have a gateway pass a point.
type approach struct {
	most  int                // passages before it ends
	early bool               // they are counted from the gateway's start on
	lure  func(*crashRounds) // nil: the load is enough; of an early one it starts the gateway
}

// approachTo is what the point needs: nearly all are passed under any load.
func approachTo(p crash.Point) approach {
	switch p {
	case crash.LoadBegin, crash.LoadRedis: // once for each aggregate, soon after the start
		return approach{most: 5, early: true}
	case crash.LoadLog, crash.LoadApplied:
		return approach{most: 5, early: true, lure: (*crashRounds).loseRedis}
	case crash.TxnAbort, crash.TxnAborted:
		return approach{most: 3, lure: (*crashRounds).fenceWriters}
	case crash.TxnUnseen, crash.TxnResolved:
		return approach{most: 1, lure: (*crashRounds).fenceWriters}
	case crash.AsideWrite, crash.AsideWritten, crash.AsideDelete, crash.AsideDeleted:
		return approach{most: 5}
	case crash.ParkBegin, crash.ParkDone, crash.ParkList, crash.ParkListed, crash.OrderRead, crash.OrderObeyed:
		return approach{most: 2}
	case crash.HeadsWrite, crash.HeadsWritten: // once for all its partitions
		return approach{most: 1, lure: (*crashRounds).stop}
	case crash.RevokeBegin, crash.RevokeDone:
		return approach{most: 1, lure: (*crashRounds).stop}
	case crash.TakeoverEndWriter, crash.TakeoverWriterEnded:
		return approach{most: 1, early: true, lure: (*crashRounds).orphan}
	case crash.TakeoverBegin, crash.TakeoverSchemas, crash.TakeoverSettled, crash.TakeoverPosition, crash.TakeoverAsides,
		crash.TakeoverHeads, crash.TakeoverEvents, crash.TakeoverShard, crash.TakeoverDone: // likewise
		return approach{most: 3, early: true}
	}
	return approach{most: 20}
}

// TestProgramHasNoCrashPoints looks for them in the program that users get.
func TestProgramHasNoCrashPoints(t *testing.T) {
	for program, want := range map[string]bool{evento(t): false, crashing(t): true} {
		symbols, err := exec.Command("go", "tool", "nm", program).Output()
		if err != nil {
			t.Fatalf("go tool nm %s: %v", program, err)
		}
		for _, name := range []string{"evento/internal/crash.", "gateway.passAside"} {
			if has := bytes.Contains(symbols, []byte(name)); has != want {
				t.Errorf("%s has a symbol %s: %v, want %v", program, name, has, want)
			}
		}
	}
}

// TestCrashPoints ends a gateway of two at each point of the engine, while
// clients send commands of all sorts, and many of them again, to both. The other
// one goes on, the one that has died comes back to die at the next point, and in
// the end all that came of it is held against the promises. A point that is not
// reached is a failure.
func TestCrashPoints(t *testing.T) {
	rounds := crashTurns(t) // which depend on the Kafka that the environment names
	w := newWorld(t, setup{gateways: 2, session: crashSession, stack: crashStack, programs: crashPrograms(t)})
	r := newCrashRounds(t, w)
	r.w.gateways[0].now().terminate(t)
	for _, round := range rounds {
		if !t.Run(string(round.point), func(t *testing.T) { r.one(t, round) }) {
			break // the gateway that did not die is in the way of the others
		}
	}
	r.judge(t)
}

// crashRound is one death.
type crashRound struct {
	point crash.Point
	n     int // times that it is passed
	approach
}

// embeddedPoints is how many points are tried on the embedded broker: what they
// say of ownership counts on the real one.
const embeddedPoints = 12

// crashTurns are the rounds: the points in an order, and passed as often, as the
// seed says, or as the flag does.
func crashTurns(t *testing.T) []*crashRound {
	t.Helper()
	random := rand.New(rand.NewPCG(*flagSeed, 97))
	var rounds []*crashRound
	add := func(p crash.Point) *crashRound {
		a := approachTo(p)
		rounds = append(rounds, &crashRound{point: p, n: 1 + random.IntN(a.most), approach: a})
		return rounds[len(rounds)-1]
	}
	for range *flagTurns {
		if *flagPoints != "" && *flagPoints != "all" {
			for text := range strings.SplitSeq(*flagPoints, ",") {
				name, times, counted := strings.Cut(text, ":")
				if !slices.ContainsFunc(crash.Points, func(row crash.Row) bool { return row.Point == crash.Point(name) && row.Where == crash.Engine }) {
					t.Fatalf("-proof.points: the engine has no point %q", name)
				}
				if r := add(crash.Point(name)); counted {
					if _, err := fmt.Sscan(times, &r.n); err != nil {
						t.Fatalf("-proof.points: %q: %v", text, err)
					}
				}
			}
			continue
		}
		var points []crash.Point
		for _, i := range random.Perm(len(crash.Points)) {
			if crash.Points[i].Where == crash.Engine {
				points = append(points, crash.Points[i].Point)
			}
		}
		if *flagPoints == "" && os.Getenv(kafkatest.Env) == "" {
			points = points[:embeddedPoints]
		}
		for _, p := range points {
			add(p)
		}
	}
	return rounds
}

// one starts the gateway that is to die, and returns when it has.
func (r *crashRounds) one(t *testing.T, round *crashRound) {
	dies, other := r.w.gateways[0], r.w.gateways[1]
	// While a gateway joins, nothing is counted: the embedded broker waits a minute
	// for who dies then, and has everybody wait.
	dies.env = []string{fmt.Sprintf("%s=%s:%d", crash.Variable, round.point, round.n)}
	if !round.early {
		dies.env[0] += crash.OnSignal
	}
	began := time.Now()
	if round.lure == nil || !round.early {
		dies.start(r.t)
	}
	if !round.early {
		dies.awaitReady(t)
		r.w.awaitAllOwned(t)
		began = time.Now()
		signal(t, dies.now(), syscall.SIGUSR1)
		wait(t, func() error { // what follows may be what passes the point
			select {
			case <-dies.now().exited:
				return nil
			default:
			}
			if len(dies.now().said(0, crash.Armed)) == 0 {
				return errors.New("the gateway does not count yet")
			}
			return nil
		})
	}
	if round.lure != nil {
		round.lure(r)
	}
	waitFor(t, patience, func() error {
		select {
		case <-dies.now().exited:
			return nil
		default:
			return fmt.Errorf("the gateway has not passed %q %d times", round.point, round.n)
		}
	})
	died := time.Now()
	if status, ok := dies.now().cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the gateway ended otherwise than at %s: %v", round.point, dies.now().err)
	}
	wait(t, func() error { return r.w.allOwned(other) })
	took := time.Since(died).Round(time.Millisecond)
	r.takeovers = append(r.takeovers, took)
	switch round.point {
	case crash.TxnPartly, crash.TxnProduced, crash.TxnOffsets:
		r.opened = true
	}
	t.Logf("passage %d after %v; all partitions were taken over after %v", round.n, died.Sub(began).Round(time.Millisecond), took)
}
