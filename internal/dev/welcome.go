package dev

import (
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// welcome is what people read when everything runs: what is where, and lines to paste.
func welcome(s State, functions []Function, program string, took time.Duration) string {
	if program == "" {
		program = "evento"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nEvento runs (after %s). Ctrl-C stops it; the next start continues with the same data.\n\n", took)
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	row := func(what, where, more string) { fmt.Fprintf(w, "  %s\t%s\t%s\n", what, where, more) }
	row("gateway", s.Gateway, "log "+filepath.Join(shown(s.Dir), "logs", "gateway.log"))
	row("kafka", s.Kafka, "")
	row("redis", s.Redis, "")
	roles := make(map[string]string)
	for _, f := range functions {
		roles[f.Name] = strings.TrimSpace(f.Annotations["evento.io/aggregate"] + " " + f.Annotations["evento.io/role"])
	}
	for _, f := range s.Functions {
		row(f.Name, f.URL, roles[f.Name])
	}
	w.Flush()
	b.WriteString("\n")
	if hasBank(functions) {
		b.WriteString(bankLines(program, s.Gateway))
	} else {
		fmt.Fprintf(&b, "Send a command:  %[1]s send <entity> <Command> field=text field:=json\nAll commands:    %[1]s --help\n\n", program)
	}
	return b.String()
}

func hasBank(functions []Function) bool {
	for _, f := range functions {
		if f.Annotations["evento.io/aggregate"] == "CheckingAccount" {
			return true
		}
	}
	return false
}

// bankLines are to be pasted, in their order, into another terminal. The ids of
// commands are left to the gateway in the evento lines, and given in the curl
// ones, where pasting twice shows that the answer stays the same.
func bankLines(program, gateway string) string {
	text := `Lines to paste into another terminal (the gateway's answer is the command's outcome):

  # open an account, deposit 100.00, withdraw 30.00
  EVENTO send checking:54321-90 OpenCheckingAccount client=client:42
  EVENTO send checking:54321-90 ReceiveDeposit transaction_id=t-1 source=atm:2CF24DBA amount.minor:=10000
  EVENTO send checking:54321-90 WithdrawCash destination=atm:2CF24DBA amount.minor:=3000

  # withdraw too much: the refusal is an event, too
  EVENTO send checking:54321-90 WithdrawCash destination=atm:2CF24DBA amount.minor:=99900

  # the state, and how it came to be
  EVENTO get checking:54321-90
  EVENTO events checking:54321-90

  # the same with curl; a command that is sent twice with one id happens once
  curl -s GATEWAY/v1/commands -H 'Content-Type: application/json' -H 'Prefer: wait=10' -d '{
    "entity": "checking:54321-90", "command_type": "ReceiveDeposit", "id": "deposit-2",
    "payload": {"transaction_id": "t-2", "source": "atm:2CF24DBA", "amount": {"minor": 2500}}}'
  curl -s GATEWAY/v1/aggregates/checking:54321-90
  curl -s GATEWAY/v1/aggregates/checking:54321-90/events

`
	text = strings.NewReplacer("GATEWAY", gateway, "EVENTO", program).Replace(text)
	if gateway != "http://127.0.0.1:8090" {
		text = "  export EVENTO_GATEWAY=" + gateway + "\n\n" + text
	}
	return text
}

// shown shortens a path to one relative to the working directory where it is inside of it.
func shown(path string) string {
	wd, err := filepath.Abs(".")
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
