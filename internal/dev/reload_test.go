package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// program is a function that answers with a word, slowly, and ends as functions do.
const program = `package main

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	http.HandleFunc("/_/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		w.Write([]byte(word + os.Getenv("mark")))
	})
	s := http.Server{Addr: os.Getenv("EVENTO_BIND") + ":" + os.Getenv("PORT")}
	go s.ListenAndServe()
	<-ctx.Done()
	s.Shutdown(context.Background())
}
`

const programTest = `package main

import "testing"

func TestWord(t *testing.T) {
	if len(word) != 3 {
		t.Errorf("the word %q has not three letters", word)
	}
}
`

// project is a folder with a stack.yml and functions, which a run works on.
type project struct {
	t   *testing.T
	dir string
}

func newProject(t *testing.T) project {
	t.Helper()
	p := project{t, t.TempDir()}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(wd, "testdata", "template"), filepath.Join(p.dir, "template")); err != nil {
		t.Fatal(err)
	}
	p.function("one", "old")
	p.stack("one")
	return p
}

// write replaces a file as editors do: by another that is renamed.
func (p project) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path+"~", []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		p.t.Fatal(err)
	}
}

func (p project) function(name, word string) {
	p.write(name+"/main.go", program)
	p.write(name+"/main_test.go", programTest)
	p.word(name, word)
}

func (p project) word(name, word string) {
	p.write(name+"/word.go", fmt.Sprintf("package main\n\nconst word = %q\n", word))
}

func (p project) stack(names ...string) {
	text := "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n"
	for _, name := range names {
		name, mark, _ := strings.Cut(name, "=")
		text += "  " + name + ":\n    lang: evento-handler\n    image: x\n    handler: ./" + name + "\n    environment: {mark: \"" + mark + "\"}\n"
	}
	p.write("stack.yml", text)
}

// httpGateway is a gateway as far as evento dev knows it: it takes schemas, and
// addresses when it is told.
type httpGateway struct {
	mu        sync.Mutex // guards what follows
	addresses *Addresses
	schemas   []string
	refuse    string // schemas with this word are refused
	reject    error  // what loading says

	inEffect atomic.Pointer[map[string]string]
}

func (g *httpGateway) load(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reject != nil {
		return g.reject
	}
	urls := make(map[string]string)
	for _, name := range []string{"one", "two"} {
		if url, err := g.addresses.URL(name); err == nil {
			urls[name] = url
		}
	}
	g.inEffect.Store(&urls)
	return nil
}

func (g *httpGateway) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *httpGateway) run(ctx context.Context, cfg GatewayConfig) error {
	g.addresses = cfg.Functions
	cfg.Functions.Follow(g.load)
	if err := g.load(ctx); err != nil {
		return err
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.refuse != "" && strings.Contains(string(text), g.refuse) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			io.WriteString(w, `{"detail": "nothing was registered:\nthe field is gone"}`)
			return
		}
		g.schemas = append(g.schemas, string(text))
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"new": [{"name": "Cart.Cart"}]}`)
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); s.Serve(l) }()
	cfg.Ready()
	<-ctx.Done()
	s.Close()
	<-ended
	return nil
}

// ask calls a function as the gateway would at this moment.
func (g *httpGateway) ask(name string) (string, error) {
	url, ok := (*g.inEffect.Load())[name]
	if !ok {
		return "", errors.New("nobody is called " + name)
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	word, err := io.ReadAll(resp.Body)
	return string(word), err
}

func (g *httpGateway) answers(t *testing.T, name, want string) {
	t.Helper()
	eventually(t, name+" answers "+want, func() bool {
		word, err := g.ask(name)
		return err == nil && word == want
	})
}

func (p project) start(g *httpGateway) *run {
	p.t.Helper()
	o := testOptions(p.t)
	o.StackFile, o.SchemaDir, o.Gateway = filepath.Join(p.dir, "stack.yml"), "", g.run
	o.Timing.Quiet, o.Timing.Linger = 20*time.Millisecond, 2*time.Second
	r, _ := start(p.t, o)
	return r
}

func said(t *testing.T, r *run, words ...string) {
	t.Helper()
	for _, word := range words {
		eventually(t, "people are told "+word, func() bool { return strings.Contains(r.out.String(), word) })
	}
}

func TestChangedSourceIsTheNewFunction(t *testing.T) {
	p, g := newProject(t), &httpGateway{}
	r := p.start(g)
	g.answers(t, "one", "old")

	// Somebody calls all the time, and gets an answer each time.
	stop, callers := make(chan struct{}), sync.WaitGroup{}
	var calls atomic.Int64
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := g.ask("one"); err != nil {
					t.Errorf("a call was lost: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for _, word := range []string{"new", "two", "old"} {
		p.word("one", word)
		g.answers(t, "one", word)
	}
	said(t, r, "function one runs the new code")
	close(stop)
	callers.Wait()
	if calls.Load() == 0 {
		t.Error("nobody called")
	}

	// What does not build, fails its test or does not start changes nothing.
	p.word("one", "wrong")
	said(t, r, `the word "wrong" has not three letters`, "function one: the former one goes on")
	g.answers(t, "one", "old")
	p.write("one/word.go", "package main\n\nconst word = undefinedThing\n")
	said(t, r, "undefinedThing")
	g.answers(t, "one", "old")
	p.write("one/word.go", "package main\n\nimport \"os\"\n\nconst word = \"bad\"\n\nfunc init() {\n\tif os.Getenv(\"PORT\") != \"\" {\n\t\tpanic(\"it cannot start\")\n\t}\n}\n")
	said(t, r, "it cannot start", "what ran before goes on")
	g.answers(t, "one", "old")
	p.word("one", "end")
	g.answers(t, "one", "end")
	eventually(t, "only the program that runs is kept", func() bool {
		found, err := filepath.Glob(filepath.Join(r.dir, "bin", "one-*"))
		return err == nil && len(found) <= 2 // that one, and the one that could not start
	})
	r.end(t)
}

func TestChangedStackStartsAndStopsFunctions(t *testing.T) {
	p, g := newProject(t), &httpGateway{}
	r := p.start(g)
	p.function("two", "zwo")
	p.stack("one", "two")
	g.answers(t, "two", "zwo")
	g.answers(t, "one", "old")

	p.stack("one=!", "two")
	g.answers(t, "one", "old!")

	p.write("stack.yml", "functions: [")
	said(t, r, "stack file", "what runs goes on")
	g.answers(t, "two", "zwo")

	p.stack("one")
	said(t, r, "function two is not in")
	eventually(t, "two is called no more", func() bool {
		_, err := g.ask("two")
		return err != nil
	})
	eventually(t, "the state file knows one function", func() bool {
		s, err := ReadState(r.dir)
		return err == nil && len(s.Functions) == 1
	})

	g.set(func() { g.reject = errors.New("role: unknown") })
	p.word("one", "new")
	said(t, r, "the gateway does not take", "role: unknown")
	g.answers(t, "one", "old")
	g.set(func() { g.reject = nil })
	p.word("one", "now")
	g.answers(t, "one", "now")
	r.end(t)
}

func TestChangedSchemaIsRegistered(t *testing.T) {
	p, g := newProject(t), &httpGateway{refuse: "incompatible"}
	p.write("one/Cart.avsc", "first")
	r := p.start(g)
	if text, err := os.ReadFile(filepath.Join(r.dir, "schemas", "Cart.avsc")); err != nil || string(text) != "first" {
		t.Errorf("the gateway registers %q at its start (%v)", text, err)
	}
	has := func(want string) bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.schemas) > 0 && g.schemas[len(g.schemas)-1] == want
	}
	p.write("one/Cart.avsc", "second")
	eventually(t, "the schema is registered", func() bool { return has("second") })
	said(t, r, "is registered, new: Cart.Cart")

	p.write("one/Cart.avsc", "incompatible")
	said(t, r, "is not registered, the former one stays", "the field is gone")
	// Code that was made for a refused schema waits for it.
	p.word("one", "new")
	said(t, r, "function one is not built before its schema")
	g.answers(t, "one", "old")
	p.write("one/Cart.avsc", "third")
	g.answers(t, "one", "new")
	if !has("third") {
		t.Error("the schema that is in order again is not registered")
	}

	p.function("two", "zwo")
	p.write("two/Cart.avsc", "another")
	p.stack("one", "two")
	said(t, r, "differ")
	p.write("two/Cart.avsc", "third")
	g.answers(t, "two", "zwo")
	r.end(t)
}

// A schema may be mended after the look at schemas and before the look at the
// function, which then has been seen as it is and refused for the former one.
func TestMendedSchemaHasItsFunctionsBuilt(t *testing.T) {
	path := filepath.Join("one", "Cart.avsc")
	r := &reloader{refused: map[string]bool{path: true}, tried: map[string]string{"one": "as it is", "two": "as it is"}}
	r.accept(path, []Function{{Name: "one", Dir: "one"}, {Name: "two", Dir: "two"}})
	if r.refused[path] || r.tried["one"] != "" || r.tried["two"] == "" {
		t.Errorf("refused %v, tried %v", r.refused, r.tried)
	}
}
