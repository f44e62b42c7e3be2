package layout

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fuzzRow    = regexp.MustCompile("`([a-z/]+)`: ((?:Fuzz[A-Za-z]+(?:, )?)+)")
	fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z]+)\(`)
)

// docs/limits.md lists every fuzz target, and none that is not there.
func TestFuzzTargetsAreListed(t *testing.T) {
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed, there []string
	for _, m := range fuzzRow.FindAllStringSubmatch(string(page), -1) {
		for name := range strings.SplitSeq(strings.TrimSuffix(m[2], ", "), ", ") {
			listed = append(listed, m[1]+" "+name)
		}
	}
	for _, pattern := range []string{"gateway", "gateway/*", "runtime", "runtime/internal/*", "triggers", "triggers/*", "triggers/*/*", "internal/*", "cmd/*"} {
		files, err := filepath.Glob("../../" + pattern + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range fuzzTarget.FindAllStringSubmatch(string(text), -1) {
				there = append(there, strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), "../../")+" "+m[1])
			}
		}
	}
	slices.Sort(listed)
	slices.Sort(there)
	if there = slices.Compact(there); !slices.Equal(listed, there) {
		t.Errorf("docs/limits.md lists\n%s\nand there are\n%s", strings.Join(listed, "\n"), strings.Join(there, "\n"))
	}
}
