package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/evento-oss/evento/runtime/httplimit"
)

// Defaults of [Config].
const (
	DefaultPort    = 8080
	DefaultTimeout = 30 * time.Second
	DefaultMaxBody = 16 << 20
	// DefaultMaxBuffered is for all bodies together, and for all answers together.
	DefaultMaxBuffered = 256 << 20
	// DefaultMaxConns is lowered to half of the files that the process may open.
	DefaultMaxConns = 10_000
	// DefaultStateCache is that of [ConfigFromEnvironment]; a Config that says nothing has no cache.
	DefaultStateCache = 32 << 20
)

// keySecret is the name of the secret that holds the signing key, where
// OpenFaaS mounts it as a file and Knative as a folder with one file.
const keySecret = "/var/openfaas/secrets/evento-signing-key"

// Config is how a function is served. [ConfigFromEnvironment] reads it; the
// variables are those of OpenFaaS' watchdog and of Knative, so that one image
// runs on both without a watchdog.
type Config struct {
	Bind         string        // EVENTO_BIND: address to listen on; default all (0.0.0.0 and ::)
	Port         int           // PORT, else port; default 8080; 0 in a Config: default; -1: any free one
	ReadTimeout  time.Duration // read_timeout: to read a request; default 30s
	WriteTimeout time.Duration // write_timeout: to write an answer, and for calls under way when the process stops; default 30s
	ExecTimeout  time.Duration // exec_timeout: of the author's code; default 30s
	MaxInflight  int           // max_inflight: requests at once, more are answered 429; 0: no limit
	MaxBody      int64         // EVENTO_MAX_BODY: bytes of a request; default 16 MiB
	MaxBuffered  int64         // EVENTO_MAX_BUFFERED: bytes of all requests that are being read or handled, and of all answers that are being written; at least MaxBody; default 256 MiB
	MaxConns     int           // EVENTO_MAX_CONNECTIONS: open connections; beyond it idle ones are closed; default 10,000
	StateCache   int64         // EVENTO_STATE_CACHE: bytes of memory for states kept between calls, so that large ones need not travel each time; default 32 MiB in the environment; 0: none are kept
	StopDelay    time.Duration // healthcheck_interval: between the first 503 on the probes and the end of listening; default 3s in Kubernetes without Knative, else none
	LockFile     string        // written while the function is healthy, for OpenFaaS' exec probe: /tmp/.lock; empty: none (also when EVENTO_BIND is loopback)
	Keys         []Key         // EVENTO_KEY_FILE, else the secret evento-signing-key: calls must be signed with one of them; none: not verified
	Audience     string        // EVENTO_FUNCTION, else OPENFAAS_NAME, K_SERVICE: the function's name, which signatures must be for; empty: any
	Drill        string        // EVENTO_DRILL: file that says which commands fail on purpose, see evento dev; only with a loopback EVENTO_BIND
	Image        string        // EVENTO_IMAGE, else K_REVISION, else the version that the binary was built from
}

func (c Config) withDefaults() Config {
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	for _, t := range []*time.Duration{&c.ReadTimeout, &c.WriteTimeout, &c.ExecTimeout} {
		if *t == 0 {
			*t = DefaultTimeout
		}
	}
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.MaxBuffered == 0 {
		c.MaxBuffered = DefaultMaxBuffered
	}
	c.MaxBuffered = max(c.MaxBuffered, c.MaxBody)
	if c.MaxConns == 0 {
		c.MaxConns = httplimit.Conns(DefaultMaxConns)
	}
	return c
}

// ConfigFromEnvironment reads the configuration through getenv ([os.Getenv]).
// The error names every variable that is wrong. jwt_auth=true is refused: only
// OpenFaaS' watchdog enforces it, and without one the function would be open.
func ConfigFromEnvironment(getenv func(string) string) (Config, error) {
	e := environment{getenv: getenv}
	c := Config{
		Bind:         getenv("EVENTO_BIND"),
		Port:         e.number("PORT", e.number("port", DefaultPort, 1, 65535), 1, 65535),
		ReadTimeout:  e.duration("read_timeout", DefaultTimeout),
		WriteTimeout: e.duration("write_timeout", DefaultTimeout),
		ExecTimeout:  e.duration("exec_timeout", DefaultTimeout),
		MaxInflight:  e.number("max_inflight", 0, 0, 1<<20),
		MaxBody:      int64(e.number("EVENTO_MAX_BODY", DefaultMaxBody, 1<<10, 1<<30)),
		MaxBuffered:  int64(e.number("EVENTO_MAX_BUFFERED", DefaultMaxBuffered, 1<<10, 1<<40)),
		MaxConns:     e.number("EVENTO_MAX_CONNECTIONS", 0, 0, 1<<20),
		StateCache:   int64(e.number("EVENTO_STATE_CACHE", DefaultStateCache, 0, 1<<30)),
		Audience:     e.first("EVENTO_FUNCTION", "OPENFAAS_NAME", "K_SERVICE"),
		Image:        e.first("EVENTO_IMAGE", "K_REVISION"),
		LockFile:     "/tmp/.lock",
	}
	delay := time.Duration(0)
	if getenv("KUBERNETES_SERVICE_HOST") != "" && getenv("K_SERVICE") == "" {
		delay = 3 * time.Second // until the endpoints are known to have one less; Knative's proxy sees to it
	}
	c.StopDelay = e.optionalDuration("healthcheck_interval", delay)
	if ip := net.ParseIP(c.Bind); ip != nil && ip.IsLoopback() {
		c.LockFile = "" // many functions on one machine
		c.Drill = getenv("EVENTO_DRILL")
	} else if file := getenv("EVENTO_DRILL"); file != "" {
		e.problem("EVENTO_DRILL=%s: calls are made to fail on a loopback EVENTO_BIND only", file)
	}
	if c.Image == "" {
		c.Image = buildVersion()
	}
	if v := getenv("jwt_auth"); v == "true" || v == "1" {
		e.problem("jwt_auth=%s: this function has no watchdog, which alone enforces it; mount the secret evento-signing-key instead", v)
	}
	if c.MaxBuffered < c.MaxBody {
		e.problem("EVENTO_MAX_BUFFERED=%d is less than EVENTO_MAX_BODY=%d", c.MaxBuffered, c.MaxBody)
	}
	c.Keys = e.keys()
	return c, errors.Join(e.problems...)
}

// environment reads variables and collects what is wrong with them.
type environment struct {
	getenv   func(string) string
	problems []error
}

func (e *environment) problem(format string, args ...any) {
	e.problems = append(e.problems, fmt.Errorf(format, args...))
}

func (e *environment) first(names ...string) string {
	for _, n := range names {
		if v := e.getenv(n); v != "" {
			return v
		}
	}
	return ""
}

func (e *environment) number(name string, otherwise, least, most int) int {
	v := e.getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		e.problem("%s=%q is not a number from %d to %d", name, v, least, most)
		return otherwise
	}
	return n
}

func (e *environment) duration(name string, otherwise time.Duration) time.Duration {
	d := e.optionalDuration(name, otherwise)
	if d == 0 {
		e.problem("%s=%q: 0 is no limit to work with; write a duration such as 30s", name, e.getenv(name))
		return otherwise
	}
	return d
}

// optionalDuration reads "30s", or "30" for seconds as OpenFaaS does.
func (e *environment) optionalDuration(name string, otherwise time.Duration) time.Duration {
	v := e.getenv(name)
	if v == "" {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	if seconds, numeric := strconv.Atoi(v); numeric == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > 24*time.Hour {
		e.problem("%s=%q is not a duration up to 24h, such as 30s", name, v)
		return otherwise
	}
	return d
}

// keys reads the signing keys. A file that is named must exist; the secret need not.
func (e *environment) keys() []Key {
	path := e.getenv("EVENTO_KEY_FILE")
	text, err := readSecret(path)
	if path == "" {
		path = keySecret
		if text, err = readSecret(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err == nil {
		var keys []Key
		if keys, err = ParseKeys(text); err == nil {
			return keys
		}
	}
	e.problem("signing key %q: %w", path, err)
	return nil
}

// readSecret reads a secret that is a file, or a folder with one file of the same name.
func readSecret(path string) ([]byte, error) {
	if path == "" {
		return nil, fs.ErrNotExist
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		path = filepath.Join(path, filepath.Base(path))
	}
	return os.ReadFile(path)
}

// buildVersion is what Go recorded of the source that this binary was built from; it may be empty.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	if info.Main.Version == "(devel)" {
		return ""
	}
	return info.Main.Version
}
