package gateway

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
)

// wantLinks checks the kinds, ids and coordinates of a chain, newest first.
func (a answer) wantLinks(t *testing.T, kinds string, want ...Recorded) answer {
	t.Helper()
	links, _ := a.json["links"].([]any)
	var gotKinds, got, expect []string
	for _, l := range links {
		link := l.(map[string]any)
		gotKinds = append(gotKinds, link["kind"].(string))
		got = append(got, fmt.Sprint(link["id"], " at ", link["coordinates"]))
	}
	for _, r := range want {
		expect = append(expect, fmt.Sprint(r.Message.ID, " at ", r.At))
	}
	if strings.Join(got, "\n") != strings.Join(expect, "\n") {
		t.Errorf("the chain is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(expect, "\n"))
	}
	if g := strings.Join(gotKinds, " "); g != kinds {
		t.Errorf("kinds: %s; want %s", g, kinds)
	}
	return a
}

func (w *logWorld) chain(at runtime.Coordinates) answer {
	w.t.Helper()
	return w.call("GET", "/v1/causes/"+at.String(), "")
}

// A chain over two aggregates: a client's command, its event, a dispatcher's
// command, which is parked and issued again.
func TestChainOfCausesLeadsToTheRoot(t *testing.T) {
	t.Parallel()
	for _, layout := range []kafka.Layout{kafka.Single, kafka.PerAggregate} {
		t.Run(string(layout), func(t *testing.T) {
			t.Parallel()
			w := newLogWorld(t, layout)
			root, opened := w.open("checking:1", "c-1")
			first := w.command(w.message("savings:7", "d-1", "SavingsAccount.ReceiveDeposit", oneDeposit), &opened)
			parked := w.parked(first)
			again := w.command(w.message("savings:7", "d-2", "SavingsAccount.ReceiveDeposit", oneDeposit), &parked)
			last := w.event(again, w.message("savings:7", "", "SavingsAccount.DepositReceived", oneDeposit), 1)

			a := w.chain(last.At).wantStatus(t, 200).wantMember(t, "next", nil).
				wantLinks(t, "event command event command event command", last, again, parked, first, opened, root)
			top := a.json["links"].([]any)[0].(map[string]any)
			for name, want := range map[string]any{
				"type": "SavingsAccount.DepositReceived", "entity": "savings:7", "version": 1.0, "cause": "d-2", "correlation": "c-1",
				"cause_coordinates": again.At.String(), "payload": "map[amount:map[currency:USD minor:5] source:cash transaction_id:1]",
			} {
				if fmt.Sprint(top[name]) != fmt.Sprint(want) {
					t.Errorf("%s is %v, want %v", name, top[name], want)
				}
			}
			w.chain(root.At).wantStatus(t, 200).wantLinks(t, "command", root)

			// In pages, as a chain longer than one answer is.
			a = w.call("GET", "/v1/causes/"+last.At.String()+"?limit=4", "").wantStatus(t, 200).
				wantMember(t, "next", opened.At.String()).wantLinks(t, "event command event command", last, again, parked, first)
			w.call("GET", "/v1/causes/"+a.json["next"].(string)+"?limit=4", "").wantLinks(t, "event command", opened, root)
			if text := w.log.String(); strings.Contains(text, "searched") {
				t.Errorf("a chain whose coordinates are right was searched:\n%s", text)
			}
		})
	}
}

func TestChainOfAnOutsideEventBeginsWithItsPublication(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	_, opened := w.open("checking:1", "c-1")
	published := w.command(w.message("checking:1", "bank/42 ü", "CheckingAccount.DepositReceived", oneDeposit), nil)
	recorded := w.event(published, w.message("checking:1", "", "CheckingAccount.DepositReceived", oneDeposit), 2)
	w.chain(recorded.At).wantStatus(t, 200).wantLinks(t, "event publication", recorded, published)

	// By entity and id, which may hold anything.
	key, openKey := published.Message.Key(), runtime.NewCommandKey("/clients/shop", "checking:1", "c-1")
	w.reader.outcomes = map[runtime.CommandKey]*Outcome{
		key:     {Events: []Recorded{recorded}, At: published.At},
		openKey: {Events: []Recorded{opened}, At: runtime.Coordinates{Topic: opened.At.Topic, Partition: opened.At.Partition, Offset: opened.At.Offset}},
	}
	w.call("GET", "/v1/causes/checking:1/"+recorded.Message.ID, "").wantStatus(t, 200).wantLinks(t, "event publication", recorded, published)
	byID := "/v1/causes/checking:1/" + url.PathEscape("bank/42 ü") + "?source="
	w.call("GET", byID+url.QueryEscape("/clients/shop"), "").wantStatus(t, 200).wantLinks(t, "publication", published)
	w.call("GET", byID+"/clients/other", "").wantProblem(t, problemNoMessage, "bank/42 ü", "/clients/other", "?source=")
	w.call("GET", "/v1/causes/checking:1/"+recorded.Message.Key().EventID(7), "").wantProblem(t, problemNoMessage)
	w.call("GET", "/v1/causes/checking:1%2Fcard:2/x", "").wantProblem(t, problemNoAggregate)
	w.call("GET", "/v1/causes/nothing:1/x", "").wantProblem(t, problemNoAggregate)
}

// The places of an aggregate's records are asked of the gateway that owns it.
func TestChainByIDIsFoundAtTheOwner(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	root, opened := w.open("checking:1", "c-1")
	owner := newHTTPBench(t)
	owner.reader.outcomes = map[runtime.CommandKey]*Outcome{root.Message.Key(): {Events: []Recorded{opened}, At: root.At}}
	w.reader.self, w.reader.owner = false, owner.internal.Listener.Addr().String()
	w.call("GET", "/v1/causes/checking:1/"+opened.Message.ID, "").wantStatus(t, 200).wantLinks(t, "event command", opened, root)
	w.call("GET", "/v1/causes/checking:1/c-1?source=/clients/shop", "").wantStatus(t, 200).wantLinks(t, "command", root)
	w.call("GET", "/v1/causes/checking:1/c-2?source=/clients/shop", "").wantProblem(t, problemNoMessage, "c-2")
	owner.internal.Close()
	w.call("GET", "/v1/causes/checking:1/c-1", "").wantProblem(t, problemOwnerUnreachable)
	w.chain(opened.At).wantStatus(t, 200) // by coordinates nobody is asked
}

// After a topic was restored or mirrored the coordinates in the records are wrong:
// they lead to another record, to none, or beyond the log.
func TestCauseIsSearchedWhenItsCoordinatesAreWrong(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.PerAggregate)
	root, opened := w.open("checking:1", "c-1")
	elsewhere := opened
	elsewhere.At.Offset += 1000
	middle := w.command(w.message("savings:7", "d-1", "SavingsAccount.ReceiveDeposit", oneDeposit), &elsewhere)
	w.open("checking:1", "c-2") // more of the same partition
	other := middle
	other.At.Offset = 0 // another message, or this one's place by chance
	w.command(w.message("savings:7", "d-0", "SavingsAccount.ReceiveDeposit", oneDeposit), nil)
	moved := middle
	moved.At.Offset++
	last := w.event(moved, w.message("savings:7", "", "SavingsAccount.DepositReceived", oneDeposit), 1)
	w.chain(last.At).wantStatus(t, 200).wantLinks(t, "event command event command", last, middle, opened, root)
	if text := w.log.String(); strings.Count(text, "a cause is not where the message says") != 2 {
		t.Errorf("two searches are logged, got:\n%s", text)
	}

	// Without coordinates an event's command is in the same partition; of a command nothing is known.
	lost := w.message("savings:7", "d-9", "SavingsAccount.ReceiveDeposit", oneDeposit)
	sent := w.command(lost, nil)
	event := w.eventOf(sent, w.message("savings:7", "", "SavingsAccount.DepositReceived", oneDeposit), 2)
	event.Cause = runtime.Coordinates{}
	w.chain(w.write(w.topics.Events("SavingsAccount"), event).At).wantStatus(t, 200)
}

// A search takes the command that the event is of, not one that looks like it.
func TestSearchFindsTheRightOneOfMany(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	stranger := w.message("checking:1", "c-1", "CheckingAccount.OpenCheckingAccount", oneOpening)
	stranger.Source = "/clients/other" // the same id is another command
	w.command(stranger, nil)
	conflict := w.message("checking:1", "c-1", "CheckingAccount.OpenCheckingAccount", `{"client": "client:666"}`)
	w.command(conflict, nil)
	root, _ := w.open("checking:1", "c-1")
	w.command(conflict, nil)
	moved := root
	moved.At.Offset = 1 << 40
	event := w.event(moved, w.message("checking:1", "", "CheckingAccount.CheckingAccountOpened", oneOpening), 2)
	w.chain(event.At).wantStatus(t, 200).wantLinks(t, "event command", event, root)
}

func TestMissingCauseIsNamed(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	_, opened := w.open("checking:1", "c-1")
	gone := opened
	gone.Message = &runtime.Message{ID: "00000000000000000000000000000000-1", CorrelationID: "c-0"}
	orphan := w.command(w.message("savings:7", "d-1", "SavingsAccount.ReceiveDeposit", oneDeposit), &gone)
	event := w.event(orphan, w.message("savings:7", "", "SavingsAccount.DepositReceived", oneDeposit), 1)
	w.chain(event.At).wantProblem(t, problemNoCause, gone.Message.ID, orphan.At.String(), fmt.Sprintf("%s/%d was searched", opened.At.Topic, opened.At.Partition)).
		wantLinks(t, "event command", event, orphan)

	gone.At = runtime.Coordinates{Topic: "somebody-elses", Partition: 1, Offset: 2}
	orphan = w.command(w.message("savings:7", "d-2", "SavingsAccount.ReceiveDeposit", oneDeposit), &gone)
	w.chain(orphan.At).wantProblem(t, problemNoCause, "somebody-elses", "not a topic").wantLinks(t, "command", orphan)

	gone.At = runtime.Coordinates{}
	orphan = w.command(w.message("savings:7", "d-3", "SavingsAccount.ReceiveDeposit", oneDeposit), &gone)
	w.chain(orphan.At).wantProblem(t, problemNoCause, "does not say where").wantLinks(t, "command", orphan)
}

func TestChainThatRunsInACircleEnds(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	m := w.message("checking:1", "d-1", "CheckingAccount.OpenCheckingAccount", oneOpening)
	p := kafka.Partition("checking:1", w.partitions)
	own := Recorded{Message: m, At: runtime.Coordinates{Topic: w.topics.Commands(), Partition: p, Offset: 0}}
	self := w.command(m, &own)
	if self.At != own.At {
		t.Fatalf("the first record is at %s, not %s", self.At, own.At)
	}
	w.chain(self.At).wantProblem(t, problemCauseLoop, "circle").wantLinks(t, "command", self)
}

func TestChainShowsWhatIsCommittedAlone(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	root := w.command(w.message("checking:1", "c-1", "CheckingAccount.OpenCheckingAccount", oneOpening), nil)
	event := w.eventOf(root, w.message("checking:1", "", "CheckingAccount.CheckingAccountOpened", oneOpening), 1)
	at, end := w.transaction(w.topics.Events("CheckingAccount"), event)
	w.chain(at[0]).wantProblem(t, problemNoMessage, at[0].String(), "not yet") // open
	end(kgo.TryAbort)
	w.chain(at[0]).wantProblem(t, problemNoMessage, at[0].String())
	event.Writer = "evento-again"
	at, end = w.transaction(w.topics.Events("CheckingAccount"), event)
	end(kgo.TryCommit)
	committed := Recorded{Message: event, At: at[0]}
	kafkatest.Wait(t, 30*time.Second, func() error { // the marker may come after the answer
		if a := w.chain(at[0]); a.status != 200 {
			return fmt.Errorf("%d: %s", a.status, a.body)
		}
		return nil
	})
	w.chain(at[0]).wantLinks(t, "event command", committed, root)
	marker := at[0]
	marker.Offset++
	w.chain(marker).wantProblem(t, problemNoMessage)
}

func TestChainOfNothing(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.PerAggregate)
	w.open("checking:1", "c-1")
	commands := w.topics.Commands()
	for path, words := range map[string]string{
		commands + "/0/99":                               "99",
		commands + "/4/0":                                "partitions 0 to 3",
		w.topics.Schemas() + "/0/0":                      "not a topic of commands or events",
		w.topics.Parked() + "/0/0":                       "not a topic",
		w.topics.Events("Nothing") + "/0/0":              "not a topic",
		w.topics.Prefix + "-events/0/0":                  "not a topic",
		url.PathEscape("a/b") + "/0/0":                   "", // no coordinates
		commands + "/x/0":                                "",
		commands + "/0/-1":                               "",
		commands + "/0/0?limit=1001":                     "limit",
		commands + "/0/0?unknown=1":                      "unknown",
		commands + "/0/" + strings.Repeat("9", 30) + "?": "",
	} {
		a := w.call("GET", "/v1/causes/"+path, "")
		if words == "" || strings.Contains(path, "=") {
			a.wantProblem(t, problemParameter, words)
		} else {
			a.wantProblem(t, problemNoMessage, words)
		}
	}
}

// Who may read one aggregate sees where a chain leads, not what stands there.
func TestChainHidesWhatMayNotBeRead(t *testing.T) {
	t.Parallel()
	auth := fixedAuth{"savings": {Name: "savings", Source: "/s", Rights: map[AuthRight][]string{RightRead: {"SavingsAccount"}}}}
	w := newLogWorld(t, kafka.Single, func(c *HTTPConfig, _ *HTTPNeeds) { c.Auth = auth })
	root, opened := w.open("checking:1", "c-1")
	command := w.command(w.message("savings:7", "d-1", "SavingsAccount.ReceiveDeposit", oneDeposit), &opened)
	token := "Authorization: Bearer savings"
	a := w.call("GET", "/v1/causes/"+command.At.String(), "", token).wantStatus(t, 200)
	links := a.json["links"].([]any)
	if len(links) != 3 || fmt.Sprint(links[1]) != fmt.Sprintf("map[coordinates:%s kind:hidden]", opened.At) || fmt.Sprint(links[2]) != fmt.Sprintf("map[coordinates:%s kind:hidden]", root.At) {
		t.Errorf("the chain is %v", links)
	}
	w.call("GET", "/v1/causes/"+root.At.String(), "", token).wantProblem(t, problemForbidden)
	w.call("GET", "/v1/causes/checking:1/c-1", "", token).wantProblem(t, problemForbidden)
	w.call("GET", "/v1/causes/"+root.At.String(), "").wantProblem(t, problemUnauthenticated)
}

func TestChainsAtATimeAreLimited(t *testing.T) {
	t.Parallel()
	w := newLogWorld(t, kafka.Single)
	root, _ := w.open("checking:1", "c-1")
	for range cap(w.causes.slots) {
		w.causes.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.causes.Chain(ctx, causeStart{At: root.At}, 1); err == nil || !strings.Contains(err.Error(), ErrManyChains.Error()) {
		t.Errorf("a chain too many: %v", err)
	}
	<-w.causes.slots
	w.chain(root.At).wantStatus(t, 200)
}
