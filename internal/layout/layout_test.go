package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/evento-oss/evento"

// rules say who alone may import what. Each has its reason.
var rules = []struct {
	imports string   // prefix of an import path
	only    []string // packages of this module, without the module's path
	why     string
}{
	{"github.com/confluentinc/", []string{"internal/kafka"}, "one package knows the Kafka clients, so that settings and errors mean one thing"},
	{"github.com/twmb/franz-go", []string{"internal/kafka", "internal/kafkatest", "internal/dev", "internal/proof"}, "as above; internal/dev has the embedded broker, the rest are tests"},
	{"github.com/redis/", []string{"gateway", "internal/proof"}, "Redis is a cache of the gateway, in one file"},
	{"knative.dev/", []string{"triggers"}, "it brings 40 MB of Kubernetes with it"},
	{"github.com/twmb/avro", []string{"internal/avro"}, "one package knows the Avro library"},
	{"github.com/actgardner/gogen-avro", []string{"runtime", "runtime/protocol", "runtime/internal", "internal/generate", "examples/bank"}, "generated code, and what makes it"},
	{"github.com/anishathalye/", []string{"internal/verify/linear"}, "it is for tests: whoever has no history of clients has no use for it"},
	{module + "/internal/verify/linear", []string{"internal/verify/linear"}, "as above: tests alone import it, so it stays out of the program"},
	{module + "/triggers", []string{"cmd/evento", "triggers"}, "gateway and triggers do not know each other; the program puts them together"},
	{module + "/gateway", []string{"cmd/evento", "gateway", "internal/proof", "internal/bench", "internal/verify/live"}, "nothing below the gateway knows it"},
}

func TestImportsPointOneWay(t *testing.T) {
	for name, imports := range packages(t) {
		for _, rule := range rules {
			for _, path := range imports {
				if path != rule.imports && !strings.HasPrefix(path, strings.TrimSuffix(rule.imports, "/")+"/") && !strings.HasPrefix(path, rule.imports) {
					continue
				}
				if !slices.ContainsFunc(rule.only, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") }) {
					t.Errorf("%s imports %s, which only %v may: %s", name, path, rule.only, rule.why)
				}
			}
		}
		if name == "runtime" || strings.HasPrefix(name, "runtime/") {
			for _, path := range imports {
				if strings.HasPrefix(path, module+"/") && !strings.HasPrefix(path, module+"/runtime") {
					t.Errorf("%s imports %s: function images carry runtime and nothing else of the module", name, path)
				}
			}
		}
	}
}

func TestRedisIsInOneFile(t *testing.T) {
	files, err := filepath.Glob("../../gateway/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var with []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") && strings.Contains(string(text), `"github.com/redis/`) {
			with = append(with, filepath.Base(file))
		}
	}
	if !slices.Equal(with, []string{"snapshots.go"}) {
		t.Errorf("files of gateway that import the Redis client: %v, want snapshots.go alone", with)
	}
}

// packages returns what each package of the module imports, tests aside.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		all[strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")] = fields[1:]
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

var (
	mdLink  = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)
	outside = regexp.MustCompile(`^[a-z]+:`)
)

func TestLinksLeadSomewhere(t *testing.T) {
	links := 0
	walk(t, ".md", func(path string, text []byte) {
		for _, m := range mdLink.FindAllSubmatch(text, -1) {
			to := string(m[1])
			if outside.MatchString(to) {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), to)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", path, to)
			}
		}
	})
	if links == 0 {
		t.Error("no link was found")
	}
}

var testName = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")

// What the documentation names as proof is there.
func TestTestsThatAreNamedExist(t *testing.T) {
	exist := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test[A-Z][A-Za-z0-9]*)\(`)
	walk(t, ".go", func(_ string, text []byte) {
		for _, m := range declared.FindAllSubmatch(text, -1) {
			exist[string(m[1])] = true
		}
	})
	named := 0
	walk(t, ".md", func(path string, text []byte) {
		for _, m := range testName.FindAllSubmatch(text, -1) {
			named++
			if !exist[string(m[1])] {
				t.Errorf("%s: there is no test %s", path, m[1])
			}
		}
	})
	if named == 0 {
		t.Error("no test is named")
	}
}

// walk gives each file of the repository with this ending, but for hidden folders and test data.
func walk(t *testing.T, ending string, see func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != "." && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ending {
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil {
			see(path, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
