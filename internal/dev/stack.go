package dev

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/openfaas/go-sdk/stack"
	"sigs.k8s.io/yaml"
)

// Function is one function of a stack.yml that can be run here.
type Function struct {
	Name        string
	Dir         string            // absolute path of the folder that its author writes
	Template    string            // absolute path of its template
	BuildArgs   map[string]string // what the template's build script is told
	Environment map[string]string // environment and environment_file of the stack.yml
	Annotations map[string]string
}

// functionName is what names a deployment in OpenFaaS and Knative, and a file here.
var functionName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ReadStack returns the functions of a stack.yml, by name. Their handler folders
// are taken relative to the file. One without a handler folder is somebody
// else's image, which cannot be run here, and is left out.
func ReadStack(file string) ([]Function, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("stack file: %w; say where it is with --stack", err)
	}
	// The parser below prints to standard output when this fails.
	if err := yaml.Unmarshal(text, &map[string]any{}); err != nil {
		return nil, fmt.Errorf("stack file %q: %w", file, err)
	}
	services, err := stack.ParseYAMLData(text, "", "", true)
	if err != nil {
		return nil, fmt.Errorf("stack file %q: %w", file, err)
	}
	root, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("stack file %q: %w", file, err)
	}
	var functions []Function
	for name, f := range services.Functions {
		if f.Handler == "" || f.SkipBuild {
			continue
		}
		if !functionName.MatchString(name) {
			return nil, fmt.Errorf("stack file %q: the function name %q is not 1 to 63 lower-case letters, digits and '-'", file, name)
		}
		dir := f.Handler
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(root, dir)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("stack file %q: function %q: its handler folder %q is not there", file, name, dir)
		}
		env, err := environment(root, f)
		if err != nil {
			return nil, fmt.Errorf("stack file %q: function %q: %w", file, name, err)
		}
		template, err := templateOf(root, f.Language)
		if err != nil {
			return nil, fmt.Errorf("stack file %q: function %q: %w", file, name, err)
		}
		one := Function{Name: name, Dir: dir, Template: template, BuildArgs: f.BuildArgs, Environment: env}
		if f.Annotations != nil {
			one.Annotations = *f.Annotations
		}
		functions = append(functions, one)
	}
	if len(functions) == 0 {
		return nil, fmt.Errorf("stack file %q has no function with a handler folder", file)
	}
	slices.SortFunc(functions, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
	return functions, nil
}

// environment joins a function's variables as faas-cli does: files win over
// inline ones, later files over earlier ones.
func environment(root string, f stack.Function) (map[string]string, error) {
	env := make(map[string]string)
	for k, v := range f.Environment {
		env[k] = v
	}
	for _, name := range f.EnvironmentFile {
		if !filepath.IsAbs(name) {
			name = filepath.Join(root, name)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("environment_file: %w", err)
		}
		var file stack.EnvironmentFile
		if err := yaml.Unmarshal(text, &file); err != nil {
			return nil, fmt.Errorf("environment_file %q: %w", name, err)
		}
		for k, v := range file.Environment {
			env[k] = v
		}
	}
	return env, nil
}
