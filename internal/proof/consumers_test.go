package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// consumers is the folder of the examples that read the topic from outside. They
// are a module of their own: they know nothing of this one.
const consumers = "examples/consumers"

// outsideProgram builds one of them.
func outsideProgram(t testing.TB, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(root, consumers))
	if err != nil {
		t.Fatal(err)
	}
	return program(t, "consumer-"+name, "./"+name, "-C", dir)
}

// TestOutsideReaders has readers in three languages read the topic, each with
// the usual libraries of its language, and compares what they say with the log.
func TestOutsideReaders(t *testing.T) {
	w := newWorld(t, setup{})
	l := newLoad(w)
	l.run(t, 200)
	events := w.evidence(t, l.history).Events
	topic := w.topics.Events("CheckingAccount")
	servers := strings.Join(w.kafka.Servers, ",")
	env := func(group string) []string {
		return []string{"KAFKA=" + servers, "TOPIC=" + topic, "GATEWAY=" + w.gateways[0].url, "GROUP=" + w.topics.Prefix + "-" + group}
	}

	t.Run("go", func(t *testing.T) {
		p := start(t, "reader", outsideProgram(t, "reader"), nil,
			"--kafka", servers, "--topic", topic, "--gateway", w.gateways[0].url, "--group", w.topics.Prefix+"-go")
		p.saysEvents(t, events)
	})
	t.Run("node", func(t *testing.T) {
		dir := copied(t, "node", "reader.mjs", "package.json")
		install(t, dir, "npm", "install", "--no-audit", "--no-fund", "--silent")
		p := start(t, "reader", lookPath(t, "node"), env("node"), filepath.Join(dir, "reader.mjs"))
		p.saysEvents(t, events)
	})
	t.Run("python", func(t *testing.T) {
		dir := copied(t, "python", "reader.py", "requirements.txt")
		install(t, dir, "python3", "-m", "venv", "venv")
		install(t, dir, "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt")
		p := start(t, "reader", filepath.Join(dir, "venv/bin/python"), env("python"), filepath.Join(dir, "reader.py"))
		p.saysEvents(t, events)
	})
}

// copied copies files of an example to a folder where its libraries can be installed.
func copied(t testing.TB, name string, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(root, consumers, name, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func lookPath(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not on this machine", name)
	}
	return path
}

// install gets an example's libraries. Where the language or its registry is
// missing, the example cannot be tried.
func install(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	if filepath.Base(name) != name {
		name = filepath.Join(dir, name)
	} else {
		name = lookPath(t, name)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("the example's libraries cannot be installed here: %s: %v\n%s", cmd, err, out)
	}
}

// saysEvents waits until the process has printed these events, in the order of
// each aggregate, each once, with what they hold.
func (p *process) saysEvents(t testing.TB, events []logged) {
	t.Helper()
	want := map[string][]string{}
	for _, e := range events {
		id := string(e.M.Aggregate())
		want[id] = append(want[id], fmt.Sprintf("%s %s %s %s", e.M.Type, e.M.ID, sequence(e.M), amount(t, e.M)))
	}
	wait(t, func() error {
		got := map[string][]string{}
		n := 0
		for _, line := range p.said(0, `"entity"`) {
			var said struct {
				Entity, Version, Type, ID string
				Payload                   struct{ Amount struct{ Minor json.Number } }
			}
			if err := json.Unmarshal([]byte(line), &said); err != nil {
				return fatal(fmt.Errorf("%q: %w", line, err))
			}
			id := string(runtime.Entity(said.Entity).Aggregate())
			got[id] = append(got[id], fmt.Sprintf("%s %s %s %s", said.Type, said.ID, said.Version, said.Payload.Amount.Minor))
			n++
		}
		select {
		case <-p.exited:
			return fatal(fmt.Errorf("the reader has ended: %v; %q", p.err, p.said(0, "")))
		default:
		}
		if n < len(events) {
			return fmt.Errorf("%d of %d events have been read", n, len(events))
		}
		for _, id := range slices.Sorted(maps.Keys(want)) {
			if !slices.Equal(got[id], want[id]) {
				return fatal(fmt.Errorf("of %s it read\n%q, and there is\n%q", id, got[id], want[id]))
			}
		}
		return nil
	})
}

func sequence(m *runtime.Message) string {
	if m.Platform() {
		return ""
	}
	return fmt.Sprintf("%020d", m.Sequence)
}

// amount is the amount of an event about money, in minor units, else "".
func amount(t testing.TB, m *runtime.Message) string {
	t.Helper()
	if m.Platform() {
		return ""
	}
	record, err := bank[m.Aggregate().Prefix()].Record(m.Schema, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	var payload struct{ Amount struct{ Minor json.Number } }
	text, err := json.Marshal(record)
	if err == nil {
		err = json.Unmarshal(text, &payload)
	}
	if err != nil {
		t.Fatal(err)
	}
	return payload.Amount.Minor.String()
}

// TestProjection kills a projection into a database again and again while
// commands flow, has it read everything a second time, and compares its rows with
// the log.
func TestProjection(t *testing.T) {
	w := newWorld(t, setup{})
	program := outsideProgram(t, "projection")
	file := filepath.Join(t.TempDir(), "bank.sqlite")
	run := func(more ...string) *process {
		return start(t, "projection", program, nil, append([]string{"--kafka", strings.Join(w.kafka.Servers, ","),
			"--topic", w.topics.Events("CheckingAccount"), "--gateway", w.gateways[0].url, "--file", file}, more...)...)
	}
	l := newLoad(w)
	end := l.begin(t, 400)
	for _, share := range []float64{0.3, 0.6} {
		p := run()
		l.reached(t, share)
		wait(t, func() error {
			rows, err := rowsOf(program, file)
			if err == nil && len(rows) == 0 {
				err = errors.New("the projection has no rows")
			}
			return err
		})
		p.kill()
	}
	end()
	events := w.evidence(t, l.history).Events
	for _, more := range [][]string{{"--once"}, {"--once", "--replay"}, {"--once"}} {
		p := run(more...)
		<-p.exited
		if p.err != nil {
			t.Fatalf("projection %v: %v: %q", more, p.err, p.said(0, ""))
		}
		rows, err := rowsOf(program, file)
		if err != nil {
			t.Fatal(err)
		}
		compareRows(t, rows, events)
	}
}

// rowsOf are the rows of a projection: version and balance of each account.
func rowsOf(program, file string) (map[runtime.AggregateID]string, error) {
	out, err := exec.Command(program, "--file", file, "--show").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	rows := map[runtime.AggregateID]string{}
	for line := range strings.Lines(string(out)) {
		entity, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rows[runtime.AggregateID(entity)] = rest
	}
	return rows, nil
}

// compareRows holds the rows of a projection against the log.
func compareRows(t testing.TB, got map[runtime.AggregateID]string, events []logged) {
	t.Helper()
	byAggregate := map[runtime.AggregateID][]logged{}
	last := map[runtime.AggregateID]uint64{} // event about money
	for _, e := range events {
		id := e.M.Aggregate()
		byAggregate[id] = append(byAggregate[id], e)
		if amount(t, e.M) != "" && !strings.HasSuffix(string(e.M.Type), "Failed") {
			last[id] = e.M.Sequence
		}
	}
	if len(got) != len(last) {
		t.Errorf("%d rows for %d accounts with money", len(got), len(last))
	}
	for id, version := range last {
		sum, err := balance(byAggregate[id])
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(version, " ", sum); got[id] != want {
			t.Errorf("%s has the row %q, want %q", id, got[id], want)
		}
	}
}
