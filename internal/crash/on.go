//go:build crashpoints

package crash

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// On says whether this program has crash points.
const On = true

var (
	at    Point
	left  atomic.Int64 // times until it ends
	armed atomic.Bool  // they are counted
)

func init() {
	text, signalled := strings.CutSuffix(os.Getenv(Variable), OnSignal)
	name, times, counted := strings.Cut(text, ":")
	at = Point(name)
	left.Store(1)
	if counted {
		n, err := strconv.ParseInt(times, 10, 64)
		if err != nil || n < 1 {
			panic(fmt.Sprintf("%s: %q is no number of times", Variable, times))
		}
		left.Store(n)
	}
	if !signalled {
		armed.Store(true)
		return
	}
	begin := make(chan os.Signal, 1)
	signal.Notify(begin, syscall.SIGUSR1)
	go func() {
		<-begin
		armed.Store(true)
		fmt.Fprintln(os.Stderr, Armed)
	}()
}

// At ends the process without a word, as kill -9 does, if this is the point.
func At(p Point) {
	if p == at && armed.Load() && left.Add(-1) == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it has arrived
	}
}
