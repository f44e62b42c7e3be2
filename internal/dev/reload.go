package dev

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// reloader puts changes of sources, schemas and the stack.yml into effect while
// everything runs. What does not build, fails its tests, is not compatible or
// does not start is said, and what ran before goes on.
type reloader struct {
	o         Options
	data      string // absolute path of the data directory
	gateway   string // URL
	builder   *Builder
	set       *functionSet
	addresses *Addresses
	say       *printer

	functions []Function        // of the stack.yml that was read last
	stackText string            // of the stack.yml that is in effect
	tried     map[string]string // function -> fingerprint of what was built last, with success or without
	schemas   map[string]string // schema file -> text that was registered, or refused, last
	refused   map[string]bool   // schema files whose text was refused
	problem   string            // what was said last about the stack.yml or the schema files
}

// newReloader takes what runs for what the files say.
func newReloader(o Options, data, gateway string, b *Builder, set *functionSet, a *Addresses, say *printer, functions []Function, stackText string, schemas map[string]string) *reloader {
	return &reloader{
		o: o, data: data, gateway: gateway, builder: b, set: set, addresses: a, say: say,
		functions: functions, stackText: stackText, schemas: schemas,
		tried: make(map[string]string), refused: make(map[string]bool),
	}
}

// remember notes what the functions are about to be built from, so that a later
// look knows what has changed since.
func (r *reloader) remember() {
	for _, f := range r.functions {
		r.tried[f.Name], _ = r.fingerprint(f) // an unreadable one is found when it is built
	}
}

// dirs is where changes are waited for.
func (r *reloader) dirs() []string {
	dirs := []string{filepath.Dir(r.o.StackFile)}
	if r.o.SchemaDir != "" {
		dirs = append(dirs, r.o.SchemaDir)
	}
	for _, f := range r.functions {
		if in, err := f.inputs(r.data); err == nil {
			dirs = append(dirs, in.dirs...)
		} else {
			dirs = append(dirs, f.Dir)
		}
	}
	return dirs
}

func (r *reloader) fingerprint(f Function) (string, error) {
	in, err := f.inputs(r.data)
	if err != nil {
		return "", err
	}
	sum, err := in.fingerprint()
	return fmt.Sprint(sum, f.Dir, f.Template, f.BuildArgs, f.Environment), err // maps are printed in order
}

// look finds what has changed and puts it into effect: schemas first, because
// functions are built with them.
func (r *reloader) look(ctx context.Context) {
	text, functions, err := r.read()
	if err == nil {
		r.functions = functions // their folders are watched, whatever is wrong with what is in them
		err = r.register(ctx, functions)
	}
	if err != nil {
		if ctx.Err() == nil && err.Error() != r.problem { // said once
			r.problem = err.Error()
			r.say.line("%v\n  what runs goes on", err)
		}
		return
	}
	r.problem = ""

	programs := r.build(ctx, functions)
	next := r.start(ctx, functions, programs)
	if ctx.Err() != nil {
		return // whatever was started is stopped with the set
	}
	gone := r.set.urls()
	for _, f := range functions {
		delete(gone, f.Name)
	}
	if len(next) == 0 && len(gone) == 0 && text == r.stackText {
		return
	}
	r.put(ctx, next, gone, text)
}

// read reads the stack.yml.
func (r *reloader) read() (string, []Function, error) {
	text, err := os.ReadFile(r.o.StackFile)
	if err != nil {
		return "", nil, fmt.Errorf("stack file: %w", err)
	}
	functions, err := ReadStack(r.o.StackFile)
	return string(text), functions, err
}

// register gives changed schema files to the gateway.
func (r *reloader) register(ctx context.Context, functions []Function) error {
	files, err := schemaFiles(r.o.SchemaDir, functions, r.data)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := files[name]
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("schema file: %w", err)
		}
		if string(text) == r.schemas[path] {
			continue
		}
		types, err := registerSchema(ctx, r.gateway, string(text))
		var refused *schemaRefused
		switch {
		case errors.As(err, &refused):
			r.refused[path] = true
			r.say.line("schema %s is not registered, the former one stays: %v", shown(path), err)
		case err != nil:
			return fmt.Errorf("schema %s could not be registered: %w", shown(path), err)
		case len(types) > 0:
			r.accept(path, functions)
			r.say.line("schema %s is registered, new: %s; evento generate makes its Go types", shown(path), strings.Join(types, ", "))
		default:
			r.accept(path, functions)
		}
		r.schemas[path] = string(text)
	}
	return nil
}

// build builds the functions whose files, or whose part of the stack.yml, have
// changed, and returns the programs of those that can be started.
func (r *reloader) build(ctx context.Context, functions []Function) map[string]string {
	var changed []Function
	for _, f := range functions {
		sum, err := r.fingerprint(f)
		if err != nil {
			r.say.line("function %s: its files: %v", f.Name, err)
			continue
		}
		if sum == r.tried[f.Name] {
			continue
		}
		if path := r.refusedIn(f); path != "" {
			r.say.line("function %s is not built before its schema %s is in order", f.Name, shown(path))
		} else {
			changed = append(changed, f)
		}
		r.tried[f.Name] = sum
	}
	if len(changed) == 0 {
		return nil
	}
	r.say.line("building %s", names(changed))
	programs, err := r.builder.BuildAll(ctx, changed, func(Function, time.Duration) {})
	if ctx.Err() != nil {
		return programs
	}
	if err != nil {
		r.say.line("%v", err)
	}
	var same []Function
	for _, f := range changed {
		switch now, program := r.set.get(f.Name), programs[f.Name]; {
		case now == nil:
		case program == "":
			r.say.line("function %s: the former one goes on", f.Name)
		case program == now.bin:
			same = append(same, f)
		}
	}
	if len(same) > 0 {
		r.say.line("built, and the same programs as before: %s", names(same))
	}
	return programs
}

// accept notes that a schema is in order. Functions that waited for it are built:
// the file may have been mended between the look at it and the look at them, and
// then nothing of them changes any more.
func (r *reloader) accept(path string, functions []Function) {
	if !r.refused[path] {
		return
	}
	for _, f := range functions {
		if r.refusedIn(f) != "" {
			delete(r.tried, f.Name)
		}
	}
	delete(r.refused, path)
}

func (r *reloader) refusedIn(f Function) string {
	for _, path := range slices.Sorted(maps.Keys(r.refused)) {
		if rel, err := filepath.Rel(f.Dir, path); err == nil && filepath.IsLocal(rel) {
			return path
		}
	}
	return ""
}

// start starts what was built, beside what runs. A program that is the same as
// the one that runs, with the same environment, needs no start.
func (r *reloader) start(ctx context.Context, functions []Function, programs map[string]string) map[string]*process {
	next := make(map[string]*process)
	for _, f := range functions {
		program, ok := programs[f.Name]
		if !ok {
			continue
		}
		now := r.set.get(f.Name)
		if now != nil && now.bin == program && maps.Equal(now.function.Environment, f.Environment) {
			continue
		}
		p, err := r.set.start(ctx, f, program)
		if err != nil {
			if ctx.Err() == nil {
				r.say.line("%v\n  function %s: what ran before goes on", err, f.Name)
			}
			continue
		}
		next[f.Name] = p
	}
	return next
}

// put switches to the new processes, and then ends the former ones. No call is
// lost on the way: the new ones are healthy, then the gateway takes their
// addresses, then the former ones have time for what they were sent before.
func (r *reloader) put(ctx context.Context, next map[string]*process, gone map[string]string, stackText string) {
	urls := r.set.urls()
	for name := range gone {
		delete(urls, name)
	}
	for name, p := range next {
		urls[name] = p.url
	}
	if err := r.addresses.change(ctx, urls); err != nil {
		for name, p := range next {
			p.stop()
			delete(r.tried, name) // it is built again with the next change, whatever that is
		}
		if ctx.Err() == nil {
			r.say.line("the gateway does not take %s, what runs goes on: %v", shown(r.o.StackFile), err)
		}
		r.stackText = stackText // said once
		return
	}
	r.stackText = stackText
	var former []*process
	for _, name := range slices.Sorted(maps.Keys(next)) {
		p := next[name]
		what := "runs the new code"
		if old := r.set.replace(name, p); old != nil {
			former = append(former, old)
		} else {
			what = "runs"
		}
		r.say.line("function %s %s, on %s", name, what, p.url)
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		former = append(former, r.set.replace(name, nil))
		delete(r.tried, name)
		r.say.line("function %s is not in %s any more and stops", name, shown(r.o.StackFile))
	}
	select {
	case <-time.After(r.o.Timing.Linger):
	case <-ctx.Done():
	}
	for _, p := range former {
		p.stop()
		if now := r.set.get(p.function.Name); now == nil || now.bin != p.bin {
			if err := os.Remove(p.bin); err != nil && !errors.Is(err, os.ErrNotExist) {
				r.say.line("function %s: its former program: %v", p.function.Name, err)
			}
		}
	}
}

func names(functions []Function) string {
	var list []string
	for _, f := range functions {
		list = append(list, f.Name)
	}
	return strings.Join(list, ", ")
}
