package triggers

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// update rewrites the expectations beside the fixtures; read the diff.
var update = flag.Bool("update", false, "rewrite testdata/*/*.want")

// knownTypes is a fixed [Types].
type knownTypes map[string][]runtime.TypeName

func (k knownTypes) Commands(aggregate string) []runtime.TypeName { return k[aggregate] }

func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// routerOf loads one source, with the command types of the fixtures known.
func routerOf(t *testing.T, source Source) (*Router, error) {
	t.Helper()
	types := knownTypes{"CreditAccount": {"CreditAccount.ReceiveDeposit", "CreditAccount.Close"}}
	r := NewRouter(Config{Sources: []Source{source}, Types: types, Log: quietLog()})
	return r, r.Load(t.Context())
}

// wantFile compares got with <fixture>.want.
func wantFile(t *testing.T, fixture, got string) {
	t.Helper()
	file := fixture + ".want"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func fixtures(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures %s (%v)", pattern, err)
	}
	return files
}

func sourceOf(file string) Source {
	if strings.Contains(file, "stack-") {
		none := func(string) (string, bool) { return "", false }
		return &Stack{Path: file, Environ: none, Log: quietLog()}
	}
	return &Files{Paths: []string{file}, Log: quietLog()}
}

// TestGood: each fixture yields these Targets.
func TestGood(t *testing.T) {
	for _, file := range append(fixtures(t, "testdata/good/*.yaml"), fixtures(t, "testdata/stack-good/*.yml")...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r, err := routerOf(t, sourceOf(file))
			if err != nil {
				t.Fatal(err)
			}
			targets, _ := r.All()
			var out strings.Builder
			for _, target := range targets {
				text, err := json.MarshalIndent(target, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				out.Write(append(text, '\n'))
			}
			for _, skipped := range r.Status().Skipped {
				out.WriteString("skipped " + skipped + "\n")
			}
			wantFile(t, file, out.String())
		})
	}
}

// TestBad: each fixture is refused with exactly these problems.
func TestBad(t *testing.T) {
	for _, file := range append(fixtures(t, "testdata/bad/*.yaml"), fixtures(t, "testdata/stack-bad/*.yml")...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r, err := routerOf(t, sourceOf(file))
			if err == nil {
				t.Fatal("it was taken")
			}
			wantFile(t, file, err.Error()+"\n")
			if targets, _ := r.All(); len(targets) != 0 {
				t.Errorf("%d Targets in effect", len(targets))
			}
			if refused := r.Status().Refused; refused == nil || refused.Error() != err.Error() {
				t.Errorf("the status says %v", refused)
			}
		})
	}
}

// TestMissingFile: what cannot be read is a problem of its own.
func TestMissingFile(t *testing.T) {
	for _, source := range []Source{
		&Files{Paths: []string{"testdata/none.yaml"}, Log: quietLog()},
		&Stack{Path: "testdata/none.yaml", Log: quietLog()},
	} {
		_, err := source.Load(context.Background())
		const want = "testdata/none.yaml: cannot be read: no such file or directory"
		if err == nil || err.Error() != want {
			t.Errorf("%T: %v, want %s", source, err, want)
		}
	}
}

// TestTooLarge: a file beyond the limit is not read into memory whole.
func TestTooLarge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(file, []byte(strings.Repeat("# much\n", 200_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := (&Files{Paths: []string{file}, Log: quietLog()}).Load(t.Context())
	const want = ": the file has 1048577 bytes, more than the limit of 1048576; split it"
	if err == nil || err.Error() != file+want {
		t.Errorf("%v, want %s%s", err, file, want)
	}
}

// TestBothSources: YAML files and a stack.yml are one set; a name may stand in one of them only.
func TestBothSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	stack := &Stack{Log: quietLog(), Function: Local(map[string]string{"f": "http://127.0.0.1:9001"}), Path: write("stack.yml", `
provider: {name: openfaas}
functions:
  f: {annotations: {evento.io/role: handler, evento.io/aggregate: A}}
`)}
	const trigger = `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: %, namespace: openfaas-fn, annotations: {evento.io/role: aggregator, evento.io/aggregate: A}}
spec: {broker: default, subscriber: {uri: "http://127.0.0.1:9001"}}
`
	files := &Files{Log: quietLog(), Paths: []string{write("t.yaml", strings.Replace(trigger, "%", "g", 1))}}
	r := NewRouter(Config{Sources: []Source{files, stack}, Log: quietLog()})
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h, err := r.Handler(&runtime.Message{Type: "A.Do"}); err != nil || !h.Combined || h.Name != "openfaas-fn/f" {
		t.Errorf("%+v %v", h, err)
	}

	write("t.yaml", strings.Replace(trigger, "%", "f", 1))
	want := stack.Path + ": function f: metadata.name: another Trigger has this name: " + files.Paths[0] + ", document 1; rename one of them"
	if err := r.Load(t.Context()); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := r.Aggregator("A"); err != nil {
		t.Errorf("the former Triggers went: %v", err)
	}
}

// TestUnknownFunction: a stack.yml's function must be reachable.
func TestUnknownFunction(t *testing.T) {
	s := &Stack{Path: "testdata/stack-good/bank.yml", Function: Local(nil), Log: quietLog()}
	_, err := s.Load(t.Context())
	const want = "testdata/stack-good/bank.yml: function audit: no URL is known for it\n"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}
