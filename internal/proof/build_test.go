package proof

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"gopkg.in/yaml.v3"
)

// root is the repository's, seen from this package.
const root = "../.."

// built are the programs that the tests start, each built when it is first asked for.
var built programs

type programs struct {
	mu   sync.Mutex
	dir  string
	errs map[string]error // by name, of those that were built
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
	if p.dir == "" {
		if p.dir, err = os.MkdirTemp("", "evento-proof-"); err != nil {
			return "", err
		}
		p.errs = map[string]error{}
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
// sends commands to.
func bankFunctions() map[string]string {
	return map[string]string{
		"checking-handler":    "./examples/bank/checking/cmd/handler",
		"checking-aggregator": "./examples/bank/checking/cmd/aggregator",
		"savings-handler":     "./examples/bank/savings/cmd/handler",
		"savings-aggregator":  "./examples/bank/savings/cmd/aggregator",
	}
}

// bankStack is the part of the repository's stack.yml that has these functions.
func bankStack(t testing.TB) string {
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
	maps.DeleteFunc(functions, func(name string, _ any) bool { return bankFunctions()[name] == "" })
	if len(functions) != len(bankFunctions()) {
		t.Fatalf("stack.yml has %d of the %d functions of the proof", len(functions), len(bankFunctions()))
	}
	all["version"] = "1.0" // a text to its readers, a number to YAML
	part, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(part)
}
