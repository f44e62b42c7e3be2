package proof

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

var (
	flagCommands = flag.Int("proof.commands", 2000, "commands of TestProof; other tests send fewer")
	flagSeed     = flag.Uint64("proof.seed", 1, "of the commands that are sent")
	flagCopyAge  = flag.Duration("proof.copyage", 5*time.Second, "how old the copy of Redis is that TestRedisLost puts back, about")
	flagKeep     = flag.String("proof.keep", "", "folder for the logs of all processes; only those of failed tests are kept without it")

	flagFaults       = flag.Bool("faults", false, "run the fault campaign, TestFaults, on brokers of its own")
	flagFaultsAll    = flag.Bool("faults.all", false, "try all faults, not only those that CI has time for")
	flagFaultsRepeat = flag.Int("faults.repeat", 1, "how often each fault is tried")
	flagFaultsReport = flag.String("faults.report", "", "Markdown file for the table, with a JSON file beside it; goes on with what is there")
	flagFaultsStrict = flag.Bool("faults.strict", false, "a partition that is silent for longer than promised fails its trial")
)

// Roles of the test program when it is started with one: some of what a test
// needs as a process of its own is in it.
const (
	roleBroker   = "proof-broker"   // an embedded Kafka
	roleFunction = "proof-function" // a function of the bank that can be told to go wrong: see scripted
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		run := map[string]func() error{
			roleBroker:   runBroker,
			roleFunction: func() error { return serveScripted(os.Args[2]) },
		}[os.Args[1]]
		if run != nil {
			if err := run(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	flag.Parse()
	code := m.Run()
	built.remove()
	os.Exit(code)
}

// runBroker is an embedded Kafka that ends with who started it.
func runBroker() error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		return err
	}
	defer cluster.Close()
	fmt.Printf("listening on %s\n", strings.Join(cluster.ListenAddrs(), ","))
	_, err = io.Copy(io.Discard, os.Stdin) // until our parent lets go of the other end
	return err
}
