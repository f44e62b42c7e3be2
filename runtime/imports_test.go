package runtime_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Every function image carries this package, and template folders hold a copy
// of this folder alone.
func TestFunctionsCarryLittle(t *testing.T) {
	out, err := exec.CommandContext(within(t), "go", "list", "-deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"github.com/evento-oss/evento/runtime", "github.com/actgardner/gogen-avro/v10/"}
	for _, p := range strings.Fields(string(out)) {
		first, _, _ := strings.Cut(p, "/")
		if !strings.Contains(first, ".") { // the standard library
			continue
		}
		ok := false
		for _, a := range allowed {
			ok = ok || p == strings.TrimSuffix(a, "/") || strings.HasPrefix(p, strings.TrimSuffix(a, "/")+"/")
		}
		if !ok {
			t.Errorf("runtime imports %q", p)
		}
	}
}
