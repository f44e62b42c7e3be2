package proof

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/evento-oss/evento/internal/dev"
)

// root is the repository's, seen from this package.
const root = "../.."

// built are the programs that the tests start, each built when it is first asked for.
var built programs

type programs struct {
	mu        sync.Mutex
	dir       string
	errs      map[string]error  // by name, of those that were built
	functions map[string]string // built functions of stack.yml, by name
}

// program builds a main package of the repository and returns the program's path.
func program(t testing.TB, name, pkg string, flags ...string) string {
	t.Helper()
	path, err := built.build(name, pkg, flags)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (p *programs) build(name, pkg string, flags []string) (path string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.makeDir(); err != nil {
		return "", err
	}
	path = filepath.Join(p.dir, name)
	if err, done := p.errs[name]; done {
		return path, err
	}
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", path, pkg)...)
	cmd.Dir = root
	if out, e := cmd.CombinedOutput(); e != nil {
		err = fmt.Errorf("building %s: %w\n%s", pkg, e, out)
	}
	p.errs[name] = err
	return path, err
}

// makeDir makes the folder of the programs, once. It is called with mu held.
func (p *programs) makeDir() (err error) {
	if p.dir != "" {
		return nil
	}
	p.errs, p.functions = map[string]error{}, map[string]string{}
	p.dir, err = os.MkdirTemp("", "evento-proof-")
	return err
}

func (p *programs) remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// evento is the program under test.
func evento(t testing.TB) string { return program(t, "evento", "./cmd/evento", buildFlags...) }

// bankFunctions are the functions of the repository's stack.yml that the proof
// sends commands to; with the circle those, too, that money and clients need to
// get from one account to the other.
func bankFunctions(circle bool) []string {
	list := []string{"checking-handler", "checking-aggregator", "savings-handler", "savings-aggregator"}
	if circle {
		list = append(list, "client", "transfers", "holdings", "interest")
	}
	return list
}

// bankFunction builds one of them as evento dev does, and returns the program's path.
func bankFunction(t testing.TB, name string) string {
	t.Helper()
	functions, err := dev.ReadStack(filepath.Join(root, "stack.yml"))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(functions, func(f dev.Function) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("stack.yml has no function %q", name)
	}
	path, err := built.function(t.Context(), functions[i])
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (p *programs) function(ctx context.Context, f dev.Function) (path string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if path, ok := p.functions[f.Name]; ok {
		return path, nil
	}
	if err := p.makeDir(); err != nil {
		return "", err
	}
	b, err := dev.NewBuilder(p.dir)
	if err != nil {
		return "", err
	}
	if path, err = b.Build(ctx, f); err == nil {
		p.functions[f.Name] = path
	}
	return path, err
}

// bankStack is the part of the repository's stack.yml that has these functions.
func bankStack(t testing.TB, names []string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "stack.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	functions, _ := all["functions"].(map[string]any)
	maps.DeleteFunc(functions, func(name string, _ any) bool { return !slices.Contains(names, name) })
	if len(functions) != len(names) {
		t.Fatalf("stack.yml has %d of the %d functions of the proof", len(functions), len(names))
	}
	all["version"] = "1.0" // a text to its readers, a number to YAML
	part, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(part)
}
