package triggers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
)

// eventingGroup is the API group of Triggers and Brokers.
const eventingGroup = "eventing.knative.dev"

// Files is a [Source] that reads YAML files with one or more documents each.
// Triggers are taken; of Brokers the spec.delivery, for their Triggers that
// have none; documents of other API groups are skipped.
type Files struct {
	// Paths are files, and directories whose *.yaml and *.yml are read (not
	// below). A directory may be empty or a mounted ConfigMap; a file must exist.
	Paths   []string
	Resolve Resolver // nil for [ServiceURL]
	Watcher Watcher
	Log     *slog.Logger
}

// String lists the paths.
func (f *Files) String() string { return strings.Join(f.Paths, ", ") }

// Watch implements [Source].
func (f *Files) Watch(ctx context.Context, changed func()) error {
	return f.Watcher.run(ctx, f.Log, f.Paths, changed)
}

// Load implements [Source].
func (f *Files) Load(ctx context.Context) (Loaded, error) {
	var (
		documents []document
		list      []Problem
	)
	files, err := f.list()
	if err != nil {
		return Loaded{}, err
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return Loaded{}, err
		}
		text, err := readFile(file)
		if err != nil {
			list = append(list, fileProblem(file, err))
			continue
		}
		found, wrong := readDocuments(file, text)
		documents = append(documents, found...)
		list = append(list, wrong...)
	}
	loaded, wrong := parseDocuments(documents, f.Resolve)
	list = append(list, wrong...)
	if len(list) > 0 {
		return Loaded{}, &LoadError{Problems: list}
	}
	return loaded, nil
}

// list finds the files of all paths, each once.
func (f *Files) list() ([]string, error) {
	var files []string
	var list []Problem
	for _, path := range f.Paths {
		info, err := os.Stat(path)
		if err != nil {
			list = append(list, fileProblem(path, err))
			continue
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			list = append(list, fileProblem(path, err))
			continue
		}
		for _, e := range entries {
			// Names with a dot are an editor's, or a ConfigMap's ..data.
			if ext := filepath.Ext(e.Name()); !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") && !e.IsDir() {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	if len(list) > 0 {
		return nil, &LoadError{Problems: list}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// readFile reads at most one byte more than the limit, which tells that it is exceeded.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxFileBytes+1))
}

func fileProblem(path string, err error) Problem {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return Problem{File: path, Rule: "cannot be read: " + err.Error()}
}

// parseDocuments makes Triggers of documents.
func parseDocuments(documents []document, resolve Resolver) (Loaded, []Problem) {
	if resolve == nil {
		resolve = ServiceURL
	}
	var (
		loaded  Loaded
		list    []Problem
		objects []*eventingv1.Trigger
		origins []Origin
		brokers = map[string]*eventingduckv1.DeliverySpec{} // by namespace/name
	)
	for _, d := range documents {
		group, version, _ := strings.Cut(d.APIVersion, "/")
		known := d.Kind == "Trigger" || d.Kind == "Broker"
		switch {
		case d.Kind == "" || d.APIVersion == "":
			list = append(list, d.problem("kind", "apiVersion or kind is missing", "write apiVersion: eventing.knative.dev/v1 and kind: Trigger"))
		case known && (group != eventingGroup || version != "v1"):
			list = append(list, d.problem("apiVersion", fmt.Sprintf("%q is not supported", d.APIVersion), "write eventing.knative.dev/v1"))
		case !known && group == eventingGroup:
			list = append(list, d.problem("kind", fmt.Sprintf("%q is not supported", d.Kind), "only Trigger and Broker are read here"))
		case !known:
			loaded.Skipped = append(loaded.Skipped, d.origin.String()+": "+d.object())
		case d.Kind == "Broker":
			wrong := d.readBroker(brokers)
			list = append(list, wrong...)
		default:
			object := &eventingv1.Trigger{}
			if wrong := d.decode(object); len(wrong) > 0 {
				list = append(list, wrong...)
				continue
			}
			objects = append(objects, object)
			origins = append(origins, d.origin)
		}
	}
	// Brokers may stand behind their Triggers.
	for i, object := range objects {
		name := object.Spec.Broker
		if object.Spec.BrokerRef != nil {
			name = object.Spec.BrokerRef.Name
		}
		t, err := New(object, brokers[cmp.Or(object.Namespace, "default")+"/"+name], origins[i], resolve)
		var wrong *LoadError
		switch {
		case errors.As(err, &wrong):
			list = append(list, wrong.Problems...)
		case err == nil:
			loaded.Triggers = append(loaded.Triggers, t)
		}
	}
	return loaded, list
}

// readBroker checks a Broker and keeps its delivery.
func (d *document) readBroker(brokers map[string]*eventingduckv1.DeliverySpec) []Problem {
	object := &eventingv1.Broker{}
	if wrong := d.decode(object); len(wrong) > 0 {
		return wrong
	}
	name := cmp.Or(object.Namespace, "default") + "/" + object.Name
	p := &problems{at: d.problem("", "", "")}
	if _, ok := brokers[name]; ok {
		p.add("metadata.name", fmt.Sprintf("another Broker has the name %s", name), "remove one of them")
	}
	if invalid := object.Spec.Delivery.Validate(knativeContext()).ViaField("spec", "delivery"); invalid != nil {
		addFieldErrors(p, invalid)
	}
	brokers[name] = object.Spec.Delivery
	return p.list
}

func (d *document) problem(field, rule, fix string) Problem {
	return Problem{File: d.origin.File, Document: d.origin.Document, Line: d.origin.Line, Object: d.object(), Field: field, Rule: rule, Fix: fix}
}
