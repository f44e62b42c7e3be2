package proof

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// poisonStack declares the handler that can be poisoned, with few and quick tries.
const poisonStack = `version: 1.0
provider:
  name: openfaas
functions:
  checking-handler:
    lang: evento-handler
    handler: .
    image: checking-handler:latest
    annotations:
      evento.io/role: handler
      evento.io/aggregate: CheckingAccount
      evento.io/retry: "2"
      evento.io/backoff-delay: PT0.1S
      evento.io/max-backoff: PT1S
  checking-aggregator:
    lang: evento-aggregator
    handler: .
    image: checking-aggregator:latest
    annotations:
      evento.io/role: aggregator
      evento.io/aggregate: CheckingAccount
`

// parkedCommand is a row of GET /v1/parked.
type parkedCommand struct {
	Coordinates string `json:"coordinates"`
	Entity      string `json:"entity"`
	Command     string `json:"command"`
	Status      string `json:"status"`
	Attempts    int    `json:"attempts"`
	Reason      string `json:"reason"`
}

// parked lists what is in trouble at all gateways.
func (w *world) parked() ([]parkedCommand, error) {
	var all []parkedCommand
	for _, g := range w.gateways {
		list, err := g.parked()
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func (g *gateway) parked() ([]parkedCommand, error) {
	text, err := fetch(g.url + "/v1/parked")
	if err != nil {
		return nil, err
	}
	var page struct {
		Parked []parkedCommand `json:"parked"`
	}
	err = json.Unmarshal(text, &page)
	return page.Parked, err
}

// order posts an order about a command that is in trouble.
func (g *gateway) order(coordinates, what string, body any) (status int, answer string, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, "", err
	}
	r, err := http.NewRequest(http.MethodPost, g.url+"/v1/parked/"+coordinates+"/"+what, bytes.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Prefer", "wait=20")
	a, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	out, err := readAll(a)
	return a.StatusCode, string(out), err
}

// takenOver is what a gateway says of a partition that it took over.
type takenOver struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
	Above     int   `json:"finished_above"`
	Aside     int   `json:"set_aside"`
	Clean     bool  `json:"clean"`
}

func (g *gateway) lastTakeover(partition int32) (found takenOver, err error) {
	err = fmt.Errorf("%s has not taken over partition %d", g.name, partition)
	for _, line := range g.now().said(0, `"partition taken over"`) {
		var o takenOver
		if e := json.Unmarshal([]byte(line), &o); e != nil {
			return found, e
		}
		if o.Partition == partition {
			found, err = o, nil
		}
	}
	return found, err
}

// TestPoisonedCommandHoldsOnlyItsAggregate sends a command that its function
// never gets done: P7.
func TestPoisonedCommandHoldsOnlyItsAggregate(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, setup{session: 10 * time.Second, stack: poisonStack, programs: map[string]string{
		"checking-handler":    self,
		"checking-aggregator": bankFunction(t, "checking-aggregator"),
	}})
	g, h := w.gateways[0], &history{}
	handler := w.functions["checking-handler"]
	account := func(i int) string { return fmt.Sprintf("checking:%s-%d", w.run, i) }
	next := 0
	deposit := func(i int) *command {
		next++
		return h.add(&command{ID: "d-" + strconv.Itoa(next), Source: "/proof", Entity: account(i), Type: "ReceiveDeposit",
			Payload: map[string]any{"transaction_id": strconv.Itoa(next), "source": "proof", "amount": money(int64(next))}})
	}
	done := func(c *command, version uint64) {
		t.Helper()
		if a := g.send(c, 30*time.Second); a.Outcome == nil || a.Outcome.Status != "done" || version > 0 && a.Outcome.Version != version {
			t.Errorf("%s: %d %s %+v %s", c, a.Status, a.Problem, a.Outcome, a.Err)
		}
	}
	const accounts = 30 // so many that some share a partition with the poisoned one
	parallel(8, accounts, func(i int) {
		done(h.add(&command{ID: "open", Source: "/proof", Entity: account(i), Type: "OpenCheckingAccount",
			Payload: map[string]any{"client": "client:1", "currency": "USD"}}), 1)
	})

	// One that fails for good, and five behind it.
	poisoned := h.add(&command{ID: "poisoned", Source: "/proof", Entity: account(0), Type: "WithdrawCash",
		Payload: map[string]any{"destination": poison, "amount": money(1)}})
	if a := g.send(poisoned, 0); a.Result != accepted {
		t.Fatalf("%+v", a)
	}
	var behind []*command
	for range 5 {
		c := deposit(0)
		if a := g.send(c, 0); a.Result != accepted {
			t.Fatalf("%+v", a)
		}
		behind = append(behind, c)
	}
	held := func() (row parkedCommand) {
		t.Helper()
		wait(t, func() error {
			list, err := w.parked()
			if err != nil {
				return err
			}
			for _, p := range list {
				if p.Entity != account(0) {
					return fatal(fmt.Errorf("in trouble beside the poisoned one: %+v", p))
				}
				if p.Command == poisoned.ID && p.Status == "held" {
					row = p
				}
			}
			if row.Command == "" {
				return fmt.Errorf("not held: %+v", list)
			}
			return nil
		})
		return row
	}
	row := held()
	if row.Attempts < 3 || !strings.Contains(row.Reason, errPoison.Error()) {
		t.Errorf("held is %+v", row)
	}

	// All others go on.
	for round := range 4 {
		parallel(8, accounts-1, func(i int) { done(again(h, account(i+1), round), uint64(round+2)) })
	}

	at, err := runtime.ParseCoordinates(row.Coordinates)
	if err != nil {
		t.Fatal(err)
	}
	// Who takes over, after a kill and after a stop, reads what is unfinished and no more.
	for _, clean := range []bool{false, true} {
		// The position in Kafka has passed the waiting ones when they are set aside, which takes 2 s.
		wait(t, func() error {
			if live := w.asides(t)[at.Partition]; len(live) != 1+len(behind) {
				return fmt.Errorf("%d commands of partition %d are set aside, not %d: %q", len(live), at.Partition, 1+len(behind), live)
			}
			return nil
		})
		calls := len(handler.now().said(0, "called "))
		if clean {
			g.now().terminate(t)
		} else {
			g.now().kill()
		}
		g.start(t)
		g.awaitReady(t)
		w.awaitAllOwned(t)
		var o takenOver
		wait(t, func() (err error) { // it is ready a moment before it says so
			o, err = g.lastTakeover(at.Partition)
			return err
		})
		end := int64(0)
		for _, r := range w.read(t, w.topics.Commands()) {
			if r.At.Partition == at.Partition {
				end = r.At.Offset + 1
			}
		}
		if left := end - o.Offset - int64(o.Above); o.Aside != 1+len(behind) || left != 0 || o.Clean != clean {
			t.Errorf("takeover after clean=%v: %+v; %d commands of %d were read again, want %d set aside and none else", clean, o, left, end, 1+len(behind))
		}
		if after := held(); after.Attempts < row.Attempts {
			t.Errorf("it was held after %d attempts, and after a restart after %d", row.Attempts, after.Attempts)
		}
		done(deposit(1), 0)
		for _, line := range handler.now().said(0, "called ")[calls:] {
			if id := strings.TrimPrefix(line, "called "); id != poisoned.ID && id != fmt.Sprintf("d-%d", next) {
				t.Errorf("after the restart the handler was called with %s again", id)
			}
		}
	}

	// Given up, it is out of the way, and those behind it come in their order.
	if status, answer, err := g.order(row.Coordinates, "drop", map[string]string{"reason": "the ATM is gone"}); err != nil || status/100 != 2 {
		t.Fatalf("drop: %d %s %v", status, answer, err)
	}
	for i, c := range behind {
		done(c, uint64(i+2)) // sent again, it is answered as if for the first time
	}
	if a := g.send(poisoned, 20*time.Second); a.Outcome == nil || a.Outcome.Status != "parked" || !strings.Contains(a.Outcome.Reason, "the ATM is gone") {
		t.Errorf("the dropped command: %d %s %+v %s", a.Status, a.Problem, a.Outcome, a.Err)
	} else if len(a.Outcome.Events) != 1 || a.Outcome.Events[0].Type != string(runtime.TypeCommandParked) {
		t.Errorf("its outcome is %+v", a.Outcome.Events)
	}
	wait(t, func() error {
		list, err := w.parked()
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("still in trouble: %+v", list)
		}
		return err
	})
	w.judge(t, h)
	wait(t, func() error { return w.noAsides(t) })
}

// again is one more deposit with an id that is unique to the account and the round.
func again(h *history, account string, round int) *command {
	return h.add(&command{ID: "r-" + strconv.Itoa(round), Source: "/proof", Entity: account, Type: "ReceiveDeposit",
		Payload: map[string]any{"transaction_id": strconv.Itoa(round), "source": "proof", "amount": money(7)}})
}

// asides reads the live set-aside records, by partition and key.
func (w *world) asides(t testing.TB) map[int32]map[string][]byte {
	t.Helper()
	live := map[int32]map[string][]byte{}
	for p, records := range w.kafka.Committed(t, w.topics.Parked()) {
		live[p] = map[string][]byte{}
		for _, r := range records {
			if r.Value == nil {
				delete(live[p], string(r.Key))
			} else {
				live[p][string(r.Key)] = r.Value
			}
		}
	}
	return live
}

// noAsides says whether nothing is set aside any more.
func (w *world) noAsides(t testing.TB) error {
	t.Helper()
	for p, live := range w.asides(t) {
		if len(live) > 0 {
			return fmt.Errorf("commands of partition %d are still set aside: %q", p, live)
		}
	}
	return nil
}

// TestFunctionDownForAWhile kills a function under load, and starts it again when
// commands have waited for it so long that they are set aside.
func TestFunctionDownForAWhile(t *testing.T) {
	w := newWorld(t, setup{gateways: 2, session: 10 * time.Second}) // no gateway is missed here
	l := newLoad(w)
	l.wait = 3 * time.Second
	const n = 500
	share := 0.2
	l.upTo(share+0.1, n)
	end := l.begin(t, n)
	for _, name := range []string{"checking-handler", "savings-aggregator"} {
		l.reached(t, share)
		share += 0.3
		down := w.functions[name]
		down.now().kill()
		l.upTo(share+0.1, n)
		wait(t, func() error {
			list, err := w.parked()
			if err != nil {
				return err
			}
			for _, p := range list {
				if p.spends() {
					return fatal(fmt.Errorf("%s is only down, and a command is %+v", name, p))
				}
			}
			// What waits for more than 2 s is set aside in Kafka.
			aside := 0
			for _, live := range w.asides(t) {
				aside += len(live)
			}
			if aside < 5 {
				return fmt.Errorf("only %d commands are set aside while %s is down, %d wait", aside, name, len(list))
			}
			return nil
		})
		down.start(t)
		down.awaitReady(t)
	}
	l.upTo(1, n)
	end()
	w.judge(t, l.history)
	for partition, records := range w.kafka.Committed(t, w.topics.Parked()) {
		for _, r := range records {
			var aside struct {
				State    string `json:"state"`
				Attempts int    `json:"attempts"`
			}
			if r.Value == nil {
				continue
			}
			if err := json.Unmarshal(r.Value, &aside); err != nil || aside.Attempts != 0 || aside.State == "held" {
				t.Errorf("set aside at %d/%d: %s, %v", partition, r.Offset, r.Value, err)
			}
		}
	}
	wait(t, func() error { return w.noAsides(t) })
}
