package gateway

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
)

// from is a way to a server on loopback that comes from another address.
func from(address string) *http.Transport {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}
}

func TestStreamsAreLimitedAndEndWithTheGateway(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxStreams = 2 })
	one, two := w.listen(""), w.listen("")
	w.call("GET", "/v1/events", "").wantProblem(t, problemOverloaded, settingMaxStreams)
	two.close()
	w.awaitSeats(1)
	three := w.listen("?from=earliest")
	w.streams.Close()
	for _, s := range []*eventStream{one, three} {
		s.wantEnd("stopping")
		if m, ok := s.next(); ok {
			t.Errorf("after the last word comes %+v", m)
		}
	}
}

// awaitSeats waits until no more than so many streams have a place.
func (w *logWorld) awaitSeats(n int) {
	w.t.Helper()
	taken := func() int {
		w.server.seats.mu.Lock()
		defer w.server.seats.mu.Unlock()
		return w.server.seats.taken
	}
	for ctx := patience(w.t); taken() > n; {
		if !sleep(ctx, 5*time.Millisecond) {
			w.t.Fatalf("%d streams have a place, want %d", taken(), n)
		}
	}
}

// Who opens all streams there may be, and forgets them, keeps nobody else away.
func TestClientWithMostStreamsGivesWay(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single, func(c *HTTPConfig, _ *HTTPNeeds) { c.MaxStreams = 4 })
	var hog []*eventStream
	for range 4 {
		hog = append(hog, w.listen(""))
	}
	w.call("GET", "/v1/events", "").wantProblem(t, problemOverloaded, settingMaxStreams)
	other := from("127.0.0.2")
	mine := listenVia(t, other, w.public.URL, "")
	last := hog[0].wantEnd("crowded")
	second := listenVia(t, other, w.public.URL, "")
	hog[1].wantEnd("crowded")
	// Two and two: nobody has more than another one.
	r, err := (&http.Client{Transport: other}).Get(w.public.URL + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a third stream of two clients with two each: %s, want 503", r.Status)
	}
	_, opened := w.open("checking:1", "c-1")
	for what, s := range map[string]*eventStream{"the other client's": mine, "its second": second, "the first client's third": hog[2]} {
		s.wantIDs(what, opened)
	}
	second.close()
	w.awaitSeats(3)
	w.listen("", "Last-Event-ID: "+last.id).wantIDs("it goes on later", opened)
}

// wantEnd waits for the last word of a stream.
func (s *eventStream) wantEnd(reason string) sseMessage {
	s.t.Helper()
	m, ok := s.next()
	for ok && m.event != "end" {
		m, ok = s.next()
	}
	if !ok || !strings.Contains(m.data, `"reason":"`+reason+`"`) || m.id == "" {
		s.t.Errorf("the last word is %+v, want %s", m, reason)
	}
	return m
}
