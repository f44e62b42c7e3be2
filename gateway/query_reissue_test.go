package gateway

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// parkedList is what a gateway lists, by status.
func (g *cachedGateway) parkedList(status string) []any {
	g.t.Helper()
	list, _ := g.call("GET", "/v1/parked?status="+status, "").wantStatus(g.t, 200).json["parked"].([]any)
	return list
}

func TestParkedCommandIsListedUntilItIsReissued(t *testing.T) {
	t.Parallel()
	w := newCachedWorld(t)
	w.owner.server.need.Appender, w.other.server.need.Appender = w.owner.Engine, w.other.Engine
	w.router.mu.Lock()
	w.router.handler.Policy.Park, w.router.handler.Policy.Attempts = true, 1
	w.router.mu.Unlock()
	var healed atomic.Bool
	w.wire.setFault(func(_ context.Context, url string, items []runtime.Invocation) error {
		if url == "http://handler" && !healed.Load() {
			return &runtime.CallError{Kind: runtime.CallFailed, Status: 500, Reason: "the ATM is on fire"}
		}
		return nil
	})
	for _, id := range []string{"p1", "p2"} {
		if o := w.owner.runningEngine.send(w.deposit(t, bankAccount, id, 100)); o.Status != OutcomeParked {
			t.Fatalf("%s: %+v", id, o)
		}
	}
	healed.Store(true)
	eventually(t, "both are listed at the other gateway", func() bool { return len(w.other.parkedList("parked")) == 2 })

	// The next owner lists what the last one did, and tries none of it again.
	before := w.other.parkedList("parked")
	calls := len(w.wire.sent())
	w.owner.crash()
	w.owner.internal.Close()
	eventually(t, "the other gateway owns both partitions", func() bool {
		a := w.other.call("GET", "/v1/parked?status=parked", "") // the former owner is asked for a while
		list, _ := a.json["parked"].([]any)
		return a.status == 200 && len(list) == 2
	})
	after := w.other.parkedList("parked")
	for i := range before {
		b, a := before[i].(map[string]any), after[i].(map[string]any)
		for name, value := range b {
			if a[name] != value {
				t.Errorf("%s is %v after the takeover, was %v", name, a[name], value)
			}
		}
	}
	if n := len(w.wire.sent()) - calls; n != 0 {
		t.Errorf("%d calls for commands that have their outcome", n)
	}

	first := after[0].(map[string]any)
	if first["command"] != "p1" || first["reason"] == "" || first["attempts"] != 1.0 || !strings.HasPrefix(first["outcome"].(string), "kf-evento-events/") {
		t.Errorf("listed: %v", first)
	}
	path := "/v1/parked/" + first["coordinates"].(string)
	w.other.call("POST", path+"/retry", "").wantProblem(t, problemNoParked, "reissue")
	again := w.other.call("POST", path+"/reissue", "").wantStatus(t, 202)
	var done answer
	eventually(t, "the new command is done", func() bool {
		done = w.other.call("GET", again.header.Get("Location"), "")
		return done.json["status"] == "done"
	})
	event := done.json["events"].([]any)[0].(map[string]any)
	at, err := runtime.ParseCoordinates(event["cause_coordinates"].(string))
	if err != nil {
		t.Fatal(err)
	}
	command, err := w.other.Command(patience(t), at)
	if err != nil || command.Cause.String() != first["outcome"] || command.CorrelationID != "p1" {
		t.Errorf("the new command has the cause %+v of %q, %v; want %v of p1", command.Cause, command.CorrelationID, err, first["outcome"])
	}
	eventually(t, "the first is off the list", func() bool { return len(w.other.parkedList("parked")) == 1 })
	w.other.call("POST", path+"/reissue", "").wantProblem(t, problemNoParked)
	// The outcome of the first stays what it is.
	if o := w.other.outcome(patience(t), w.deposit(t, bankAccount, "p1", 100)); o.Status != OutcomeParked {
		t.Errorf("p1 is %+v", o)
	}

	second := after[1].(map[string]any)["coordinates"].(string)
	w.other.call("POST", "/v1/parked/"+second+"/drop", `{"reason":"not needed"}`).wantStatus(t, 202)
	eventually(t, "the second is off the list", func() bool { return len(w.other.parkedList("parked")) == 0 })
}

// A re-issue is a copy with another id, and the same one when it is sent twice.
func TestReissueIsARepeatOfItself(t *testing.T) {
	t.Parallel()
	b := newHTTPBench(t)
	at := runtime.Coordinates{Topic: "kf-evento-commands", Partition: 3, Offset: 41}
	outcome := runtime.Coordinates{Topic: "kf-evento-events", Partition: 3, Offset: 7}
	old := &runtime.Message{ID: "c", Source: "/s", Type: "CheckingAccount.WithdrawCash", Subject: "checking:1", Data: []byte(`{"minor":1}`), CorrelationID: "root"}
	b.reader.parked = []ParkedCommand{{At: at, Aggregate: "checking:1", Entity: "checking:1", Command: "c", Source: "/s", Status: OutcomeParked, Outcome: outcome}}
	b.reader.commands = map[runtime.Coordinates]*runtime.Message{at: old}
	for range 2 {
		b.call("POST", "/v1/parked/3/41/reissue", "").wantStatus(t, 202).wantMember(t, "status", "pending")
	}
	all := b.appender.all()
	if len(all) != 4 {
		t.Fatalf("%d messages, want the command and the order, twice", len(all))
	}
	again, parked := all[0], old.Key().EventID(1)
	if again.Key() != all[2].Key() || again.Key() == old.Key() || again.CausationID != parked || again.Cause != outcome || again.CorrelationID != "root" ||
		again.Type != old.Type || again.Subject != old.Subject || string(again.Data) != string(old.Data) {
		t.Errorf("sent again as %+v", again)
	}
	if all[1].Type != runtime.TypeDropCommand || !strings.Contains(string(all[1].Data), `"offset":41`) {
		t.Errorf("then %+v", all[1])
	}
}
