package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/examples/bank/checking"
	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/internal/kafkatest"
	"github.com/evento-oss/evento/runtime"
)

// A deposit to one account leads to one to another, through a whole gateway: HTTP,
// engine, dispatcher, relay, engine.
func TestADispatcherSendsCommands(t *testing.T) {
	k := kafkatest.Start(t)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	serve := func(f *runtime.Function) string {
		s, err := runtime.NewServer(f, runtime.Config{}, log)
		if err != nil {
			t.Fatal(err)
		}
		h := httptest.NewServer(s)
		t.Cleanup(h.Close)
		return h.URL
	}
	account := serve(gen.AggregateFunction(checking.Handler{}, checking.Aggregator{}).Function)
	dispatcher, err := runtime.NewDispatcher(runtime.Sends(gen.Definition()), gen.OnDepositReceived(
		func(_ runtime.DispatcherContext, e *gen.DepositReceived) ([]runtime.Command, error) {
			if e.Source == "transfer" {
				return nil, nil
			}
			c := gen.NewReceiveDeposit()
			c.Transaction_id, c.Source, c.Amount = e.Transaction_id, "transfer", e.Amount
			return []runtime.Command{runtime.NewCommand("checking:2", &c)}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "triggers.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: checking, namespace: bank, annotations: {evento.io/role: "handler,aggregator", evento.io/aggregate: CheckingAccount}}
spec: {broker: default, subscriber: {uri: %q}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: transfers, namespace: bank, annotations: {evento.io/role: dispatcher}}
spec:
  broker: default
  filters: [{exact: {type: CheckingAccount.DepositReceived}}]
  subscriber: {uri: %q}
`, account, serve(dispatcher)), 0o600); err != nil {
		t.Fatal(err)
	}
	var f gatewayFlags
	f.bind(&cobra.Command{}) // for what is not set here
	f.kafka.properties, f.prefix = []string{"bootstrap.servers=" + strings.Join(k.Servers, ",")}, k.Prefix+"evento"
	f.partitions, f.replication, f.minInSync = 2, 1, 1
	f.schemas, f.triggers = "../../examples/bank/schemas", []string{file}
	runGateway(t, &f, log)
	url := "http://" + f.listen
	send := func(entity, command, payload string) {
		t.Helper()
		body := fmt.Sprintf(`{"entity": %q, "command_type": %q, "payload": %s}`, entity, command, payload)
		req, _ := http.NewRequest("POST", url+"/v1/commands", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Prefer", "wait=60")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if text, _ := io.ReadAll(res.Body); res.StatusCode != 200 {
			t.Fatalf("%s %s: %d %s", command, entity, res.StatusCode, text)
		}
	}
	for _, a := range []string{"checking:1", "checking:2"} {
		send(a, "OpenCheckingAccount", `{"client": "client:1"}`)
	}
	// The dispatcher's start is fixed soon after the gateway is ready.
	kafkatest.Wait(t, 90*time.Second, func() error {
		res, err := http.Get(url + "/v1/triggers")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if text, _ := io.ReadAll(res.Body); !strings.Contains(string(text), `"lag"`) {
			return fmt.Errorf("the dispatcher does not run: %s", text)
		}
		return nil
	})
	send("checking:1", "ReceiveDeposit", `{"transaction_id": "t1", "source": "cash", "amount": {"minor": 500}}`)
	kafkatest.Wait(t, 90*time.Second, func() error {
		res, err := http.Get(url + "/v1/aggregates/checking:2/events")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var list struct {
			Events []struct{ Type, Cause, Correlation string }
		}
		if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
			return err
		}
		if n := len(list.Events); n != 2 || list.Events[1].Type != "CheckingAccount.DepositReceived" {
			return fmt.Errorf("events of the other account: %+v", list.Events)
		}
		return nil
	})
}
