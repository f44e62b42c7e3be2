package proof

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// seconds are shown with two decimals, in JSON and in the table.
type seconds time.Duration

func (s seconds) String() string { return fmt.Sprintf("%.2f s", time.Duration(s).Seconds()) }

func (s seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(s).Seconds()), nil
}

func (s *seconds) UnmarshalJSON(text []byte) error {
	var f float64
	err := json.Unmarshal(text, &f)
	*s = seconds(f * float64(time.Second))
	return err
}

// measured is what is known of one trial.
type measured struct {
	Sent       int            `json:"commands"` // each counted once
	Times      int            `json:"sent"`     // how often they were sent
	Accepted   int            `json:"accepted"`
	Failed     int            `json:"failed"`  // certainly not accepted
	Unknown    int            `json:"unknown"` // to their senders
	Troubles   map[string]int `json:"troubles"`
	Violations []string       `json:"violations"`

	// The longest times without any outcome: at all, of one partition while its
	// senders ask for it, and of each gateway; from the fault until it was healed, and
	// from then on.
	Silence   seconds            `json:"silence_seconds"`
	Partition seconds            `json:"partition_silence_seconds"`
	Gateways  map[string]seconds `json:"gateway_silence_seconds"`
	Return    seconds            `json:"partition_silence_after_heal_seconds"`
	Complete  bool               `json:"complete"` // the trial came to its end
}

// row is a fault in the report.
type row struct {
	Fault  string     `json:"fault"`
	Does   string     `json:"does"`
	Ground string     `json:"ground"`
	CI     bool       `json:"ci"`
	Within seconds    `json:"within_seconds"` // promised, of Partition and of Return; 0: nothing
	Trials []measured `json:"trials"`
}

// measure gathers what is known of a trial that is over, or has failed.
func (tr *trial) measure() (f fault, m measured) {
	m = measured{Troubles: map[string]int{}, Gateways: map[string]seconds{}, Complete: !tr.quiet.IsZero()}
	tr.mu.Lock()
	m.Violations = slices.Clone(tr.violations)
	tr.mu.Unlock()
	if tr.load == nil {
		return tr.fault, m
	}
	var all []time.Time
	by := map[string][]time.Time{}
	for _, c := range tr.load.history.all() {
		m.Sent++
		m.Times += len(c.tries())
		switch c.result() {
		case accepted:
			m.Accepted++
		case failed:
			m.Failed++
		case unknown:
			m.Unknown++
		}
		for _, a := range c.tries() {
			if a.Outcome.final() {
				all = append(all, a.Done)
				by[a.Gateway] = append(by[a.Gateway], a.Done)
			}
		}
	}
	m.Troubles = tr.load.history.troubles()
	if tr.injected.IsZero() {
		return tr.fault, m
	}
	end := cmp.Or(tr.quiet, time.Now())
	healing := cmp.Or(tr.healing, end)
	during, after := gaps(all, tr.injected, healing, end)
	m.Silence = max(during, after)
	for _, g := range tr.world.gateways {
		during, after = gaps(by[g.name], tr.injected, healing, end)
		m.Gateways[g.name] = max(during, after)
	}
	for _, p := range tr.probes {
		p.mu.Lock()
		during, after = gaps(p.told, tr.injected, healing, end)
		p.mu.Unlock()
		m.Partition, m.Return = max(m.Partition, during), max(m.Return, after)
	}
	return tr.fault, m
}

// gaps are the longest times between two of these times, or the ends of what is
// looked at: of those that begin before middle, and of those that begin later.
func gaps(times []time.Time, begin, middle, end time.Time) (before, later seconds) {
	times = slices.Clone(times)
	slices.SortFunc(times, time.Time.Compare)
	last := begin
	for _, at := range append(times, end) {
		switch {
		case !at.After(last):
			continue
		case at.After(end):
			at = end
		}
		if gap := seconds(at.Sub(last)); last.Before(middle) {
			before = max(before, gap)
		} else {
			later = max(later, gap)
		}
		last = at
	}
	return before, later
}

// faultReport is the table of a campaign: a Markdown file, and a JSON file beside it.
type faultReport struct {
	path string // of the Markdown; "" when there is to be no file
	rows map[string]*row
	own  map[string]bool // faults of this campaign
}

// openReport goes on with the report that is there, so that a campaign can be done
// in parts. What is tried again replaces what is there of it.
func openReport(t testing.TB, path string) *faultReport {
	r := &faultReport{path: path, rows: map[string]*row{}, own: map[string]bool{}}
	if path == "" {
		return r
	}
	if !filepath.IsAbs(path) {
		r.path = filepath.Join(root, path)
	}
	text, err := os.ReadFile(r.json())
	if errors.Is(err, os.ErrNotExist) {
		return r
	}
	var before []*row
	if err == nil {
		err = json.Unmarshal(text, &before)
	}
	if err != nil {
		t.Fatalf("report %s: %v", r.json(), err)
	}
	for _, row := range before {
		r.rows[row.Fault] = row
	}
	return r
}

func (r *faultReport) json() string { return strings.TrimSuffix(r.path, ".md") + ".json" }

// add writes a trial down, at once: a campaign may be stopped at any time.
func (r *faultReport) add(t testing.TB, f fault, m measured) {
	t.Helper()
	if !r.own[f.name] {
		r.own[f.name] = true
		r.rows[f.name] = &row{Fault: f.name, Does: f.does, Ground: f.needs.ground, CI: f.ci, Within: seconds(f.within)}
	}
	row := r.rows[f.name]
	row.Trials = append(row.Trials, m)
	t.Logf("%d commands, sent %d times: %d accepted, %d failed, %d unknown; troubles %v; silent at most: all %v, a partition %v, after the end of the fault %v, gateways %v",
		m.Sent, m.Times, m.Accepted, m.Failed, m.Unknown, m.Troubles, m.Silence, m.Partition, m.Return, m.Gateways)
	if took := max(m.Partition, m.Return); f.within > 0 && time.Duration(took) > f.within {
		say := t.Logf
		if *flagFaultsStrict {
			say = t.Errorf
		}
		say("a partition was silent for %v, and should be for %v at most", took, f.within)
	}
	if r.path == "" {
		return
	}
	text, err := json.MarshalIndent(r.sorted(), "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(r.path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(r.json(), append(text, '\n'), 0o644)
	}
	if err == nil {
		err = os.WriteFile(r.path, []byte(r.markdown()), 0o644)
	}
	if err != nil {
		t.Errorf("report: %v", err)
	}
}

// sorted gives the rows in the order of the campaign; those of faults that are no
// more come last.
func (r *faultReport) sorted() (list []*row) {
	rest := maps.Clone(r.rows)
	for _, f := range allFaults() {
		if row := rest[f.name]; row != nil {
			list = append(list, row)
			delete(rest, f.name)
		}
	}
	for _, name := range sortedKeys(rest) {
		list = append(list, rest[name])
	}
	return list
}

// markdown is the table, for people.
func (r *faultReport) markdown() string {
	var b strings.Builder
	b.WriteString("| fault | what happens | on | trials | commands | unknown | violations | longest silence: of all | of a partition | after the fault | promised |\n")
	b.WriteString("|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	var commands, trials, violations int
	for _, row := range r.sorted() {
		var sum measured
		bad := 0
		for _, m := range row.Trials {
			sum.Sent, sum.Unknown = sum.Sent+m.Sent, sum.Unknown+m.Unknown
			sum.Silence, sum.Partition, sum.Return = max(sum.Silence, m.Silence), max(sum.Partition, m.Partition), max(sum.Return, m.Return)
			bad += len(m.Violations)
		}
		promised := "-"
		if row.Within > 0 {
			promised = fmt.Sprintf("%g s", time.Duration(row.Within).Seconds())
			if max(sum.Partition, sum.Return) > row.Within {
				promised += " (not kept)"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d | %d | %d | %v | %v | %v | %s |\n", row.Fault, row.Does, row.Ground, len(row.Trials),
			sum.Sent, sum.Unknown, bad, sum.Silence, sum.Partition, sum.Return, promised)
		commands, trials, violations = commands+sum.Sent, trials+len(row.Trials), violations+bad
	}
	fmt.Fprintf(&b, "\n%d trials, %d commands, %d violations.\n", trials, commands, violations)
	return b.String()
}
