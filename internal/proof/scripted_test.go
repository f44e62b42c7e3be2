package proof

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/protocol"
)

// scripted is a function of the bank whose answers are spoiled on the way out,
// as a test has told it to: for one aggregate by its name, for all by HTTP.
// Beneath is the bank's own code, so what it says when it is well can be asked
// again.
type scripted struct {
	role  runtime.Role
	next  http.Handler
	image []byte // random bytes, to be sent as often as needed

	mu    sync.Mutex // guards what follows
	well  bool       // nobody is spoiled any more
	mood  string     // of the whole function, "" for well
	until time.Time  // then mood ends
	calls int        // refused or held up because of mood
}

// The ways to spoil what a function says about one aggregate. All but the
// first word of it come from the name of the aggregate: see badName.
const (
	badCrash    = "crash"    // the process ends before it answers
	badHalf     = "half"     // the process ends in the middle of its answer
	badHang     = "hang"     // no answer at all
	badDrip     = "drip"     // one byte of the answer a second
	badLate     = "late"     // the answer comes when nobody waits for it any more
	badGarbage  = "garbage"  // 200, and random bytes
	badHuge     = "huge"     // 200, and 100 MB of them
	badTwice    = "twice"    // two results for one invocation
	badAvro     = "avro"     // an event whose data is cut off
	badStranger = "stranger" // an event of another aggregate
	badForeign  = "foreign"  // an event in the namespace of another aggregate
	badMany     = "many"     // 10,000 events
	badEmpty    = "empty"    // no event
	badForged   = "forged"   // id, source, cause, correlation and version are made up
	badDouble   = "double"   // the same event two times
	badRandom   = "random"   // an aggregator whose states differ each time
)

// badName finds the way to spoil in the name of an aggregate.
var badName = regexp.MustCompile(`-bad\.([a-z]+)`)

// spoils says what is wrong with an invocation: withdrawals alone are spoiled, so
// that an account can be opened and filled.
func (s *scripted) spoils(in *protocol.Invocation) string {
	found := badName.FindStringSubmatch(in.Aggregate)
	if found == nil || (found[1] == badRandom) != (s.role == runtime.RoleAggregator) {
		return ""
	}
	for _, m := range in.Messages {
		if found[1] == badRandom || strings.HasSuffix(m.Type, ".WithdrawCash") {
			return found[1]
		}
	}
	return ""
}

// Moods of the whole function.
const (
	moodAway = "503"  // as behind a gateway that finds no replica
	moodBusy = "429"  // has enough to do
	moodCold = "cold" // is being started: calls are held until it is there
)

// pathScript is where tests say what is to be done: POST ?mood=503&for=30s, or
// ?well=true. GET says how many calls a mood has met.
const pathScript = "/_/script"

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == pathScript {
		s.told(w, r)
		return
	}
	if r.URL.Path != "/_/health" && !s.inMood(w, r) {
		return
	}
	if r.Method != http.MethodPost {
		s.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	asked, err := protocol.DeserializeInvocations(bytes.NewReader(body))
	if err != nil {
		s.next.ServeHTTP(w, r)
		return
	}
	bad := map[string]string{} // by id of the invocation
	s.mu.Lock()
	well := s.well
	s.mu.Unlock()
	for i := range asked.Items {
		if what := s.spoils(&asked.Items[i]); what != "" {
			if well {
				what = "well"
			}
			fmt.Printf("spoilt %s %s with %d\n", what, asked.Items[i].Aggregate, len(asked.Items))
			if !well {
				bad[asked.Items[i].Id] = what
			}
		}
	}
	for _, what := range bad {
		if s.spoilAll(w, r, what) {
			return
		}
	}
	if len(bad) == 0 {
		s.next.ServeHTTP(w, r)
		return
	}
	s.answer(w, r, bad)
}

// told does what a test asks for.
func (s *scripted) told(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		q := r.URL.Query()
		s.well = q.Get("well") == "true"
		long, _ := time.ParseDuration(q.Get("for"))
		s.mood, s.until, s.calls = q.Get("mood"), time.Now().Add(long), 0
	}
	fmt.Fprint(w, s.calls)
}

// inMood answers a request as the function's mood is. It returns true when the
// function is to answer it.
func (s *scripted) inMood(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	mood, left := s.mood, time.Until(s.until)
	if mood == "" || left <= 0 {
		s.mu.Unlock()
		return true
	}
	s.calls++
	s.mu.Unlock()
	switch mood {
	case moodCold:
		select {
		case <-r.Context().Done():
			return false
		case <-time.After(left):
			return true
		}
	case moodBusy:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too much at a time", http.StatusTooManyRequests)
	default:
		http.Error(w, "no replica", http.StatusServiceUnavailable)
	}
	return false
}

// spoilAll spoils a whole answer. It returns false when only a part of it is to be spoiled.
func (s *scripted) spoilAll(w http.ResponseWriter, r *http.Request, what string) bool {
	w.Header().Set("Content-Type", runtime.ContentTypeAvro)
	w.Header().Set("ce-type", "evento.results.v1")
	switch what {
	case badCrash:
		os.Exit(3)
	case badHalf:
		w.Header().Set("Content-Length", "4096")
		w.Write(s.image[:1000])
		http.NewResponseController(w).Flush()
		os.Exit(3)
	case badHang:
		<-r.Context().Done()
	case badDrip:
		w.Header().Set("Content-Length", "4096")
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for i := range 4096 {
			w.Write(s.image[i : i+1])
			http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return true
			case <-tick.C:
			}
		}
	case badLate:
		<-r.Context().Done() // who asked has given up
		s.next.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
	case badGarbage:
		w.Write(s.image[:2000])
	case badHuge:
		for range 100 << 20 / len(s.image) {
			if _, err := w.Write(s.image); err != nil {
				break
			}
		}
	default:
		return false
	}
	return true
}

// answer lets the function answer, and spoils the results of some.
func (s *scripted) answer(w http.ResponseWriter, r *http.Request, bad map[string]string) {
	rec := &recorded{header: http.Header{}}
	s.next.ServeHTTP(rec, r)
	said, err := protocol.DeserializeResults(bytes.NewReader(rec.body.Bytes()))
	if rec.header.Get("ce-type") != "evento.results.v1" || err != nil {
		copyAnswer(w, rec)
		return
	}
	var items []protocol.Result
	for _, item := range said.Items {
		what := bad[item.Id]
		if what != "" && len(item.Steps) > 0 && len(item.Steps[0].Events) > 0 {
			spoilEvents(&item.Steps[0], what)
		}
		if what == badRandom {
			spoilState(&item)
		}
		if items = append(items, item); what == badTwice {
			items = append(items, item)
		}
	}
	said.Items = items
	rec.body.Reset()
	if err := said.Serialize(&rec.body); err != nil {
		panic(err)
	}
	copyAnswer(w, rec)
}

func spoilEvents(step *protocol.Step, what string) {
	e := &step.Events[0]
	switch what {
	case badAvro:
		e.Data = e.Data[:len(e.Data)/2]
	case badStranger:
		e.Subject = "checking:somebody-else"
	case badForeign:
		e.Type = strings.Replace(e.Type, "CheckingAccount.", "SavingsAccount.", 1)
	case badMany:
		for len(step.Events) < 10_000 {
			step.Events = append(step.Events, *e)
		}
	case badDouble:
		step.Events = append(step.Events, *e)
	case badEmpty:
		step.Events = nil
	case badForged:
		e.Id, e.Source, e.Sequence = "made-up", "/evento/evento/kernel", 4711
		e.Causation_id, e.Correlation_id = "another-command", "another-root"
		e.Traceparent = "00-11111111111111111111111111111111-2222222222222222-01"
	}
}

// spoilState gives an account some cents that come from nowhere.
func spoilState(r *protocol.Result) {
	account, err := gen.DeserializeCheckingAccount(bytes.NewReader(r.State))
	if err != nil {
		return
	}
	var cents [2]byte
	rand.Read(cents[:])
	account.Balance.Minor += int64(binary.BigEndian.Uint16(cents[:])) + 1
	var b bytes.Buffer
	if err := account.Serialize(&b); err != nil {
		panic(err)
	}
	r.State = b.Bytes()
}

// recorded is an answer that is not sent yet.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorded) Header() http.Header { return r.header }

func (r *recorded) WriteHeader(status int) { r.status = status }

func (r *recorded) Write(b []byte) (int, error) { return r.body.Write(b) }

func copyAnswer(w http.ResponseWriter, r *recorded) {
	for k, v := range r.header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(r.body.Len()))
	w.WriteHeader(max(r.status, http.StatusOK))
	w.Write(r.body.Bytes())
}

// serveScripted is a function's process: the bank's aggregator of checking
// accounts when that is its name, else their handler, which also knows poison.
func serveScripted(name string) error {
	function, role := gen.HandlerFunction(poisonable{tried: new(sync.Map)}), runtime.RoleHandler
	if strings.HasSuffix(name, "aggregator") {
		function, role = gen.AggregatorFunction(checking.Aggregator{}), runtime.RoleAggregator
	}
	config, err := runtime.ConfigFromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	server, err := runtime.NewServer(function.Function, config, slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	if err != nil {
		return err
	}
	listener, err := runtime.Listen(context.Background(), config)
	if err != nil {
		return err
	}
	s := &scripted{role: role, next: server, image: make([]byte, 1<<20)}
	rand.Read(s.image)
	return http.Serve(listener, s)
}

// script tells a scripted function what to do, and returns what it answers. One
// that has ended, and is being started again, is told when it is there.
func (f *function) script(method string, q url.Values) (calls int, err error) {
	err = try(patience, func() error {
		r, err := http.NewRequest(method, f.url+pathScript+"?"+q.Encode(), nil)
		if err != nil {
			return fatal(err)
		}
		answer, err := plainClient.Do(r)
		if err != nil {
			return err
		}
		text, err := readAll(answer)
		if err == nil {
			calls, err = strconv.Atoi(string(text))
		}
		return err
	})
	return calls, err
}

func (f *function) mood(mood string, long time.Duration) error {
	_, err := f.script(http.MethodPost, url.Values{"mood": {mood}, "for": {long.String()}})
	return err
}

// getWell ends all spoiling.
func (f *function) getWell() error {
	_, err := f.script(http.MethodPost, url.Values{"well": {"true"}})
	return err
}
