package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/examples/bank/checking"
	v1 "github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/examples/bank/rollout"
	v2 "github.com/evento-oss/evento/examples/bank/rollout/gen"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
)

// failing is the bank's account, but for deposits that come from "poison".
type failing struct{ checking.Handler }

func (h failing) ReceiveDeposit(ctx runtime.HandlerContext, account *v1.CheckingAccount, c *v1.ReceiveDeposit) ([]v1.Event, error) {
	if c.Source == "poison" {
		return nil, errors.New("this one never works")
	}
	return h.Handler.ReceiveDeposit(ctx, account, c)
}

// replaced is a function at one address that a newer build takes over.
type replaced struct {
	now atomic.Pointer[runtime.Server]
}

func (r *replaced) set(t *testing.T, f *runtime.Function) {
	t.Helper()
	s, err := runtime.NewServer(f, runtime.Config{Image: "bank:1"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.now.Store(s)
}

func (r *replaced) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.now.Load().ServeHTTP(w, req)
}

// parkedWorld is a gateway that is started again with the same Kafka.
type parkedWorld struct {
	t     *testing.T
	flags gatewayFlags
	url   string
}

func (w *parkedWorld) start(schemas string) (stop func()) {
	w.t.Helper()
	w.flags.schemas = schemas
	stop = runGateway(w.t, &w.flags, slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelError})))
	w.url = "http://" + w.flags.listen
	w.await("the dispatcher runs", func() error {
		if _, out, errs := w.evento("triggers", "-o", "json"); !strings.Contains(out, `"lag"`) {
			return fmt.Errorf("triggers: %s %s", out, errs)
		}
		return nil
	})
	return stop
}

func (w *parkedWorld) await(what string, done func() error) {
	w.t.Helper()
	kafkatest.Wait(w.t, 90*time.Second, func() error {
		if err := done(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

func (w *parkedWorld) evento(args ...string) (code int, out, errs string) {
	w.t.Helper()
	return evento(w.t, "", append(args, "--gateway", w.url)...)
}

// ask runs a command, and returns what it says.
func (w *parkedWorld) ask(args ...string) (string, error) {
	w.t.Helper()
	code, out, errs := w.evento(args...)
	if code != exitOK {
		return "", fmt.Errorf("evento %s: code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out, nil
}

// must is ask, of what has to succeed.
func (w *parkedWorld) must(args ...string) string {
	w.t.Helper()
	out, err := w.ask(args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *parkedWorld) deposit(id, source string) (code int) {
	w.t.Helper()
	code, _, _ = w.evento("send", "checking:1", "ReceiveDeposit", "--id", id, "--wait", "60s", "transaction_id="+id, "source="+source, "amount.minor:=100")
	return code
}

// parked lists what is parked, by the id of the command, or the deposit of the event.
func (w *parkedWorld) parked() (map[string]string, error) {
	code, out, errs := w.evento("parked", "list", "-o", "json")
	if code != exitOK || errs != "" {
		return nil, fmt.Errorf("code %d: %s", code, errs)
	}
	var list struct {
		Parked []parkedItem `json:"parked"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, p := range list.Parked {
		one, _, err := w.show(p.Coordinates)
		if err != nil {
			return nil, err // it may have gone since
		}
		var payload struct {
			Transaction string `json:"transaction_id"`
		}
		if err := json.Unmarshal(one.Message.Payload, &payload); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Coordinates, err)
		}
		found[payload.Transaction] = p.Coordinates
	}
	return found, nil
}

func (w *parkedWorld) show(at string) (one parkedOne, text string, err error) {
	w.t.Helper()
	if text, err = w.ask("parked", "show", at, "-o", "json"); err == nil {
		err = json.Unmarshal([]byte(text), &one)
	}
	if err == nil && one.Message == nil {
		err = fmt.Errorf("%s is shown without its message: %s", at, text)
	}
	return one, text, err
}

func (w *parkedWorld) awaitParked(n int) (found map[string]string) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d are parked", n), func() (err error) {
		if found, err = w.parked(); err == nil && len(found) != n {
			err = fmt.Errorf("parked are %v", found)
		}
		return err
	})
	return found
}

func (w *parkedWorld) events(entity string) string {
	w.t.Helper()
	return w.must("events", entity, "-o", "json")
}

// What is parked can be looked at, released and dropped after a new version of its
// schema was registered, functions built with it have taken over, and the gateway
// has been started again.
func TestParkedStaysReadableAfterASchemaChange(t *testing.T) {
	k := kafkatest.Start(t)
	var account, transfers replaced
	account.set(t, v1.AggregateFunction(failing{}, checking.Aggregator{}).Function)
	onDeposit, err := runtime.NewDispatcher(runtime.Sends(v1.Definition()), v1.OnDepositReceived(
		func(_ runtime.DispatcherContext, e *v1.DepositReceived) ([]runtime.Command, error) {
			if e.Source == "bad" {
				return nil, errors.New("who is that")
			}
			return nil, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	transfers.set(t, onDeposit)
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	file := filepath.Join(t.TempDir(), "triggers.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: checking, namespace: bank, annotations: {evento.io/role: "handler,aggregator", evento.io/aggregate: CheckingAccount, evento.io/on-failure: park}}
spec: {broker: default, subscriber: {uri: %q}, delivery: {retry: 1, backoffDelay: PT0.1S, backoffPolicy: linear}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: transfers, namespace: bank, annotations: {evento.io/role: dispatcher}}
spec:
  broker: default
  filters: [{exact: {type: CheckingAccount.DepositReceived}}]
  subscriber: {uri: %q}
  delivery: {retry: 1, backoffDelay: PT0.1S, backoffPolicy: linear}
`, serve(&account), serve(&transfers)), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &parkedWorld{t: t}
	w.flags.bind(&cobra.Command{})
	w.flags.kafka.properties, w.flags.prefix = []string{"bootstrap.servers=" + strings.Join(k.Servers, ",")}, k.Prefix+"evento"
	w.flags.partitions, w.flags.replication, w.flags.minInSync, w.flags.triggers = 2, 1, 1, []string{file}
	stop := w.start("../../examples/bank/schemas")
	for _, a := range []string{"checking:1", "checking:2"} {
		w.must("send", a, "OpenCheckingAccount", "--wait", "60s", "client=client:1")
	}
	for _, id := range []string{"p1", "p2"} {
		if code := w.deposit(id, "poison"); code != exitRefused {
			t.Fatalf("%s: code %d, want that of a parked command", id, code)
		}
	}
	for _, id := range []string{"e1", "e2"} {
		if code := w.deposit(id, "bad"); code != exitOK {
			t.Fatalf("%s: code %d", id, code)
		}
	}
	at := w.awaitParked(4)
	before := map[string]string{}
	for id, c := range at {
		one, _, err := w.show(c)
		if err != nil {
			t.Fatal(err)
		}
		before[id] = one.Message.Schema + compact(one.Message.Payload)
	}

	w.must("schema", "register", "../../examples/bank/rollout/testdata/CheckingAccount.avsc")
	account.set(t, v2.AggregateFunction(rollout.Handler{}, rollout.Aggregator{}).Function)
	onDeposit, err = runtime.NewDispatcher(runtime.Sends(v2.Definition()), v2.OnDepositReceived(
		func(_ runtime.DispatcherContext, e *v2.DepositReceived) ([]runtime.Command, error) {
			if e.Source != "bad" {
				return nil, nil
			}
			c := v2.NewReceiveDeposit()
			c.Transaction_id, c.Source, c.Amount, c.Channel = e.Transaction_id, "transfer", e.Amount, v2.ChannelBRANCH
			return []runtime.Command{runtime.NewCommand("checking:2", &c)}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	transfers.set(t, onDeposit)
	stop()
	w.start("")

	if after := w.awaitParked(4); fmt.Sprint(after) != fmt.Sprint(at) {
		t.Errorf("parked are %v, and were %v", after, at)
	}
	for id, c := range at {
		one, text, err := w.show(c)
		if err != nil {
			t.Fatal(err)
		}
		if got := one.Message.Schema + compact(one.Message.Payload); got != before[id] || strings.Contains(text, "channel") {
			t.Errorf("%s is shown as\n%s\nand was\n%s", id, got, before[id])
		}
		want := "this one never works"
		if id[0] == 'e' {
			want = "who is that"
		}
		if p := one.Parked[0]; p.Attempts != 2 || !strings.Contains(p.Reason, want) || id[0] == 'p' && (p.Image != "bank:1" || p.Failing.IsZero()) {
			t.Errorf("%s: %+v", id, p)
		}
	}

	w.must("parked", "reissue", at["p1"])
	w.must("parked", "drop", at["p2"], "--reason", "not needed")
	w.must("parked", "retry", at["e1"])
	w.must("parked", "drop", at["e2"], "--reason", "done by hand")
	w.await("what was released is done", func() error {
		first, err1 := w.ask("events", "checking:1", "-o", "json")
		second, err2 := w.ask("events", "checking:2", "-o", "json")
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !strings.Contains(first, `"transaction_id":"p1"`) || !strings.Contains(second, `"transaction_id":"e1"`) {
			return fmt.Errorf("events:\n%s\n%s", first, second)
		}
		return nil
	})
	w.awaitParked(0)
	first, second := w.events("checking:1"), w.events("checking:2")
	if n := strings.Count(first, `"transaction_id":"p1"`); n != 1 || strings.Contains(first, `"transaction_id":"p2"`) || strings.Contains(second, `"transaction_id":"e2"`) {
		t.Errorf("p1 stands %d times in\n%s\n%s", n, first, second)
	}
	if !strings.Contains(second, `"channel":"BRANCH"`) {
		t.Errorf("the new dispatcher was not asked:\n%s", second)
	}
}
