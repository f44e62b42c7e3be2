package gateway

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// fakeDispatching has one event parked.
type fakeDispatching struct {
	parked  []ParkedEvent
	held    map[string][]int32
	retried *[]string
	dropped *[]string
	others  []string
	replays *[]time.Time
}

func (fakeDispatching) Run(context.Context) error { return nil }

func (f fakeDispatching) Parked() ([]ParkedEvent, map[string][]int32) { return f.parked, f.held }

func (f fakeDispatching) Status(string) (DispatchStatus, bool) { return DispatchStatus{}, false }

func (f fakeDispatching) Others(context.Context) ([]string, error) { return f.others, nil }

func (f fakeDispatching) Retry(dispatcher string, at runtime.Coordinates) bool {
	for _, p := range f.parked {
		if p.Dispatcher == dispatcher && p.At == at {
			*f.retried = append(*f.retried, dispatcher)
			return true
		}
	}
	return false
}

func (f fakeDispatching) Drop(_ context.Context, dispatcher string, at runtime.Coordinates, reason string) (bool, error) {
	if strings.Contains(reason, "uncertain") {
		return false, errors.New("it was not committed within 10s")
	}
	if !f.Retry(dispatcher, at) {
		return false, nil
	}
	*f.dropped = append(*f.dropped, reason)
	return true, nil
}

func (f fakeDispatching) Replay(_ context.Context, dispatcher string, at time.Time, expect *uint64) (uint64, error) {
	if dispatcher != "bank/transfers" {
		return 0, ErrNotFound
	}
	if expect != nil && *expect != 2 {
		return 2, ErrEpoch
	}
	*f.replays = append(*f.replays, at)
	return 3, nil
}

func TestParkedEventsAreListedAndRetriedEverywhere(t *testing.T) {
	t.Parallel()
	parked := ParkedEvent{
		Dispatcher: "bank/transfers", At: runtime.Coordinates{Topic: "kf-evento-events", Partition: 2, Offset: 7}, Event: "e1",
		Entity: "checking:1", Type: "CheckingAccount.DepositReceived", Status: OutcomeParked, Attempts: 3, Reason: "it panicked", Since: time.Unix(1000, 0),
	}
	var retried, dropped []string
	holder := newHTTPBench(t, func(_ *HTTPConfig, n *HTTPNeeds) {
		n.Dispatching = fakeDispatching{parked: []ParkedEvent{parked}, retried: &retried, dropped: &dropped}
	})
	asked := newHTTPBench(t, func(_ *HTTPConfig, n *HTTPNeeds) {
		n.Dispatching = fakeDispatching{others: []string{holder.internal.Listener.Addr().String()}}
	})
	a := asked.call("GET", "/v1/parked", "").wantStatus(t, 200)
	for _, want := range []string{`"dispatcher":"bank/transfers"`, `"coordinates":"kf-evento-events/2/7"`, `"event":"e1"`, `"attempts":3`} {
		if !strings.Contains(strings.ReplaceAll(a.body, ": ", ":"), want) {
			t.Errorf("no %s in %s", want, a.body)
		}
	}
	if a := asked.call("GET", "/v1/parked?aggregate=checking:2", "").wantStatus(t, 200); strings.Contains(a.body, "e1") {
		t.Errorf("another aggregate's: %s", a.body)
	}
	asked.call("POST", "/v1/parked/kf-evento-events/2/7/retry", "").wantStatus(t, 200)
	if len(retried) != 1 || retried[0] != "bank/transfers" {
		t.Errorf("retried %v", retried)
	}
	asked.call("POST", "/v1/parked/kf-evento-events/2/7/retry?dispatcher=bank/other", "").wantProblem(t, problemNoParked)
	asked.call("POST", "/v1/parked/kf-evento-events/2/8/retry", "").wantProblem(t, problemNoParked)
	asked.call("POST", "/v1/parked/2/7/retry", "").wantProblem(t, problemNoParked) // a command's numbers
	asked.call("POST", "/v1/parked/kf-evento-events/2/7/reissue", "").wantProblem(t, problemNoParked)

	const drop = "/v1/parked/kf-evento-events/2/7/drop"
	asked.call("POST", drop, `{"reason": "not needed"}`, jsonType).wantStatus(t, 200)
	if len(dropped) != 1 || dropped[0] != "dropped by an operator: not needed" {
		t.Errorf("dropped because %q", dropped)
	}
	asked.call("POST", drop+"?dispatcher=bank/other", `{"reason": "x"}`, jsonType).wantProblem(t, problemNoParked)
	asked.call("POST", drop, `{}`, jsonType).wantProblem(t, problemAttribute)
	asked.call("POST", "/v1/parked/kf-evento-commands/2/7/drop?dispatcher=bank/transfers", `{"reason": "x"}`, jsonType).wantProblem(t, problemParameter)
	holder.call("POST", drop, `{"reason": "uncertain"}`, jsonType).wantProblem(t, problemUncertain)
}

func TestReplayIsOrdered(t *testing.T) {
	t.Parallel()
	var replays []time.Time
	b := newHTTPBench(t, func(_ *HTTPConfig, n *HTTPNeeds) { n.Dispatching = fakeDispatching{replays: &replays} })
	const path = "/v1/triggers/bank/transfers/replay"
	b.call("POST", path, `{"from": "earliest"}`, jsonType).wantStatus(t, 200).wantMember(t, "epoch", 3)
	b.call("POST", path, `{"from": "2026-01-31T12:00:00Z"}`, jsonType).wantStatus(t, 200)
	b.call("POST", path, `{"from": "latest"}`, jsonType).wantStatus(t, 200)
	if len(replays) != 3 || !replays[0].IsZero() || replays[1].Year() != 2026 || replays[2].Before(time.Now()) {
		t.Errorf("replays from %v", replays)
	}
	b.call("POST", path, `{"from": "earliest"}`, jsonType, `If-Match: "2"`).wantStatus(t, 200).wantMember(t, "epoch", 3)
	b.call("POST", path, `{"from": "earliest"}`, jsonType, `If-Match: "1"`).wantProblem(t, problemVersionMismatch)
	b.call("POST", path, `{"from": "earliest"}`, jsonType, "If-Match: 1").wantProblem(t, problemParameter)
	b.call("POST", path, `{"from": "yesterday"}`, jsonType).wantProblem(t, problemAttribute)
	b.call("POST", path, `{}`, jsonType).wantProblem(t, problemAttribute)
	b.call("POST", path, `{"to": "earliest"}`, jsonType).wantProblem(t, problemAttribute)
	b.call("POST", "/v1/triggers/bank/none/replay", `{"from": "earliest"}`, jsonType).wantProblem(t, problemNoTrigger)
	newHTTPBench(t).call("POST", path, `{"from": "earliest"}`, jsonType).wantProblem(t, problemUnavailable)
}
