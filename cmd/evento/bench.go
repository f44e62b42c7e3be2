package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/internal/bench"
	"github.com/evento-oss/evento/internal/dev"
)

type benchFlags struct {
	clients    int
	duration   time.Duration
	count      int64
	warmup     time.Duration
	aggregates int
	pids       []string
	embedded   bool
	real       bool
	dir        string
	stack      string
	schemas    string
	keep       bool
}

func benchCommand(g *globals) *cobra.Command {
	var f benchFlags
	about := ""
	for _, w := range bench.Workloads() {
		about += fmt.Sprintf("  %-9s %s\n", w.Name, w.About)
	}
	cmd := &cobra.Command{
		Use:   "bench [workload...]",
		Short: "Measure commands per second, latency and cost",
		Long: `Measures a gateway with the bank example: each client sends a deposit, waits for
its outcome, and sends the next. Workloads:

` + about + `  all       all of these, one after the other

By default the gateway of --gateway is measured; with --dev everything is
started for it, embedded, in a data directory that is removed afterwards; with
--real so, too, but with the Kafka and Redis that EVENTO_TEST_KAFKA and
EVENTO_TEST_REDIS name (scripts/with-real starts such).

Processor time is reported for each process that is found: on this machine by
the ports, and more with --pid.`,
		Example: `  evento bench --dev
  evento bench --dev all -c 128 -d 30s
  scripts/with-real evento bench --real uniform hot -o json
  evento bench hot -c 16 -n 10000 --pid functions=4711,4712`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), g, args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.IntVarP(&f.clients, "clients", "c", 128, "clients at the same time")
	flags.DurationVarP(&f.duration, "duration", "d", 10*time.Second, "how long to measure")
	flags.Int64VarP(&f.count, "count", "n", 0, "measure so many commands instead")
	flags.DurationVar(&f.warmup, "warmup", 3*time.Second, "not measured, before")
	flags.IntVar(&f.aggregates, "aggregates", 0, "so many aggregates instead of the workload's own number")
	flags.StringArrayVar(&f.pids, "pid", nil, "name=pid,pid...: report the cost of these processes, too")
	flags.BoolVar(&f.embedded, "dev", false, "start everything embedded, and measure that")
	flags.BoolVar(&f.real, "real", false, "start the gateway and the functions on a real Kafka and Redis, and measure that")
	flags.StringVar(&f.dir, "dir", ".evento", "data directory of the evento dev that is measured, to find its processes")
	flags.StringVar(&f.stack, "stack", "examples/bank/stack-combined.yml", "the functions, with --dev and --real")
	flags.StringVar(&f.schemas, "schemas", "examples/bank/schemas", "the schemas, with --dev and --real")
	flags.BoolVar(&f.keep, "keep", false, "keep the data directory of --dev and --real")
	cmd.MarkFlagsMutuallyExclusive("dev", "real")
	cmd.MarkFlagsMutuallyExclusive("duration", "count")
	return cmd
}

func (f *benchFlags) run(ctx context.Context, g *globals, args []string, out, progress io.Writer) (err error) {
	workloads, err := f.workloads(args)
	if err != nil {
		return err
	}
	if f.clients < 1 || f.clients > 10_000 {
		return usagef("-c %d is not from 1 to 10000", f.clients)
	}
	c, err := g.client() // checks the flags that all share
	if err != nil {
		return err
	}
	extra, err := parsePIDs(f.pids)
	if err != nil {
		return err
	}
	say := func(text string) { fmt.Fprintln(progress, text) }
	target := c.base
	var state dev.State
	if f.embedded || f.real {
		child, cleanup, startErr := f.start(ctx, progress)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, child.Stop()); cleanup(err) }()
		target, state = child.State.Gateway, child.State
	} else if s, err := dev.ReadState(f.dir); err == nil && s.Gateway == target {
		state = s
	}
	var reports []bench.Report
	for _, w := range workloads {
		r, err := bench.Run(ctx, bench.Config{
			Gateway: target, Token: c.token, Workload: w, Clients: f.clients, Duration: f.duration, Count: f.count,
			Warmup: f.warmup, Run: strconv.FormatInt(time.Now().UnixNano(), 36),
			Processes: append(processes(target, state), extra...), Progress: say,
		})
		if err != nil {
			return fmt.Errorf("bench %s: %w", w.Name, err)
		}
		reports = append(reports, r)
	}
	if g.json() {
		text, err := json.Marshal(reports)
		if err != nil {
			return err
		}
		return writeJSON(out, text)
	}
	return bench.WriteText(out, reports)
}

func (f *benchFlags) workloads(names []string) ([]bench.Workload, error) {
	if len(names) == 0 {
		names = []string{"uniform"}
	}
	var found []bench.Workload
	if len(names) == 1 && names[0] == "all" {
		found = bench.Workloads()
	} else {
		for _, name := range names {
			w, err := bench.FindWorkload(name)
			if err != nil {
				return nil, &usageError{err}
			}
			found = append(found, w)
		}
	}
	if f.aggregates < 0 {
		return nil, usagef("--aggregates %d is negative", f.aggregates)
	}
	if f.aggregates > 0 {
		for i := range found {
			found[i].Aggregates = f.aggregates
		}
	}
	return found, nil
}

// start runs `evento dev` in a process and a data directory of its own.
func (f *benchFlags) start(ctx context.Context, progress io.Writer) (*dev.Child, func(error), error) {
	o := dev.ChildOptions{StackFile: f.stack, SchemaDir: f.schemas, Out: progress, Limit: 5 * time.Minute}
	if f.real {
		o.Kafka, o.Redis = os.Getenv("EVENTO_TEST_KAFKA"), os.Getenv("EVENTO_TEST_REDIS")
		if o.Kafka == "" || o.Redis == "" {
			return nil, nil, usagef("--real needs EVENTO_TEST_KAFKA and EVENTO_TEST_REDIS; scripts/with-real starts both and sets them: scripts/with-real evento bench --real")
		}
	}
	var err error
	if o.Program, err = os.Executable(); err != nil {
		return nil, nil, err
	}
	if o.Dir, err = os.MkdirTemp("", "evento-bench-"); err != nil {
		return nil, nil, err
	}
	cleanup := func(err error) {
		if f.keep || err != nil { // the logs may tell why
			fmt.Fprintf(progress, "data and logs are kept in %s\n", o.Dir)
		} else {
			os.RemoveAll(o.Dir)
		}
	}
	child, err := dev.StartChild(ctx, o)
	if err != nil {
		fmt.Fprintf(progress, "logs are in %s\n", o.Dir)
		return nil, nil, err
	}
	return child, cleanup, nil
}

// processes finds what can be found of the processes behind a gateway: by the
// ports of this machine, and the functions by what evento dev says. What is one
// process is reported once, with all its names.
func processes(gateway string, s dev.State) []bench.Process {
	var found []bench.Process
	at := func(name, address string) {
		pid, err := bench.Listener(address)
		if err != nil {
			return
		}
		for i := range found {
			if found[i].PIDs[0] == pid {
				found[i].Name += "+" + name
				return
			}
		}
		found = append(found, bench.Process{Name: name, PIDs: []int{pid}})
	}
	if u, err := url.Parse(gateway); err == nil && isLoopback(u.Hostname()) {
		at("gateway", u.Host)
	}
	for _, broker := range strings.Split(s.Kafka, ",") {
		at("broker", broker)
	}
	at("redis", s.Redis)
	functions := bench.Process{Name: "functions"}
	for _, f := range s.Functions {
		if f.PID > 0 {
			functions.PIDs = append(functions.PIDs, f.PID)
		}
	}
	if len(functions.PIDs) > 0 {
		found = append(found, functions)
	}
	return found
}

// parsePIDs reads "name=pid,pid" words.
func parsePIDs(words []string) ([]bench.Process, error) {
	var all []bench.Process
	for _, word := range words {
		name, list, ok := strings.Cut(word, "=")
		if !ok || name == "" {
			return nil, usagef("--pid %q is not name=pid,pid...", word)
		}
		p := bench.Process{Name: name}
		for text := range strings.SplitSeq(list, ",") {
			pid, err := strconv.Atoi(text)
			if err != nil || pid < 1 {
				return nil, usagef("--pid %q: %q is no process id", word, text)
			}
			p.PIDs = append(p.PIDs, pid)
		}
		all = append(all, p)
	}
	return all, nil
}
