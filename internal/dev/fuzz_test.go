package dev

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/evento-oss/evento/internal/fuzztest"
)

// FuzzReadStack: a stack.yml is refused, or has functions that can be built here.
func FuzzReadStack(f *testing.F) {
	for _, file := range []string{"../../stack.yml", "../../templates/evento-handler/template.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("functions: {a: {lang: l, handler: ., environment: {a: b}, environment_file: [stack.yml], annotations: {x: y}, build_args: {k: v}}}"))
	f.Add([]byte("provider: {name: openfaas}\nfunctions:\n  a: &a {lang: l, handler: .}\n  b: *a\n  c: {<<: *a, skip_build: true}\n"))
	dir := f.TempDir()
	template := filepath.Join(dir, "template", "l")
	if err := os.MkdirAll(template, 0o755); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"template.yml", buildScript} {
		if err := os.WriteFile(filepath.Join(template, name), nil, 0o644); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(dir, "stack.yml")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		var functions []Function
		var err error
		fuzztest.Bounded(t, len(text), func() { functions, err = ReadStack(file) })
		if (err == nil) != (len(functions) > 0) {
			t.Errorf("%d functions, %v", len(functions), err)
		}
		for _, one := range functions {
			if !functionName.MatchString(one.Name) || !filepath.IsAbs(one.Dir) || one.Template != template {
				t.Errorf("%+v", one)
			}
		}
	})
}

// FuzzRemembered: what an earlier run has left, or somebody has written there, is
// used or it is not.
func FuzzRemembered(f *testing.F) {
	f.Add([]byte(`{"kafka": 10000, "redis": 10001}`))
	f.Add([]byte(`{"kafka": 70000}`))
	f.Add([]byte(`{"kafka": -1, "redis": 1e99}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, portsFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		fuzztest.Bounded(t, len(text), func() {
			if p := readPorts(dir); p.Kafka < 0 || p.Kafka > 65535 || p.Redis < 0 || p.Redis > 65535 {
				t.Errorf("ports %+v", p)
			}
		})
	})
}
