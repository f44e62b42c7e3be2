package gateway

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// heldAt is a held command at an offset of a partition.
func heldAt(partition int32, offset int64, entity runtime.Entity) ParkedCommand {
	return ParkedCommand{
		At: runtime.Coordinates{Topic: "kf-evento-commands", Partition: partition, Offset: offset}, Aggregate: entity.Aggregate(), Entity: entity,
		Command: fmt.Sprintf("c-%d-%d", partition, offset), Source: "/s", Type: "CheckingAccount.WithdrawCash", Status: OutcomeHeld, Attempts: 8,
		Reason: "the ATM is on fire", Function: "bank/handler", Image: "bank:7", Since: testTime, Failing: testTime,
	}
}

// twoGateways are one with partitions 0 and 2, and one with 1, of four: the last
// is being taken over.
func twoGateways(t *testing.T) (asked, other *httpBench) {
	t.Helper()
	of := func(covered ...int32) func(*HTTPConfig, *HTTPNeeds) {
		return func(_ *HTTPConfig, n *HTTPNeeds) { n.Partitions, n.Reader.(*fakeReader).covered = 4, covered }
	}
	asked, other = newHTTPBench(t, of(0, 2)), newHTTPBench(t, of(1))
	asked.reader.others = []string{other.internal.Listener.Addr().String()}
	return asked, other
}

func TestParkedIsPagedThroughAllGateways(t *testing.T) {
	t.Parallel()
	asked, other := twoGateways(t)
	var want []string
	for partition := range int32(3) {
		b := asked
		if partition == 1 {
			b = other
		}
		for offset := range int64(40) {
			c := heldAt(partition, offset*7, runtime.Entity(fmt.Sprintf("checking:%d", offset)))
			b.reader.parked = append([]ParkedCommand{c}, b.reader.parked...) // in no order
			want = append(want, c.At.String())
		}
	}
	var got []string
	for after := ""; ; {
		a := asked.call("GET", "/v1/parked?limit=7"+after, "").wantStatus(t, 200)
		list := a.json["parked"].([]any)
		for _, item := range list {
			got = append(got, item.(map[string]any)["coordinates"].(string))
		}
		if incomplete, _ := a.json["incomplete"].(map[string]any); fmt.Sprint(incomplete["partitions"]) != "[3]" {
			t.Fatalf("incomplete: %v; partition 3 is nobody's", a.json["incomplete"])
		}
		next, more := a.json["next"].(string)
		if !more {
			break
		}
		if len(list) != 7 {
			t.Fatalf("a page of %d", len(list))
		}
		after = "&after=" + url.QueryEscape(next)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d entries in pages, %d there are: %v", len(got), len(want), got)
	}

	for query, n := range map[string]int{
		"aggregate=checking:3": 3, "type=WithdrawCash": 120, "type=CheckingAccount.WithdrawCash": 120, "type=Cash": 0,
		"function=bank/handler": 120, "function=bank/other": 0, "status=held": 120, "status=parked": 0,
	} {
		if list := asked.call("GET", "/v1/parked?"+query, "").wantStatus(t, 200).json["parked"].([]any); len(list) != n {
			t.Errorf("%s: %d entries, want %d", query, len(list), n)
		}
	}
	asked.call("GET", "/v1/parked?after=yesterday", "").wantProblem(t, problemParameter)

	// What is not known is not denied.
	asked.call("POST", "/v1/parked/3/1/retry", "").wantProblem(t, problemOwnerUnknown)
	asked.call("GET", "/v1/parked/3/1", "").wantProblem(t, problemOwnerUnknown)
	asked.call("POST", "/v1/parked/2/1/retry", "").wantProblem(t, problemNoParked)
	asked.call("GET", "/v1/parked/kf-evento-events/3/1", "").wantProblem(t, problemNoParked)
}

func TestParkedIsIncompleteWhileADispatchersPartitionMoves(t *testing.T) {
	t.Parallel()
	asked := newHTTPBench(t, func(_ *HTTPConfig, n *HTTPNeeds) {
		n.Partitions, n.Reader.(*fakeReader).covered = 2, []int32{0, 1}
		n.Dispatching = fakeDispatching{held: map[string][]int32{"bank/transfers": {1}, "bank/other": {0, 1}}}
	})
	incomplete, _ := asked.call("GET", "/v1/parked", "").wantStatus(t, 200).json["incomplete"].(map[string]any)
	if fmt.Sprint(incomplete) != "map[dispatchers:map[bank/transfers:[0]]]" {
		t.Errorf("incomplete: %v", incomplete)
	}
	asked.call("POST", "/v1/parked/kf-evento-events/0/7/retry", "").wantProblem(t, problemOwnerUnknown)
	asked.call("POST", "/v1/parked/kf-evento-events/1/7/retry", "").wantProblem(t, problemNoParked)
}

func TestOneParkedCommandIsShownWhole(t *testing.T) {
	t.Parallel()
	asked, other := twoGateways(t)
	c := heldAt(1, 41, "checking:1")
	expect := uint64(7)
	message := &runtime.Message{
		ID: c.Command, Source: c.Source, Type: c.Type, Subject: c.Entity, Schema: "urn:evento:avro:CheckingAccount.WithdrawCash:00000000000000aa",
		Data: []byte(`{"minor":1}`), CausationID: "e-1", CorrelationID: "root", Cause: runtime.Coordinates{Topic: "kf-evento-events", Partition: 0, Offset: 3},
		Time: testTime, Expect: &expect, TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	other.reader.parked = []ParkedCommand{c}
	asked.reader.commands = map[runtime.Coordinates]*runtime.Message{c.At: message}
	for _, path := range []string{"/v1/parked/1/41", "/v1/parked/kf-evento-commands/1/41"} {
		a := asked.call("GET", path, "").wantStatus(t, 200)
		item := a.json["parked"].([]any)[0].(map[string]any)
		shown := a.json["message"].(map[string]any)
		for name, want := range map[string]any{
			"attempts": 8.0, "reason": c.Reason, "function": c.Function, "image": c.Image, "failing_since": "2030-01-31T10:20:30.123Z", "status": "held",
		} {
			if item[name] != want {
				t.Errorf("%s: %s is %v, want %v", path, name, item[name], want)
			}
		}
		for name, want := range map[string]any{
			"cause": "e-1", "cause_coordinates": "kf-evento-events/0/3", "correlation": "root", "schema": string(message.Schema),
			"expected_version": 7.0, "traceparent": message.TraceParent, "source": "/s",
		} {
			if shown[name] != want {
				t.Errorf("%s: %s is %v, want %v", path, name, shown[name], want)
			}
		}
		if payload, _ := shown["payload"].(map[string]any); payload["minor"] != 1.0 {
			t.Errorf("%s: payload %v", path, shown["payload"])
		}
	}
	asked.call("GET", "/v1/parked/kf-evento-events/1/41", "").wantProblem(t, problemNoParked)
	asked.call("GET", "/v1/parked/1/x", "").wantProblem(t, problemParameter)
	asked.call("DELETE", "/v1/parked/1/41", "").wantProblem(t, problemMethod)
}

// The commands of an aggregate wait for the first of them, so one order does.
func TestAllOfAFunctionAreTriedNow(t *testing.T) {
	t.Parallel()
	asked, other := twoGateways(t)
	asked.reader.parked = []ParkedCommand{heldAt(0, 9, "checking:1"), heldAt(0, 4, "checking:1"), heldAt(2, 5, "checking:2")}
	parked := heldAt(1, 7, "checking:4")
	parked.Status = OutcomeParked
	other.reader.parked = []ParkedCommand{heldAt(1, 6, "checking:3"), parked}
	asked.call("POST", "/v1/parked/retry", "").wantProblem(t, problemParameter)
	a := asked.call("POST", "/v1/parked/retry?function=bank/handler", "").wantStatus(t, 200)
	if got := fmt.Sprint(a.json["released"]); got != "[kf-evento-commands/0/4 kf-evento-commands/0/9 kf-evento-commands/1/6 kf-evento-commands/2/5]" {
		t.Errorf("released %s", got)
	}
	var orders []string
	for _, m := range asked.appender.all() {
		if m.Type != runtime.TypeRetryNow {
			t.Errorf("sent %+v", m)
		}
		orders = append(orders, string(m.Subject)+" "+string(m.Data))
	}
	slices.Sort(orders)
	if want := []string{`checking:1 {"offset":4}`, `checking:2 {"offset":5}`, `checking:3 {"offset":6}`}; !slices.Equal(orders, want) {
		t.Errorf("orders %q, want %q", orders, want)
	}
}

func TestAllParkedOfAnAggregateAreSentAgainInOrder(t *testing.T) {
	t.Parallel()
	asked, _ := twoGateways(t)
	asked.reader.commands = map[runtime.Coordinates]*runtime.Message{}
	for _, offset := range []int64{9, 2, 5} {
		c := heldAt(0, offset, "checking:1")
		c.Status, c.Outcome = OutcomeParked, runtime.Coordinates{Topic: "kf-evento-events", Partition: 0, Offset: offset}
		asked.reader.parked = append(asked.reader.parked, c)
		asked.reader.commands[c.At] = &runtime.Message{ID: c.Command, Source: c.Source, Type: c.Type, Subject: c.Entity, Data: []byte(`{"minor":1}`)}
	}
	sent := func() (ids []string) {
		for _, m := range asked.appender.all() {
			if m.Type != runtime.TypeDropCommand {
				ids = append(ids, m.CorrelationID)
			}
		}
		return ids
	}
	asked.call("POST", "/v1/parked/reissue?aggregate=checking:1", "").wantStatus(t, 200)
	if got := sent(); !slices.Equal(got, []string{"c-0-2", "c-0-5", "c-0-9"}) {
		t.Errorf("sent again: %v", got)
	}

	// After one that cannot be sent the others must not overtake it.
	delete(asked.reader.commands, runtime.Coordinates{Topic: "kf-evento-commands", Partition: 0, Offset: 5})
	before := len(sent())
	a := asked.call("POST", "/v1/parked/reissue?type=WithdrawCash", "").wantStatus(t, 200)
	if got := sent()[before:]; !slices.Equal(got, []string{"c-0-2"}) {
		t.Errorf("sent again: %v", got)
	}
	failed, _ := a.json["failed"].([]any)
	if len(failed) != 2 || !strings.Contains(fmt.Sprint(failed[0]), "parked-not-found") || !strings.Contains(fmt.Sprint(failed[1]), "one before it") {
		t.Errorf("failed: %v", failed)
	}
}
