package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/runtime"
)

type sendFlags struct {
	data   string
	file   string
	id     string
	source string
	expect string
	wait   time.Duration
	noWait bool
	event  bool
}

func sendCommand(g *globals) *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send <entity> <Command> [field=text | field:=json]...",
		Short: "Send a command and show its outcome",
		Long: `Sends a command to an entity and waits for its outcome: the events that the
handler decided. A refusal by the handler is an event, too, and no error.

Fields are given as name=text, or name:=json for numbers, booleans, null, lists
and objects; dots reach into records. Or the whole payload as JSON with --data,
or whole commands with --file, one after the other:

  {"entity": "savings:12345-09", "command_type": "ReceiveDeposit", "payload": {...}}

A command with an id happens once, however often it is sent with it. Without
--id a new one is made.`,
		Example: `  evento send checking:54321-90 OpenCheckingAccount client=client:42
  evento send checking:54321-90 ReceiveDeposit transaction_id=t-1 source=atm:1 amount.minor:=10000
  evento send checking:54321-90 WithdrawCash -d '{"destination": "atm:1", "amount": {"minor": 500}}' --id w-1
  evento send checking:54321-90 CloseCheckingAccount --expect 4     # only when nothing happened since version 4
  evento send --file commands.json --no-wait
  echo '{"destination": "atm:1", "amount": {"minor": 500}}' | evento send checking:54321-90 WithdrawCash -d -
  evento send checking:54321-90 DepositReceived --event -d @event.json   # an event from outside`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			return f.run(cmd.Context(), g, c, args, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.data, "data", "d", "", "the payload as JSON; @file reads a file, - standard input")
	flags.StringVarP(&f.file, "file", "f", "", "whole commands as JSON, any number; - reads standard input")
	flags.StringVar(&f.id, "id", "", "id of the command (idempotency key), at most 128 bytes")
	flags.StringVar(&f.source, "source", "", "who sends, a URI; ids are unique within a source")
	flags.StringVar(&f.expect, "expect", "", "send only if the aggregate has this version, 0 for a new one")
	flags.DurationVar(&f.wait, "wait", 10*time.Second, "how long to wait for the outcome")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait: say where the outcome will be")
	flags.BoolVar(&f.event, "event", false, "publish an event instead of sending a command")
	cmd.MarkFlagsMutuallyExclusive("wait", "no-wait")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return g.typesToSend(cmd.Context(), f.event), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func (f *sendFlags) run(ctx context.Context, g *globals, c *client, args []string, stdin io.Reader, out io.Writer) error {
	if f.wait < 0 {
		return usagef("--wait %s is negative", f.wait)
	}
	if f.noWait {
		f.wait = 0
	}
	if f.expect != "" {
		if _, err := strconv.ParseUint(f.expect, 10, 64); err != nil {
			return usagef("--expect %q is no version; write a number, 0 for a new aggregate", f.expect)
		}
	}
	if f.file != "" {
		if len(args) > 0 || f.data != "" || f.id != "" {
			return usagef("--file holds whole commands; leave out the entity, --data and --id")
		}
		return f.sendAll(ctx, g, c, stdin, out)
	}
	message, err := f.message(args, stdin)
	if err != nil {
		return err
	}
	return explainSend(f.send(ctx, g, c, message, out), args[0], args[1])
}

// message builds the JSON of one command, or event, from the words of the command line.
func (f *sendFlags) message(args []string, stdin io.Reader) (map[string]any, error) {
	if len(args) < 2 {
		return nil, usagef("give the entity and the type, for example: evento send checking:54321-90 OpenCheckingAccount client=client:42")
	}
	if _, err := runtime.ParseEntity(args[0]); err != nil {
		return nil, &usageError{err}
	}
	m := map[string]any{"entity": args[0], f.typeMember(): args[1]}
	if f.data != "" {
		if len(args) > 2 {
			return nil, usagef("give fields, or --data, not both (there is %q)", args[2])
		}
		text, err := readData(f.data, stdin)
		if err != nil {
			return nil, err
		}
		if !json.Valid(text) {
			return nil, usagef("--data is no JSON: %s", short(strings.TrimSpace(string(text)), 120))
		}
		m["payload"] = json.RawMessage(text)
	} else {
		fields, err := payload(args[2:])
		if err != nil {
			return nil, err
		}
		m["payload"] = fields
	}
	// Made here and not by the gateway: when the connection breaks, the id is
	// what makes it safe to send again.
	m["id"] = f.id
	if f.id == "" {
		m["id"] = rand.Text()
	}
	if f.source != "" {
		m["source"] = f.source
	}
	return m, nil
}

func (f *sendFlags) typeMember() string {
	if f.event {
		return "event_type"
	}
	return "command_type"
}

func readData(data string, stdin io.Reader) ([]byte, error) {
	if data == "-" {
		return io.ReadAll(stdin)
	}
	if name, isFile := strings.CutPrefix(data, "@"); isFile {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, usagef("--data: %w", err)
		}
		return text, nil
	}
	return []byte(data), nil
}

// sendAll sends the commands of a file one after the other, and stops at the first that is not accepted.
func (f *sendFlags) sendAll(ctx context.Context, g *globals, c *client, stdin io.Reader, out io.Writer) error {
	in := stdin
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return usagef("--file: %w", err)
		}
		defer file.Close()
		in = file
	}
	decoder := json.NewDecoder(in)
	for n := 1; ; n++ {
		var message json.RawMessage
		if err := decoder.Decode(&message); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("command %d of %s is no JSON: %w", n, f.file, err)
		}
		if err := f.send(ctx, g, c, []byte(message), out); err != nil {
			return fmt.Errorf("command %d of %s: %w", n, f.file, err)
		}
	}
}

// send sends one message and shows what became of it.
func (f *sendFlags) send(ctx context.Context, g *globals, c *client, message any, out io.Writer) error {
	r := request{method: http.MethodPost, path: "/v1/commands", header: http.Header{}, body: message, wait: f.wait}
	if f.event {
		r.path = "/v1/events"
	}
	if f.wait > 0 {
		r.header.Set("Prefer", preferWait(f.wait))
	}
	if f.expect != "" {
		r.header.Set("If-Match", `"`+f.expect+`"`)
	}
	a, err := c.do(ctx, r)
	var away *awayError
	if m, ok := message.(map[string]any); ok && errors.As(err, &away) && away.sent() {
		return fmt.Errorf("%w; it may have been accepted: send it again with --id %v, and it cannot happen twice", err, m["id"])
	}
	if err != nil {
		return err
	}
	if a.status == http.StatusAccepted {
		return f.accepted(g, a, out)
	}
	var o outcome
	if err := a.decode(&o); err != nil {
		return err
	}
	if g.json() {
		err = writeJSON(out, a.body)
	} else {
		err = writeOutcome(out, o)
	}
	if err != nil {
		return err
	}
	return refused(o)
}

// accepted shows where the outcome will be.
func (f *sendFlags) accepted(g *globals, a *answer, out io.Writer) error {
	location := a.header.Get("Location")
	if g.json() {
		text := bytes.TrimSpace(a.body)
		if len(text) == 0 {
			text, _ = json.Marshal(map[string]string{"status": "accepted", "location": location})
		}
		if err := writeJSON(out, text); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(out, "accepted; its outcome will be at %s\n", location)
		var o outcome
		if json.Unmarshal(a.body, &o) == nil && o.Entity != "" {
			fmt.Fprintf(out, "see: evento get %s --command %s%s\n", o.Entity, o.Command, sourceFlag(location))
		}
	}
	if f.wait > 0 {
		return &coded{code: exitPending, err: fmt.Errorf("no outcome within %s; it is kept and goes on: ask for it at the place above", f.wait)}
	}
	return nil
}

// sourceFlag returns the flag that names the source, where the location does.
func sourceFlag(location string) string {
	u, err := url.Parse(location)
	if err != nil || !u.Query().Has("source") {
		return ""
	}
	return " --source " + u.Query().Get("source")
}

// refused turns an outcome into the exit code. A refusal by the handler is an
// ordinary outcome; what the platform decided instead of it is not.
func refused(o outcome) error {
	switch o.Status {
	case "done", "refused":
		return nil
	case "pending", "retrying", "held":
		return &coded{code: exitPending, shown: true, err: fmt.Errorf("the command is %s", o.Status)}
	}
	return &coded{code: exitRefused, shown: true, err: fmt.Errorf("the command is %s", o.Status)}
}
