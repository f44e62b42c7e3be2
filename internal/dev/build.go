package dev

import (
	"bytes"
	"context"
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

// BuildError says that a function does not build.
type BuildError struct {
	Function string
	Dir      string
	Output   string // what the compiler said
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("function %q in %s does not build:\n%s", e.Function, e.Dir, strings.TrimRight(e.Output, "\n"))
}

// Builder makes programs of functions.
type Builder struct {
	goCommand string
	out       string
}

// NewBuilder returns a builder that puts the programs into the folder out. It
// fails with [ErrNoGo] when there is no go command.
func NewBuilder(out string) (*Builder, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return nil, ErrNoGo
	}
	return &Builder{goCommand: path, out: out}, nil
}

// Bin returns where the program of a function is.
func (b *Builder) Bin(f Function) string { return filepath.Join(b.out, f.Name) }

// atOnce is how many functions are built at the same time: one links while the
// other compiles. The go command itself uses all processors.
const atOnce = 2

// BuildAll builds the functions and tells done about each. All that do not
// build are in the error, as [BuildError]s.
func (b *Builder) BuildAll(ctx context.Context, functions []Function, done func(Function, time.Duration)) error {
	var (
		wg     sync.WaitGroup
		slots  = make(chan struct{}, atOnce)
		failed = make([]error, len(functions))
	)
	for i, f := range functions {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			if failed[i] = b.Build(ctx, f); failed[i] == nil {
				done(f, time.Since(began))
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// Build builds one function: the Go main package in its folder, without cgo, as
// the templates build it. The folder may be a module of its own.
func (b *Builder) Build(ctx context.Context, f Function) error {
	if output, err := b.run(ctx, f.Dir, "list", "-f", "{{.Name}}", "."); err != nil {
		return b.failure(ctx, f, output, err)
	} else if name := strings.TrimSpace(output); name != "main" {
		return &BuildError{Function: f.Name, Dir: f.Dir, Output: fmt.Sprintf("it is package %q; a function is a Go program, package main", name)}
	}
	if output, err := b.run(ctx, f.Dir, "build", "-o", b.Bin(f), "."); err != nil {
		return b.failure(ctx, f, output, err)
	}
	return nil
}

func (b *Builder) failure(ctx context.Context, f Function, output string, err error) error {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &exit):
		return fmt.Errorf("function %q: running %s: %w", f.Name, b.goCommand, err)
	}
	return &BuildError{Function: f.Name, Dir: f.Dir, Output: output}
}

// run runs the go command in dir. It returns its output, or its complaints when it failed.
func (b *Builder) run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.goCommand, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "PWD="+dir)
	// In a group of its own a Ctrl-C reaches it through ctx alone, and compilers do not write over our lines.
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = 2 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stderr.String() + stdout.String(), err
	}
	return stdout.String(), nil
}
