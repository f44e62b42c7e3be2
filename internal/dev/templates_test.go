package dev

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const repository = "../.."

func templates() []string {
	return []string{"evento-handler", "evento-aggregator", "evento-dispatcher", "evento-aggregate"}
}

// within runs a program in a folder and returns what it said.
func within(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PWD="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestTemplatesAsShipped builds and tests each template with its own example, in
// the files of an image's build: links are files there.
func TestTemplatesAsShipped(t *testing.T) {
	b, err := NewBuilder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, lang := range templates() {
		t.Run(lang, func(t *testing.T) {
			template, err := templateOf(mustAbs(t, repository), lang)
			if err != nil {
				t.Fatal(err)
			}
			f := Function{Name: lang, Template: template, Dir: filepath.Join(template, handlerFolder)}
			if _, err := b.Build(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTemplatesByFaasCLI goes an author's way with the real faas-cli: new, go
// test in the new folder, build. What it makes is what we build from.
func TestTemplatesByFaasCLI(t *testing.T) {
	cli, err := exec.LookPath("faas-cli")
	if err != nil {
		t.Skip("faas-cli is not on the PATH: that it makes the same build contexts as evento dev is not tested; get it from https://github.com/openfaas/faas-cli")
	}
	dir := t.TempDir()
	if err := os.Symlink(mustAbs(t, filepath.Join(repository, "template")), filepath.Join(dir, "template")); err != nil {
		t.Fatal(err)
	}
	b, err := NewBuilder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i, lang := range templates() {
		name := strings.TrimPrefix(lang, "evento-")
		args := []string{"new", name, "--lang", lang, "--quiet"}
		if i > 0 {
			args = append(args, "--append", "stack.yaml")
		}
		within(t, dir, cli, args...)
		within(t, filepath.Join(dir, name), "go", "test", "./...")
		within(t, filepath.Join(dir, name), "go", "mod", "tidy", "-diff") // fails when there is something to do
	}
	within(t, dir, cli, "build", "--shrinkwrap", "-f", "stack.yaml")
	functions, err := ReadStack(filepath.Join(dir, "stack.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(functions) != len(templates()) {
		t.Fatalf("%d functions", len(functions))
	}
	for _, f := range functions {
		in, err := f.inputs(b.data)
		if err != nil {
			t.Fatal(err)
		}
		ours := filepath.Join(b.data, "compare", f.Name)
		if err := in.write(ours); err != nil {
			t.Fatal(err)
		}
		sameTrees(t, filepath.Join(dir, "build", f.Name), ours)
		if _, err := b.Build(t.Context(), f); err != nil {
			t.Error(err)
		}
	}

	// The bank, too, whose functions are packages of a larger module.
	root := mustAbs(t, repository)
	bank := t.TempDir()
	for _, name := range []string{"template", "stack.yml", "examples"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(bank, name)); err != nil {
			t.Fatal(err)
		}
	}
	within(t, bank, cli, "build", "--shrinkwrap", "-f", "stack.yml")
	functions, err = ReadStack(filepath.Join(bank, "stack.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range functions {
		in, err := f.inputs(b.data)
		if err != nil {
			t.Fatal(err)
		}
		ours := filepath.Join(b.data, "compare", f.Name)
		if err := in.write(ours); err != nil {
			t.Fatal(err)
		}
		sameTrees(t, filepath.Join(bank, "build", f.Name), ours)
	}
}

// sameTrees compares two folders, hidden entries aside.
func sameTrees(t *testing.T, a, b string) {
	t.Helper()
	one, other := tree(t, a), tree(t, b)
	if len(one) < 10 {
		t.Errorf("%s has %d files only", a, len(one))
	}
	for name, file := range one {
		if got, ok := other[name]; !ok || !bytes.Equal(got.text, file.text) || got.mode&0o111 != file.mode&0o111 {
			t.Errorf("%s: faas-cli writes %s, we do not, or otherwise", a, name)
		}
		delete(other, name)
	}
	for name := range other {
		t.Errorf("%s: faas-cli does not write %s", a, name)
	}
}

type file struct {
	text []byte
	mode fs.FileMode
}

func tree(t *testing.T, dir string) map[string]file {
	t.Helper()
	all := make(map[string]file)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		all[rel] = file{text, info.Mode()}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	goDirective = regexp.MustCompile(`(?m)^go (\d+\.\d+)`)
	goImage     = regexp.MustCompile(`golang:(\d+\.\d+)-alpine`)
)

// TestTemplatesFitTogether checks what nothing else would notice before an image is built.
func TestTemplatesFitTogether(t *testing.T) {
	if to, err := os.Readlink(filepath.Join(repository, "template")); err != nil || to != "templates" {
		t.Errorf("template, where faas-cli looks, leads to %q (%v), want templates", to, err)
	}
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	version := goDirective.FindStringSubmatch(read("go.mod"))[1]
	for _, lang := range templates() {
		docker := read("template/" + lang + "/Dockerfile")
		if m := goImage.FindStringSubmatch(docker); m == nil || m[1] != version {
			t.Errorf("%s: the image is built with %v, the module wants Go %s", lang, m, version)
		}
		if !regexp.MustCompile(`(?m)^USER [1-9]\d*$`).MatchString(docker) {
			t.Errorf("%s: the image does not name a user by a number that is not root's", lang)
		}
		for _, mod := range []string{"go.mod", "go.work", "function/go.mod"} {
			if m := goDirective.FindStringSubmatch(read("template/" + lang + "/" + mod)); m == nil || m[1] != version {
				t.Errorf("%s/%s has Go %v, the module %s", lang, mod, m, version)
			}
		}
		if want := "../template/" + lang + "/evento"; !strings.Contains(read("template/"+lang+"/function/go.mod"), want) {
			t.Errorf("%s: an author's folder does not find the runtime in %s", lang, want)
		}
		if read("template/"+lang+"/function/Cart.avsc") != read("template/evento-handler/function/Cart.avsc") {
			t.Errorf("%s: its example has another schema than evento-handler's", lang)
		}
	}
}
