package dev

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// ErrNoGo is returned when there is no go command to build functions with.
var ErrNoGo = errors.New("the go command is not on the PATH; the functions are built with it: install Go 1.26 or newer from https://go.dev/dl")

// BuildError says that a function does not build, or that its tests fail.
type BuildError struct {
	Function string
	Dir      string
	Output   string // what the compiler or the tests said
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("function %q in %s does not build, or its tests fail:\n%s", e.Function, e.Dir, strings.TrimRight(e.Output, "\n"))
}

// Builder makes programs of functions.
type Builder struct {
	data string // our data directory: contexts are written there, and nothing is read from there
}

// NewBuilder returns a builder that puts build contexts into the folder build of
// the data directory, and programs into bin. It fails with [ErrNoGo] when there
// is no go command.
func NewBuilder(data string) (*Builder, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return nil, ErrNoGo
	}
	return &Builder{data: data}, nil
}

// atOnce is how many functions are built at the same time: one links while the
// other compiles. The go command itself uses all processors.
const atOnce = 2

// BuildAll builds the functions and tells done about each. It returns the
// programs by the functions' names. All that do not build are in the error, as
// [BuildError]s; the others are built nevertheless.
func (b *Builder) BuildAll(ctx context.Context, functions []Function, done func(Function, time.Duration)) (map[string]string, error) {
	var (
		wg       sync.WaitGroup
		slots    = make(chan struct{}, atOnce)
		failed   = make([]error, len(functions))
		programs = make([]string, len(functions))
	)
	for i, f := range functions {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			if programs[i], failed[i] = b.Build(ctx, f); failed[i] == nil {
				done(f, time.Since(began))
			}
		})
	}
	wg.Wait()
	built := make(map[string]string)
	for i, f := range functions {
		if failed[i] == nil {
			built[f.Name] = programs[i]
		}
	}
	return built, errors.Join(failed...)
}

// Build builds and tests one function as its image would be: the files are the
// template's and the author's, and the template's build script does the rest. It
// returns the program, whose name changes with its contents, so that one that
// still runs is not written over.
func (b *Builder) Build(ctx context.Context, f Function) (program string, err error) {
	in, err := f.inputs(b.data)
	if err != nil {
		return "", fmt.Errorf("function %q: its files: %w", f.Name, err)
	}
	if err := os.MkdirAll(filepath.Join(b.data, "bin"), 0o700); err != nil {
		return "", err
	}
	dir := filepath.Join(b.data, "build", f.Name)
	if err := in.write(dir); err != nil {
		return "", fmt.Errorf("function %q: its build context: %w", f.Name, err)
	}
	made := filepath.Join(b.data, "bin", f.Name+".new")
	if output, err := b.run(ctx, dir, f.BuildArgs, made); err != nil {
		return "", b.failure(ctx, f, output, err)
	}
	text, err := os.ReadFile(made)
	if err != nil {
		return "", fmt.Errorf("function %q: %s has made no program: %w", f.Name, buildScript, err)
	}
	program = filepath.Join(b.data, "bin", fmt.Sprintf("%s-%.12x", f.Name, sha256.Sum256(text)))
	return program, os.Rename(made, program)
}

func (b *Builder) failure(ctx context.Context, f Function, output string, err error) error {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &exit):
		return fmt.Errorf("function %q: running %s: %w", f.Name, buildScript, err)
	}
	return &BuildError{Function: f.Name, Dir: f.Dir, Output: output}
}

// run runs the build script in a context. It returns what it said.
func (b *Builder) run(ctx context.Context, dir string, args map[string]string, out string) (string, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "./"+buildScript, out)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PWD="+dir)
	for name, value := range args {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	// In a group of its own a Ctrl-C reaches it through ctx alone, and compilers do not write over our lines.
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = 2 * time.Second
	var output bytes.Buffer // one for both, so that the lines stay in order
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	return output.String(), err
}
