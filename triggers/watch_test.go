package triggers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/evento-oss/evento/internal/leaktest"
	"github.com/evento-oss/evento/runtime"
)

// deadline is how long a test waits for what must happen soon.
const deadline = time.Minute

// watched is a Router that watches one source, and its log.
type watched struct {
	*Router
	t    *testing.T
	logs chan string
}

// watch runs a Router on paths until the test ends. Files are never polled, so
// what it notices comes from the file system's news.
func watch(t *testing.T, w Watcher, paths ...string) *watched {
	t.Helper()
	if w.Quiet == 0 {
		w.Quiet = 5 * time.Millisecond
	}
	if w.Poll == 0 {
		w.Poll = time.Hour
	}
	leaked := goleak.IgnoreCurrent()
	logs := make(chan string, 1000)
	log := slog.New(slog.NewTextHandler(lineWriter(logs), nil))
	r := NewRouter(Config{Sources: []Source{&Files{Paths: paths, Watcher: w, Log: log}}, Log: log})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		leaktest.None(t, leaked)
	})
	return &watched{Router: r, t: t, logs: logs}
}

type lineWriter chan string

func (w lineWriter) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

// sees waits until exactly these Triggers (names without namespace) are in effect.
func (w *watched) sees(want string) {
	w.t.Helper()
	late := time.After(deadline)
	for {
		targets, replaced := w.All()
		got := strings.ReplaceAll(names(targets), "default/", "")
		if got == want {
			return
		}
		select {
		case <-replaced:
		case <-late:
			w.t.Fatalf("in effect: %q, want %q; the status says %+v", got, want, w.Status())
		}
	}
}

// logged waits for a log line that contains text.
func (w *watched) logged(text string) {
	w.t.Helper()
	late := time.After(deadline)
	for {
		select {
		case line := <-w.logs:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			w.t.Fatalf("never logged: %s", text)
		}
	}
}

// sinkNamed is a Trigger document.
func sinkNamed(name string) string {
	return "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: " + name + "}\nspec: {broker: default, subscriber: {uri: \"http://f\"}}\n"
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReloadWrittenInPlace(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", sinkNamed("a"))
	w := watch(t, Watcher{}, dir)
	w.sees("a")
	write(t, dir+"/a.yaml", sinkNamed("a")+"---\n"+sinkNamed("b"))
	w.sees("a b")
	write(t, dir+"/c.yml", sinkNamed("c"))
	write(t, dir+"/notes.txt", "not a Trigger")
	write(t, dir+"/.hidden.yaml", "not a Trigger")
	w.sees("a b c")
	must(t, os.Remove(dir+"/a.yaml"))
	w.sees("c")
}

// TestReloadRenamed: editors write another file and rename it; the watch must not stay with the old one.
func TestReloadRenamed(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/t.yaml"
	write(t, file, sinkNamed("v0"))
	w := watch(t, Watcher{}, file)
	w.sees("v0")
	for i := 1; i <= 5; i++ {
		must(t, os.Rename(file, file+"~")) // as vim does
		write(t, dir+"/4913", sinkNamed(fmt.Sprintf("v%d", i)))
		must(t, os.Rename(dir+"/4913", file))
		w.sees(fmt.Sprintf("v%d", i))
	}
}

// TestReloadConfigMap: kubelet writes a new directory, and renames a link to it over ..data.
func TestReloadConfigMap(t *testing.T) {
	for _, mode := range []string{"directory", "file"} {
		t.Run(mode, func(t *testing.T) {
			mount := filepath.Join(t.TempDir(), "mount")
			must(t, os.Mkdir(mount, 0o700))
			publish := func(version int) {
				data := fmt.Sprintf("..2026_%d", version)
				must(t, os.Mkdir(filepath.Join(mount, data), 0o700))
				write(t, filepath.Join(mount, data, "t.yaml"), sinkNamed(fmt.Sprintf("v%d", version)))
				must(t, os.Symlink(data, filepath.Join(mount, "..data_tmp")))
				must(t, os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")))
				if version > 0 {
					must(t, os.RemoveAll(filepath.Join(mount, fmt.Sprintf("..2026_%d", version-1))))
				}
			}
			publish(0)
			must(t, os.Symlink(filepath.Join("..data", "t.yaml"), filepath.Join(mount, "t.yaml")))
			path := mount
			if mode == "file" {
				path = filepath.Join(mount, "t.yaml")
			}
			w := watch(t, Watcher{}, path)
			w.sees("v0")
			for i := 1; i <= 5; i++ {
				publish(i)
				w.sees(fmt.Sprintf("v%d", i))
			}
		})
	}
}

// TestReloadBehindLinks: a directory on the way is a link that is changed, and what a link leads to is written.
func TestReloadBehindLinks(t *testing.T) {
	root := t.TempDir()
	for i := range 3 {
		must(t, os.Mkdir(fmt.Sprintf("%s/release%d", root, i), 0o700))
		write(t, fmt.Sprintf("%s/release%d/t.yaml", root, i), sinkNamed(fmt.Sprintf("v%d", i)))
	}
	must(t, os.Symlink("release0", root+"/current"))
	w := watch(t, Watcher{}, root+"/current/t.yaml")
	w.sees("v0")
	for i := 1; i < 3; i++ {
		must(t, os.Symlink(fmt.Sprintf("release%d", i), root+"/next"))
		must(t, os.Rename(root+"/next", root+"/current"))
		w.sees(fmt.Sprintf("v%d", i))
	}
	write(t, root+"/release2/t.yaml", sinkNamed("v3"))
	w.sees("v3")
}

// TestReloadBehindFileLinks: a file is a link to a link to a file elsewhere, and each of them changes.
func TestReloadBehindFileLinks(t *testing.T) {
	for _, mode := range []string{"directory", "file"} {
		t.Run(mode, func(t *testing.T) {
			here, between, there := t.TempDir(), t.TempDir(), t.TempDir()
			write(t, there+"/t.yaml", sinkNamed("v0"))
			must(t, os.Symlink(there+"/t.yaml", between+"/t.yaml"))
			must(t, os.Symlink(between+"/t.yaml", here+"/t.yaml"))
			path := here
			if mode == "file" {
				path = here + "/t.yaml"
			}
			w := watch(t, Watcher{}, path)
			w.sees("v0")
			write(t, there+"/t.yaml", sinkNamed("v1"))
			w.sees("v1")
			write(t, there+"/other.yaml", sinkNamed("v2"))
			must(t, os.Remove(between+"/t.yaml"))
			must(t, os.Symlink(there+"/other.yaml", between+"/t.yaml"))
			w.sees("v2")
		})
	}
}

// TestReloadDirectoryReplaced: the directory itself goes and another comes.
func TestReloadDirectoryReplaced(t *testing.T) {
	root := t.TempDir()
	dir := root + "/triggers"
	must(t, os.Mkdir(dir, 0o700))
	write(t, dir+"/t.yaml", sinkNamed("v0"))
	w := watch(t, Watcher{}, dir)
	w.sees("v0")
	must(t, os.Rename(dir, root+"/old"))
	w.logged("cannot be read: no such file or directory")
	w.sees("v0")
	must(t, os.Mkdir(dir, 0o700))
	write(t, dir+"/t.yaml", sinkNamed("v1"))
	w.sees("v1")
	write(t, dir+"/t.yaml", sinkNamed("v2"))
	w.sees("v2")
}

// TestReloadRefused: a bad file changes nothing, is logged and shown, and is
// forgotten when it is in order again.
func TestReloadRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", sinkNamed("a"))
	write(t, dir+"/b.yaml", sinkNamed("b"))
	w := watch(t, Watcher{Quiet: 200 * time.Millisecond}, dir) // two files are written at once
	w.sees("a b")
	w.logged("triggers loaded")
	before := w.Status()

	for _, bad := range []string{"", "spec: [", sinkNamed("c") + "  typo: 1\n", sinkNamed("b")} {
		write(t, dir+"/a.yaml", bad)
		// The other file changes as well: it waits with the bad one.
		write(t, dir+"/b.yaml", sinkNamed("b")+"---\n"+sinkNamed("more"))
		w.logged("triggers refused")
		w.sees("a b")
		status := w.Status()
		if status.Refused == nil || !strings.Contains(status.Refused.Error(), dir) || status.RefusedAt.IsZero() {
			t.Errorf("after %q: %+v", bad, status)
		}
		if status.Generation != before.Generation || status.Since != before.Since || status.Triggers != 2 {
			t.Errorf("after %q: %+v, before %+v", bad, status, before)
		}
		write(t, dir+"/b.yaml", sinkNamed("b"))
		write(t, dir+"/a.yaml", sinkNamed("a"))
		w.logged("triggers are in order again")
		if status := w.Status(); status.Refused != nil {
			t.Errorf("%v is still shown", status.Refused)
		}
	}
}

// TestReloadInUnrest: unrest that never ends does not put a reload off for ever.
func TestReloadInUnrest(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/t.yaml", sinkNamed("v0"))
	w := watch(t, Watcher{Quiet: time.Hour, Wait: 20 * time.Millisecond}, dir)
	w.sees("v0")
	write(t, dir+"/t.yaml", sinkNamed("v1"))
	w.sees("v1")
}

// TestReloadPolled: a change that the file system sends no news of (made
// through another name of the file, in a directory that nobody watches) is
// found by looking.
func TestReloadPolled(t *testing.T) {
	seen, hidden := t.TempDir()+"/t.yaml", t.TempDir()+"/t.yaml"
	write(t, hidden, sinkNamed("v0"))
	if err := os.Link(hidden, seen); err != nil {
		t.Skipf("no hard links here: %v", err)
	}
	w := watch(t, Watcher{Poll: 10 * time.Millisecond}, seen)
	w.sees("v0")
	write(t, hidden, sinkNamed("v1"))
	w.sees("v1")
}

// TestUnchangedIsNoNews: a load that finds the same Triggers keeps the snapshot, and what it remembers.
func TestUnchangedIsNoNews(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/t.yaml", sinkNamed("v0"))
	r, err := routerOf(t, &Files{Paths: []string{dir}, Log: quietLog()})
	must(t, err)
	_, replaced := r.All()
	must(t, r.Load(t.Context()))
	select {
	case <-replaced:
		t.Error("the same Triggers are taken for others")
	default:
	}
	for _, change := range []string{
		strings.Replace(sinkNamed("v0"), "http://f", "http://g", 1),
		strings.Replace(sinkNamed("v0"), "}}\n", "}, filters: [{exact: {type: A.B}}]}\n", 1),
		strings.Replace(sinkNamed("v0"), "v0", "v0, annotations: {evento.io/content: json}", 1),
	} {
		write(t, dir+"/t.yaml", sinkNamed("v0"))
		must(t, r.Load(t.Context()))
		write(t, dir+"/t.yaml", change)
		generation := r.Status().Generation
		must(t, r.Load(t.Context()))
		if r.Status().Generation != generation+1 {
			t.Errorf("not noticed: %s", change)
		}
	}
}

// TestReadWhileReloading: answers never mix two sets. Each set has a handler
// and an aggregator with the same URL, which the next set has not.
func TestReadWhileReloading(t *testing.T) {
	source := &changing{}
	r := NewRouter(Config{Sources: []Source{source}, Log: quietLog()})
	must(t, r.Load(t.Context()))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h, err := r.Handler(&runtime.Message{Type: "A.Do", Source: "teller"})
				if err != nil || !h.Combined {
					t.Errorf("%+v %v", h, err)
					return
				}
				if got := r.Sinks(&runtime.Message{Type: "A.Done", Source: "x"}); len(got) != 1 {
					t.Errorf("%v", got)
					return
				}
			}
		})
	}
	for range 200 {
		must(t, r.Load(t.Context()))
	}
	close(stop)
	readers.Wait()
	if r.Status().Generation != 201 {
		t.Errorf("%d sets", r.Status().Generation)
	}
}

// changing is a [Source] whose every load is another set.
type changing struct{ n int }

func (c *changing) Load(context.Context) (Loaded, error) {
	c.n++
	text := strings.ReplaceAll(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: h, annotations: {evento.io/role: handler, evento.io/aggregate: A}}
spec: {broker: default, subscriber: {uri: "http://f%"}, filters: [{any: [{prefix: {source: tell}}, {exact: {source: x}}]}]}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: a, annotations: {evento.io/role: aggregator, evento.io/aggregate: A}}
spec: {broker: default, subscriber: {uri: "http://f%"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: s}
spec: {broker: default, subscriber: {uri: "http://f%"}, filters: [{cesql: "source = 'x'"}]}
`, "%", fmt.Sprint(c.n))
	documents, _ := readDocuments("t", []byte(text))
	loaded, list := parseDocuments(documents, nil)
	if len(list) > 0 {
		return Loaded{}, &LoadError{list}
	}
	return loaded, nil
}

func (c *changing) Watch(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }
func (c *changing) String() string                            { return "changing" }

// TestWatchFails: Run ends with the error of a source that cannot be watched.
func TestWatchFails(t *testing.T) {
	leaked := goleak.IgnoreCurrent()
	r := NewRouter(Config{Sources: []Source{fixed{}, deaf{}}, Log: quietLog()})
	const want = "watch deaf: no ears"
	if err := r.Run(t.Context()); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	leaktest.None(t, leaked)
}

type deaf struct{ fixed }

func (deaf) Watch(context.Context, func()) error { return errors.New("no ears") }
func (deaf) String() string                      { return "deaf" }
