package bench

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what one run has measured. Per 1,000 means per 1,000 outcomes.
type Report struct {
	Workload   string  `json:"workload"`
	Clients    int     `json:"clients"`
	Aggregates int     `json:"aggregates"`
	Seconds    float64 `json:"seconds"`
	Commands   int64   `json:"commands"` // outcomes of commands that were sent in the measurement
	PerSecond  float64 `json:"commands_per_second"`

	Latency  Latency          `json:"latency_ms"`
	Outcomes map[string]int64 `json:"outcomes"` // by status
	Errors   map[string]int64 `json:"errors"`   // by kind; not among the commands

	Processes       []ProcessReport `json:"processes"`
	SentPer1000     int64           `json:"request_bytes_per_1000"`
	ReceivedPer1000 int64           `json:"response_bytes_per_1000"`
	Machine         Machine         `json:"machine"`
}

// Latency is in milliseconds, from the first byte of the request to the last of the answer.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// ProcessReport is the cost of one process, or of several of one name.
type ProcessReport struct {
	Name           string  `json:"name"`
	PIDs           []int   `json:"pids"`
	CPUSeconds     float64 `json:"cpu_seconds"`
	CPUPer1000     float64 `json:"cpu_seconds_per_1000"`
	WrittenPer1000 int64   `json:"written_bytes_per_1000"` // to files and sockets; -1 when not known
	Memory         int64   `json:"memory_bytes"`           // resident, at the end
}

// Machine is what was measured on.
type Machine struct {
	CPUs  int    `json:"cpus"`
	Model string `json:"model"`
	OS    string `json:"os"`
	Go    string `json:"go"`
}

func (r *runner) report(clients []client, processes []Process, before, after []usage, elapsed time.Duration) Report {
	rep := Report{
		Workload: r.Workload.Name, Clients: r.Clients, Aggregates: r.Workload.Aggregates, Seconds: elapsed.Seconds(),
		Outcomes: make(map[string]int64), Errors: make(map[string]int64), Machine: thisMachine(),
	}
	var latency histogram
	var inTime, sent, got int64
	for i := range clients {
		c := &clients[i]
		latency.merge(&c.latency)
		inTime += c.inTime
		sent += c.sent
		got += c.got
		for k, n := range c.outcomes {
			rep.Outcomes[k] += n
		}
		for k, n := range c.errors {
			rep.Errors[k] += n
		}
	}
	rep.Commands = latency.n
	rep.PerSecond = float64(inTime) / elapsed.Seconds()
	ms := func(d time.Duration) float64 { return math.Round(float64(d)/float64(time.Millisecond)*1000) / 1000 }
	rep.Latency = Latency{
		Mean: ms(latency.mean()), P50: ms(latency.quantile(0.5)), P99: ms(latency.quantile(0.99)),
		P999: ms(latency.quantile(0.999)), Max: ms(latency.max),
	}
	thousands := float64(inTime) / 1000
	per1000 := func(v float64) float64 {
		if thousands == 0 {
			return 0
		}
		return v / thousands
	}
	// Bytes were counted for commands sent in the measurement, processor time for its duration.
	if latency.n > 0 {
		rep.SentPer1000 = sent * 1000 / latency.n
		rep.ReceivedPer1000 = got * 1000 / latency.n
	}
	for i, p := range processes {
		cpu := (after[i].cpu - before[i].cpu).Seconds()
		one := ProcessReport{Name: p.Name, PIDs: p.PIDs, CPUSeconds: cpu, CPUPer1000: per1000(cpu), Memory: after[i].rss, WrittenPer1000: -1}
		if before[i].written >= 0 && after[i].written >= 0 {
			one.WrittenPer1000 = int64(per1000(float64(after[i].written - before[i].written)))
		}
		rep.Processes = append(rep.Processes, one)
	}
	return rep
}

func thisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m
	}
	for line := range bytes.Lines(text) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(name)) == "model name" {
			m.Model = string(bytes.TrimSpace(value))
			break
		}
	}
	return m
}

// WriteText writes reports as tables for people.
func WriteText(w io.Writer, reports []Report) error {
	if len(reports) == 0 {
		return nil
	}
	m := reports[0].Machine
	fmt.Fprintf(w, "\n%d processors (%s), %s, %s\n\n", m.CPUs, m.Model, m.OS, m.Go)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "workload\taggregates\tclients\tcommands\tcommands/s\tp50 ms\tp99 ms\tp999 ms\tmax ms\terrors\t")
	for _, r := range reports {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t\n",
			r.Workload, r.Aggregates, r.Clients, r.Commands, r.PerSecond,
			r.Latency.P50, r.Latency.P99, r.Latency.P999, r.Latency.Max, sum(r.Errors))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nper 1,000 commands:\n")
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "workload\tprocess\tCPU s\twritten kB\tmemory MB\t")
	for _, r := range reports {
		for _, p := range r.Processes {
			written := "-"
			if p.WrittenPer1000 >= 0 {
				written = fmt.Sprintf("%.0f", float64(p.WrittenPer1000)/1e3)
			}
			fmt.Fprintf(t, "%s\t%s\t%.3f\t%s\t%.0f\t\n", r.Workload, p.Name, p.CPUPer1000, written, float64(p.Memory)/1e6)
		}
		fmt.Fprintf(t, "%s\trequests, answers\t\t%.0f, %.0f\t\t\n", r.Workload, float64(r.SentPer1000)/1e3, float64(r.ReceivedPer1000)/1e3)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range reports {
		counts(w, r.Workload+": outcomes", r.Outcomes)
		counts(w, r.Workload+": errors", r.Errors)
	}
	return nil
}

func counts(w io.Writer, title string, of map[string]int64) {
	if len(of) == 0 {
		return
	}
	var parts []string
	for k, n := range of {
		parts = append(parts, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(parts)
	fmt.Fprintf(w, "\n%s: %s\n", title, strings.Join(parts, ", "))
}

func sum(of map[string]int64) (n int64) {
	for _, v := range of {
		n += v
	}
	return n
}
