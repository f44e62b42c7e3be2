package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGenerateWritesAPackage(t *testing.T) {
	out := filepath.Join(t.TempDir(), "checking")
	run := func(args ...string) (string, error) {
		c := generateCommand()
		var said bytes.Buffer
		c.SetOut(&said)
		c.SetErr(&said)
		c.SetArgs(args)
		err := c.Execute()
		return said.String(), err
	}
	schema := "../../examples/bank/schemas/CheckingAccount.avsc"
	said, err := run("--schema", schema, "--out", out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said, "package checking") {
		t.Errorf("said %q", said)
	}
	body, err := os.ReadFile(filepath.Join(out, "evento.go"))
	if err != nil || !strings.Contains(string(body), "\npackage checking\n") {
		t.Errorf("evento.go: %v %.200s", err, body)
	}
	for name, args := range map[string][]string{
		"no schema":   {"--out", out},
		"no out":      {"--schema", schema},
		"no file":     {"--schema", "nowhere.avsc", "--out", out},
		"bad package": {"--schema", schema, "--out", out, "--package", "my-package"},
		"argument":    {"--schema", schema, "--out", out, "more"},
	} {
		if _, err := run(args...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
