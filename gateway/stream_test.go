package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// sseMessage is one block of a stream.
type sseMessage struct {
	id, event, data string
	comment         bool
}

// eventStream is a client of a stream.
type eventStream struct {
	t        *testing.T
	messages chan sseMessage // closed at the end
	lastID   string          // of the last message that was taken
	close    func()
}

// listen opens a stream; headers are "Name: value".
func (w *logWorld) listen(query string, headers ...string) *eventStream {
	w.t.Helper()
	return listen(w.t, w.public.URL, query, headers...)
}

func listen(t *testing.T, base, query string, headers ...string) *eventStream {
	t.Helper()
	return listenVia(t, &http.Transport{DisableKeepAlives: true}, base, query, headers...)
}

func listenVia(t *testing.T, via *http.Transport, base, query string, headers ...string) *eventStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	r, err := http.NewRequestWithContext(ctx, "GET", base+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := (&http.Client{Transport: via}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("a stream is answered %s, %v", resp.Status, resp.Header)
	}
	s := &eventStream{t: t, messages: make(chan sseMessage, 100_000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.messages)
		readSSE(bufio.NewScanner(resp.Body), s.messages)
	}()
	s.close = sync.OnceFunc(func() {
		cancel()
		<-done
		resp.Body.Close()
	})
	t.Cleanup(s.close)
	return s
}

func readSSE(lines *bufio.Scanner, to chan<- sseMessage) {
	lines.Buffer(nil, 1<<20)
	var m sseMessage
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			to <- m
			m = sseMessage{}
		case name == "":
			m.comment = true
		case name == "id":
			m.id = value
		case name == "event":
			m.event = value
		case name == "data":
			m.data = value
		}
	}
}

// next returns the next message; signs of life too.
func (s *eventStream) next() (sseMessage, bool) {
	s.t.Helper()
	select {
	case m, ok := <-s.messages:
		if ok {
			s.lastID = m.id
		}
		return m, ok
	case <-time.After(60 * time.Second):
		s.t.Fatal("nothing comes")
	}
	return sseMessage{}, false
}

// ids takes n events and returns their ids.
func (s *eventStream) ids(n int) (ids []string) {
	s.t.Helper()
	for len(ids) < n {
		m, ok := s.next()
		if !ok || m.event != "" {
			s.t.Fatalf("the stream ended after %v: %+v", ids, m)
		}
		if m.data == "" {
			continue
		}
		var e streamedEvent
		if err := json.Unmarshal([]byte(m.data), &e); err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

type streamedEvent struct {
	ID, Type, Entity, Coordinates string
	Version                       uint64
}

func (s *eventStream) wantIDs(what string, want ...Recorded) {
	s.t.Helper()
	var ids []string
	for _, r := range want {
		ids = append(ids, r.Message.ID)
	}
	if got := s.ids(len(ids)); fmt.Sprint(got) != fmt.Sprint(ids) {
		s.t.Errorf("%s: got %v, want %v", what, got, ids)
	}
}

func TestStreamShowsCommittedEventsAndGoesOn(t *testing.T) {
	t.Parallel()
	for _, layout := range []kafka.Layout{kafka.Single, kafka.PerAggregate} {
		t.Run(string(layout), func(t *testing.T) {
			t.Parallel()
			w := newLogWorld(t, layout)
			_, before := w.open("checking:1", "c-1")
			live, all := w.listen(""), w.listen("?from=earliest")
			all.wantIDs("earliest", before)
			command, _ := w.open("checking:1", "c-2")
			first := live.ids(1)[0]
			if want := command.Message.Key().EventID(1); first != want {
				t.Errorf("latest: got %s, want %s", first, want)
			}
			all.ids(1)

			// All or nothing: an open transaction is not shown, an aborted one never.
			aborted := w.eventOf(command, w.message("checking:1", "", "CheckingAccount.DepositReceived", oneDeposit), 2)
			_, end := w.transaction(w.topics.Events("CheckingAccount"), aborted)
			end(kgo.TryAbort)
			sent := w.command(w.message("checking:1", "c-3", "CheckingAccount.ReceiveDeposit", oneDeposit), nil)
			committed := w.eventOf(sent, w.message("checking:1", "", "CheckingAccount.DepositReceived", oneDeposit), 2)
			at, end := w.transaction(w.topics.Events("CheckingAccount"), committed)
			for range len(live.messages) {
				if m := <-live.messages; m.data != "" { // not a sign of life
					t.Errorf("an open transaction is shown: %+v", m)
				}
			}
			end(kgo.TryCommit)
			live.wantIDs("a transaction that commits", Recorded{Message: committed, At: at[0]})
			all.wantIDs("a transaction that commits", Recorded{Message: committed, At: at[0]})

			// After each event a stream can be gone on with, and misses and repeats nothing.
			here := live.lastID
			live.close()
			var missed []Recorded
			saving := w.command(w.message("savings:7", "d-1", "SavingsAccount.ReceiveDeposit", oneDeposit), nil)
			missed = append(missed, w.event(saving, w.message("savings:7", "", "SavingsAccount.DepositReceived", oneDeposit), 1))
			saving = w.command(w.message("savings:7", "d-2", "SavingsAccount.ReceiveDeposit", oneDeposit), nil)
			missed = append(missed, w.event(saving, w.message("savings:7", "", "SavingsAccount.DepositReceived", oneDeposit), 2))
			again := w.listen("?from=earliest", "Last-Event-ID: "+here)
			again.wantIDs("after the first break", missed...)
			all.wantIDs("without a break", missed...)
			again.close()
			_, last := w.open("checking:1", "c-9")
			third := w.listen("", "Last-Event-ID: "+again.lastID)
			third.wantIDs("after the second break", last)
		})
	}
}

func TestStreamIsFiltered(t *testing.T) {
	t.Parallel()
	auth := fixedAuth{
		"all":     {Name: "all", Source: "/a", Rights: map[AuthRight][]string{RightRead: {"*"}}},
		"savings": {Name: "savings", Source: "/s", Rights: map[AuthRight][]string{RightRead: {"SavingsAccount"}}},
		"none":    {Name: "none", Source: "/n", Rights: map[AuthRight][]string{RightSend: {"*"}}},
	}
	w := newLogWorld(t, kafka.PerAggregate, func(c *HTTPConfig, _ *HTTPNeeds) { c.Auth, c.MaxStreams = auth, 20 })
	command, opened := w.open("checking:1", "c-1")
	parked := w.parked(w.command(w.message("checking:1", "c-2", "CheckingAccount.ReceiveDeposit", oneDeposit), nil))
	_, other := w.open("checking:10", "c-3")
	saving := w.command(w.message("savings:7", "d-1", "SavingsAccount.ReceiveDeposit", oneDeposit), &opened)
	saved := w.event(saving, w.message("savings:7", "", "SavingsAccount.DepositReceived", oneDeposit), 1)
	_ = command
	token := "Authorization: Bearer all"
	for query, want := range map[string][]Recorded{
		"&type=DepositReceived":                      {saved},
		"&type=SavingsAccount.DepositReceived":       {saved},
		"&type=evento.CommandParked":                 {parked},
		"&aggregate=SavingsAccount":                  {saved},
		"&entity=checking:1":                         {opened}, // not checking:10
		"&entity=checking:10":                        {other},
		"&entity=savings:*&aggregate=SavingsAccount": {saved},
		"&entity=checking:1*&type=CheckingAccountOpened,DepositReceived&aggregate=CheckingAccount,SavingsAccount": {opened, other},
	} {
		s := w.listen("?from=earliest"+query, token)
		got := map[string]bool{}
		for _, id := range s.ids(len(want)) {
			got[id] = true
		}
		for _, r := range want {
			if !got[r.Message.ID] {
				t.Errorf("%s: %s is not shown, got %v", query, r.Message.ID, got)
			}
		}
		s.close()
	}
	s := w.listen("?from=earliest", "Authorization: Bearer savings")
	s.wantIDs("what may be read", saved)
	for query, kind := range map[string]problemKind{
		"?from=yesterday":       problemParameter,
		"?type=Nothing":         problemParameter,
		"?aggregate=checking:1": problemParameter,
		"?entity=checking":      problemParameter,
		"?entity=nothing:1":     problemParameter,
		"?entity=":              {status: 200},
		"?limit=1":              problemParameter,
	} {
		if kind.status != 200 {
			w.call("GET", "/v1/events"+query, "", token).wantProblem(t, kind)
		}
	}
	w.call("GET", "/v1/events?aggregate=CheckingAccount", "", "Authorization: Bearer savings").wantProblem(t, problemForbidden)
	w.call("GET", "/v1/events?entity=checking:1", "", "Authorization: Bearer savings").wantProblem(t, problemForbidden)
	w.call("GET", "/v1/events", "", "Authorization: Bearer none").wantProblem(t, problemForbidden)
	w.call("HEAD", "/v1/events", "", token).wantStatus(t, 200)
}

// A stream from the beginning reads much, while more is written, and then goes
// over to what comes, without a gap or a repeat.
func TestStreamCatchesUpWhileMoreIsWritten(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	w.streams.Queue = 40 // so that it runs away
	const accounts, versions = 10, 60
	write := func(version int) {
		for a := range accounts {
			entity := runtime.Entity(fmt.Sprintf("checking:%d", a))
			command := Recorded{Message: w.message(entity, fmt.Sprint("c-", version), "CheckingAccount.ReceiveDeposit", oneDeposit)}
			w.event(command, w.message(entity, "", "CheckingAccount.DepositReceived", oneDeposit), uint64(version))
		}
	}
	for v := range versions / 2 {
		write(v + 1)
	}
	streams := []*eventStream{w.listen("?from=earliest"), w.listen("?from=earliest"), w.listen("?from=earliest&entity=checking:3")}
	for v := versions / 2; v < versions; v++ {
		write(v + 1)
	}
	for i, s := range streams {
		reached := map[string]uint64{}
		want := accounts * versions
		if i == 2 {
			want = versions
		}
		for n := 0; n < want; {
			m, ok := s.next()
			if !ok || m.event != "" { // cut: it goes on
				s = w.listen("", "Last-Event-ID: "+s.lastID)
				continue
			}
			if m.data == "" {
				continue
			}
			var e streamedEvent
			if err := json.Unmarshal([]byte(m.data), &e); err != nil {
				t.Fatal(err)
			}
			if e.Version != reached[e.Entity]+1 {
				t.Fatalf("stream %d: version %d of %s comes after %d", i, e.Version, e.Entity, reached[e.Entity])
			}
			reached[e.Entity] = e.Version
			n++
		}
		s.close()
	}
}

// A topic that comes with a new type of aggregate is streamed from its beginning.
func TestStreamShowsAggregatesThatComeLater(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.PerAggregate)
	var mu sync.Mutex
	known := []string{"CheckingAccount"}
	w.streams.Aggregates = func() []string {
		mu.Lock()
		defer mu.Unlock()
		return known
	}
	s := w.listen("")
	_, opened := w.open("checking:1", "c-1")
	s.wantIDs("the first aggregate", opened)
	saving := w.command(w.message("savings:7", "d-1", "SavingsAccount.ReceiveDeposit", oneDeposit), nil)
	saved := w.event(saving, w.message("savings:7", "", "SavingsAccount.DepositReceived", oneDeposit), 1)
	mu.Lock()
	known = []string{"CheckingAccount", "SavingsAccount"}
	mu.Unlock()
	s.wantIDs("the second", saved)
	if !strings.Contains(s.lastID, "SavingsAccount/") {
		t.Errorf("the position %q does not name the second", s.lastID)
	}
}

// What a stream does not want passes by too, so that it goes on from where the log is.
func TestHeartbeatTellsThePosition(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	w.streams.Heartbeat = 20 * time.Millisecond
	s := w.listen("?type=CashWithdrawn")
	first, _ := s.next()
	_, opened := w.open("checking:1", "c-1")
	want := fmt.Sprintf("%d:%d", opened.At.Partition, opened.At.Offset+1)
	for m := first; m.id != want; {
		var ok bool
		if m, ok = s.next(); !ok || m.data != "" || !m.comment {
			t.Fatalf("got %+v", m)
		}
	}
}

func TestStreamPositionIsChecked(t *testing.T) {
	t.Parallel()
	for layout, bad := range map[kafka.Layout][]string{
		kafka.Single:       {"x", "0", "0:x", "4:1", "-1:1", "0:-1", "0:1,0:2", "0:1,", "CheckingAccount/0:1", "0:1;1:1x"},
		kafka.PerAggregate: {"0:1", "Nothing/0:1", "CheckingAccount/", "CheckingAccount/0:1;"},
	} {
		w := newLogWorld(t, layout)
		_, opened := w.open("checking:1", "c-1")
		for _, text := range bad {
			w.call("GET", "/v1/events", "", "Last-Event-ID: "+text).wantProblem(t, problemParameter, "Last-Event-ID")
		}
		beyond := fmt.Sprintf("%d:%d", opened.At.Partition, opened.At.Offset+5)
		if layout == kafka.PerAggregate {
			beyond = "CheckingAccount/" + beyond
		}
		w.call("GET", "/v1/events", "", "Last-Event-ID: "+beyond).wantProblem(t, problemPositionGone, "from=earliest")
		w.listen("", "Last-Event-ID: 0:0").wantIDs("from the zero position", opened)
		for _, p := range []streamPosition{{}, {w.streams.places(nil)[0]: 5}, {w.streams.places(nil)[0]: 5, w.streams.places(nil)[3]: 1 << 40}} {
			text := w.streams.positionText(p)
			if back, err := w.streams.parsePosition(text); err != nil || fmt.Sprint(back) != fmt.Sprint(p) {
				t.Errorf("%v is written %q and read %v, %v", p, text, back, err)
			}
		}
	}
}

// slowWriter is a client's connection that takes nothing until it is let.
type slowWriter struct {
	header http.Header
	mu     sync.Mutex
	text   strings.Builder
	let    chan struct{}
	held   chan struct{} // has room for one: somebody waits
}

func (s *slowWriter) Header() http.Header              { return s.header }
func (s *slowWriter) WriteHeader(int)                  {}
func (s *slowWriter) SetReadDeadline(time.Time) error  { return nil }
func (s *slowWriter) SetWriteDeadline(time.Time) error { return nil }
func (s *slowWriter) Flush()                           {}
func (s *slowWriter) Write(b []byte) (int, error) {
	s.mu.Lock()
	first := s.text.Len() == 0
	s.text.Write(b)
	s.mu.Unlock()
	if !first {
		select {
		case s.held <- struct{}{}:
		default:
		}
		<-s.let
	}
	return len(b), nil
}

func TestSlowClientIsCutWithALastWord(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	w.streams.Queue = 6
	slow := &slowWriter{header: http.Header{}, let: make(chan struct{}), held: make(chan struct{}, 1)}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.server.PublicHandler().ServeHTTP(slow, r)
	}()
	fast := w.listen("")
	begun := func() bool {
		w.streams.mu.Lock()
		defer w.streams.mu.Unlock()
		return len(w.streams.subs) == 2 && w.streams.position != nil
	}
	for ctx := patience(t); !begun(); {
		if !sleep(ctx, 5*time.Millisecond) {
			t.Fatal("the streams do not begin")
		}
	}
	var written []Recorded
	for i := range 20 {
		_, e := w.open("checking:1", fmt.Sprint("c-", i))
		written = append(written, e)
		fast.wantIDs("a client that reads", e) // one by one, so that it is never behind
		if i == 0 {
			<-slow.held
		}
	}
	close(slow.let)
	select {
	case <-done:
	case <-patience(t).Done():
		t.Fatal("the slow client is not cut")
	}
	messages := make(chan sseMessage, 100)
	readSSE(bufio.NewScanner(strings.NewReader(slow.text.String())), messages)
	close(messages)
	var last sseMessage
	events := 0
	for m := range messages {
		if last = m; m.data != "" && m.event == "" {
			events++
		}
	}
	if last.event != "end" || !strings.Contains(last.data, `"reason":"slow"`) || !strings.Contains(last.data, "6 events") || events > 8 {
		t.Fatalf("after %d events its last word is %+v", events, last)
	}
	w.listen("", "Last-Event-ID: "+last.id).wantIDs("it goes on from its last event", written[events:]...)
}

func TestStreamsAreCutWhenKafkaCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	s := w.listen("")
	_, opened := w.open("checking:1", "c-1")
	s.wantIDs("before", opened)
	w.streams.cutAll("failed", "because of the test")
	m := s.wantEnd("failed")
	_, further := w.open("checking:1", "c-2")
	w.listen("", "Last-Event-ID: "+m.id).wantIDs("after", further)
}
