package bank_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openfaas/go-sdk/stack"

	checking "github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/examples/bank/holdings"
	"github.com/evento-oss/evento/examples/bank/interest"
	savings "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/examples/bank/transfers"
	"github.com/evento-oss/evento/internal/dev"
	"github.com/evento-oss/evento/internal/porttest"
	"github.com/evento-oss/evento/runtime"
)

// start runs a built function as a platform does, on a free port.
func start(t *testing.T, binary string) (url string, process *exec.Cmd) {
	t.Helper()
	address := porttest.Free(t)
	process = exec.Command(binary)
	process.Env = []string{"EVENTO_BIND=127.0.0.1", "PORT=" + address[len("127.0.0.1:"):]}
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Process.Kill() })
	late := time.AfterFunc(patience, func() { process.Process.Kill() })
	defer late.Stop()
	var line struct{ Msg, Address string }
	text, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &line); err != nil || line.Msg != "serving" || line.Address != address {
		t.Fatalf("the first line of the log is %s, %v", text, err)
	}
	return "http://" + address, process
}

func TestTheFunctionsOfTheBankRun(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds six programs")
	}
	builder, err := dev.NewBuilder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	functions := map[string]dev.Function{}
	for _, file := range []string{"../../stack.yml", "stack-combined.yml"} {
		list, err := dev.ReadStack(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			functions[f.Name] = f
		}
	}
	client := runtime.NewClient(runtime.ClientOptions{})
	t.Cleanup(client.CloseIdleConnections)
	for _, account := range []struct {
		folder  string
		f       *runtime.Function
		open    runtime.Record
		subject runtime.Entity
	}{
		{"checking", checking.HandlerFunction(nil).Function, &checking.OpenCheckingAccount{Client: "client:42", Currency: "USD"}, "checking:1"},
		{"savings", savings.HandlerFunction(nil).Function, &savings.OpenSavingsAccount{Client: "client:42", Currency: "USD"}, "savings:1"},
	} {
		urls := map[string]string{}
		for _, role := range []string{"handler", "aggregator", "both"} {
			name := strings.TrimSuffix(account.folder+"-"+role, "-both")
			binary, err := builder.Build(t.Context(), functions[name])
			if err != nil {
				t.Fatal(err)
			}
			url, process := start(t, binary)
			urls[role] = url
			t.Cleanup(func() {
				client.CloseIdleConnections()
				if err := process.Process.Signal(syscall.SIGTERM); err != nil {
					t.Error(err)
				}
				if err := process.Wait(); err != nil {
					t.Errorf("%s %s did not stop well: %v", account.folder, role, err)
				}
			})
		}
		m, err := account.f.Message(account.open)
		if err != nil {
			t.Fatal(err)
		}
		m.ID, m.Subject, m.Time = "c-1", account.subject, time.Now().Truncate(time.Millisecond)
		call := func(role string, kind runtime.InvocationKind, messages ...*runtime.Message) runtime.Result {
			in := runtime.Invocation{ID: "1", Kind: kind, Aggregate: account.subject.Aggregate(), Messages: messages}
			results, _, err := client.Invoke(context.Background(), urls[role], "", []runtime.Invocation{in})
			if err != nil {
				t.Fatal(err)
			}
			if results[0].Failure != nil {
				t.Fatal(results[0].Failure)
			}
			return results[0]
		}
		handled := call("handler", runtime.KindHandle, m)
		applied := call("aggregator", runtime.KindApply, handled.Steps[0].Events...)
		inOne := call("both", runtime.KindExecute, m)
		if applied.State == nil || inOne.StateSchema != applied.StateSchema || len(inOne.State) != len(applied.State) {
			t.Errorf("%s: state %x apart, %x in one", account.folder, applied.State, inOne.State)
		}
	}
}

// The root stack.yml names functions that are there, with the roles they have.
func TestStackNamesTheBank(t *testing.T) {
	services, err := stack.ParseYAMLFile("../../stack.yml", "", "", true)
	if err != nil {
		t.Fatal(err)
	}
	languages := map[string]string{ // by role
		"handler": "evento-handler", "aggregator": "evento-aggregator", "handler,aggregator": "evento-aggregate", "dispatcher": "evento-dispatcher",
	}
	for name, f := range services.Functions {
		role := (*f.Annotations)["evento.io/role"]
		source := "handler.go"
		if role == "dispatcher" {
			source = "dispatcher.go"
		}
		if _, err := os.Stat(filepath.Join("../..", f.Handler, f.BuildArgs["PACKAGE"], source)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		bound := (*f.Annotations)["evento.io/aggregate"] != ""
		if f.Language != languages[role] || bound == (role == "dispatcher") ||
			(*f.Labels)["evento.io/role"] != strings.ReplaceAll(role, ",", "-") {
			t.Errorf("%s: language %q, annotations %v, labels %v", name, f.Language, *f.Annotations, *f.Labels)
		}
	}
	if len(services.Functions) != 9 {
		t.Errorf("%d functions, want 9", len(services.Functions))
	}
}

// A dispatcher is given the events that it reacts to, no more and no less.
func TestDispatchersAreGivenWhatTheyReactTo(t *testing.T) {
	services, err := stack.ParseYAMLFile("../../stack.yml", "", "", true)
	if err != nil {
		t.Fatal(err)
	}
	for name, reactions := range map[string][]runtime.Reaction{
		"transfers": transfers.Reactions(), "holdings": holdings.Reactions(), "interest": interest.Reactions(),
	} {
		f, err := runtime.NewDispatcher(reactions...)
		if err != nil {
			t.Fatal(err)
		}
		var given []string
		for event := range strings.SplitSeq((*services.Functions[name].Annotations)["evento.io/events"], ",") {
			given = append(given, strings.TrimSpace(event))
		}
		slices.Sort(given)
		var wanted []string
		for name, text := range f.Description().Schemas {
			var schema struct{ Evento struct{ Kind string } }
			if err := json.Unmarshal([]byte(text.Schema), &schema); err != nil || schema.Evento.Kind == "" {
				t.Fatalf("%s: %v in %s", name, err, text.Schema)
			}
			if schema.Evento.Kind != "command" {
				wanted = append(wanted, string(name))
			}
		}
		slices.Sort(wanted)
		if !slices.Equal(given, wanted) {
			t.Errorf("%s is given %q and reacts to %q", name, given, wanted)
		}
	}
}
