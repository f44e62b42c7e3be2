package proof

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/internal/porttest"
)

// partitions is how many the topics of a test have: some for each gateway, and
// not so many that taking them over is what a test waits for.
const partitions = 8

// world is an installation of Evento made of processes.
type world struct {
	kafka     *kafkatest.Kafka
	topics    kafka.Topics
	redis     redisServer
	functions map[string]*function
	gateways  []*gateway
	circle    bool   // dispatchers run
	redisLies bool   // a test has spoilt what is in Redis; what was not needed since is still there
	run       string // part of all ids of aggregates, so that a shared Redis is no trouble
}

// setup says what world a test wants. The zero value is the bank on one gateway.
type setup struct {
	gateways int
	layout   kafka.Layout
	session  time.Duration     // how long a silent gateway keeps its partitions
	circle   bool              // the bank's clients and dispatchers, too
	stack    string            // text of a stack.yml; "" for the bank's
	programs map[string]string // functions by name: their programs; nil for the bank's
	env      []string          // of the functions
	redis    func(testing.TB) redisServer
	kafka    *kafkatest.Kafka     // nil: see startKafka
	servers  func(i int) []string // where gateway i finds Kafka; nil: where it is
}

// newWorld starts everything and returns when all gateways are ready.
func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	program := evento(t) // what takes long comes first
	if s.programs == nil {
		s.programs = map[string]string{}
		for _, name := range bankFunctions(s.circle) {
			s.programs[name] = bankFunction(t, name)
		}
	}
	if s.stack == "" {
		s.stack = bankStack(t, bankFunctions(s.circle))
	}
	stack := filepath.Join(t.TempDir(), "stack.yml")
	if err := os.WriteFile(stack, []byte(s.stack), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.session == 0 {
		s.session = 3 * time.Second
	}
	if s.redis == nil {
		s.redis = startRedis
	}
	if s.kafka == nil {
		s.kafka = startKafka(t)
	}
	w := &world{kafka: s.kafka, redis: s.redis(t), functions: map[string]*function{}, circle: s.circle}
	w.run = strings.TrimSuffix(w.kafka.Prefix, "-")
	w.topics = kafka.Topics{Prefix: w.kafka.Prefix + "evento", Layout: s.layout}
	for _, name := range slices.Sorted(maps.Keys(s.programs)) {
		w.functions[name] = startFunction(t, name, s.programs[name], s.env)
	}
	layout := s.layout
	if layout == "" {
		layout = kafka.Single
	}
	if s.servers == nil {
		s.servers = func(int) []string { return w.kafka.Servers }
	}
	for i := range max(1, s.gateways) {
		listen, internal := porttest.Free(t), porttest.Free(t)
		g := &gateway{
			name: fmt.Sprintf("gateway-%d", i), url: "http://" + listen, program: program,
			args: []string{
				"gateway", "--kafka-property", "bootstrap.servers=" + strings.Join(s.servers(i), ","),
				"--redis", "redis://" + w.redis.address(), "--prefix", w.topics.Prefix, "--layout", string(layout),
				"--partitions", fmt.Sprint(partitions), "--listen", listen, "--internal", internal,
				"--schemas", filepath.Join(root, "examples/bank/schemas"), "--stack", stack,
				"--session-timeout", s.session.String(),
			},
		}
		g.args[len(g.args)-5], _ = filepath.Abs(g.args[len(g.args)-5])
		for name, f := range w.functions {
			g.args = append(g.args, "--function-url", name+"="+f.url)
		}
		w.gateways = append(w.gateways, g)
		g.start(t)
	}
	for _, g := range w.gateways {
		g.awaitReady(t)
	}
	w.awaitAllOwned(t)
	return w
}

// startKafka gives the test a Kafka: the one that the environment names, or an
// embedded one in a process of its own.
func startKafka(t testing.TB) *kafkatest.Kafka {
	t.Helper()
	if os.Getenv(kafkatest.Env) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		p := start(t, "kafka", self, nil, roleBroker)
		_, servers, _ := strings.Cut(p.awaitLine(t, "listening on "), "listening on ")
		t.Setenv(kafkatest.Env, servers)
		k := kafkatest.Start(t)
		return k
	}
	return kafkatest.Start(t)
}

// gateway is one that is started, killed and started again under one address.
type gateway struct {
	name    string
	url     string
	program string
	args    []string
	env     []string

	mu      sync.Mutex // guards what follows
	process *process
	all     []*process // of this address, also those that have ended
}

func (g *gateway) start(t testing.TB) {
	t.Helper()
	p := start(t, g.name, g.program, g.env, g.args...)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.process = p
	g.all = append(g.all, p)
}

func (g *gateway) now() *process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.process
}

// awaitReady waits until the gateway owns partitions and takes commands.
func (g *gateway) awaitReady(t testing.TB) {
	t.Helper()
	g.now().awaitLine(t, "ready on ")
}

// metric adds up the samples of a metric of a gateway's process as it is now.
func (g *gateway) metric(name string) (float64, error) {
	body, err := fetch(g.url + "/metrics")
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.SplitSeq(string(body), "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &v); err != nil {
			return 0, fmt.Errorf("metric %s of %s: %w", name, g.name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", g.name, name)
	}
	return sum, nil
}

// awaitAllOwned waits until each partition is owned, and taken over, and each
// gateway has its share.
func (w *world) awaitAllOwned(t testing.TB) {
	t.Helper()
	wait(t, func() error {
		for _, g := range w.gateways {
			if n, err := g.metric("evento_partitions"); err != nil || n == 0 {
				return fmt.Errorf("%s owns %v partitions: %v", g.name, n, err)
			}
		}
		return w.allOwned(w.gateways...)
	})
}

func (w *world) allOwned(gateways ...*gateway) error {
	owned := 0.0
	for _, g := range gateways {
		n, err := g.metric("evento_partitions")
		if err != nil {
			return err
		}
		owned += n
		if _, err := fetch(g.url + "/readyz"); err != nil {
			return err
		}
	}
	if owned != partitions {
		return fmt.Errorf("%v of %d partitions are owned", owned, partitions)
	}
	return nil
}

// fetch gets a document; any status but 200 is an error.
func fetch(url string) ([]byte, error) {
	body, _, err := fetchStatus(url)
	return body, err
}

func fetchStatus(url string) (body []byte, status int, err error) {
	r, err := plainClient.Get(url)
	if err != nil {
		return nil, 0, err
	}
	body, err = readAll(r)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, r.Status, body)
	}
	return body, r.StatusCode, err
}

// function is a function's process, which keeps its address when it is started again.
type function struct {
	name, program, url string
	env                []string

	mu      sync.Mutex // guards what follows
	process *process
}

// startFunction starts a function and returns when it is healthy.
func startFunction(t testing.TB, name, program string, env []string) *function {
	t.Helper()
	address := porttest.Free(t)
	_, port, _ := strings.Cut(address, ":")
	f := &function{name: name, program: program, url: "http://" + address, env: append([]string{"EVENTO_BIND=127.0.0.1", "PORT=" + port}, env...)}
	f.start(t)
	f.awaitReady(t)
	return f
}

func (f *function) start(t testing.TB) {
	t.Helper()
	var args []string
	if self, err := os.Executable(); err == nil && f.program == self {
		args = []string{roleFunction, f.name}
	}
	p := start(t, f.name, f.program, f.env, args...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.process = p
}

func (f *function) now() *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.process
}

func (f *function) awaitReady(t testing.TB) {
	t.Helper()
	wait(t, func() error {
		_, err := fetch(f.url + "/_/ready")
		return err
	})
}
