package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/runtime"
)

type parkedItem struct {
	Coordinates string    `json:"coordinates"` // of the command, or of the event
	Entity      string    `json:"entity"`
	Command     string    `json:"command"`
	Dispatcher  string    `json:"dispatcher"` // that has parked the event
	Type        string    `json:"type"`
	Status      string    `json:"status"` // retrying, held or parked
	Attempts    int       `json:"attempts"`
	NextTry     time.Time `json:"next_try"`
	Reason      string    `json:"reason"`
	Function    string    `json:"function"`
	Image       string    `json:"image"`
	Failing     time.Time `json:"failing_since"`
}

func parkedCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "List, show, retry, drop or re-issue commands that do not succeed, and events that dispatchers parked",
		Long: `A command whose function fails is tried again and again, with growing waits;
its aggregate waits with it, all others go on. Such a command is:

  retrying   tried again soon
  held       its attempts are used up; tried on at the longest wait
  parked     given up: its outcome is evento.CommandParked; its aggregate goes on.
             It is listed until you re-issue or drop it

An event that a dispatcher failed on is parked for that dispatcher, listed with it,
and can be retried or dropped by the event's coordinates.`,
		Example: `  evento parked list
  evento parked show kf-evento-commands/3/1042
  evento parked retry kf-evento-commands/3/1042
  evento parked retry --function bank/checking-handler
  evento parked drop kf-evento-commands/3/1042 --reason "the ATM is gone"
  evento parked reissue kf-evento-commands/3/977`,
		RunE: subcommandNeeded,
		Args: cobra.ArbitraryArgs,
	}
	cmd.AddCommand(parkedListCommand(g), parkedShowCommand(g), parkedRetryCommand(g), parkedDropCommand(g), parkedReissueCommand(g))
	return cmd
}

// subcommandNeeded shows the help of a command that only groups others.
func subcommandNeeded(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return usagef("there is no command %q in %q", args[0], cmd.CommandPath())
}

func parkedListCommand(g *globals) *cobra.Command {
	var f parkedFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the commands that do not succeed",
		Example: `  evento parked list
  evento parked list --status held
  evento parked list --function bank/checking-handler
  evento parked list --aggregate checking:54321-90 -o json`,
		Args: exactly("no further words", 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return listParked(cmd, g, &f) },
	}
	f.bind(cmd)
	return cmd
}

func writeParked(w io.Writer, items []parkedItem) error {
	if len(items) == 0 {
		_, err := fmt.Fprintln(w, "none: every command has succeeded or is on its way")
		return err
	}
	t := table(w)
	fmt.Fprintln(t, "STATUS\tCOORDINATES\tENTITY\tTYPE\tATTEMPTS\tNEXT TRY\tREASON")
	for _, i := range items {
		reason := i.Reason
		if i.Function != "" {
			reason = i.Function + ": " + reason
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n",
			i.Status, i.Coordinates, i.Entity, i.Type, i.Attempts, clock(i.NextTry), short(strings.ReplaceAll(reason, "\n", " "), 120))
	}
	return t.Flush()
}

func parkedRetryCommand(g *globals) *cobra.Command {
	var f parkedFilter
	cmd := &cobra.Command{
		Use:   "retry <coordinates> | --aggregate ... | --type ... | --function ...",
		Short: "Try a command again now, or all of an aggregate, a type or a function",
		Long: `Tries a command again now, or has a dispatcher asked again about an event. The commands
of an aggregate wait for the first of them and go on in their order. With flags in place
of coordinates it does so for all that they name.`,
		Example: `  evento parked retry kf-evento-commands/3/1042
  evento parked retry --function bank/checking-handler`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			many, err := oneOrMany(&f, args)
			switch {
			case err != nil:
				return err
			case many:
				return releaseMany(cmd, g, &f, "retry")
			}
			return order(cmd, g, args[0], "retry", nil, "it is tried again now; see: evento parked list")
		},
	}
	f.bind(cmd)
	return cmd
}

func parkedDropCommand(g *globals) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "drop <coordinates> --reason <why>",
		Short: "Give a command up, so that its aggregate goes on",
		Long: `Gives a command up: its outcome becomes evento.CommandParked with your reason, for
ever, and its aggregate goes on with the next command. One that is parked already
is taken off the list; its outcome stays. Of an event, the dispatchers that have parked
it are not asked about it again, and no command comes of it.`,
		Example: `  evento parked drop kf-evento-commands/3/1042 --reason "the ATM is gone"`,
		Args:    exactly("the command's coordinates, as `evento parked list` shows them", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usagef("give a --reason; it stands in the command's outcome")
			}
			return order(cmd, g, args[0], "drop", map[string]string{"reason": reason}, "it is dropped; see: evento parked list")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; recorded in the outcome")
	return cmd
}

func parkedReissueCommand(g *globals) *cobra.Command {
	var f parkedFilter
	cmd := &cobra.Command{
		Use:   "reissue <coordinates> | --aggregate ... | --type ... | --function ...",
		Short: "Send a parked command again, as a new one, or all of an aggregate, a type or a function",
		Long: `Sends a parked command again, as a new one whose cause is the evento.CommandParked
of the first, and takes the first off the list. Done twice it has one effect. With flags in
place of coordinates it does so for all that they name, those of an aggregate in the
order in which they were sent first.`,
		Example: `  evento parked reissue kf-evento-commands/3/977
  evento parked reissue --aggregate checking:54321-90`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			many, err := oneOrMany(&f, args)
			switch {
			case err != nil:
				return err
			case many:
				return releaseMany(cmd, g, &f, "reissue")
			}
			return order(cmd, g, args[0], "reissue", nil, "it is sent again; see: evento events, evento parked list")
		},
	}
	f.bind(cmd)
	return cmd
}

// parkedPath is where the API has what stands at coordinates.
func parkedPath(coordinates string) (string, error) {
	at, err := runtime.ParseCoordinates(coordinates)
	if err != nil {
		return "", &usageError{err}
	}
	return "/v1/parked/" + url.PathEscape(at.Topic) + "/" + strconv.Itoa(int(at.Partition)) + "/" + strconv.FormatInt(at.Offset, 10), nil
}

// order tells the gateway to do something with a parked command.
func order(cmd *cobra.Command, g *globals, coordinates, what string, body any, said string) error {
	path, err := parkedPath(coordinates)
	if err != nil {
		return err
	}
	c, err := g.client()
	if err != nil {
		return err
	}
	path += "/" + what
	const wait = 10 * time.Second // for the single writer to have heard it
	r := request{method: http.MethodPost, path: path, header: http.Header{"Prefer": {preferWait(wait)}}, body: body, wait: wait}
	a, err := c.do(cmd.Context(), r)
	if err != nil {
		return err
	}
	if g.json() && len(a.body) > 0 {
		return writeJSON(cmd.OutOrStdout(), a.body)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
	return err
}
