package dev

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// buildScript is the part of a template that makes the program. The template's
// Dockerfile runs it in an image's build, we run it here: same files, same steps.
const buildScript = "build.sh"

// handlerFolder is where in the build context the author's files are.
const handlerFolder = "function"

// templateOf finds the template of a language beside the stack file or in a
// folder above it, as the folder template/<lang> that faas-cli looks for.
func templateOf(root, lang string) (string, error) {
	if lang == "" || lang != filepath.Base(lang) {
		return "", fmt.Errorf("its lang %q is not the name of a template", lang)
	}
	for dir := root; ; dir = filepath.Dir(dir) {
		found := filepath.Join(dir, "template", lang)
		if _, err := os.Stat(filepath.Join(found, "template.yml")); err == nil {
			if _, err := os.Stat(filepath.Join(found, buildScript)); err != nil {
				return "", fmt.Errorf("its template %s is not one of Evento's (it has no %s), and only those are built here; skip_build: true leaves the function out", found, buildScript)
			}
			return found, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("there is no folder template/%s in %s or above it; get it with: faas-cli template pull https://github.com/evento-oss/evento", lang, root)
		}
	}
}

// inputs is what a function is built from.
type inputs struct {
	files map[string]string // path in the build context -> path of the file
	dirs  []string          // where a change may come from
}

// inputs lists the template's files, and over its handler folder the author's,
// as faas-cli puts them together: links are followed, and the entries build and
// template of the author's folder are left out, which are faas-cli's own. So are
// hidden ones, which Go does not read, and what is below except: our own data.
func (f Function) inputs(except string) (inputs, error) {
	in := inputs{files: map[string]string{}}
	err := in.add(f.Template, "", except, nil)
	if err == nil {
		err = in.add(f.Dir, handlerFolder, except, []string{"build", "template"})
	}
	return in, err
}

func (in *inputs) add(from, to, except string, without []string) error {
	in.dirs = append(in.dirs, from)
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		path, target := filepath.Join(from, name), filepath.Join(to, name)
		if strings.HasPrefix(name, ".") || slices.Contains(without, name) || path == except {
			continue
		}
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && e.Type()&os.ModeSymlink == 0:
			continue // an editor's, gone again
		case err != nil:
			return err
		case info.IsDir():
			if err := in.add(path, target, except, nil); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			in.files[target] = path
		}
	}
	return nil
}

// write makes the build context in the folder dir, which is made anew.
func (in inputs) write(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for target, path := range in.files {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, target)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(to, text, info.Mode().Perm()|0o600); err != nil {
			return err
		}
	}
	return nil
}

// fingerprint tells one state of the files from another.
func (in inputs) fingerprint() (string, error) {
	sum := sha256.New()
	for _, target := range slices.Sorted(maps.Keys(in.files)) {
		text, err := os.ReadFile(in.files[target])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%q %x\n", target, sha256.Sum256(text))
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
